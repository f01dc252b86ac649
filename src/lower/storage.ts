/**
 * Where values lie: layout as strides over a block of memory.
 *
 * A block is allocated memory (arena, or one constant). A storage is a value's view of a block: an offset and one stride a dim, in
 * elements. Reshapes, transposes, slices and broadcasts are views whenever strides can express them, so they cost nothing;
 * a value that is concatenated is a view of its place in the result. Dims of extent 1 have no meaningful stride.
 */
import type { DType } from '../core/dtype.ts';
import { Bug } from '../core/errors.ts';
import { elements, rowMajorStrides, type StaticShape } from '../core/shape.ts';
import type { Affine } from '../loop/ir.ts';

export interface Block {
  readonly id: number;
  /** The value that the block was made for: names it in messages and in the plan. */
  readonly name: string;
  readonly dtype: DType;
  readonly elements: number;
  readonly space: 'arena' | 'weights';
}

export interface Storage {
  readonly block: Block;
  readonly offset: number;
  readonly shape: StaticShape;
  readonly strides: readonly number[];
  /** Elements from `offset` to the first one, where kernels count them in their indices: a place that depends on open sizes. */
  readonly shift?: number;
}

/** Strides of a dense tensor whose dims lie in `order`, outermost first. */
export function stridesOf(shape: StaticShape, order: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (const dim of order.toReversed()) {
    strides[dim] = stride;
    stride *= shape[dim];
  }
  return strides;
}

export const rowMajorOrder = (rank: number): number[] => Array.from({ length: rank }, (_, i) => i);

/** Batch, space…, channel. */
export const channelsLastOrder = (rank: number): number[] =>
  rank < 3 ? rowMajorOrder(rank) : [0, ...rowMajorOrder(rank).slice(2), 1];

/** The dims outermost first, by stride; dims of extent 1 stand where row-major has them, and all do where one repeats its elements. */
export function orderOf(storage: Storage): number[] {
  const real = rowMajorOrder(storage.shape.length).filter((d) => storage.shape[d] > 1);
  if (real.some((d) => storage.strides[d] === 0)) return rowMajorOrder(storage.shape.length);
  const sorted = real.toSorted((a, b) => storage.strides[b] - storage.strides[a] || a - b);
  const out = rowMajorOrder(storage.shape.length);
  real.forEach((dim, i) => {
    out[dim] = sorted[i];
  });
  return out;
}

/** Elements from the first to the last one of the view, inclusive. */
export const span = (s: Storage): number =>
  s.shape.includes(0) ? 0 : 1 + (s.shift ?? 0) + s.shape.reduce((n, extent, d) => n + (extent - 1) * s.strides[d], 0);

export function isRowMajor(s: Storage): boolean {
  const dense = rowMajorStrides(s.shape);
  return s.shape.includes(0) || s.shape.every((extent, d) => extent === 1 || s.strides[d] === dense[d]);
}

/** Dims of two shapes that hold the same elements, by position: those of either side that make up each other. */
interface DimGroup {
  readonly from: readonly number[];
  readonly to: readonly number[];
}

/** Matches dims in row-major order in groups of equal size; dims of extent 1 are in none. */
function dimGroups(from: StaticShape, to: StaticShape): readonly DimGroup[] {
  if (elements(from) !== elements(to)) throw new Bug('lower-reshape', `[${from}] seen as [${to}]`);
  const real = (shape: StaticShape): number[] => rowMajorOrder(shape.length).filter((d) => shape[d] !== 1);
  const [old, fresh] = [real(from), real(to)];
  const groups: DimGroup[] = [];
  for (let i = 0, j = 0; i < old.length; ) {
    const [first, second] = [i, j];
    let [a, b] = [from[old[i++]], to[fresh[j++]]];
    while (a !== b) {
      if (a < b) a *= from[old[i++]];
      else b *= to[fresh[j++]];
    }
    groups.push({ from: old.slice(first, i), to: fresh.slice(second, j) });
  }
  return groups;
}

/**
 * The same elements in row-major order under another shape; undefined where strides cannot say it (a copy is needed).
 * Dims are matched in groups of equal size; within a group the old dims must be one run of memory (NumPy's rule for reshape views).
 */
export function reshapeStorage(s: Storage, shape: StaticShape): Storage | undefined {
  if (s.shape.includes(0)) return { ...s, shape, strides: rowMajorStrides(shape) };
  const strides = new Array<number>(shape.length).fill(0);
  for (const { from, to } of dimGroups(s.shape, shape)) {
    for (let i = 1; i < from.length; i++)
      if (s.strides[from[i - 1]] !== s.strides[from[i]] * s.shape[from[i]]) return undefined;
    let stride = s.strides[from[from.length - 1]];
    for (const d of to.toReversed()) {
      strides[d] = stride;
      stride *= shape[d];
    }
  }
  return { ...s, shape, strides };
}

/**
 * The order of dims for a copy that can be seen under another shape: dims that make up one there lie one in the other, and such groups lie
 * as they do in the source, so that neighbours stay near each other.
 */
export function orderForReshape(s: Storage, shape: StaticShape): number[] {
  if (s.shape.includes(0)) return rowMajorOrder(s.shape.length);
  const points = rowMajorOrder(s.shape.length).filter((d) => s.shape[d] === 1);
  // A dim that repeats its elements (shared heads) is near none of them.
  const least = ({ from }: DimGroup): number => Math.min(...from.map((d) => s.strides[d] || Number.POSITIVE_INFINITY));
  const groups = dimGroups(s.shape, shape).toSorted((a, b) => least(b) - least(a));
  return [...points, ...groups.flatMap(({ from }) => from)];
}

/**
 * The view out[axes…] = s[at0, at1, …], each `at` affine in the output's axes (axis d is named by `axisNames[d]`);
 * undefined where a stride would be negative.
 */
export function affineView(
  s: Storage,
  at: readonly Affine[],
  shape: StaticShape,
  axisNames: readonly string[],
): Storage | undefined {
  let offset = s.offset;
  const strides = new Array<number>(shape.length).fill(0);
  at.forEach((a, dim) => {
    offset += a.constant * s.strides[dim];
    for (const t of a.terms) strides[axisNames.indexOf(t.axis)] += t.coef * s.strides[dim];
  });
  return strides.some((stride) => stride < 0) || offset < 0 ? undefined : { block: s.block, offset, shape, strides };
}

/** The part of a concatenated value that starts at `start` along `axis`. */
export const partOf = (s: Storage, axis: number, start: number, shape: StaticShape): Storage => ({
  block: s.block,
  offset: s.offset + start * s.strides[axis],
  shape,
  strides: s.strides,
});
