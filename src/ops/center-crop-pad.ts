/**
 * CenterCropPad: the middle of each dim where that is longer than wanted, zeros on both sides where it is shorter.
 *
 *     out[…, c, …] = x[…, c + ⌊(size − wanted)/2⌋, …]          an odd difference leaves one more at the end, cropping and padding alike
 */
import { isBigInt } from '../core/dtype.ts';
import { rowMajorStrides, type StaticShape } from '../core/shape.ts';
import { add, binary, constant, index, inRange, max, min, select } from '../loop/expr.ts';
import { checkAxes, dimsInput, i64Vector, vectorLength } from './dims.ts';
import { defineOp, ints, type Op, type OpCase } from './op.ts';
import { offsets, readSeparable } from './separable.ts';

/** Where along each dim the output starts in the input; negative where it is padded. */
const startsOf = (from: StaticShape, to: StaticShape): number[] =>
  from.map((size, d) => (size >= to[d] ? Math.floor((size - to[d]) / 2) : -Math.floor((to[d] - size) / 2)));

const cropCase = (
  name: string,
  shape: number[],
  wanted: number[],
  attrs: NonNullable<OpCase['attrs']> = {},
): OpCase => ({
  name,
  attrs,
  inputs: [{ dtype: 'f32', shape }, { constant: i64Vector(wanted) }],
});

const centerCropPad = defineOp({
  name: 'CenterCropPad',
  onnx: { since: 18 },
  attrs: { axes: ints.optional },
  inputs: [2, 2],
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    const axes = checkAxes(ctx, ctx.attrs.axes ?? shape.map((_, d) => d), shape.length);
    if (vectorLength(ctx, 1) !== axes.length) ctx.fail(`one size for each of ${axes.length} axes is needed`);
    const wanted = dimsInput(ctx, 1);
    const out = shape.map((dim, d) => {
      const i = axes.indexOf(d);
      return i < 0 ? dim : (wanted?.[i] ?? ctx.freshDim('cropped'));
    });
    return [{ dtype, shape: out }];
  },
  identity: () => 0,
  eval([x], _, [out]) {
    const strides = rowMajorStrides(x!.shape);
    const starts = startsOf(x!.shape, out.shape);
    const tables = out.shape.map((extent, d) =>
      offsets(extent, strides[d], (c) => (c + starts[d] < x!.shape[d] ? c + starts[d] : -1)),
    );
    return [readSeparable(x!, tables, out, isBigInt(out.dtype) ? 0n : 0)];
  },
  lower: {
    kind: 'index',
    read(ctx, _, coords) {
      const { dtype, shape } = ctx.input(0);
      const to = ctx.outputs[0].shape;
      if (shape.includes(0)) return constant(dtype, 0);
      const at = startsOf(shape, to).map((start, d) => add(coords[d], index(start)));
      const padded = shape.flatMap((size, d) => (to[d] > size ? [inRange(at[d], size)] : []));
      const inside = at.map((c, d) => (to[d] > shape[d] ? min(max(c, index(0)), index(shape[d] - 1)) : c));
      const value = ctx.load(0, inside);
      return padded.length === 0
        ? value
        : select(
            padded.reduce((a, b) => binary('and', a, b)),
            value,
            constant(dtype, 0),
          );
    },
  },
  cases: [
    cropCase('crop', [7, 9, 3], [4, 5, 3]),
    cropCase('pad', [4, 5], [7, 10]),
    cropCase('both', [8, 3, 5], [5, 6], { axes: [0, -1] }),
    { name: 'i64', inputs: [{ dtype: 'i64', shape: [4] }, { constant: i64Vector([7]) }] },
    cropCase('empty', [0, 3], [2, 2]),
  ],
});

export const CENTER_CROP_PAD_OPS: readonly Op[] = [centerCropPad];
