/**
 * From a picture to a network's input tensor, by steps that are data: a `Preprocess` record says all that decides an answer.
 *
 * The steps run in this order: resize, centre crop, choose channels, multiply by `scale`, subtract `mean`, divide by `std`, lay out.
 * Arithmetic is float32 after the 8-bit resize, as in torchvision's `ToTensor` and `Normalize`. The batch dim is always 1.
 */
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import type { Picture } from './picture.ts';
import { centerCrop, type ResizeFilter, type ResizeTo, resizePicture } from './resize.ts';

/** Which channels the network sees, in which order. Grey is ITU-R BT.601 luma, rounded to 8 bits as PIL's `convert('L')`. */
export type ChannelOrder = 'rgb' | 'bgr' | 'grey';

export interface Preprocess {
  /** Absent: the picture keeps its size. */
  readonly resize?: { readonly to: ResizeTo; readonly filter: ResizeFilter };
  /** The middle of the picture, after resizing. */
  readonly crop?: { readonly width: number; readonly height: number };
  readonly order: ChannelOrder;
  /** Multiplied into the pixel values 0…255. */
  readonly scale: number;
  /** One number a channel in the order of `order`, or one for all. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly layout: 'nchw' | 'nhwc';
  readonly dtype: 'f32' | 'f16' | 'u8';
}

/** The tensor `[1, C, H, W]` or `[1, H, W, C]` of a picture; C is 1 for grey, else 3. */
export function preprocess(picture: Picture, steps: Preprocess): Tensor {
  const resized = steps.resize === undefined ? picture : resizePicture(picture, steps.resize.to, steps.resize.filter);
  const cropped = steps.crop === undefined ? resized : centerCrop(resized, steps.crop.width, steps.crop.height);
  const { width, height } = cropped;
  const planes = channelPlanes(cropped, steps.order);
  const channels = planes.length;
  const pixels = width * height;
  const values = new Float32Array(channels * pixels);
  const [channelStride, pixelStride] = steps.layout === 'nchw' ? [pixels, 1] : [1, channels];
  for (let c = 0; c < channels; c++) {
    const level = levelTable(steps, c);
    const plane = planes[c];
    for (let i = 0; i < pixels; i++) values[c * channelStride + i * pixelStride] = level[plane.at(i)];
  }
  const shape = steps.layout === 'nchw' ? [1, channels, height, width] : [1, height, width, channels];
  return fromNumbers(steps.dtype, shape, values);
}

interface Plane {
  at(pixel: number): number;
}

function channelPlanes({ rgb }: Picture, order: ChannelOrder): readonly Plane[] {
  const plane = (offset: number): Plane => ({ at: (i) => rgb[3 * i + offset] });
  switch (order) {
    case 'rgb':
      return [plane(0), plane(1), plane(2)];
    case 'bgr':
      return [plane(2), plane(1), plane(0)];
    case 'grey':
      // 0.299 R + 0.587 G + 0.114 B in 16-bit fixed point.
      return [{ at: (i) => (rgb[3 * i] * 19595 + rgb[3 * i + 1] * 38470 + rgb[3 * i + 2] * 7471 + 0x8000) >> 16 }];
    default:
      return order satisfies never;
  }
}

/** What each of the 256 levels of channel `c` becomes, each operation rounded to float32. */
function levelTable({ scale, mean, std }: Preprocess, c: number): Float32Array {
  const channelMean = Math.fround(mean[c] ?? mean[0]);
  const channelStd = Math.fround(std[c] ?? std[0]);
  return Float32Array.from({ length: 256 }, (_, level) => {
    const centred = Math.fround(Math.fround(level * scale) - channelMean);
    return centred / channelStd;
  });
}
