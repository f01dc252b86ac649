/**
 * DFT and STFT, as products with a constant matrix of cosines and sines.
 *
 *     X[k] = Σ over n of x[n] · e^(∓2πikn / N)        inverse: e^(+…) / N
 *
 * One-sided, the bins beyond N / 2 are left out, since those of a real signal are the conjugates of the others: forward from a real
 * signal, inverse to one.
 *
 * Real and imaginary parts are the last dim, of extent 2; a real signal has extent 1. STFT is a convolution whose filters are the rows
 * of the matrix times the window, with the frame's step as stride.
 */
import type { Dim } from '../core/shape.ts';
import { addDims, floorDivDims, mulDims, printShape } from '../core/shape.ts';
import { fromNumbers, toNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { defineComposite } from './composite.ts';
import { attrToInput, checkAxis, checkFloatInputs, intsInput } from './dims.ts';
import { bool, type Op, type OpCase, type RawNode, type UpgradeContext } from './op.ts';

interface Transform {
  /** Length of the transform; samples beyond are 0. */
  readonly length: number;
  /** Samples that there are. */
  readonly samples: number;
  readonly bins: number;
  /** 2 where the signal has an imaginary part. */
  readonly parts: 1 | 2;
  readonly inverse: boolean;
  /** 1 where the result is real. */
  readonly resultParts: 1 | 2;
  /** The samples are bins 0 to N / 2 of a real signal's transform. */
  readonly halved: boolean;
}

/** Factor of part `from` of a sample in part `to` of a bin: rotation by the angle −2πkn / N, or for the inverse by the opposite one. */
function factor(t: Transform, n: number, from: number, k: number, to: number): number {
  // k · n modulo N first: the angle stays small, and its cosine exact.
  const angle = (2 * Math.PI * ((k * n) % t.length)) / t.length;
  const sine = t.inverse ? -Math.sin(angle) : Math.sin(angle);
  // A bin that was left out is the conjugate of one that is there, which counts twice.
  const twice = t.halved && n > 0 && 2 * n < t.length;
  const scale = (t.inverse ? 1 / t.length : 1) * (twice ? 2 : 1);
  if (from === to) return Math.cos(angle) * scale;
  return (from === 0 ? -sine : sine) * scale;
}

/** The matrix in row-major order of its samples, their parts, bins, their parts. */
function matrix(t: Transform): Float64Array {
  const out = new Float64Array(t.samples * t.parts * t.bins * t.resultParts);
  let at = 0;
  for (let n = 0; n < t.samples; n++) {
    for (let from = 0; from < t.parts; from++) {
      for (let k = 0; k < t.bins; k++) for (let to = 0; to < t.resultParts; to++) out[at++] = factor(t, n, from, k, to);
    }
  }
  return out;
}

const onesidedBins = (length: Dim): Dim => addDims(floorDivDims(length, 2), 1);
const DEFAULT_AXIS = -2;

/** The only element of integer input i; undefined where it is absent or unknown. */
function integer(ctx: InferContext<unknown>, i: number): number | undefined {
  return ctx.inputs[i] ? intsInput(ctx, i)?.[0] : undefined;
}

/** Throws through ctx.fail unless the last dim of the signal holds one part or two. */
function checkParts(ctx: InferContext<unknown>): void {
  const { shape } = ctx.input(0);
  const parts = shape[shape.length - 1];
  if (shape.length < 2 || (typeof parts === 'number' && parts !== 1 && parts !== 2)) {
    ctx.fail(`the signal is ${printShape(shape)}, expected a last dim of 1 (real) or 2 (complex)`);
  }
}

const dft = defineComposite({
  name: 'DFT',
  onnx: { since: 17, upgrade: axisToInput },
  attrs: { inverse: bool(false), onesided: bool(false) },
  inputs: [1, 3],
  rounding: 'once',
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    checkFloatInputs(ctx, [0]);
    checkParts(ctx);
    const given = ctx.inputs[2] ? (integer(ctx, 2) ?? ctx.fail('the axis is computed while running')) : DEFAULT_AXIS;
    const axis = checkAxis(ctx, given, shape.length);
    if (axis === shape.length - 1) ctx.fail(`axis ${axis} is that of real and imaginary parts`);
    const { inverse, onesided } = ctx.attrs;
    if (inverse && onesided && shape[shape.length - 1] === 1)
      ctx.fail('an inverse one-sided transform takes complex bins');
    const whole = inverse && onesided ? mulDims(addDims(shape[axis], -1), 2) : shape[axis];
    const length = ctx.inputs[1] ? (integer(ctx, 1) ?? ctx.freshDim('dft')) : whole;
    const bins = onesided && !inverse ? onesidedBins(length) : length;
    return [{ dtype, shape: [...shape.slice(0, -1).with(axis, bins), inverse && onesided ? 1 : 2] }];
  },
  write({ w, input, type, types, attrs }) {
    const { dtype, shape } = type(0);
    const rank = shape.length;
    const known = (i: number): number | undefined => {
      const value = types[i] && w.known(input(i));
      return value && toNumbers(value)[0];
    };
    const given = known(2) ?? DEFAULT_AXIS;
    const axis = given < 0 ? given + rank : given;
    const { inverse, onesided } = attrs;
    const halved = inverse && onesided;
    const length = known(1) ?? (halved ? 2 * (shape[axis] - 1) : shape[axis]);
    const half = Math.floor(length / 2) + 1;
    const samples = Math.min(halved ? half : length, shape[axis]);
    const bins = onesided && !inverse ? half : length;
    const resultParts = halved ? 1 : 2;
    const parts = shape[rank - 1] as 1 | 2;
    // The transformed axis goes next to the parts, so that both together are the k of one product.
    const order = [...shape.keys()].filter((d) => d !== axis && d !== rank - 1);
    const there = [...order, axis, rank - 1];
    const outer = order.map((d) => shape[d]);
    const rows = w.reshape(w.transpose(w.slice(input(0), axis, 0, samples), there), [...outer, samples * parts]);
    const table = matrix({ length, samples, bins, parts, inverse, resultParts, halved });
    const product = w.matmul(rows, w.constant(fromNumbers(dtype, [samples * parts, bins * resultParts], table)));
    const back = [...shape.keys()].map((d) => there.indexOf(d));
    return [w.transpose(w.reshape(product, [...outer, bins, resultParts]), back)];
  },
  cases: [
    dftCase('real', [2, 10, 1]),
    dftCase('complex', [2, 7, 2]),
    dftCase('one-sided', [1, 12, 1], { attrs: { onesided: true } }),
    dftCase('inverse', [2, 9, 2], { attrs: { inverse: true } }),
    dftCase('inverse one-sided', [2, 5, 2], { attrs: { inverse: true, onesided: true } }),
    dftCase('inverse one-sided, odd', [1, 4, 3, 2], { length: 7, axis: 1, attrs: { inverse: true, onesided: true } }),
    dftCase('longer than the signal', [1, 5, 1], { length: 8 }),
    dftCase('shorter, along another axis', [6, 3, 4, 2], { length: 5, axis: 0 }),
  ],
});

/** Before opset 20 the axis was an attribute, 1 where not given. */
function axisToInput(node: RawNode, ctx: UpgradeContext): RawNode {
  if (ctx.opset >= 20) return node;
  const axis = typeof node.attrs.axis === 'number' ? node.attrs.axis : 1;
  return attrToInput({ ...node, attrs: { ...node.attrs, axis } }, ctx, 'axis', 2, ([a]) => fromNumbers('i64', [], [a]));
}

interface DftCase {
  readonly attrs?: OpCase['attrs'];
  readonly length?: number;
  readonly axis?: number;
}

function dftCase(name: string, shape: number[], { attrs = {}, length, axis }: DftCase = {}): OpCase {
  const scalar = (value: number | undefined) =>
    value === undefined ? undefined : { constant: fromNumbers('i64', [], [value]) };
  return { name, attrs, inputs: [{ dtype: 'f32', shape }, scalar(length), scalar(axis)] };
}

const stft = defineComposite({
  name: 'STFT',
  onnx: { since: 17 },
  attrs: { onesided: bool(true) },
  inputs: [2, 4],
  rounding: 'once',
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    checkFloatInputs(ctx, [0, 2]);
    checkParts(ctx);
    if (shape.length !== 3) ctx.fail(`the signal has rank ${shape.length}, expected 3`);
    const step = integer(ctx, 1) ?? ctx.fail('the step of the frames is computed while running');
    if (step < 1) ctx.fail(`the step of the frames is ${step}, expected at least 1`);
    if (!ctx.inputs[2] && !ctx.inputs[3]) ctx.fail('neither a window nor a frame length is given');
    const length = ctx.inputs[3]
      ? (integer(ctx, 3) ?? ctx.fail('the frame length is computed while running'))
      : ctx.input(2).shape[0];
    const frames = addDims(floorDivDims(addDims(shape[1], typeof length === 'number' ? -length : 0), step), 1);
    const bins = ctx.attrs.onesided ? onesidedBins(length) : length;
    return [{ dtype, shape: [shape[0], typeof length === 'number' ? frames : ctx.freshDim('frames'), bins, 2] }];
  },
  write({ w, input, type, types, attrs }) {
    const { dtype, shape } = type(0);
    const known = (i: number): number | undefined => {
      const value = types[i] && w.known(input(i));
      return value && toNumbers(value)[0];
    };
    const step = known(1) as number;
    const length = known(3) ?? type(2).shape[0];
    const bins = attrs.onesided ? Math.floor(length / 2) + 1 : length;
    const parts = shape[2] as 1 | 2;
    const table = matrix({ length, samples: length, bins, parts, inverse: false, resultParts: 2, halved: false });
    const filters = w.transpose(w.constant(fromNumbers(dtype, [length, parts, bins * 2], table)), [2, 1, 0]);
    const windowed = types[2] ? w.mul(filters, input(2)) : filters;
    const y = w.node('Conv', [w.transpose(input(0), [0, 2, 1]), windowed], { strides: [step] });
    const [batch, , frames] = w.type(y).shape;
    return [w.reshape(w.transpose(y, [0, 2, 1]), [batch, frames, bins, 2])];
  },
  cases: [
    stftCase('frame length', [1, 32, 1], 8, undefined, 16),
    stftCase('window', [2, 29, 1], 5, 8, undefined),
    stftCase('both sides, window and length', [1, 21, 1], 4, 7, 7, { onesided: false }),
  ],
});

function stftCase(
  name: string,
  shape: number[],
  step: number,
  window: number | undefined,
  length: number | undefined,
  attrs: OpCase['attrs'] = {},
): OpCase {
  return {
    name,
    attrs,
    inputs: [
      { dtype: 'f32', shape },
      { constant: fromNumbers('i64', [], [step]) },
      window === undefined ? undefined : { dtype: 'f32', shape: [window] },
      length === undefined ? undefined : { constant: fromNumbers('i64', [], [length]) },
    ],
  };
}

export const FOURIER_OPS: readonly Op[] = [dft, stft];
