/**
 * CumSum: running sums along an axis.
 *
 *     y[i] = Σ over j <= i of x[j]        exclusive: j < i        reverse: the same from the other end
 */
import { Bug } from '../core/errors.ts';
import { fromNumbers } from '../core/tensor.ts';
import { add, axis, constant, index, local, sub } from '../loop/expr.ts';
import type { Stmt } from '../loop/ir.ts';
import { checkAxis, i64Vector, intsInput, intsOf } from './dims.ts';
import { bool, defineOp, type Op, type OpCase } from './op.ts';
import { toFloat64 } from './product.ts';
import { assign, dimOffsets, otherDims } from './rows.ts';

const cumSum = defineOp({
  name: 'CumSum',
  onnx: { since: 11 },
  attrs: { exclusive: bool(false), reverse: bool(false) },
  inputs: [2, 2],
  infer(ctx) {
    const x = ctx.input(0);
    const axes =
      intsInput(ctx, 1) ?? ctx.fail('the axis is computed while running', 'it must be known when the engine is built');
    if (axes.length !== 1) ctx.fail(`the axis has ${axes.length} elements, expected one`);
    checkAxis(ctx, axes[0], x.shape.length);
    return [x];
  },
  eval([x, axisValue], { exclusive, reverse }, [out]) {
    const values = toFloat64(x!);
    const [given] = intsOf(axisValue!);
    const dims = [given < 0 ? given + out.shape.length : given];
    const steps = dimOffsets(out.shape, dims);
    if (reverse) steps.reverse();
    const y = new Float64Array(values.length);
    for (const row of dimOffsets(out.shape, otherDims(out.shape.length, dims))) {
      let sum = 0;
      for (const step of steps) {
        if (exclusive) y[row + step] = sum;
        sum += values[row + step];
        if (!exclusive) y[row + step] = sum;
      }
    }
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  lower: {
    kind: 'kernel',
    layout: 'any',
    streams: [0],
    build(ctx) {
      const { exclusive, reverse } = ctx.attrs;
      const { shape, dtype } = ctx.outputs[0];
      const axisValue = ctx.constant(1);
      if (!axisValue) throw new Bug('cumsum-axis', 'CumSum lowers with an axis that is not constant');
      const [given] = intsOf(axisValue);
      const dim = given < 0 ? given + shape.length : given;
      const { axes, coords } = ctx.outputAxes(0, otherDims(shape.length, [dim]));
      const along = { name: ctx.fresh('s'), extent: shape[dim] };
      const step = axis(along.name);
      const at = coords.with(dim, reverse ? sub(index(shape[dim] - 1), step) : step);
      const sum = ctx.fresh('sum');
      const store: Stmt = ctx.store(0, at, local(sum, dtype));
      const accumulate = assign(sum, add(local(sum, dtype), ctx.load(0, at)));
      return {
        form: { kind: 'reduce' },
        axes,
        body: [
          assign(sum, constant(dtype, 0)),
          { kind: 'scan', axis: along, body: exclusive ? [store, accumulate] : [accumulate, store] },
        ],
      };
    },
  },
  cases: [
    sumCase('last axis', [3, 11], -1),
    sumCase('first axis', [5, 3], 0),
    sumCase('exclusive', [2, 7, 3], 1, { exclusive: true }),
    sumCase('reverse', [2, 7], 1, { reverse: true }),
    sumCase('reverse and exclusive', [4, 1, 5], 2, { reverse: true, exclusive: true }),
    { name: 'i64', inputs: [{ dtype: 'i64', shape: [2, 5] }, { constant: i64Vector([1]) }] },
  ],
});

function sumCase(name: string, shape: number[], axis: number, attrs: OpCase['attrs'] = {}): OpCase {
  return { name, attrs, inputs: [{ dtype: 'f32', shape }, { constant: fromNumbers('i64', [], [axis]) }] };
}

export const CUMSUM_OPS: readonly Op[] = [cumSum];
