/**
 * From a picture to a network's input tensor, by steps that are data: a `Preprocess` record says all that decides an answer.
 *
 * The steps run in this order: resize, centre crop, choose channels, multiply by `scale`, subtract `mean`, divide by `std`, lay out.
 * Arithmetic is float32 after the 8-bit resize, as in torchvision's `ToTensor` and `Normalize`; or scaling comes first and the resize is
 * float32 too, as where torchvision's `Resize` comes behind `ToTensor`. The batch dim is always 1.
 */
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import type { Picture } from './picture.ts';
import {
  centerCrop,
  cropOrigin,
  type ResizeFilter,
  type ResizeTo,
  resizedSize,
  resizePicture,
  type Size,
} from './resize.ts';
import { type FloatPlane, resizePlane } from './resize-plane.ts';

/** Which channels the network sees, in which order. Grey is ITU-R BT.601 luma, rounded to 8 bits as PIL's `convert('L')`. */
export type ChannelOrder = 'rgb' | 'bgr' | 'grey';

export interface Resize {
  readonly to: ResizeTo;
  readonly filter: ResizeFilter;
  /**
   * The 8-bit levels, as Pillow and OpenCV resize a picture, or the scaled float32 values, as torchvision resizes a tensor: bilinear
   * only.
   */
  readonly of?: 'levels' | 'values';
}

export interface Preprocess {
  /** Absent: the picture keeps its size. */
  readonly resize?: Resize;
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
  const planes =
    steps.resize?.of === 'values' ? resizedValues(picture, steps, steps.resize) : resizedLevels(picture, steps);
  const [{ width, height }] = planes;
  const channels = planes.length;
  const pixels = width * height;
  const values = new Float32Array(channels * pixels);
  const [channelStride, pixelStride] = steps.layout === 'nchw' ? [pixels, 1] : [1, channels];
  for (const [c, plane] of planes.entries()) {
    for (let i = 0; i < pixels; i++) values[c * channelStride + i * pixelStride] = plane.values[i];
  }
  const shape = steps.layout === 'nchw' ? [1, channels, height, width] : [1, height, width, channels];
  return fromNumbers(steps.dtype, shape, values);
}

/** Normalised planes of a picture that is resized in 8 bits. */
function resizedLevels(picture: Picture, steps: Preprocess): FloatPlane[] {
  const resized = steps.resize === undefined ? picture : resizePicture(picture, steps.resize.to, steps.resize.filter);
  const { width, height } = steps.crop === undefined ? resized : steps.crop;
  const cropped = steps.crop === undefined ? resized : centerCrop(resized, width, height);
  return channelPlanes(cropped, steps.order).map((plane, c) => {
    return { width, height, values: looked(plane, width * height, levelTable(steps, c)) };
  });
}

/** Normalised planes of a picture whose values are scaled first, and resized in float32. */
function resizedValues(picture: Picture, steps: Preprocess, { to, filter }: Resize): FloatPlane[] {
  const { width, height } = resizedSize(picture, to);
  const scaled = scaledLevels(steps.scale);
  return channelPlanes(picture, steps.order).map((plane, c) => {
    const values = looked(plane, picture.width * picture.height, scaled);
    const resized = resizePlane({ ...picture, values }, width, height, filter.antialias);
    const cropped = steps.crop === undefined ? resized : cropPlane(resized, steps.crop);
    return { ...cropped, values: cropped.values.map(normalizer(steps, c)) };
  });
}

/** What a table makes of the levels of a plane. */
function looked(plane: Plane, pixels: number, table: Float32Array): Float32Array {
  const values = new Float32Array(pixels);
  for (let i = 0; i < pixels; i++) values[i] = table[plane.at(i)];
  return values;
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

/** The middle of a plane, surrounded with zeros where it is smaller: as `centerCrop` of a picture. */
function cropPlane(plane: FloatPlane, { width, height }: Size): FloatPlane {
  const framed = { width: Math.max(width, plane.width), height: Math.max(height, plane.height) };
  const [left, top] = cropOrigin(framed, { width, height });
  const fromX = left - Math.floor((framed.width - plane.width) / 2);
  const fromY = top - Math.floor((framed.height - plane.height) / 2);
  const values = new Float32Array(width * height);
  for (let y = Math.max(0, -fromY); y < Math.min(height, plane.height - fromY); y++) {
    const row = (y + fromY) * plane.width;
    for (let x = Math.max(0, -fromX); x < Math.min(width, plane.width - fromX); x++) {
      values[y * width + x] = plane.values[row + x + fromX];
    }
  }
  return { width, height, values };
}

const scaledLevels = (scale: number): Float32Array => Float32Array.from({ length: 256 }, (_, level) => level * scale);

/** (x - mean) / std of channel `c`, each operation rounded to float32. */
function normalizer({ mean, std }: Preprocess, c: number): (x: number) => number {
  const channelMean = Math.fround(mean[c] ?? mean[0]);
  const channelStd = Math.fround(std[c] ?? std[0]);
  return (x) => Math.fround(x - channelMean) / channelStd;
}

/** What each of the 256 levels of channel `c` becomes. */
const levelTable = (steps: Preprocess, c: number): Float32Array => scaledLevels(steps.scale).map(normalizer(steps, c));
