/**
 * A convolution of few channels as one of several: neighbours along the innermost dim lie side by side as channels, as many as it steps.
 *
 *     x'[n, d·C' + c, …, p] = x[n, c, …, p·s + d − pad]      y = x' * w'      w'[o, d·C' + c, …, q] = w[o, c, …, q·s + d]
 *
 * with stride s, C' the channels with enough zeros behind them that s·C' is whole runs, and 0 wherever x or w have nothing. The window
 * of w' steps by 1 and pads nothing along that dim. A machine that multiplies runs of channels then copies runs in place of elements; the
 * price are the zeros (a 7×7 stem of three channels sums 224 products in place of 147), so where they are too many nothing is done.
 */
import { isFloat } from '../core/dtype.ts';
import { elements, isStatic, type StaticShape } from '../core/shape.ts';
import { fromNumbers, type Tensor, toNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { CHOOSE_DOMAIN } from './choose.ts';
import type { ConvAttrs } from './conv.ts';
import type { NodeWriter } from './node-writer.ts';
import { staticWindow, windowOutput } from './window.ts';

/** Products with zeros for each that counts. */
const MOST_WASTE = 1;

/** Output 0 of the convolution; undefined where its channels are whole runs already, its weight is not known, or it would not pay. */
export function packedConv(
  w: NodeWriter,
  ctx: InferContext<ConvAttrs>,
  inputs: readonly string[],
  run: number,
): string | undefined {
  const weight = ctx.constant(1);
  const { shape } = ctx.input(0);
  if (!weight || !isFloat(weight.dtype) || !isStatic(shape) || ctx.attrs.group !== 1 || shape[1] % run === 0)
    return undefined;
  const fail = (message: string, hint?: string): never => ctx.fail(message, hint);
  const kernel = weight.shape.slice(2);
  const window = { attrs: ctx.attrs, input: shape.slice(2), kernel, ceilMode: false, freshDim: fail, fail };
  const output = windowOutput(window);
  if (!isStatic(output) || elements(output) === 0) return undefined;
  const dims = staticWindow(ctx.attrs, shape.slice(2), kernel, output);
  const inner = dims[dims.length - 1];
  const { stride, padBegin, dilation } = inner;
  if (stride < 2 || dilation !== 1) return undefined;
  let channels = shape[1];
  while ((channels * stride) % run !== 0) channels++;
  const taps = Math.ceil(inner.kernel / stride);
  if (taps * stride * channels > (1 + MOST_WASTE) * inner.kernel * shape[1]) return undefined;

  const places = inner.output + taps - 1;
  const x = w.node(`${CHOOSE_DOMAIN}.PackChannels`, [inputs[0]], { stride, channels, pad: padBegin, places });
  const packed = w.constant(packWeight(weight, stride, channels, taps));
  const others = dims.slice(0, -1);
  return w.node('Conv', [x, packed, ...inputs.slice(2)], {
    group: 1,
    dilations: [...others.map((d) => d.dilation), 1],
    strides: [...others.map((d) => d.stride), 1],
    pads: [...others.map((d) => d.padBegin), 0, ...others.map((d) => d.padEnd), 0],
  });
}

function packWeight(weight: Tensor, stride: number, channels: number, taps: number): Tensor {
  const [filters, own, ...kernel] = weight.shape;
  const width = kernel[kernel.length - 1];
  const lines = elements(kernel.slice(0, -1));
  const shape: StaticShape = [filters, stride * channels, ...kernel.slice(0, -1), taps];
  const packed = new Float64Array(elements(shape));
  const source = toNumbers(weight);
  for (let f = 0; f < filters; f++)
    for (let c = 0; c < own; c++)
      for (let line = 0; line < lines; line++)
        for (let k = 0; k < width; k++) {
          const channel = (k % stride) * channels + c;
          const to = ((f * stride * channels + channel) * lines + line) * taps + Math.floor(k / stride);
          packed[to] = Number(source[((f * own + c) * lines + line) * width + k]);
        }
  return fromNumbers(weight.dtype, shape, packed);
}
