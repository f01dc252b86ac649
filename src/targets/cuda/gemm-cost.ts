/**
 * What a tensor-core product costs: rounds of blocks over multiprocessors, each as long as its steps of k, bound by products, by what
 * the second-level cache gives and by latency; the whole bound by memory.
 *
 * The constants were fitted to 1663 measured rows of ResNet-50's layers at batches of 1, 32 and 128 on an H100 (docs/performance.md);
 * other chips are larger or smaller, but order rows alike.
 */
import { DTYPES } from '../../core/dtype.ts';
import type { Kernel } from '../../loop/ir.ts';
import { type GemmShape, STEP_BYTES, sharedBytes, stageBytes, type TileParams } from './gemm-tiles.ts';

const MULTIPROCESSORS = 132;
const SHARED_BYTES_PER_MULTIPROCESSOR = 228 * 1024;
const THREADS_PER_MULTIPROCESSOR = 1024;
const LAUNCH_NS = 1450;
const FILL_NS = 60;
/** What a step of k costs beyond its products. */
const STEP_NS = 40;
const EPILOGUE_NS = 550;
const OUTPUTS_PER_NS = 17;
/** Joining the sums of a cluster, and of each of its blocks. */
const JOIN_NS = 1330;
const JOIN_NS_PER_BLOCK = 200;
/** Bytes of k times outputs that a multiprocessor multiplies: 16-bit elements at 1.2 products a nanosecond and element. */
const PRODUCT_BYTES_PER_NS = 2420;
const BYTES_PER_NS = 1820;
/** Bytes that a multiprocessor gets from the second-level cache. */
const CACHE_BYTES_PER_NS = 65;
const GATHER_NS_PER_ELEMENT = 0.012;

export const blocksOf = ({ m, n, batch }: GemmShape, { bm, bn, split }: TileParams): number =>
  Math.ceil(m / bm) * Math.ceil(n / bn) * split * batch;

export function predictGemmNs(kernel: Kernel, shape: GemmShape, tile: TileParams): number {
  const { bm, bn, wm, wn, wk, split, stages } = tile;
  const blocks = blocksOf(shape, tile);
  const resident = Math.max(
    1,
    Math.min(
      Math.floor(SHARED_BYTES_PER_MULTIPROCESSOR / (sharedBytes(tile) + 1024)),
      Math.floor(THREADS_PER_MULTIPROCESSOR / (wm * wn * wk * 32)),
    ),
  );
  const steps = Math.ceil(shape.steps / split);
  // Warps with small tiles read more of shared memory for each product.
  const efficiency = Math.min(1, 0.68 + ((bm / wm) * (bn / wn)) / 3950);
  const products = (bm * bn * STEP_BYTES) / (PRODUCT_BYTES_PER_NS * efficiency);
  const gathered = (shape.a === 'gathered' ? bm : 0) + (shape.b === 'gathered' ? bn : 0);
  const gather = gathered * (STEP_BYTES / shape.elementBytes) * GATHER_NS_PER_ELEMENT;
  const perStep = Math.max(products, stageBytes(tile) / CACHE_BYTES_PER_NS) + gather;
  const waits = Math.max(0, FILL_NS - (perStep + STEP_NS) * (stages - 1)) / (stages - 1);
  const outputs = (bm * bn) / OUTPUTS_PER_NS;
  const alone = FILL_NS + steps * (perStep + STEP_NS) + Math.max(0, steps - stages + 1) * waits + EPILOGUE_NS + outputs;
  const rounds = Math.ceil(blocks / (MULTIPROCESSORS * resident));
  // Blocks side by side hide each other's waits, not each other's products.
  const busy = Math.ceil(blocks / MULTIPROCESSORS) * (steps * perStep + outputs) + FILL_NS;
  const join = split > 1 ? JOIN_NS + JOIN_NS_PER_BLOCK * split : 0;
  return LAUNCH_NS + Math.max(rounds * alone, busy, bytesOf(kernel, shape) / BYTES_PER_NS) + join;
}

/** Bytes that are moved at least: each buffer once, of a no more than the products read. */
function bytesOf(kernel: Kernel, { plan, batch, m, k }: GemmShape): number {
  return kernel.buffers.reduce((sum, { name, dtype, elements }) => {
    const read = name === plan.a.buffer ? Math.min(elements, batch * m * k) : elements;
    return sum + read * DTYPES[dtype].bytes;
  }, 0);
}
