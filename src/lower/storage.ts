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

/** The dims outermost first, by stride; dims of extent 1 stand where row-major has them. */
export function orderOf(storage: Storage): number[] {
  const real = rowMajorOrder(storage.shape.length).filter((d) => storage.shape[d] > 1);
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

/**
 * The same elements in row-major order under another shape; undefined where strides cannot say it (a copy is needed).
 * Dims are matched in groups of equal size; within a group the old dims must be one run of memory (NumPy's rule for reshape views).
 */
export function reshapeStorage(s: Storage, shape: StaticShape): Storage | undefined {
  if (s.shape.includes(0)) return { ...s, shape, strides: rowMajorStrides(shape) };
  if (elements(s.shape) !== elements(shape)) throw new Bug('lower-reshape', `[${s.shape}] seen as [${shape}]`);
  const old = rowMajorOrder(s.shape.length).filter((d) => s.shape[d] !== 1);
  const strides = new Array<number>(shape.length).fill(0);
  let i = 0;
  let j = 0;
  while (i < old.length || j < shape.length) {
    if (j < shape.length && shape[j] === 1) {
      j++;
      continue;
    }
    let from = i < old.length ? s.shape[old[i]] : 1;
    let to = j < shape.length ? shape[j] : 1;
    const firstOld = i++;
    const firstNew = j++;
    while (from !== to) {
      if (from < to) {
        if (s.strides[old[i - 1]] !== s.strides[old[i]] * s.shape[old[i]]) return undefined;
        from *= s.shape[old[i++]];
      } else to *= shape[j++];
    }
    if (firstOld >= old.length) continue;
    let stride = s.strides[old[i - 1]];
    for (let d = j - 1; d >= firstNew; d--) {
      strides[d] = stride;
      stride *= shape[d];
    }
  }
  return { ...s, shape, strides };
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
