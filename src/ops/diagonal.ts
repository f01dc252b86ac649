/**
 * Trilu and EyeLike: what is on, above and below diagonal k of the last two dims (k > 0 is above the main one).
 */
import { type DType, isBigInt } from '../core/dtype.ts';
import { encodeScalar, fromNumbers, zeros } from '../core/tensor.ts';
import { add, binary, cast, constant, index, like, max, min, select, sub } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { intsOf } from './dims.ts';
import { bool, defineOp, dtypeAttr, int, type LowerContext, type OpCase } from './op.ts';

/** k as i32: beyond the matrix's extent in either direction all diagonals are alike, so it is clamped before it is narrowed. */
function diagonalOf<A>(ctx: LowerContext<A>, rows: number, columns: number): Expr {
  const type = ctx.inputs[1];
  if (!type) return index(0);
  const known = ctx.constant(1);
  if (known) return index(Math.min(Math.max(intsOf(known)[0], -rows), columns));
  const k = ctx.load(
    1,
    type.shape.map(() => index(0)),
  );
  return cast('i32', min(max(k, like(k, -rows)), like(k, columns)));
}

const triluCase = (name: string, shape: readonly number[], upper: boolean, k?: number): OpCase => ({
  name,
  attrs: { upper },
  inputs: [{ dtype: 'f32', shape }, ...(k === undefined ? [] : [fromNumbers('i64', [], [k])])],
});

const trilu = defineOp({
  name: 'Trilu',
  onnx: { since: 14 },
  attrs: { upper: bool(true) },
  inputs: [1, 2],
  infer(ctx) {
    const x = ctx.input(0);
    if (x.shape.length < 2) ctx.fail('the input must have at least two dims');
    return [x];
  },
  eval([x, diagonal], { upper }, [out]) {
    const result = zeros(out.dtype, out.shape);
    const [rows, columns] = out.shape.slice(-2);
    const k = diagonal ? intsOf(diagonal)[0] : 0;
    for (let i = 0; i < result.data.length; i++) {
      const off = (i % columns) - (Math.floor(i / columns) % rows);
      if (upper ? off >= k : off <= k) result.data[i] = x!.data[i] as never;
    }
    return [result];
  },
  lower: {
    kind: 'index',
    read(ctx, _, coords) {
      const [rows, columns] = ctx.outputs[0].shape.slice(-2);
      const [row, column] = coords.slice(-2);
      const keep = binary(ctx.attrs.upper ? 'ge' : 'le', sub(column, row), diagonalOf(ctx, rows, columns));
      return select(keep, ctx.load(0, coords), constant(ctx.outputs[0].dtype, 0));
    },
  },
  cases: [
    triluCase('upper', [2, 5, 7], true),
    triluCase('lower', [7, 5], false),
    triluCase('upper, k', [3, 5], true, 2),
    triluCase('lower, negative k', [5, 5], false, -3),
    triluCase('lower, k beyond', [3, 4], false, 99),
    triluCase('empty', [0, 3], true, 1),
    { name: 'constant k, i64', inputs: [{ dtype: 'i64', shape: [3, 3] }, { constant: fromNumbers('i64', [], [1]) }] },
    { name: 'bool', inputs: [{ dtype: 'bool', shape: [3, 3] }] },
  ],
});

const eyeLike = defineOp({
  name: 'EyeLike',
  onnx: { since: 9 },
  attrs: { dtype: dtypeAttr.optional, k: int(0) },
  inputs: [1, 1],
  infer(ctx) {
    const x = ctx.input(0);
    if (x.shape.length !== 2) ctx.fail('the input must have two dims');
    return [{ dtype: ctx.attrs.dtype ?? x.dtype, shape: x.shape }];
  },
  eval(_, { k }, [out]) {
    const result = zeros(out.dtype, out.shape);
    const [rows, columns] = out.shape;
    const one = encodeScalar(out.dtype, isBigInt(out.dtype) ? 1n : 1);
    for (let row = Math.max(0, -k); row < rows && row + k < columns; row++) {
      result.data[row * columns + row + k] = one as never;
    }
    return [result];
  },
  lower: {
    kind: 'index',
    read(ctx, _, [row, column]) {
      const { dtype } = ctx.outputs[0];
      return select(binary('eq', column, add(row, index(ctx.attrs.k))), constant(dtype, 1), constant(dtype, 0));
    },
  },
  cases: [
    { name: 'f32', inputs: [{ dtype: 'f32', shape: [5, 7] }] },
    { name: 'above', attrs: { k: 2 }, inputs: [{ dtype: 'f32', shape: [5, 3] }] },
    { name: 'below', attrs: { k: -1 }, inputs: [{ dtype: 'i64', shape: [3, 3] }] },
    ...(['i32', 'f64', 'u8', 'f16', 'bool'] as const).map(
      (dtype: DType): OpCase => ({
        name: `to ${dtype}`,
        attrs: { dtype },
        inputs: [{ dtype: 'f32', shape: [2, 3] }],
      }),
    ),
    { name: 'empty', inputs: [{ dtype: 'f32', shape: [0, 3] }] },
  ],
});

export const DIAGONAL_OPS = [trilu, eyeLike];
