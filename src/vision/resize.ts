/**
 * What a picture is resized to, and how: sizes as data, with the roundings of torchvision's `Resize` and `CenterCrop`.
 *
 * Antialias decides between the two families of filters: with it Pillow's (resize-antialiased.ts), without it OpenCV's (resize-sampled.ts).
 */
import { cropPicture, type Picture } from './picture.ts';
import { type AntialiasKernel, resizeAntialiased } from './resize-antialiased.ts';
import { resizeSampled, type SampleKernel } from './resize-sampled.ts';

export type ResizeFilter =
  | { readonly kernel: AntialiasKernel; readonly antialias: true }
  | { readonly kernel: SampleKernel; readonly antialias: false };

export type ResizeTo =
  | { readonly kind: 'exact'; readonly width: number; readonly height: number }
  /** The shorter side becomes `size`; the longer keeps the ratio, rounded down. */
  | { readonly kind: 'short-side'; readonly size: number };

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Width and height, in pixels, that `to` makes of a picture of this size. */
export function resizedSize(from: Size, to: ResizeTo): Size {
  switch (to.kind) {
    case 'exact':
      return { width: to.width, height: to.height };
    case 'short-side': {
      const short = Math.min(from.width, from.height);
      const long = Math.trunc((to.size * Math.max(from.width, from.height)) / short);
      return from.width <= from.height ? { width: to.size, height: long } : { width: long, height: to.size };
    }
    default:
      return to satisfies never;
  }
}

/** The picture resized; a new picture even where the size stays. */
export function resizePicture(picture: Picture, to: ResizeTo, filter: ResizeFilter): Picture {
  const { width, height } = resizedSize(picture, to);
  return filter.antialias
    ? resizeAntialiased(picture, width, height, filter.kernel)
    : resizeSampled(picture, width, height, filter.kernel);
}

/**
 * The middle `width` × `height` pixels. Where the picture is smaller it is first surrounded with black, as torchvision does;
 * margins that cannot be halved are rounded as Python rounds: to even.
 */
export function centerCrop(picture: Picture, width: number, height: number): Picture {
  const framed = surround(picture, width, height);
  const [left, top] = cropOrigin(framed, { width, height });
  return cropPicture(framed, left, top, width, height);
}

/** Where the middle of that size begins. */
export const cropOrigin = (from: Size, to: Size): readonly [left: number, top: number] => [
  halfToEven(from.width - to.width),
  halfToEven(from.height - to.height),
];

function surround(picture: Picture, width: number, height: number): Picture {
  if (picture.width >= width && picture.height >= height) return picture;
  const [fullWidth, fullHeight] = [Math.max(width, picture.width), Math.max(height, picture.height)];
  const left = Math.floor((fullWidth - picture.width) / 2);
  const top = Math.floor((fullHeight - picture.height) / 2);
  const rgb = new Uint8Array(fullWidth * fullHeight * 3);
  for (let y = 0; y < picture.height; y++) {
    const row = picture.rgb.subarray(y * picture.width * 3, (y + 1) * picture.width * 3);
    rgb.set(row, ((top + y) * fullWidth + left) * 3);
  }
  return { width: fullWidth, height: fullHeight, rgb };
}

/** n / 2 rounded to nearest, ties to even, for an integer n ≥ 0. */
function halfToEven(n: number): number {
  const floor = Math.floor(n / 2);
  return n % 2 === 1 && floor % 2 === 1 ? floor + 1 : floor;
}
