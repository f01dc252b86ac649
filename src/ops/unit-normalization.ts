/**
 * Normalisations without learnt parameters, which expand to reductions: LpNormalization and MeanVarianceNormalization.
 *
 *     LpNormalization            x / (Σ |x|^p)^(1/p) along an axis, p 1 or 2; a row of zeros stays zeros
 *     MeanVarianceNormalization  (x − mean) / (√variance + 1e-9) over some axes
 */
import { fromNumbers, scalarTensor } from '../core/tensor.ts';
import { checkAxes, checkAxis, checkFloats, i64Vector } from './dims.ts';
import { defineOp, int, ints, type Op, type OpCase } from './op.ts';
import { toFloat64 } from './product.ts';
import { dimOffsets, otherDims } from './rows.ts';

/** Keeps the division of a row of zeros at 0: far below the norm of any other row, and no 0 in the dtype. */
const LEAST_NORM = 2 ** -126;
const LEAST_F16_NORM = 2 ** -24;
/** Added to the deviation, as ONNX defines it. */
const LEAST_DEVIATION = 1e-9;

const normCase = (name: string, shape: number[], attrs: OpCase['attrs'] = {}): OpCase => ({
  name,
  attrs,
  inputs: [{ dtype: 'f32', shape }],
});

const lpNormalization = defineOp({
  name: 'LpNormalization',
  onnx: { since: 1 },
  attrs: { axis: int(-1), p: int(2) },
  inputs: [1, 1],
  infer(ctx) {
    checkFloats(ctx);
    const x = ctx.input(0);
    checkAxis(ctx, ctx.attrs.axis, x.shape.length);
    if (ctx.attrs.p !== 1 && ctx.attrs.p !== 2) ctx.fail(`p is ${ctx.attrs.p}, expected 1 or 2`);
    return [x];
  },
  eval([x], { axis, p }, [out]) {
    const values = toFloat64(x!);
    const dims = [axis < 0 ? axis + out.shape.length : axis];
    const steps = dimOffsets(out.shape, dims);
    const y = new Float64Array(values.length);
    for (const row of dimOffsets(out.shape, otherDims(out.shape.length, dims))) {
      let sum = 0;
      for (const step of steps) sum += Math.abs(values[row + step]) ** p;
      const norm = Math.max(sum ** (1 / p), LEAST_NORM);
      for (const step of steps) y[row + step] = values[row + step] / norm;
    }
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  expand(b, node, { axis, p }) {
    const [x] = node.inputs;
    const { dtype } = b.type(x);
    const [norm] = b.node(p === 1 ? 'ReduceL1' : 'ReduceL2', [x, b.constant(i64Vector([axis]))]);
    const least = dtype === 'f16' ? LEAST_F16_NORM : LEAST_NORM;
    const [safe] = b.node('Max', [norm, b.constant(scalarTensor(dtype, least))]);
    return b.node('Div', [x, safe]);
  },
  cases: [
    normCase('last axis', [3, 7]),
    normCase('channels, p 1', [2, 5, 3], { axis: 1, p: 1 }),
    normCase('row of one', [4, 1]),
    { name: 'row of zeros', inputs: [fromNumbers('f32', [2, 3], [0, 0, 0, 3, 0, -4])] },
  ],
});

const meanVarianceNormalization = defineOp({
  name: 'MeanVarianceNormalization',
  onnx: { since: 9 },
  attrs: { axes: ints([0, 2, 3]) },
  inputs: [1, 1],
  infer(ctx) {
    checkFloats(ctx);
    checkAxes(ctx, ctx.attrs.axes, ctx.input(0).shape.length);
    return [ctx.input(0)];
  },
  eval([x], { axes }, [out]) {
    const values = toFloat64(x!);
    const dims = axes.map((a) => (a < 0 ? a + out.shape.length : a));
    const steps = dimOffsets(out.shape, dims);
    const y = new Float64Array(values.length);
    for (const row of dimOffsets(out.shape, otherDims(out.shape.length, dims))) {
      let sum = 0;
      for (const step of steps) sum += values[row + step];
      const mean = sum / steps.length;
      let squares = 0;
      for (const step of steps) squares += (values[row + step] - mean) ** 2;
      const deviation = Math.sqrt(squares / steps.length) + LEAST_DEVIATION;
      for (const step of steps) y[row + step] = (values[row + step] - mean) / deviation;
    }
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  expand(b, node, { axes }) {
    const [x] = node.inputs;
    const dims = b.constant(i64Vector(axes));
    const [mean] = b.node('ReduceMean', [x, dims]);
    const [centred] = b.node('Sub', [x, mean]);
    const [squares] = b.node('Mul', [centred, centred]);
    const [variance] = b.node('ReduceMean', [squares, dims]);
    const [deviation] = b.node('Sqrt', [variance]);
    const [safe] = b.node('Add', [deviation, b.constant(scalarTensor(b.type(x).dtype, LEAST_DEVIATION))]);
    return b.node('Div', [centred, safe]);
  },
  cases: [
    normCase('over batch and space', [2, 3, 5, 7]),
    normCase('over space', [2, 3, 4, 1], { axes: [2, 3] }),
    normCase('over the last axis', [3, 11], { axes: [-1] }),
  ],
});

export const UNIT_NORMALIZATION_OPS: readonly Op[] = [lpNormalization, meanVarianceNormalization];
