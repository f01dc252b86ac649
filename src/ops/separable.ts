/**
 * Evaluation of moves in which each coordinate of the source depends on one coordinate of the result alone:
 *
 *     out[c0, c1, …] = in[t0[c0] + t1[c1] + …]        t_d[c] is an offset in elements, or OUTSIDE
 *
 * Transpose, slice, expand, tile, pad, gather and the block permutations are tables of this kind. The lowerings of these operators
 * compute coordinates by arithmetic instead, so that each side checks the other.
 */
import { DTYPES } from '../core/dtype.ts';
import { rowMajorStrides, type StaticShape } from '../core/shape.ts';
import type { Tensor, TensorType } from '../core/tensor.ts';

/** Marks a coordinate whose element comes from `fill` instead of the source. */
export const OUTSIDE = -1;

/** Offsets along one dim of the result: `at(c) * stride`, or OUTSIDE where `at` gives a negative position. */
export function offsets(extent: number, stride: number, at: (c: number) => number = (c) => c): Int32Array {
  const table = new Int32Array(extent);
  for (let c = 0; c < extent; c++) {
    const position = at(c);
    table[c] = position < 0 ? OUTSIDE : position * stride;
  }
  return table;
}

/** The tables that read a tensor of `shape` as it is. */
export const identityTables = (shape: StaticShape): Int32Array[] => {
  const strides = rowMajorStrides(shape);
  return shape.map((extent, d) => offsets(extent, strides[d]));
};

/** The result, of type `out`; tables' lengths multiply to its number of elements (they may split or merge its dims). */
export function readSeparable(
  source: Tensor,
  tables: readonly Int32Array[],
  out: TensorType,
  fill: number | bigint = 0,
): Tensor {
  const count = tables.reduce((n, t) => n * t.length, 1);
  const data = new DTYPES[out.dtype].array(count) as Float64Array;
  const from = source.data as Float64Array;
  const inner = tables.at(-1) ?? Int32Array.of(0);
  const outer = tables.slice(0, -1);
  const coords = new Int32Array(outer.length);
  for (let start = 0; start < count; start += inner.length) {
    let base = 0;
    for (let d = 0; d < outer.length; d++) {
      const offset = outer[d][coords[d]];
      base = base < 0 || offset === OUTSIDE ? OUTSIDE : base + offset;
    }
    for (let c = 0; c < inner.length; c++) {
      data[start + c] = base < 0 || inner[c] === OUTSIDE ? (fill as number) : from[base + inner[c]];
    }
    for (let d = outer.length - 1; d >= 0 && ++coords[d] === outer[d].length; d--) coords[d] = 0;
  }
  return { dtype: out.dtype, shape: out.shape, data };
}
