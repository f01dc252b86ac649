/** Resizing and decoding against Pillow and OpenCV, bit for bit where that is claimed. */
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { decodePicture } from '../src/vision/decode.ts';
import type { Picture } from '../src/vision/picture.ts';
import { resizePicture } from '../src/vision/resize.ts';
import { MISSING_PICTURE_ORACLE, oracleDecode, oracleResize } from './oracles/pictures.ts';
import { noisePicture } from './pictures.ts';

/** Source and wanted sizes: up, down, by a half, by primes, to and from one pixel, one axis only. */
const SIZES = [
  [1, 1, 5, 7],
  [5, 7, 1, 1],
  [1, 9, 3, 4],
  [2, 2, 8, 8],
  [64, 48, 32, 24],
  [61, 47, 13, 29],
  [13, 29, 61, 47],
  [100, 75, 100, 31],
  [100, 75, 37, 75],
  [150, 100, 224, 224],
  [97, 89, 96, 88],
  [300, 20, 8, 20],
] as const;

const worst = (a: Uint8Array, b: Uint8Array): number => {
  expect(a.length).toBe(b.length);
  return a.reduce((max, x, i) => Math.max(max, Math.abs(x - b[i])), 0);
};

const cases = SIZES.map(([width, height, toWidth, toHeight], seed) => ({
  picture: noisePicture(width, height, seed),
  to: [toWidth, toHeight] as const,
}));

describe.skipIf(MISSING_PICTURE_ORACLE)(`parity ${MISSING_PICTURE_ORACLE || 'with Pillow and OpenCV'}`, () => {
  const exact = (picture: Picture, [width, height]: readonly [number, number]) =>
    [picture, { kind: 'exact', width, height }] as const;

  test.each(['bilinear', 'bicubic', 'lanczos'] as const)('antialiased %s is Pillow bit for bit', (kernel) => {
    const expected = oracleResize(cases.map((c) => ({ library: 'pil', kernel, ...c })));
    for (const [i, { picture, to }] of cases.entries()) {
      const { rgb } = resizePicture(...exact(picture, to), { kernel, antialias: true });
      expect(worst(rgb, expected[i]), SIZES[i].join(' ')).toBe(0);
    }
  });

  test('sampled bilinear is OpenCV bit for bit', () => {
    const expected = oracleResize(cases.map((c) => ({ library: 'cv2', kernel: 'bilinear', ...c })));
    for (const [i, { picture, to }] of cases.entries()) {
      const { rgb } = resizePicture(...exact(picture, to), { kernel: 'bilinear', antialias: false });
      expect(worst(rgb, expected[i]), SIZES[i].join(' ')).toBe(0);
    }
  });

  test('sampled bicubic is OpenCV within one level', () => {
    const expected = oracleResize(cases.map((c) => ({ library: 'cv2', kernel: 'bicubic', ...c })));
    for (const [i, { picture, to }] of cases.entries()) {
      const { rgb } = resizePicture(...exact(picture, to), { kernel: 'bicubic', antialias: false });
      expect(worst(rgb, expected[i]), SIZES[i].join(' ')).toBeLessThanOrEqual(1);
    }
  });

  test('decoding is Pillow: colour, grey, palette, alpha, 1 bit, EXIF orientations', async () => {
    const { width, height, rgb } = noisePicture(23, 17, 5);
    const source = () => sharp(rgb, { raw: { width, height, channels: 3 } });
    const files: Record<string, Uint8Array> = {
      'colour.png': await source().png().toBuffer(),
      'grey.png': await source().greyscale().png().toBuffer(),
      'palette.png': await source().png({ palette: true, colours: 16 }).toBuffer(),
      'bits.png': await source().greyscale().threshold().png({ palette: true, colours: 2 }).toBuffer(),
      'alpha.png': await source().ensureAlpha(0.4).png().toBuffer(),
    };
    for (let orientation = 1; orientation <= 8; orientation++) {
      files[`exif${orientation}.png`] = await source().withMetadata({ orientation }).png().toBuffer();
      files[`exif${orientation}.jpg`] = await source()
        .withMetadata({ orientation })
        .jpeg({ quality: 98, chromaSubsampling: '4:4:4' })
        .toBuffer();
    }
    const expected = oracleDecode(Object.values(files));
    for (const [i, [file, bytes]] of Object.entries(files).entries()) {
      for (const withoutSharp of [false, true]) {
        const got = await decodePicture(bytes, { file, withoutSharp });
        expect([got.width, got.height], file).toEqual([expected[i].width, expected[i].height]);
        // jpeg-js has an inverse transform of its own.
        const jpegJs = withoutSharp && file.endsWith('.jpg');
        if (jpegJs) expect(meanDifference(got.rgb, expected[i].rgb), file).toBeLessThan(1);
        else expect(worst(got.rgb, expected[i].rgb), `${file} withoutSharp ${withoutSharp}`).toBe(0);
      }
    }
  });
});

const meanDifference = (a: Uint8Array, b: Uint8Array): number =>
  a.reduce((sum, x, i) => sum + Math.abs(x - b[i]), 0) / a.length;
