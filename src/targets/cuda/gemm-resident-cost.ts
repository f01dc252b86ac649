/**
 * What a tensor-core product by blocks that stay costs: rounds of tiles, each as long as its steps of k (bound by products or by what the
 * block is fed) and its outputs; the whole bound by the second-level cache and by memory.
 *
 * Fitted to 273 measurements of ResNet-50's layers at batches of 32 and 128, each in the network on an H100 (docs/performance.md): 11 % off,
 * and the row it chooses among these is 0.3 % slower than the fastest.
 */
import type { Kernel } from '../../loop/ir.ts';
import { bytesOf, rowsReadBehind } from './gemm-cost.ts';
import { type ResidentTile, tilesOf } from './gemm-resident.ts';
import { type GemmShape, STEP_BYTES } from './gemm-tiles.ts';

/**
 * Other tensor-core products are predicted a fifth too fast where memory bounds them (gemm-cost.ts was fitted to kernels that find their
 * operands in the cache), so as much is taken off here.
 */
const BESIDE_OTHERS = 0.8;
const MULTIPROCESSORS = 132;
const LAUNCH_NS = 2356;
/** Outputs times bytes of k that a multiprocessor multiplies, and bytes that its producers bring. */
const PRODUCT_BYTES_PER_NS = 5136;
const FED_BYTES_PER_NS = 275;
const TILE_NS = 418;
/** Of an output, and of what the epilogue reads for it: more where a thread's sums leave little room for what is loaded ahead. */
const NS_PER_OUTPUT = [0.0828, 0.0956] as const;
const NS_PER_READ = [0.0767, 0.241] as const;
const FEW_OUTPUTS = 128 * 128;
/** The second-level cache: what stages are filled from, and the rest. */
const STAGED_BYTES_PER_NS = 10_213;
const MOVED_BYTES_PER_NS = 13_596;
const MEMORY_BYTES_PER_NS = 2803;

export function predictResidentNs(kernel: Kernel, shape: GemmShape, tile: ResidentTile): number {
  const { bm, bn } = tile;
  const outputs = bm * bn;
  const size = outputs > FEW_OUTPUTS ? 1 : 0;
  const tiles = tilesOf(shape, tile);
  const fed = (bm + bn) * STEP_BYTES;
  const step = Math.max((outputs * STEP_BYTES) / PRODUCT_BYTES_PER_NS, fed / FED_BYTES_PER_NS);
  const perOutput = NS_PER_OUTPUT[size] + rowsReadBehind(kernel, shape) * NS_PER_READ[size];
  const compute = Math.ceil(tiles / MULTIPROCESSORS) * (shape.steps * step + outputs * perOutput + TILE_NS);
  const bytes = bytesOf(kernel, shape);
  const cache = (tiles * shape.steps * fed) / STAGED_BYTES_PER_NS + bytes / MOVED_BYTES_PER_NS;
  return BESIDE_OTHERS * (LAUNCH_NS + Math.max(compute, cache, bytes / MEMORY_BYTES_PER_NS));
}
