/**
 * ArgMax and ArgMin: the position of the extreme along an axis; Hardmax: 1 there and 0 elsewhere.
 *
 * The first of equal extremes wins, or the last with select_last_index. A NaN never beats what came before it.
 */
import type { StaticShape } from '../core/shape.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import { axis, binary, cast, constant, index, local, select } from '../loop/expr.ts';
import type { Stmt } from '../loop/ir.ts';
import { checkAxis } from './dims.ts';
import { bool, defineOp, int, type KernelContext, type Op, type OpCase } from './op.ts';
import { toFloat64 } from './product.ts';
import { inputCoords } from './reduce.ts';
import { assign, dimOffsets, forRow, inputRow, otherDims, outputRow, type RowAxes } from './rows.ts';
import { AXIS_ATTRS, rowDims, upgradeFlattening } from './softmax.ts';

type Comparison = 'gt' | 'ge' | 'lt' | 'le';
const BETTER: { readonly [C in Comparison]: (a: number, b: number) => boolean } = {
  gt: (a, b) => a > b,
  ge: (a, b) => a >= b,
  lt: (a, b) => a < b,
  le: (a, b) => a <= b,
};

/** Position within each row of its extreme, rows in row-major order of the other dims. */
function extremePositions(x: Tensor, dims: readonly number[], better: Comparison): Int32Array {
  const values = toFloat64(x);
  const steps = dimOffsets(x.shape, dims);
  const beats = BETTER[better];
  return dimOffsets(x.shape, otherDims(x.shape.length, dims)).map((row) => {
    let best = 0;
    for (let i = 1; i < steps.length; i++) if (beats(values[row + steps[i]], values[row + steps[best]])) best = i;
    return best;
  });
}

/** position := where along the row the extreme stands. The row has one axis, or none where its extent is 1. */
function scanExtreme(ctx: KernelContext<unknown>, row: RowAxes, better: Comparison, position: string): Stmt[] {
  const start = assign(position, index(0));
  if (row.axes.length === 0) return [start];
  const [along] = row.axes;
  const here = axis(along.name);
  const value = ctx.load(0, row.coords);
  const best = ctx.fresh('best');
  const isFirst = binary('eq', here, index(0));
  const wins = binary('or', isFirst, binary(better, value, local(best, value.dtype)));
  return [
    start,
    assign(best, constant(value.dtype, 0)),
    {
      kind: 'scan',
      axis: along,
      body: [{ kind: 'if', cond: wins, body: [assign(position, here), assign(best, value)] }],
    },
  ];
}

const argCase = (name: string, shape: number[], attrs: OpCase['attrs'] = {}): OpCase => ({
  name,
  attrs,
  inputs: [{ dtype: 'f32', shape }],
});

const ARG_ATTRS = { axis: int(0), keepdims: bool(true), select_last_index: bool(false) } as const;

const defineArg = (name: string, first: Comparison, last: Comparison): Op =>
  defineOp({
    name,
    onnx: { since: 1 },
    attrs: ARG_ATTRS,
    inputs: [1, 1],
    infer(ctx) {
      const { shape } = ctx.input(0);
      const axis = checkAxis(ctx, ctx.attrs.axis, shape.length);
      if (shape[axis] === 0) ctx.fail(`axis ${axis} is empty`);
      const kept = ctx.attrs.keepdims ? shape.with(axis, 1) : shape.toSpliced(axis, 1);
      return [{ dtype: 'i64', shape: kept }];
    },
    eval: ([x], attrs, [out]) => [
      fromNumbers(
        'i64',
        out.shape,
        extremePositions(x!, [positive(attrs.axis, x!.shape)], attrs.select_last_index ? last : first),
      ),
    ],
    lower: {
      kind: 'kernel',
      layout: 'any',
      streams: [0],
      build(ctx) {
        const { shape } = ctx.input(0);
        const dims = [positive(ctx.attrs.axis, shape)];
        const { axes, coords } = ctx.outputAxes(0);
        const row = inputRow(ctx, shape, dims, inputCoords(shape, dims, coords, ctx.attrs.keepdims));
        const position = ctx.fresh('position');
        const body = [
          ...scanExtreme(ctx, row, ctx.attrs.select_last_index ? last : first, position),
          ctx.store(0, coords, cast('i64', local(position, 'i32'))),
        ];
        return { form: { kind: 'reduce' }, axes, body };
      },
    },
    cases: [
      argCase('first axis', [5, 3]),
      argCase('last axis, dropped', [2, 3, 11], { axis: -1, keepdims: false }),
      argCase('middle axis', [2, 7, 3], { axis: 1 }),
      argCase('one element', [3, 1], { axis: 1 }),
      ...[false, true].map(
        (select_last_index): OpCase => ({
          name: `ties, ${select_last_index ? 'last' : 'first'}`,
          attrs: { axis: 1, select_last_index },
          inputs: [{ dtype: 'i32', shape: [6, 9], range: [0, 3] }],
        }),
      ),
    ],
  });

const positive = (axis: number, shape: StaticShape): number => (axis < 0 ? axis + shape.length : axis);

const hardmax = defineOp({
  name: 'Hardmax',
  onnx: { since: 1, upgrade: upgradeFlattening('Hardmax') },
  attrs: AXIS_ATTRS,
  inputs: [1, 1],
  infer(ctx) {
    checkAxis(ctx, ctx.attrs.axis, ctx.input(0).shape.length);
    return [ctx.input(0)];
  },
  eval([x], attrs, [out]) {
    const dims = rowDims(attrs, out.shape.length);
    const steps = dimOffsets(out.shape, dims);
    const starts = dimOffsets(out.shape, otherDims(out.shape.length, dims));
    const y = new Float64Array(x!.data.length);
    for (const [row, best] of extremePositions(x!, dims, 'gt').entries()) y[starts[row] + steps[best]] = 1;
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  lower: {
    kind: 'kernel',
    layout: 'row-major',
    streams: [],
    build(ctx) {
      const { dtype, shape } = ctx.outputs[0];
      const dims = rowDims(ctx.attrs, shape.length);
      const { axes, coords } = ctx.outputAxes(0, otherDims(shape.length, dims));
      const [read, write] = [outputRow(ctx, dims, coords), outputRow(ctx, dims, coords)];
      const position = ctx.fresh('position');
      const isBest = binary('eq', write.coords[dims[0]], local(position, 'i32'));
      const mark = select(isBest, constant(dtype, 1), constant(dtype, 0));
      const body = [...scanExtreme(ctx, read, 'gt', position), ...forRow(write, [ctx.store(0, write.coords, mark)])];
      return { form: { kind: 'reduce' }, axes, body };
    },
  },
  cases: [argCase('last axis', [3, 7]), argCase('middle axis', [2, 5, 3], { axis: 1 }), argCase('one element', [2, 1])],
});

export const ARG_OPS: readonly Op[] = [defineArg('ArgMax', 'gt', 'ge'), defineArg('ArgMin', 'lt', 'le'), hardmax];
