/**
 * CumSum and CumProd: running sums and products along an axis.
 *
 *     y[i] = Σ over j <= i of x[j]        exclusive: j < i        reverse: the same from the other end
 *
 * Integers wrap to their width.
 */
import { DTYPES, isBigInt, type Scalar } from '../core/dtype.ts';
import { Bug } from '../core/errors.ts';
import { encodeScalar, fromNumbers, type Tensor, toNumbers } from '../core/tensor.ts';
import { binaryFn, identity, type ScalarFn2 } from '../loop/arithmetic.ts';
import { axis, binary, constant, index, local, sub } from '../loop/expr.ts';
import type { Stmt } from '../loop/ir.ts';
import { checkAxis, i64Vector, intsInput, intsOf } from './dims.ts';
import { bool, defineOp, type Op, type OpCase } from './op.ts';
import { assign, dimOffsets, otherDims } from './rows.ts';

const ATTRS = { exclusive: bool(false), reverse: bool(false) } as const;

/** An operator that folds along the axis that its second input names. */
const cumulative = (name: string, since: number, fold: 'add' | 'mul', cases: readonly OpCase[]): Op =>
  defineOp({
    name,
    onnx: { since },
    attrs: ATTRS,
    inputs: [2, 2],
    infer(ctx) {
      const x = ctx.input(0);
      if (x.dtype === 'bool') ctx.fail('the input is bool, expected numbers', 'cast it to an integer');
      const axes =
        intsInput(ctx, 1) ??
        ctx.fail('the axis is computed while running', 'it must be known when the engine is built');
      if (axes.length !== 1) ctx.fail(`the axis has ${axes.length} elements, expected one`);
      checkAxis(ctx, axes[0], x.shape.length);
      return [x];
    },
    eval([x, axisValue], { exclusive, reverse }, [out]) {
      const values = isBigInt(out.dtype) ? (x!.data as BigInt64Array) : toNumbers(x!);
      const combine = binaryFn(fold, out.dtype) as ScalarFn2;
      const dims = [dimOf(axisValue!, out.shape.length)];
      const steps = dimOffsets(out.shape, dims);
      if (reverse) steps.reverse();
      const data = new DTYPES[out.dtype].array(values.length) as Float64Array;
      for (const row of dimOffsets(out.shape, otherDims(out.shape.length, dims))) {
        let result: Scalar = identity(fold, out.dtype);
        for (const step of steps) {
          const next = combine(result, values[row + step]);
          data[row + step] = encodeScalar(out.dtype, exclusive ? result : next) as number;
          result = next;
        }
      }
      return [{ ...out, data }];
    },
    lower: {
      kind: 'kernel',
      layout: 'any',
      streams: [0],
      build(ctx) {
        const { exclusive, reverse } = ctx.attrs;
        const { shape, dtype } = ctx.outputs[0];
        const axisValue = ctx.constant(1);
        if (!axisValue) throw new Bug('cumulative-axis', `${name} lowers with an axis that is not constant`);
        const dim = dimOf(axisValue, shape.length);
        const { axes, coords } = ctx.outputAxes(0, otherDims(shape.length, [dim]));
        const along = { name: ctx.fresh('s'), extent: shape[dim] };
        const step = axis(along.name);
        const at = coords.with(dim, reverse ? sub(index(shape[dim] - 1), step) : step);
        const result = ctx.fresh('run');
        const store: Stmt = ctx.store(0, at, local(result, dtype));
        const accumulate = assign(result, binary(fold, local(result, dtype), ctx.load(0, at)));
        return {
          form: { kind: 'reduce' },
          axes,
          body: [
            assign(result, constant(dtype, identity(fold, dtype))),
            { kind: 'scan', axis: along, body: exclusive ? [store, accumulate] : [accumulate, store] },
          ],
        };
      },
    },
    cases,
  });

/** The dim that an axis, counted from the end where negative, names. */
function dimOf(axisValue: Tensor, rank: number): number {
  const [given] = intsOf(axisValue);
  return given < 0 ? given + rank : given;
}

const runCase = (name: string, shape: number[], axis: number, attrs: OpCase['attrs'] = {}): OpCase => ({
  name,
  attrs,
  inputs: [{ dtype: 'f32', shape }, { constant: fromNumbers('i64', [], [axis]) }],
});
const CASES: readonly OpCase[] = [
  runCase('last axis', [3, 11], -1),
  runCase('first axis', [5, 3], 0),
  runCase('exclusive', [2, 7, 3], 1, { exclusive: true }),
  runCase('reverse', [2, 7], 1, { reverse: true }),
  runCase('reverse and exclusive', [4, 1, 5], 2, { reverse: true, exclusive: true }),
  { name: 'i64', inputs: [{ dtype: 'i64', shape: [2, 5] }, { constant: i64Vector([1]) }] },
  {
    name: 'i64 beyond 53 bits',
    inputs: [
      { dtype: 'i64', shape: [3], data: BigInt64Array.of(2n ** 62n + 1n, 2n, 3n) },
      { constant: i64Vector([0]) },
    ],
  },
  {
    name: 'i32 wraps',
    inputs: [fromNumbers('i32', [3], [2 ** 31 - 1, 65537, 65537]), { constant: i64Vector([0]) }],
  },
];

export const CUMULATIVE_OPS: readonly Op[] = [
  cumulative('CumSum', 11, 'add', CASES),
  cumulative('CumProd', 26, 'mul', CASES),
];
