/**
 * ReverseSequence: the first elements of each sequence of a batch in reverse, as many as its length says.
 *
 *     out[…, t, …] = x[…, t < length ? length − 1 − t : t, …]          length = lengths[index along batch_axis]
 */
import { rowMajorStrides } from '../core/shape.ts';
import { fromNumbers, zeros } from '../core/tensor.ts';
import { binary, cast, index, like, max, min, select, sub } from '../loop/expr.ts';
import { checkAxis, intsOf } from './dims.ts';
import { defineOp, int, type Op, type OpCase } from './op.ts';

const sequenceCase = (
  name: string,
  shape: number[],
  lengths: number[],
  attrs: NonNullable<OpCase['attrs']>,
): OpCase => ({
  name,
  attrs,
  inputs: [{ dtype: 'f32', shape }, fromNumbers('i64', [lengths.length], lengths)],
});

const reverseSequence = defineOp({
  name: 'ReverseSequence',
  onnx: { since: 10 },
  attrs: { batch_axis: int(1), time_axis: int(0) },
  inputs: [2, 2],
  infer(ctx) {
    const [x, lengths] = [ctx.input(0), ctx.input(1)];
    if (x.shape.length < 2) ctx.fail('the input must have at least two dims');
    checkAxis(ctx, ctx.attrs.batch_axis, 2);
    checkAxis(ctx, ctx.attrs.time_axis, 2);
    if (ctx.attrs.batch_axis === ctx.attrs.time_axis) ctx.fail('batch_axis and time_axis must differ');
    if (lengths.dtype !== 'i64' || lengths.shape.length !== 1) ctx.fail('the lengths must be a vector of i64');
    return [x];
  },
  eval([x, lengths], { batch_axis, time_axis }, [out]) {
    const y = zeros(out.dtype, out.shape);
    const strides = rowMajorStrides(out.shape);
    const counts = intsOf(lengths!);
    for (let i = 0; i < y.data.length; i++) {
      const t = Math.floor(i / strides[time_axis]) % out.shape[time_axis];
      const count = counts[Math.floor(i / strides[batch_axis]) % out.shape[batch_axis]];
      const from = t < count ? count - 1 - t : t;
      y.data[i] = x!.data[i + (from - t) * strides[time_axis]] as never;
    }
    return [y];
  },
  lower: {
    kind: 'index',
    read(ctx, _, coords) {
      const { batch_axis, time_axis } = ctx.attrs;
      const t = coords[time_axis];
      const given = ctx.load(1, [coords[batch_axis]]);
      // Whatever the tensor holds, the load stays inside.
      const length = cast('i32', min(max(given, like(given, 0)), like(given, ctx.input(0).shape[time_axis])));
      const from = select(binary('lt', t, length), sub(sub(length, index(1)), t), t);
      return ctx.load(0, coords.with(time_axis, from));
    },
  },
  cases: [
    sequenceCase('time first', [4, 3, 2], [4, 2, 1], {}),
    sequenceCase('batch first', [3, 5], [1, 5, 3], { batch_axis: 0, time_axis: 1 }),
    sequenceCase('one step', [1, 2], [1, 1], {}),
  ],
});

export const SEQUENCE_ORDER_OPS: readonly Op[] = [reverseSequence];
