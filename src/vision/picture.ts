/**
 * A decoded picture: 8-bit RGB, rows top to bottom, three bytes a pixel without padding. Plain data; functions return new pictures.
 *
 * Also the two rearrangements that keep every pixel value: cropping, and undoing the EXIF orientation.
 */
import { Bug } from '../core/errors.ts';

export interface Picture {
  readonly width: number;
  readonly height: number;
  /** `[height][width][3]`, red first. */
  readonly rgb: Uint8Array;
}

/** How a camera was held: the EXIF tag 0x0112. 1 is upright. */
export type Orientation = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;

/** The rectangle `[top, top + height) × [left, left + width)`; throws Bug where it leaves the picture. */
export function cropPicture(picture: Picture, left: number, top: number, width: number, height: number): Picture {
  if (left < 0 || top < 0 || left + width > picture.width || top + height > picture.height) {
    throw new Bug(
      'picture-crop',
      `crop ${width}x${height}+${left}+${top} of a ${picture.width}x${picture.height} picture`,
    );
  }
  const rgb = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * picture.width + left) * 3;
    rgb.set(picture.rgb.subarray(from, from + width * 3), y * width * 3);
  }
  return { width, height, rgb };
}

/**
 * The picture as it should be seen. Orientation o stores the upright picture's first row and column at
 *
 *     1 top left     2 top right    3 bottom right  4 bottom left     (rows stay rows)
 *     5 left top     6 right top    7 right bottom  8 left bottom     (rows became columns)
 */
export function uprightPicture(picture: Picture, orientation: Orientation): Picture {
  if (orientation === 1) return picture;
  const transposed = orientation >= 5;
  const mirrorX = orientation === 2 || orientation === 3 || orientation === 7 || orientation === 8;
  const mirrorY = orientation === 3 || orientation === 4 || orientation === 6 || orientation === 7;
  const width = transposed ? picture.height : picture.width;
  const height = transposed ? picture.width : picture.height;
  const rgb = new Uint8Array(width * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 3) {
      const u = transposed ? y : x;
      const v = transposed ? x : y;
      const storedX = mirrorX ? picture.width - 1 - u : u;
      const storedY = mirrorY ? picture.height - 1 - v : v;
      const from = (storedY * picture.width + storedX) * 3;
      rgb[to] = picture.rgb[from];
      rgb[to + 1] = picture.rgb[from + 1];
      rgb[to + 2] = picture.rgb[from + 2];
    }
  }
  return { width, height, rgb };
}
