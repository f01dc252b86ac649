/**
 * What an attend on tensor cores costs: rounds of blocks over multiprocessors, each as long as its turns over the keys (bound by how long a
 * warp takes alone, by what the warps beside it take, or by what the second-level cache gives) and what begins and ends it.
 *
 * The constants were fitted to 796 measured rows of 15 attends on an H100 (batches of 1 to 32 of ViT, BERT, Swin and Whisper, heads of 32 to
 * 128, one query and thousands), so that the rows it chooses are fast and their times near what was measured (docs/performance.md). They
 * rank rows, and are no physics. Other chips order rows alike.
 */
import { DTYPES } from '../../core/dtype.ts';
import type { Kernel } from '../../loop/ir.ts';
import { type AttendShape, type AttendTile, layoutOf } from './attend-plan.ts';

const MULTIPROCESSORS = 132;
const SHARED_BYTES_PER_MULTIPROCESSOR = 228 * 1024;
const REGISTERS_PER_MULTIPROCESSOR = 65_536;
const MOST_REGISTERS = 255;
const WARPS_PER_MULTIPROCESSOR = 64;
const LAUNCH_NS = 1540;
const FILL_NS = 206;
const TURN_NS = 388;
/** Of a warp alone: a product of 16 × 8 × 16, and a score of each thread. */
const PRODUCT_NS = 3.96;
const SCORE_NS = 5.94;
/** The same where warps beside each other keep a multiprocessor busy, a quarter of them on each of its parts; loads of 16 × 16. */
const BUSY_PRODUCT_NS = 8.07;
const BUSY_SCORE_NS = 1.58;
const BUSY_LOAD_NS = 6;
/** With two buffers for more turns than two, copies are waited for. */
const SHALLOW_NS = 399;
const END_NS = 324;
/** For each part of the keys that a row is joined of, and for blocks that meet. */
const PART_NS = 44;
const CLUSTER_NS = 2816;
const CACHE_BYTES_PER_NS = 47;
const MEMORY_BYTES_PER_NS = 2337;
/** Registers beside sums, queries and scores. */
const OTHER_REGISTERS = 21;
/** A last round that is not full costs this part of a full one. */
const ROUNDING = 0.4;

export function predictAttendNs(kernel: Kernel, shape: AttendShape, tile: AttendTile): number {
  const { rm, wm, wk, keys, stages, split } = tile;
  const { turns, wholeTurns, tailKeys, stageBytes, bytes: shared, rows, parts } = layoutOf(shape, tile);
  const [inner, value] = [shape.inner, shape.value.extent].map((n) => Math.ceil(n / 16) * 16);
  const warps = wm * wk;
  const registers = Math.min(MOST_REGISTERS, rm * (value / 2 + inner / 4 + keys / 2) + OTHER_REGISTERS);
  const fits = Math.floor(
    Math.min(
      SHARED_BYTES_PER_MULTIPROCESSOR / (shared + 1024),
      REGISTERS_PER_MULTIPROCESSOR / (registers * 32 * warps),
      WARPS_PER_MULTIPROCESSOR / warps,
    ),
  );
  const blocks = shape.heads * Math.ceil(shape.queries / rows) * split;
  const beside = Math.min(Math.max(1, fits), Math.ceil(blocks / MULTIPROCESSORS));
  // Of a warp, over all turns.
  const slices = (wholeTurns * keys + (turns - wholeTurns) * tailKeys) / 16;
  const products = (rm * slices * (inner + value)) / 8;
  const loads = (slices * (inner + value)) / 16;
  const scores = rm * slices * 8;
  const alone = products * PRODUCT_NS + scores * SCORE_NS + turns * TURN_NS;
  const busy = Math.max(products * BUSY_PRODUCT_NS, loads * BUSY_LOAD_NS) + scores * BUSY_SCORE_NS;
  const cache = (turns * stageBytes * beside) / CACHE_BYTES_PER_NS;
  const body = Math.max(alone, (beside * warps * busy) / 4, cache) + (stages < 3 && turns > 2 ? SHALLOW_NS : 0);
  const join = (parts > 1 ? parts * PART_NS : 0) + (split > 1 ? CLUSTER_NS : 0);
  const rounds = Math.max(1, blocks / (MULTIPROCESSORS * beside));
  const turnsOfBlocks = (1 - ROUNDING) * rounds + ROUNDING * Math.ceil(rounds - 1e-9);
  const memory = kernel.buffers.reduce((sum, b) => sum + b.elements * DTYPES[b.dtype].bytes, 0) / MEMORY_BYTES_PER_NS;
  return LAUNCH_NS + Math.max(FILL_NS + turnsOfBlocks * (body + END_NS + join), memory);
}
