/**
 * Rows: the points of some dims of a tensor while its other dims stand still. What reductions, softmax and norms fold over.
 *
 * For eval, two tables of offsets: element j of row i is `data[starts[i] + steps[j]]`. For lowering, the row's axes in the order of
 * the output's layout, and the coordinates that run along them.
 */
import type { StaticShape } from '../core/shape.ts';
import { elements, rowMajorStrides } from '../core/shape.ts';
import { type Tensor, zeros } from '../core/tensor.ts';
import { axis, index } from '../loop/expr.ts';
import type { Axis, Expr, ReduceOp, Stmt } from '../loop/ir.ts';
import type { KernelContext } from './op.ts';

/** Offsets in a row-major tensor of all points of the given dims, in row-major order, the other coordinates 0. */
export function dimOffsets(shape: StaticShape, dims: readonly number[]): Int32Array {
  const strides = rowMajorStrides(shape);
  const out = new Int32Array(elements(dims.map((d) => shape[d])));
  let repeat = 1;
  for (const d of dims.toReversed()) {
    for (let i = 0; i < out.length; i++) out[i] += (Math.floor(i / repeat) % shape[d]) * strides[d];
    repeat *= shape[d];
  }
  return out;
}

/** The dims of a rank that are not among `dims`. */
export const otherDims = (rank: number, dims: readonly number[]): number[] =>
  Array.from({ length: rank }, (_, d) => d).filter((d) => !dims.includes(d));

/** Axes along some dims, and coords with these dims put in. */
export interface RowAxes {
  readonly axes: readonly Axis[];
  readonly coords: readonly Expr[];
}

/** Fresh axes along `dims` of output 0, in its layout's order; the other coords are taken from `outer`. */
export function outputRow(ctx: KernelContext<unknown>, dims: readonly number[], outer: readonly Expr[]): RowAxes {
  const row = ctx.outputAxes(0, dims);
  return { axes: row.axes, coords: outer.map((c, d) => (dims.includes(d) ? row.coords[d] : c)) };
}

/** Fresh axes along `dims` of a tensor of `shape`, dims of extent 1 without one; the other coords are taken from `outer`. */
export function inputRow(
  ctx: KernelContext<unknown>,
  shape: StaticShape,
  dims: readonly number[],
  outer: readonly Expr[],
): RowAxes {
  const axes: Axis[] = [];
  const coords = outer.map((c, d) => {
    if (!dims.includes(d)) return c;
    if (shape[d] === 1) return index(0);
    axes.push({ name: ctx.fresh('r'), extent: shape[d] });
    return axis(axes[axes.length - 1].name);
  });
  return { axes, coords };
}

/** local := op over the row's axes of value. */
export const reduceRow = (local: string, op: ReduceOp, row: RowAxes, value: Expr): Stmt => ({
  kind: 'reduce',
  local,
  dtype: value.dtype,
  op,
  axes: row.axes,
  value,
});

/** The body for every point of the row. */
export const forRow = (row: RowAxes, body: readonly Stmt[]): readonly Stmt[] =>
  row.axes.reduceRight<readonly Stmt[]>((inner, a) => [{ kind: 'for', axis: a, body: inner }], body);

export const assign = (local: string, value: Expr): Stmt => ({ kind: 'let', local, dtype: value.dtype, value });

/** The given positions along an axis of a tensor seen as `shape`. */
export function pickAlong(
  x: Tensor,
  shape: StaticShape,
  axis: number,
  positions: readonly number[],
  out: StaticShape,
): Tensor {
  const y = zeros(x.dtype, out);
  const inner = elements(shape.slice(axis + 1));
  const outer = elements(shape.slice(0, axis));
  for (let o = 0; o < outer; o++) {
    positions.forEach((at, k) => {
      const from = (o * shape[axis] + at) * inner;
      y.data.set(x.data.subarray(from, from + inner) as never, (o * positions.length + k) * inner);
    });
  }
  return y;
}
