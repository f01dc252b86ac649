import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { noisePicture } from '../../tests/pictures.ts';
import { centerCrop, type ResizeFilter, resizedSize, resizePicture } from './resize.ts';

const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex').slice(0, 16);

/** Hashes of what Pillow (antialias) and OpenCV make of the picture, so that parity is checked where neither is installed. */
const GOLDENS: readonly (readonly [ResizeFilter, down: string, up: string])[] = [
  [{ kernel: 'bilinear', antialias: true }, 'c8c6b7bf7ebd5f61', '1443d3c11e31e5d5'],
  [{ kernel: 'bicubic', antialias: true }, 'c4fb82786277b69f', '2856bdfcb94968e2'],
  [{ kernel: 'lanczos', antialias: true }, 'd333c02f1bf1c92c', '0817b13f307e560d'],
  [{ kernel: 'bilinear', antialias: false }, '3a7bb14010a75a5c', '2f55ef5868a273c4'],
  [{ kernel: 'bicubic', antialias: false }, 'c0aef1002a41d9c7', '8a8d618864f0e143'],
];

describe('resizePicture', () => {
  test.each(GOLDENS)('%o gives the recorded bytes', (filter, down, up) => {
    const picture = noisePicture(61, 47, 4);
    expect(hash(resizePicture(picture, { kind: 'exact', width: 13, height: 29 }, filter).rgb)).toBe(down);
    expect(hash(resizePicture(picture, { kind: 'exact', width: 90, height: 101 }, filter).rgb)).toBe(up);
  });

  test.each(GOLDENS)('%o keeps a flat picture flat', (filter) => {
    const picture = { width: 7, height: 5, rgb: new Uint8Array(105).fill(137) };
    const { rgb } = resizePicture(picture, { kind: 'exact', width: 4, height: 11 }, filter);
    expect(new Set(rgb)).toEqual(new Set([137]));
  });

  test('the same size is a copy', () => {
    const picture = noisePicture(5, 4, 1);
    for (const [filter] of GOLDENS) {
      const same = resizePicture(picture, { kind: 'exact', width: 5, height: 4 }, filter);
      expect(same.rgb).toEqual(picture.rgb);
      expect(same.rgb).not.toBe(picture.rgb);
    }
  });
});

test.each([
  [1500, 1000, 224, 336, 224],
  [1000, 1500, 224, 224, 336],
  [451, 300, 256, 384, 256], // 384.85 rounds down
  [300, 300, 224, 224, 224],
  [10, 1000, 256, 256, 25600],
])('short side of %i x %i at %i is %i x %i', (width, height, size, toWidth, toHeight) => {
  expect(resizedSize({ width, height }, { kind: 'short-side', size })).toEqual({ width: toWidth, height: toHeight });
});

describe('centerCrop', () => {
  const row = (width: number) => ({
    width,
    height: 1,
    rgb: Uint8Array.from({ length: width * 3 }, (_, i) => 1 + Math.floor(i / 3)),
  });
  const pixels = (width: number, to: number) => [...centerCrop(row(width), to, 1).rgb].filter((_, i) => i % 3 === 0);

  test('odd margins round to even, as Python rounds', () => {
    expect(pixels(5, 4)).toEqual([1, 2, 3, 4]); // 0.5 to 0
    expect(pixels(7, 4)).toEqual([3, 4, 5, 6]); // 1.5 to 2
    expect(pixels(9, 4)).toEqual([3, 4, 5, 6]); // 2.5 to 2
  });
  test('a picture that is too small is surrounded with black', () => {
    expect(pixels(2, 5)).toEqual([0, 1, 2, 0, 0]);
  });
});
