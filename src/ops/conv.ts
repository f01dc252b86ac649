/**
 * Conv: 1-d, 2-d and 3-d convolution, grouped, dilated, strided, padded.
 *
 *     y[n, oc, o…] = bias[oc] + Σ over tap…, ic of x[n, g·I + ic, o·stride + tap·dilation − pad] · w[oc, ic, tap…]
 *
 * with I input channels a group and g the group of oc. It lowers to a contract: the window lies in the coordinates of x, the group is
 * a batch axis, and so is the channel of a depthwise convolution, which then has no n axis. The input channel is the innermost
 * summed axis, because convolutions ask for channels last.
 */
import { isFloat } from '../core/dtype.ts';
import { elements, type Shape, type StaticShape } from '../core/shape.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { addAffine, affineConstant, scaleAffine } from '../loop/affine.ts';
import { add, cast } from '../loop/expr.ts';
import { scaleAndShiftBias, scaleChannels } from './absorb-affine.ts';
import { byteConv, byteOperand, LEAST_RUN, scalesOf } from './byte-products.ts';
import {
  type AxisOrNone,
  affineSum,
  along,
  coordAffine,
  dimOfAxis,
  kAxes,
  type Role,
  wideAxis,
} from './contract-axes.ts';
import { withoutIdleTaps } from './conv-taps.ts';
import { areBytes, checkOneType } from './dims.ts';
import { type AttrsOf, type ContractSpec, defineOp, int, ints, type KernelContext, type OpCase } from './op.ts';
import { packedConv } from './packed-conv.ts';
import { multiplyRows, toFloat64 } from './product.ts';
import { asThreeDims, leavesInput, staticWindow, WINDOW_ATTRS, type WindowDim, windowOutput } from './window.ts';

export const CONV_ATTRS = { ...WINDOW_ATTRS, group: int(1), kernel_shape: ints.optional } as const;
export type ConvAttrs = AttrsOf<typeof CONV_ATTRS>;

/** Most float64 elements of the unfolded block that eval multiplies at once: what a second-level cache holds. */
const BLOCK_ELEMENTS = 1 << 16;

const conv = defineOp({
  name: 'Conv',
  onnx: { since: 1 },
  attrs: CONV_ATTRS,
  inputs: [2, 3],
  infer(ctx) {
    const ofBytes = areBytes(ctx);
    if (!ofBytes) checkOneType(ctx);
    const dtype = ofBytes ? 'i32' : ctx.input(0).dtype;
    // No model has i32 or bytes here; integer convolutions expand to it.
    if (!isFloat(dtype) && dtype !== 'i32') ctx.fail(`the element type is ${dtype}, expected a float`);
    checkBias(ctx);
    return [{ dtype, shape: convShape(ctx, ctx.input(0).shape, ctx.input(1).shape) }];
  },
  eval([x, w, bias], attrs, [out]) {
    const sums = convolve(x!, w!, attrs, out.shape);
    if (bias) {
      const shifts = toFloat64(bias);
      const [, channels, ...spatial] = out.shape;
      const pixels = elements(spatial);
      for (let i = 0; i < sums.length; i++) sums[i] += shifts[Math.floor(i / pixels) % channels];
    }
    return [fromNumbers(out.dtype, out.shape, sums)];
  },
  absorbAffine(ctx, affine) {
    const weight = ctx.constant(1);
    const bias = ctx.inputs[2] && ctx.constant(2);
    if (affine.axis !== 1 || !weight || areBytes(ctx) || (ctx.inputs[2] && !bias)) return undefined;
    const filter = weight.data.length / weight.shape[0];
    return new Map([
      [1, scaleChannels(weight, affine.scale, filter)],
      [2, scaleAndShiftBias(bias, affine, weight.dtype)],
    ]);
  },
  weightChannels: (ctx) => (hasWideRuns(ctx) ? 0 : undefined),
  sumBytes(w, ctx, { a, b, bias }) {
    if (!hasWideRuns(ctx)) return undefined;
    const known = ctx.inputs[2] && !bias ? ctx.constant(2) : undefined;
    if (ctx.inputs[2] && !bias && !known) return undefined;
    const scales = scalesOf(w, { a, b, axis: 0, bias: bias ?? known });
    if (!scales) return undefined;
    const sum = byteConv(w, byteOperand(w, a), byteOperand(w, b), ctx.attrs, scales.bias);
    const { shape } = ctx.input(1);
    return sum === undefined ? undefined : { ...scales, sum, along: [-1, ...shape.slice(2).map(() => 1)] };
  },
  packChannels: packedConv,
  expand: withoutIdleTaps,
  lower: { kind: 'kernel', layout: 'channels-last', streams: [], build: lowerConv },
  cases: convCases(),
});

/** Whether bytes of the input that meet one output channel lie side by side, or each channel meets its own. */
function hasWideRuns(ctx: InferContext<ConvAttrs>): boolean {
  const { group } = ctx.attrs;
  const [channels, perGroup, ...kernel] = ctx.input(1).shape.map(Number);
  if (group > 1) return perGroup >= LEAST_RUN || (perGroup === 1 && channels === group);
  return perGroup * (kernel.at(-1) ?? 1) >= LEAST_RUN;
}

/** The shape of a convolution of x with a weight. Throws through ctx.fail where they do not fit. */
export function convShape(ctx: InferContext<ConvAttrs>, x: Shape, weight: Shape): Shape {
  checkChannels(ctx, x, weight);
  const kernel = weight
    .slice(2)
    .map((k) => (typeof k === 'number' ? k : ctx.fail('the size of the kernel is not known')));
  if (ctx.attrs.kernel_shape && String(ctx.attrs.kernel_shape) !== String(kernel)) {
    ctx.fail(`kernel_shape is [${ctx.attrs.kernel_shape}], the weight has [${kernel}]`);
  }
  const spatial = windowOutput({
    attrs: ctx.attrs,
    input: x.slice(2),
    kernel,
    ceilMode: false,
    freshDim: (hint) => ctx.freshDim(hint),
    fail: (message, hint) => ctx.fail(message, hint),
  });
  return [x[0], weight[0], ...spatial];
}

/** The sums of a convolution without bias, in row-major order of the output; exact for integers below 2^53. */
function convolve(x: Tensor, w: Tensor, attrs: ConvAttrs, output: StaticShape): Float64Array {
  const window = asThreeDims(staticWindow(attrs, x.shape.slice(2), w.shape.slice(2), output.slice(2)));
  const [batch, channels] = x.shape;
  const outPerGroup = w.shape[0] / attrs.group;
  const inPerGroup = w.shape[1];
  const source = toFloat64(x);
  const weights = toFloat64(w);
  const taps = inPerGroup * window[0].kernel * window[1].kernel * window[2].kernel;
  const pixels = window[0].output * window[1].output * window[2].output;
  const imageElements = window[0].input * window[1].input * window[2].input;
  const sums = new Float64Array(batch * w.shape[0] * pixels);
  const blockPixels = Math.max(2, Math.floor(BLOCK_ELEMENTS / Math.max(1, taps)));
  const unfolded = new Float64Array(Math.min(blockPixels, pixels) * taps);
  for (let n = 0; n < batch; n++) {
    for (let g = 0; g < attrs.group; g++) {
      const image = (n * channels + g * inPerGroup) * imageElements;
      const filters = { data: weights, start: g * outPerGroup * taps, count: outPerGroup };
      const plane = (n * w.shape[0] + g * outPerGroup) * pixels;
      for (let first = 0; first < pixels; first += blockPixels) {
        const count = Math.min(blockPixels, pixels - first);
        unfold(source, image, inPerGroup, window, first, count, unfolded);
        const rows = { data: unfolded, start: 0, count };
        multiplyRows(filters, rows, taps, { data: sums, start: plane + first, rowStride: pixels, columnStride: 1 });
      }
    }
  }
  return sums;
}

function checkChannels(ctx: InferContext<ConvAttrs>, x: Shape, w: Shape): void {
  const { group } = ctx.attrs;
  if (x.length < 3 || x.length > 5) ctx.fail(`the input has rank ${x.length}, expected 3, 4 or 5`);
  if (w.length !== x.length) ctx.fail(`the weight has rank ${w.length}, the input ${x.length}`);
  if (group < 1) ctx.fail(`group is ${group}, expected at least 1`);
  if (typeof x[1] === 'number' && typeof w[1] === 'number' && x[1] !== w[1] * group) {
    ctx.fail(`input has ${x[1]} channels, weight expects ${w[1] * group} (group ${group})`);
  }
  if (typeof w[0] === 'number' && w[0] % group !== 0)
    ctx.fail(`${w[0]} output channels do not split into ${group} groups`);
}

function checkBias(ctx: InferContext<ConvAttrs>): void {
  const w = ctx.input(1).shape;
  const bias = ctx.inputs[2]?.shape;
  if (bias && (bias.length !== 1 || (typeof bias[0] === 'number' && typeof w[0] === 'number' && bias[0] !== w[0]))) {
    ctx.fail(`the bias must be a vector of ${w[0]} elements`);
  }
}

/** Rows of the unfolded image ("im2col"): the window of each output pixel in the order of the weight, channel by tap. */
function unfold(
  source: Float64Array,
  image: number,
  channels: number,
  [d, h, w]: readonly [WindowDim, WindowDim, WindowDim],
  first: number,
  count: number,
  rows: Float64Array,
): void {
  let at = 0;
  for (let pixel = first; pixel < first + count; pixel++) {
    const left = (pixel % w.output) * w.stride - w.padBegin;
    const row = Math.floor(pixel / w.output);
    const top = (row % h.output) * h.stride - h.padBegin;
    const front = Math.floor(row / h.output) * d.stride - d.padBegin;
    for (let c = 0; c < channels; c++) {
      for (let kd = 0, z = front; kd < d.kernel; kd++, z += d.dilation) {
        for (let kh = 0, y = top; kh < h.kernel; kh++, y += h.dilation) {
          const inside = z >= 0 && z < d.input && y >= 0 && y < h.input;
          const line = image + ((c * d.input + z) * h.input + y) * w.input;
          for (let kw = 0, x = left; kw < w.kernel; kw++, x += w.dilation) {
            rows[at++] = inside && x >= 0 && x < w.input ? source[line + x] : 0;
          }
        }
      }
    }
  }
}

function lowerConv(ctx: KernelContext<ConvAttrs>): ContractSpec {
  const { group } = ctx.attrs;
  const x = ctx.input(0).shape;
  const w = ctx.input(1).shape;
  const out = ctx.outputs[0];
  const outPerGroup = w[0] / group;
  const window = staticWindow(ctx.attrs, x.slice(2), w.slice(2), out.shape.slice(2));
  const taps = window.map((dim, d) => wideAxis(ctx, `k${'dhw'.at(d - window.length)}`, dim.kernel));
  const inChannel = wideAxis(ctx, 'ic', w[1]);

  const { axes, coords } = ctx.outputAxes(0);
  const split = group > 1 && outPerGroup > 1;
  const groupAxis: AxisOrNone = split ? { name: ctx.fresh('g'), extent: group } : undefined;
  const outChannel: AxisOrNone = split ? { name: ctx.fresh('oc'), extent: outPerGroup } : undefined;
  const outputRoles = axes.flatMap((a): { name: string; extent: number; role: Role }[] => {
    if (dimOfAxis(coords, a) !== 1) return [{ ...a, role: 'm' }];
    if (groupAxis && outChannel)
      return [
        { ...groupAxis, role: 'batch' },
        { ...outChannel, role: 'n' },
      ];
    return [{ ...a, role: group > 1 ? 'batch' : 'n' }];
  });
  const channel = split ? addAffine(along(groupAxis, outPerGroup), along(outChannel)) : coordAffine(coords[1]);
  const groupAt = group === 1 ? affineConstant(0) : split ? along(groupAxis) : coordAffine(coords[1]);

  return {
    form: 'contract',
    axes: [...outputRoles, ...kAxes([...taps, inChannel])],
    a: {
      input: 0,
      at: [
        coordAffine(coords[0]),
        addAffine(scaleAffine(groupAt, w[1]), along(inChannel)),
        ...window.map((dim, d) =>
          affineSum([scaleAffine(coordAffine(coords[2 + d]), dim.stride), along(taps[d], dim.dilation)], -dim.padBegin),
        ),
      ],
      padded: window.some(leavesInput),
    },
    b: { input: 1, at: [channel, along(inChannel), ...taps.map((tap) => along(tap))], padded: false },
    out: [coordAffine(coords[0]), channel, ...coords.slice(2).map(coordAffine)],
    finish: (acc, at) => {
      const biased = ctx.inputs[2] ? add(acc, cast(acc.dtype, ctx.load(2, [at[1]]))) : acc;
      return cast(out.dtype, biased);
    },
  };
}

function convCases(): OpCase[] {
  const make = (name: string, x: number[], w: number[], attrs: OpCase['attrs'] = {}, bias = true): OpCase => ({
    name,
    attrs,
    inputs: [
      { dtype: 'f32', shape: x },
      { dtype: 'f32', shape: w },
      ...(bias ? [{ dtype: 'f32', shape: [w[0]] } as const] : []),
    ],
  });
  return [
    make('pointwise', [1, 16, 7, 5], [13, 16, 1, 1]),
    make('3x3 padded', [2, 3, 9, 11], [8, 3, 3, 3], { pads: [1, 1, 1, 1] }),
    make('stem 7x7 stride 2', [1, 3, 23, 17], [5, 3, 7, 7], { pads: [3, 3, 3, 3], strides: [2, 2] }, false),
    make('asymmetric pads, strides and dilations', [1, 2, 11, 13], [3, 2, 3, 2], {
      pads: [2, 0, 1, 3],
      strides: [2, 3],
      dilations: [2, 3],
    }),
    make('taps that are never inside', [1, 8, 5, 6], [3, 8, 3, 3], { pads: [7, 3, 7, 3], dilations: [7, 3] }),
    make('no tap that is ever inside', [1, 3, 2, 2], [4, 3, 2, 2], { pads: [5, 5, 5, 5], dilations: [10, 10] }),
    make('grouped', [1, 6, 5, 7], [9, 2, 3, 3], { group: 3, pads: [1, 1, 1, 1] }),
    make('depthwise', [2, 7, 9, 6], [7, 1, 3, 3], { group: 7, pads: [1, 1, 1, 1], strides: [2, 1] }),
    make('depthwise 5x5 with multiplier 2', [1, 5, 8, 8], [10, 1, 5, 5], { group: 5, pads: [2, 2, 2, 2] }),
    make('one output channel', [1, 17, 4, 4], [1, 17, 1, 1]),
    make('output of one pixel', [3, 4, 3, 3], [11, 4, 3, 3]),
    make('same upper', [1, 2, 10, 7], [4, 2, 4, 3], { auto_pad: 'SAME_UPPER', strides: [3, 2] }),
    make('same lower', [1, 2, 10, 7], [4, 2, 4, 2], { auto_pad: 'SAME_LOWER' }),
    make('valid', [1, 2, 10, 7], [4, 2, 4, 2], { auto_pad: 'VALID', strides: [2, 2] }),
    make('1-d', [2, 3, 19], [5, 3, 4], { pads: [1, 2], strides: [2] }),
    make('1-d dilated depthwise', [1, 4, 21], [4, 1, 5], { group: 4, dilations: [3] }, false),
    make('3-d', [1, 2, 5, 6, 7], [3, 2, 3, 1, 2], { pads: [1, 0, 1, 1, 0, 0], strides: [2, 1, 2] }),
    make('kernel_shape given', [1, 1, 5, 5], [1, 1, 3, 3], { kernel_shape: [3, 3] }),
    {
      name: 'i32',
      attrs: { pads: [1, 1, 1, 1], group: 2 },
      inputs: [
        { dtype: 'i32', shape: [1, 4, 5, 3] },
        { dtype: 'i32', shape: [6, 2, 3, 3] },
        { dtype: 'i32', shape: [6] },
      ],
    },
  ];
}
export const CONV_OPS = [conv];
