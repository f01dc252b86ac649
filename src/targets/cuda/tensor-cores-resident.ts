/**
 * The template of tensor-core products by blocks that stay on their multiprocessors: which contracts it takes, its rows and their cost.
 */

import { Bug } from '../../core/errors.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { KernelFacts, Params } from '../target.ts';
import { sharedBytesOf, WARPGROUPS } from './chip-features.ts';
import { rowsPacking } from './gemm-packing.ts';
import { isLimited } from './gemm-plan.ts';
import { emitResident, type ResidentTile, residentBytes, tilesOf } from './gemm-resident.ts';
import { predictResidentNs } from './gemm-resident-cost.ts';
import { type GemmShape, gemmShape } from './gemm-tiles.ts';
import { bufferArgs, type CudaTemplate } from './template.ts';

const MULTIPROCESSORS = 132;

const HEIGHTS = [128, 256] as const;
const STAGES = [8, 6, 4, 3] as const;
/** Columns that wgmma takes at most, and fewer than these are not worth a tile of their own beside others. */
const MOST_COLUMNS = 256;
const LEAST_PART = 96;
const MOST_PARTS = 8;
/** What most products do best with, even where the last tile is not full. */
const USUAL_COLUMNS = [128, 256] as const;
const NARROW = 64;
/** Sums of a consumer's thread: more would not fit its registers. */
const MOST_SUMS = 128;

interface ResidentParams extends ResidentTile {
  /** 1: b is packed. */
  readonly packed: number;
}

/** Undefined where the template does not take the contract. */
export function residentShape(kernel: Kernel, facts: KernelFacts): GemmShape | undefined {
  const shape = gemmShape(kernel, facts);
  if (shape?.a !== 'chunks' || (shape.b !== 'packed' && shape.b !== 'rows')) return undefined;
  return shape.elementBytes === 2 && shape.batch === 1 && shape.n % 8 === 0 && !isLimited(shape.plan)
    ? shape
    : undefined;
}

/** Widths of tiles for n columns: the usual ones, and those that divide it into few equal parts. */
function widthsOf(n: number): number[] {
  const parts = Array.from({ length: MOST_PARTS }, (_, c) => n / (c + 1)).filter(
    (part) => part % 16 === 0 && part <= MOST_COLUMNS && (part >= LEAST_PART || part === n),
  );
  return [...new Set([...parts, ...(n > NARROW ? USUAL_COLUMNS : [])])];
}

/** Rows of parameters, as deep as shared memory allows. A block that has one tile only is better off with less of the multiprocessor. */
export const residentRows = (shape: GemmShape, sharedBytes: number): ResidentTile[] =>
  HEIGHTS.flatMap((bm) =>
    widthsOf(shape.n).flatMap((bn): ResidentTile[] => {
      const stages = STAGES.find((deep) => residentBytes({ bm, bn, stages: deep }) <= sharedBytes);
      if (stages === undefined || (bm * bn) / 256 > MOST_SUMS || bn >= 2 * shape.n) return [];
      return tilesOf(shape, { bm, bn, stages }) > MULTIPROCESSORS ? [{ bm, bn, stages }] : [];
    }),
  );

export const tensorCoresResident: CudaTemplate = {
  name: 'tensor-cores-resident',
  form: 'contract',
  candidates: (kernel, facts, features) => {
    const sharedBytes = sharedBytesOf(features);
    // setmaxnreg came with wgmma.
    const shape = features.includes(WARPGROUPS) ? residentShape(kernel, facts) : undefined;
    if (!shape || sharedBytes === undefined) return [];
    const packed = shape.b === 'packed' ? 1 : 0;
    return residentRows(shape, sharedBytes).map((row) => ({ ...row, packed }));
  },
  predictNs: (kernel, params) => predictResidentNs(kernel, shapeOf(kernel, params), rowOf(params)),
  tiles: (kernel, params) => tilesOf(shapeOf(kernel, params), rowOf(params)),
  packing: (kernel, params) => {
    const shape = shapeOf(kernel, params);
    return shape.b === 'packed' ? new Map([[shape.plan.b.buffer, rowsPacking(shape)]]) : new Map();
  },
  emit: (site) => {
    const row = rowOf(site.params);
    const shape = shapeOf(site.kernel, site.params);
    const { code, grid, block } = emitResident(site, shape, row, site.chip.multiprocessors);
    const launch = { code, grid, block, sharedBytes: residentBytes(row), args: bufferArgs(site.kernel), alone: true };
    return { launches: [launch], scratchBytes: 0 };
  },
};

const rowOf = (params: Params): ResidentParams => params as unknown as ResidentParams;

/** The shape that the parameters were made for. */
function shapeOf(kernel: Kernel, params: Params): GemmShape {
  const { form } = kernel;
  if (form.kind !== 'contract') throw new Bug('cuda-gemm', `kernel ${kernel.name} is no contract`);
  const shape = residentShape(kernel, { constant: new Set(rowOf(params).packed ? [form.b.buffer] : []) });
  if (!shape) throw new Bug('cuda-gemm', `kernel ${kernel.name} has no shape for blocks that stay`);
  return shape;
}
