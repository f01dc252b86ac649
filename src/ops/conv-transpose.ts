/**
 * ConvTranspose: the transposition of Conv, which spreads each input element over a window of the output.
 *
 *     y[n, oc, o…] = bias[oc] + Σ over ic, tap… of x[n, g·I + ic, i…] · w[g·I + ic, oc − g·O, tap…]
 *     where i · stride = o + padBegin − tap · dilation has a solution i inside the input
 *
 * Weights are [input channels, output channels a group, taps…]. The kernel gathers: an output element folds the taps that reach it.
 */
import { addDims, type Dim, isStatic, mulDims, printShape } from '../core/shape.ts';
import { fromNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { add, axis, binary, constant, index, inRange, local, mul, select, sub } from '../loop/expr.ts';
import type { Axis, Expr } from '../loop/ir.ts';
import { checkFloats } from './dims.ts';
import { type AttrsOf, defineOp, int, ints, type KernelContext, type KernelSpec, type Op, type OpCase } from './op.ts';
import { toFloat64 } from './product.ts';
import { reduceRow } from './rows.ts';
import { asThreeDims, WINDOW_ATTRS, type WindowDim } from './window.ts';

const ATTRS = {
  ...WINDOW_ATTRS,
  group: int(1),
  kernel_shape: ints.optional,
  output_padding: ints.optional,
  output_shape: ints.optional,
} as const;
type TransposeAttrs = AttrsOf<typeof ATTRS>;

const stepsAt = (attrs: TransposeAttrs, d: number): { stride: number; dilation: number; extra: number } => ({
  stride: attrs.strides?.[d] ?? 1,
  dilation: attrs.dilations?.[d] ?? 1,
  extra: attrs.output_padding?.[d] ?? 0,
});

/** Size that the output has without pads: (input − 1) · stride + (kernel − 1) · dilation + 1 + output_padding. */
function unpaddedSize(attrs: TransposeAttrs, input: Dim, kernel: Dim, d: number): Dim {
  const { stride, dilation, extra } = stepsAt(attrs, d);
  const last = addDims(mulDims(addDims(input, -1), stride), mulDims(addDims(kernel, -1), dilation));
  return addDims(last, 1 + extra);
}

/** Spatial size of the output: without the pads, or what output_shape says; SAME gives input · stride. */
function outputSize(attrs: TransposeAttrs, input: Dim, kernel: Dim, d: number, rank: number): Dim {
  if (attrs.output_shape) return attrs.output_shape[attrs.output_shape.length - rank + d];
  if (attrs.auto_pad.startsWith('SAME')) return mulDims(input, stepsAt(attrs, d).stride);
  const pads = attrs.auto_pad === 'VALID' ? 0 : (attrs.pads?.[d] ?? 0) + (attrs.pads?.[rank + d] ?? 0);
  return addDims(unpaddedSize(attrs, input, kernel, d), -pads);
}

/** The window on static sizes: `input` and `output` are the node's own. Where the output's size is given, pads follow from it. */
function transposedWindow(
  attrs: TransposeAttrs,
  input: readonly number[],
  kernel: readonly number[],
  output: readonly number[],
): WindowDim[] {
  return input.map((size, d) => {
    const { stride, dilation } = stepsAt(attrs, d);
    const derived = attrs.output_shape !== undefined || attrs.auto_pad.startsWith('SAME');
    const total = Math.max(0, (unpaddedSize(attrs, size, kernel[d], d) as number) - output[d]);
    const half = attrs.auto_pad === 'SAME_UPPER' ? Math.floor(total / 2) : Math.ceil(total / 2);
    const given = attrs.auto_pad === 'VALID' ? 0 : (attrs.pads?.[d] ?? 0);
    const padBegin = derived ? half : given;
    return { input: size, output: output[d], kernel: kernel[d], stride, dilation, padBegin, padEnd: 0 };
  });
}

const convTranspose = defineOp({
  name: 'ConvTranspose',
  onnx: { since: 1 },
  attrs: ATTRS,
  inputs: [2, 3],
  infer(ctx) {
    checkFloats(ctx);
    const x = ctx.input(0);
    const kernel = checkOperands(ctx);
    const spatial = x.shape.slice(2).map((size, d) => outputSize(ctx.attrs, size, kernel[d], d, kernel.length));
    return [{ dtype: x.dtype, shape: [x.shape[0], mulDims(ctx.input(1).shape[1], ctx.attrs.group), ...spatial] }];
  },
  eval([x, w, bias], attrs, [out]) {
    const window = transposedWindow(attrs, x!.shape.slice(2), w!.shape.slice(2), out.shape.slice(2));
    const [d, h, v] = asThreeDims(window);
    const [batch, channels] = x!.shape;
    const outPerGroup = w!.shape[1];
    const inPerGroup = channels / attrs.group;
    const source = toFloat64(x!);
    const weights = toFloat64(w!);
    const shifts = bias && toFloat64(bias);
    const pixels = d.output * h.output * v.output;
    const y = new Float64Array(batch * out.shape[1] * pixels);
    for (let plane = 0; plane < batch * out.shape[1]; plane++) {
      const oc = plane % out.shape[1];
      if (shifts) y.fill(shifts[oc], plane * pixels, (plane + 1) * pixels);
      for (let ic = 0; ic < inPerGroup; ic++) {
        const channel = Math.floor(oc / outPerGroup) * inPerGroup + ic;
        const image = (Math.floor(plane / out.shape[1]) * channels + channel) * d.input * h.input * v.input;
        const filter = (channel * outPerGroup + (oc % outPerGroup)) * d.kernel * h.kernel * v.kernel;
        spread(source, image, weights, filter, [d, h, v], y, plane * pixels);
      }
    }
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  lower: { kind: 'kernel', layout: 'channels-last', streams: [], build: lowerConvTranspose },
  cases: cases(),
});

/** Adds one input plane, spread by one filter, to one output plane. */
function spread(
  source: Float64Array,
  image: number,
  weights: Float64Array,
  filter: number,
  [d, h, w]: readonly [WindowDim, WindowDim, WindowDim],
  y: Float64Array,
  plane: number,
): void {
  let tap = filter;
  for (let kd = 0; kd < d.kernel; kd++) {
    for (let kh = 0; kh < h.kernel; kh++) {
      for (let kw = 0; kw < w.kernel; kw++, tap++) {
        for (const [id, od] of reached(d, kd)) {
          for (const [ih, oh] of reached(h, kh)) {
            const from = image + (id * h.input + ih) * w.input;
            const to = plane + (od * h.output + oh) * w.output;
            for (const [iw, ow] of reached(w, kw)) y[to + ow] += source[from + iw] * weights[tap];
          }
        }
      }
    }
  }
}

/** Pairs of an input coordinate and the output coordinate that a tap takes it to, where that is inside the output. */
function reached(w: WindowDim, tap: number): (readonly [number, number])[] {
  return Array.from({ length: w.input }, (_, i) => [i, i * w.stride + tap * w.dilation - w.padBegin] as const).filter(
    ([, o]) => o >= 0 && o < w.output,
  );
}

/** Checks ranks, channels and attributes; returns the sizes of the kernel. */
function checkOperands(ctx: InferContext<TransposeAttrs>): readonly Dim[] {
  const { group, kernel_shape, output_padding, output_shape, pads, strides, dilations } = ctx.attrs;
  const x = ctx.input(0).shape;
  const w = ctx.input(1).shape;
  if (x.length < 3 || x.length > 5) ctx.fail(`the input has rank ${x.length}, expected 3, 4 or 5`);
  if (w.length !== x.length) ctx.fail(`the weight has rank ${w.length}, the input ${x.length}`);
  if (group < 1 || (typeof x[1] === 'number' && x[1] % group !== 0))
    ctx.fail(`the channels do not split into ${group} groups`);
  if (typeof x[1] === 'number' && typeof w[0] === 'number' && x[1] !== w[0]) {
    ctx.fail(`input has ${x[1]} channels, weight expects ${w[0]}`);
  }
  const rank = x.length - 2;
  const kernel = w.slice(2);
  if (kernel_shape && isStatic(kernel) && printShape(kernel_shape) !== printShape(kernel))
    ctx.fail(`kernel_shape is [${kernel_shape}], the weight has ${printShape(kernel)}`);
  for (const [name, values] of Object.entries({ strides, dilations, output_padding })) {
    if (values && (values.length !== rank || values.some((v) => v < 0)))
      ctx.fail(`${name} is [${values}], expected ${rank} values`);
  }
  if (strides?.includes(0) || dilations?.includes(0)) ctx.fail('a stride or dilation is 0');
  if (pads && (pads.length !== 2 * rank || pads.some((p) => p < 0)))
    ctx.fail(`pads is [${pads}], expected ${2 * rank} values`);
  if (output_shape && output_shape.length < rank)
    ctx.fail(`output_shape is [${output_shape}], expected ${rank} values`);
  return kernel;
}

function lowerConvTranspose(ctx: KernelContext<TransposeAttrs>): KernelSpec {
  const x = ctx.input(0).shape;
  const w = ctx.input(1).shape;
  const out = ctx.outputs[0];
  const window = transposedWindow(ctx.attrs, x.slice(2), w.slice(2), out.shape.slice(2));
  const { axes, coords } = ctx.outputAxes(0);
  const summed: Axis[] = [];
  const summedAxis = (hint: string, extent: number): Expr => {
    if (extent === 1) return index(0);
    const a = { name: ctx.fresh(hint), extent };
    summed.push(a);
    return axis(a.name);
  };
  const guards: Expr[] = [];
  const taps = window.map((dim) => summedAxis('k', dim.kernel));
  const space = window.map((dim, d) => {
    const scaled = sub(add(coords[2 + d], index(dim.padBegin)), mul(taps[d], index(dim.dilation)));
    const at = binary('floordiv', scaled, index(dim.stride));
    if (dim.stride > 1) guards.push(binary('eq', binary('mod', scaled, index(dim.stride)), index(0)));
    guards.push(inRange(at, dim.input));
    return at;
  });
  const inPerGroup = x[1] / ctx.attrs.group;
  const group = ctx.attrs.group === 1 ? index(0) : binary('floordiv', coords[1], index(w[1]));
  const channel = add(mul(group, index(inPerGroup)), summedAxis('ic', inPerGroup));
  const inGroup = ctx.attrs.group === 1 ? coords[1] : binary('mod', coords[1], index(w[1]));
  const product = mul(ctx.load(0, [coords[0], channel, ...space]), ctx.load(1, [channel, inGroup, ...taps]));
  const inside = guards.reduce((a, b) => binary('and', a, b));
  const sum = ctx.fresh('sum');
  const value = local(sum, out.dtype);
  return {
    form: { kind: 'reduce' },
    axes,
    body: [
      reduceRow(sum, 'add', { axes: summed, coords }, select(inside, product, constant(out.dtype, 0))),
      ctx.store(0, coords, ctx.inputs[2] ? add(value, ctx.load(2, [coords[1]])) : value),
    ],
  };
}

function cases(): OpCase[] {
  const make = (
    name: string,
    x: number[],
    w: number[],
    attrs: NonNullable<OpCase['attrs']> = {},
    bias = false,
  ): OpCase => {
    const channels = w[1] * Number(attrs.group ?? 1);
    return {
      name,
      attrs,
      inputs: [x, w, ...(bias ? [[channels]] : [])].map((shape) => ({ dtype: 'f32', shape }) as const),
    };
  };
  return [
    make('stride 2', [1, 3, 5, 4], [3, 2, 3, 3], { strides: [2, 2], pads: [1, 1, 1, 1] }, true),
    make('output padding', [2, 2, 4, 3], [2, 3, 3, 3], { strides: [2, 3], pads: [1, 0, 1, 1], output_padding: [1, 2] }),
    make('grouped', [1, 6, 3, 4], [6, 2, 2, 2], { group: 3, strides: [2, 1] }, true),
    make('dilated', [1, 2, 5, 5], [2, 1, 2, 3], { dilations: [2, 3] }),
    make('1-d', [1, 3, 7], [3, 4, 5], { strides: [3], pads: [2, 1] }),
    make('3-d', [1, 1, 2, 3, 2], [1, 2, 2, 1, 3], { strides: [2, 1, 2] }),
    make('output shape', [1, 2, 4, 4], [2, 1, 3, 3], { strides: [3, 2], output_shape: [11, 8] }),
    make('same upper', [1, 2, 4, 5], [2, 1, 3, 3], { strides: [2, 2], auto_pad: 'SAME_UPPER' }),
    make('1x1', [1, 3, 2, 2], [3, 1, 1, 1]),
  ];
}

export const CONV_TRANSPOSE_OPS: readonly Op[] = [convTranspose];
