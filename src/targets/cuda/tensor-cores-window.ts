/**
 * The template of convolutions that keep their window in shared memory: which contracts it takes, its rows of parameters and their cost.
 */
import { Bug } from '../../core/errors.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { KernelFacts, Params } from '../target.ts';
import { sharedBytesOf, WARPGROUPS } from './chip-features.ts';
import { bytesOf } from './gemm-cost.ts';
import { rowsPacking } from './gemm-packing.ts';
import { gemmShape } from './gemm-tiles.ts';
import { emitWindow, windowBytes } from './gemm-window.ts';
import { paddedWidth, type WindowShape, type WindowTile, windowShape, windowTiles } from './gemm-window-plan.ts';
import { bufferArgs, type CudaTemplate } from './template.ts';

/** Sums of a consumer's thread: more would not fit its registers. */
const MOST_SUMS = 128;
/** One output row a warpgroup. */
const ROWS = 2;
const STAGES = [4, 3, 2] as const;

const sumsOf = (s: WindowShape, { rows }: WindowTile): number => (rows / 2) * (paddedWidth(s) / 64) * (s.gemm.n / 2);

/** One row of parameters, as deep as shared memory allows. */
function rowsOf(s: WindowShape, sharedBytes: number): WindowTile[] {
  const stages = STAGES.find((deep) => windowBytes(s, { rows: ROWS, stages: deep }) <= sharedBytes);
  if (stages === undefined || s.height < ROWS) return [];
  const tile = { rows: ROWS, stages };
  return sumsOf(s, tile) <= MOST_SUMS ? [tile] : [];
}

const planned = (kernel: Kernel, facts: KernelFacts): WindowShape | undefined => {
  const gemm = gemmShape(kernel, facts);
  return gemm && windowShape(gemm);
};

export const tensorCoresWindow: CudaTemplate = {
  name: 'tensor-cores-window',
  form: 'contract',
  candidates: (kernel, facts, features) => {
    const sharedBytes = sharedBytesOf(features);
    // setmaxnreg came with wgmma.
    const shape = features.includes(WARPGROUPS) ? planned(kernel, facts) : undefined;
    return shape && sharedBytes !== undefined ? rowsOf(shape, sharedBytes).map((row) => ({ ...row })) : [];
  },
  predictNs: (kernel, params) => predictWindowNs(kernel, shapeOf(kernel), tileOf(params)),
  tiles: (kernel, params) => windowTiles(shapeOf(kernel), tileOf(params)),
  packing: (kernel) => {
    const { gemm } = shapeOf(kernel);
    return new Map([[gemm.plan.b.buffer, rowsPacking(gemm)]]);
  },
  emit: (site) => {
    const [shape, tile] = [shapeOf(site.kernel), tileOf(site.params)];
    const { code, grid, block } = emitWindow(site, shape, tile, site.chip.multiprocessors);
    const launch = {
      code,
      grid,
      block,
      sharedBytes: windowBytes(shape, tile),
      args: bufferArgs(site.kernel),
      alone: true,
    };
    return { launches: [launch], scratchBytes: 0 };
  },
};

const tileOf = (params: Params): WindowTile => params as unknown as WindowTile;

function shapeOf(kernel: Kernel): WindowShape {
  const { form } = kernel;
  const shape = form.kind === 'contract' ? planned(kernel, { constant: new Set([form.b.buffer]) }) : undefined;
  if (!shape) throw new Bug('cuda-gemm', `kernel ${kernel.name} has no window`);
  return shape;
}

const MULTIPROCESSORS = 132;
/** The weights' way into shared memory, once a block. */
const BEGIN_NS = 6000;
const PRODUCT_NS = 81.6;
const NS_PER_OUTPUT = 0.0247;
const MEMORY_BYTES_PER_NS = 2800;
/** Other tensor-core products are predicted too fast (gemm-resident-cost.ts). */
const BESIDE_OTHERS = 0.7;

/** Fitted to stems of three networks and a 3×3 at batches of 1 to 128 on an H100 (docs/performance.md). */
function predictWindowNs(kernel: Kernel, s: WindowShape, tile: WindowTile): number {
  const products = (s.chunks.length / 2) * (tile.rows / 2) * (paddedWidth(s) / 64) * (s.gemm.n / 64);
  const outputs = tile.rows * paddedWidth(s) * s.gemm.n;
  const rounds = Math.ceil(windowTiles(s, tile) / MULTIPROCESSORS);
  const compute = rounds * (products * PRODUCT_NS + outputs * NS_PER_OUTPUT);
  return BESIDE_OTHERS * (BEGIN_NS + Math.max(compute, bytesOf(kernel, s.gemm) / MEMORY_BYTES_PER_NS));
}
