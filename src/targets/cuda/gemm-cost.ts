/**
 * What a tensor-core product costs: rounds of blocks over multiprocessors, each as long as its steps of k, bound by products, by what
 * the second-level cache gives and by how far ahead copies run; the whole bound by memory.
 *
 * The constants were fitted to 4576 measured rows of ResNet-50's layers at batches of 1, 8, 32 and 128 on an H100, so that the rows it
 * chooses are the fastest or nearly so (docs/performance.md); they rank rows, and are no physics. Other chips order rows alike.
 */
import { DTYPES } from '../../core/dtype.ts';
import type { Kernel } from '../../loop/ir.ts';
import { type GemmShape, STEP_BYTES, sharedBytes, stageBytes, type TileParams } from './gemm-tiles.ts';

const MULTIPROCESSORS = 132;
const SHARED_BYTES_PER_MULTIPROCESSOR = 228 * 1024;
const THREADS_PER_MULTIPROCESSOR = 1120;
const LAUNCH_NS = 655;
const FILL_NS = 172;
/** What a step costs beyond its products, and each slice of it that a warp multiplies in turn. */
const STEP_NS = 4.5;
const SLICE_NS = 2.3;
/** From asking for a stage to having it, where weights come from memory. */
const LATENCY_NS = 1100;
const EPILOGUE_NS = 84;
const OUTPUTS_PER_NS = 73;
/** Joining the sums of a cluster, and of each of its blocks. */
const JOIN_NS = 2120;
const JOIN_NS_PER_BLOCK = 51;
/** Outputs times bytes of k that a multiprocessor multiplies, by warps with tiles of no size; and by warpgroups. */
const PRODUCT_BYTES_PER_NS = 1714;
const WGMMA_BYTES_PER_NS = 5100;
const BYTES_PER_NS = 1240;
/** Bytes that a multiprocessor gets from the second-level cache. */
const CACHE_BYTES_PER_NS = 81;
const GATHER_NS_PER_ELEMENT = 0.115;

export const blocksOf = ({ m, n, batch }: GemmShape, { bm, bn, split }: TileParams): number =>
  Math.ceil(m / bm) * Math.ceil(n / bn) * split * batch;

export function predictGemmNs(kernel: Kernel, shape: GemmShape, tile: TileParams): number {
  const { bm, bn, wm, wn, wk, split, stages, wgmma } = tile;
  const blocks = blocksOf(shape, tile);
  const resident = Math.max(
    1,
    Math.min(
      Math.floor(SHARED_BYTES_PER_MULTIPROCESSOR / (sharedBytes(tile) + 1024)),
      Math.floor(THREADS_PER_MULTIPROCESSOR / (wm * wn * wk * 32)),
    ),
  );
  const steps = Math.ceil(shape.steps / split);
  const products = (bm * bn * STEP_BYTES) / (wgmma ? WGMMA_BYTES_PER_NS : PRODUCT_BYTES_PER_NS);
  const gathered = (shape.a === 'gathered' ? bm : 0) + (shape.b === 'gathered' ? bn : 0);
  const gather = gathered * (STEP_BYTES / shape.elementBytes) * GATHER_NS_PER_ELEMENT;
  const throughput = Math.max(products, stageBytes(tile) / CACHE_BYTES_PER_NS) + gather;
  const inTurn = wgmma ? 0 : (SLICE_NS * 4) / wk;
  const step = Math.max(throughput + STEP_NS + inTurn, LATENCY_NS / (stages - 1 - wgmma));
  const outputs = (bm * bn) / OUTPUTS_PER_NS;
  const alone = FILL_NS + steps * step + EPILOGUE_NS + outputs;
  const rounds = Math.ceil(blocks / (MULTIPROCESSORS * resident));
  // Blocks side by side hide each other's waits, not each other's products.
  const busy = Math.ceil(blocks / MULTIPROCESSORS) * (steps * throughput + outputs) + FILL_NS;
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
