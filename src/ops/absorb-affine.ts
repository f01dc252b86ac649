/**
 * Constants of a linear operator that has taken in a scale and shift a channel (`absorbAffine`): computed in float64, rounded once.
 */
import type { DType } from '../core/dtype.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import type { ChannelAffine } from './op.ts';
import { toFloat64 } from './product.ts';

/** Every weight times the scale of its channel, which is the same for `run` elements in a row and repeats after the last channel. */
export function scaleChannels(weight: Tensor, scale: Float64Array, run: number): Tensor {
  const scaled = toFloat64(weight).map((w, i) => w * scale[Math.floor(i / run) % scale.length]);
  return fromNumbers(weight.dtype, weight.shape, scaled);
}

/** bias · scale + shift, a vector of channels; no bias is a bias of 0. */
export function scaleAndShiftBias(bias: Tensor | undefined, { scale, shift }: ChannelAffine, dtype: DType): Tensor {
  const old = bias && toFloat64(bias);
  return fromNumbers(
    dtype,
    [scale.length],
    scale.map((s, c) => (old ? old[c] * s : 0) + shift[c]),
  );
}
