/**
 * What a tensor-core product costs: rounds of blocks over multiprocessors, each as long as its steps of k (bound by products, by the
 * second-level cache or by how far ahead copies run) and its outputs; the whole bound by memory.
 *
 * The constants were fitted to 5629 measured rows of ResNet-50's layers at batches of 1, 8, 32 and 128 on an H100, so that the rows it
 * chooses are near the fastest (docs/performance.md); they rank rows, and are no physics. Other chips order rows alike.
 */
import { DTYPES } from '../../core/dtype.ts';
import type { Kernel } from '../../loop/ir.ts';
import { type GemmShape, MOST_ROWS_AHEAD, STEP_BYTES, sharedBytes, stageBytes, type TileParams } from './gemm-tiles.ts';

const MULTIPROCESSORS = 132;
/** Clusters lie within a part of the chip, so that some multiprocessors are left: 16 of eight blocks took two rounds. */
const IN_CLUSTERS_OF_EIGHT = 112;
const SHARED_BYTES_PER_MULTIPROCESSOR = 228 * 1024;
const THREADS_PER_MULTIPROCESSOR = 272;
const LAUNCH_NS = 223;
const FILL_NS = 205;
/** What a step costs beyond its products, and each slice of it that a warp multiplies in turn. */
const STEP_NS = 30.5;
const SLICE_NS = 18.2;
/** From asking for a stage to having it. */
const LATENCY_NS = 824;
const EPILOGUE_NS = 63;
const OUTPUTS_PER_NS = 49.9;
/** Joining the sums of a cluster, and of each of its blocks. */
const JOIN_NS = 1620;
const JOIN_NS_PER_BLOCK = 87;
/** Outputs times bytes of k that a multiprocessor multiplies: by warps, the more the larger their tiles; by warpgroups. */
const PRODUCT_BYTES_PER_NS = 2020;
const WGMMA_BYTES_PER_NS = 3560;
const LEAST_EFFICIENCY = 0.414;
const FULL_TILE = 5240;
/** What the second-level cache gives a multiprocessor, and all of them. */
const CACHE_BYTES_PER_NS = 123;
const ALL_CACHE_BYTES_PER_NS = 5450;
const GATHER_NS_PER_ELEMENT = 0.049;
/** What each stage less than six costs: rows that are alike otherwise are better the deeper they are. */
const STAGE_NS = 10;
const MOST_STAGES = 6;
/** Where memory bounds a product small tiles are best, which leave room for others beside them. */
const BOUND_BYTES_PER_NS = 2370;
const MEMORY_BYTES_PER_NS = 2400;
const NS_PER_SHARED_KIBIBYTE = 3.4;
const NS_PER_OUTPUT = 0.0154;
/** Measured in the network: 1×1 with a residual against without one, where rows are too many to be loaded ahead. */
const NS_PER_LATE_READ = 0.24;

export const blocksOf = ({ m, n, batch }: GemmShape, { bm, bn, split }: TileParams): number =>
  Math.ceil(m / bm) * Math.ceil(n / bn) * split * batch;

export function predictGemmNs(kernel: Kernel, shape: GemmShape, tile: TileParams): number {
  const { bm, bn, wm, wn, wk, split, stages, wgmma } = tile;
  const blocks = blocksOf(shape, tile);
  const shared = sharedBytes(tile);
  const threads = wm * wn * wk * 32;
  const resident = Math.max(
    1,
    Math.floor(Math.min(SHARED_BYTES_PER_MULTIPROCESSOR / (shared + 1024), THREADS_PER_MULTIPROCESSOR / threads)),
  );
  const steps = Math.ceil(shape.steps / split);
  const efficiency = Math.min(1, LEAST_EFFICIENCY + ((bm / wm) * (bn / wn)) / FULL_TILE);
  const rate = wgmma ? WGMMA_BYTES_PER_NS : PRODUCT_BYTES_PER_NS * efficiency;
  const gathered = (shape.a === 'gathered' ? bm : 0) + (shape.b === 'gathered' ? bn : 0);
  const gather = gathered * (STEP_BYTES / shape.elementBytes) * GATHER_NS_PER_ELEMENT;
  const throughput = Math.max((bm * bn * STEP_BYTES) / rate, stageBytes(tile) / CACHE_BYTES_PER_NS) + gather;
  const inTurn = wgmma ? 0 : (SLICE_NS * 4) / wk;
  const step = Math.max(throughput + STEP_NS + inTurn, LATENCY_NS / (stages - 1 - wgmma));
  const outputs = (bm * bn) / OUTPUTS_PER_NS;
  const alone = FILL_NS + steps * step + EPILOGUE_NS + outputs;
  const rounds = Math.ceil(blocks / ((split === 8 ? IN_CLUSTERS_OF_EIGHT : MULTIPROCESSORS) * resident));
  // Blocks side by side hide each other's waits, not each other's products.
  const busy = Math.ceil(blocks / MULTIPROCESSORS) * (steps * throughput + outputs) + FILL_NS;
  const cache = (blocks * steps * stageBytes(tile)) / ALL_CACHE_BYTES_PER_NS;
  const ns = Math.max(rounds * alone, busy, cache);
  const bytes = bytesOf(kernel, shape);
  const memory = bytes / MEMORY_BYTES_PER_NS + (NS_PER_SHARED_KIBIBYTE * shared) / 1024 + NS_PER_OUTPUT * bm * bn;
  // What the epilogue reads row by row, unless it was asked for before the products (gemm-outputs.ts).
  const turns = bm / split / (threads / (bn / 8));
  const late = turns > MOST_ROWS_AHEAD ? rowsReadBehind(kernel, shape) * NS_PER_LATE_READ : 0;
  const reads = (Math.ceil(blocks / MULTIPROCESSORS) * (bm / split) * bn * late) / resident;
  const join = split > 1 ? JOIN_NS + JOIN_NS_PER_BLOCK * split : 0;
  const shallow = (MOST_STAGES - stages) * STAGE_NS;
  return LAUNCH_NS + (ns <= bytes / BOUND_BYTES_PER_NS ? memory : ns) + reads + join + shallow;
}

/** Bytes that are moved at least: each buffer once, of a no more than the products read. */
export function bytesOf(kernel: Kernel, { plan, batch, m, k }: GemmShape): number {
  return kernel.buffers.reduce((sum, { name, dtype, elements }) => {
    const read = name === plan.a.buffer ? Math.min(elements, batch * m * k) : elements;
    return sum + read * DTYPES[dtype].bytes;
  }, 0);
}

/** Elements that the epilogue reads for each output, beside what it reads for a column. */
export function rowsReadBehind(kernel: Kernel, { plan, batch, m, n }: GemmShape): number {
  const read = kernel.buffers.filter(
    ({ name, role }) => role === 'in' && name !== plan.a.buffer && name !== plan.b.buffer,
  );
  return read.reduce((sum, { elements }) => sum + Math.min(1, elements / (batch * m * n)), 0);
}
