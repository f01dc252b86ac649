/**
 * The template of convolutions that keep their window in shared memory: which contracts it takes, its rows of parameters and their cost.
 */
import { Bug } from '../../core/errors.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { KernelFacts, Params } from '../target.ts';
import { sharedBytesOf, WARPGROUPS } from './chip-features.ts';
import { rowsPacking } from './gemm-packing.ts';
import { gemmShape } from './gemm-tiles.ts';
import { emitWindow, windowBytes } from './gemm-window.ts';
import { paddedWidth, type WindowShape, type WindowTile, windowShape, windowTiles } from './gemm-window-plan.ts';
import { bufferArgs, type CudaTemplate } from './template.ts';

/** Sums of a consumer's thread: more would not fit its registers. */
const MOST_SUMS = 128;
const ROWS = [2, 4] as const;
const STAGES = [2, 3, 4] as const;

const sumsOf = (s: WindowShape, { rows }: WindowTile): number => (rows / 2) * (paddedWidth(s) / 64) * (s.gemm.n / 2);

const rowsOf = (s: WindowShape, sharedBytes: number): WindowTile[] =>
  ROWS.flatMap((rows) => STAGES.map((stages) => ({ rows, stages }))).filter(
    (tile) => sumsOf(s, tile) <= MOST_SUMS && windowBytes(s, tile) <= sharedBytes && tile.rows <= s.height,
  );

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
  predictNs: (kernel, params) => predictWindowNs(shapeOf(kernel), tileOf(params)),
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

/** Not measured yet: behind all others. */
const predictWindowNs = (s: WindowShape, tile: WindowTile): number =>
  1e6 + (windowTiles(s, tile) * s.chunks.length * tile.rows * paddedWidth(s)) / 132;
