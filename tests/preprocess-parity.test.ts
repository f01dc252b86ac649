/** Whole preprocessing against torchvision.transforms, on noise of many sizes and on real pictures where they are there. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Tensor, toNumbers } from '../src/core/tensor.ts';
import { decodePicture } from '../src/vision/decode.ts';
import type { Picture } from '../src/vision/picture.ts';
import { type Preprocess, preprocess } from '../src/vision/preprocess.ts';
import { PRESETS } from '../src/vision/presets.ts';
import { askTransforms, MISSING_TRANSFORMS, type TransformRequest } from './oracles/transforms.ts';
import { noisePicture } from './pictures.ts';
import { SHARED } from './zoo.ts';

/** Larger, smaller, by primes, one pixel wide; a crop larger than the picture. */
const CASES = [
  { width: 1500, height: 1000, size: 224, crop: 200 },
  { width: 61, height: 47, size: 13, crop: 11 },
  { width: 13, height: 29, size: 37, crop: 32 },
  { width: 97, height: 61, size: 61, crop: 60 },
  { width: 1, height: 9, size: 4, crop: 3 },
  { width: 40, height: 50, size: 20, crop: 33 },
  { width: 1920, height: 1080, size: 256, crop: 224 },
  { width: 333, height: 500, size: 232, crop: 224 },
  { width: 37, height: 53, size: 211, crop: 199 },
] as const;

/** The steps of a preset at another size. */
function stepsOf(kind: TransformRequest['steps'], size: number, crop: number): Preprocess {
  const to = { kind: 'short-side', size } as const;
  const square = { width: crop, height: crop };
  const { imagenet, tutorial } = PRESETS;
  switch (kind) {
    case 'imagenet':
      return { ...imagenet.steps, resize: { ...imagenet.steps.resize, to }, crop: square };
    case 'tutorial':
      return { ...tutorial.steps, resize: { ...tutorial.steps.resize, to } };
    case 'tensor':
      return { ...imagenet.steps, resize: { ...imagenet.steps.resize, to, of: 'values' }, crop: square };
    default:
      return kind satisfies never;
  }
}

function worst(got: Tensor, want: Tensor, label: string): number {
  expect(got.shape, label).toEqual(want.shape);
  const [a, b] = [toNumbers(got), toNumbers(want)];
  let max = 0;
  for (let i = 0; i < b.length; i++) max = Math.max(max, Math.abs(a[i] - b[i]));
  return max;
}

/** Sums in float32 may be contracted to fused products there and not here: one rounding of a value to 1, over a deviation of 0.224. */
const TOLERANCE = 1e-6;

async function realPictures(): Promise<Picture[]> {
  const files = ['hotdog.jpg', 'chelsea.png', 'coffee.png'].map((name) => join(SHARED, 'real', name));
  return Promise.all(files.filter(existsSync).map((file) => decodePicture(readFileSync(file), { file })));
}

describe.skipIf(MISSING_TRANSFORMS)(`preprocessing ${MISSING_TRANSFORMS || 'as torchvision.transforms'}`, () => {
  test.each(['imagenet', 'tutorial', 'tensor'] as const)('%s', async (steps) => {
    const noise = CASES.map(({ width, height, size, crop }, seed) => ({
      picture: noisePicture(width, height, seed),
      size,
      crop,
    }));
    const size = steps === 'tutorial' ? 224 : 256;
    const real = (await realPictures()).map((picture) => ({ picture, size, crop: 224 }));
    const requests = [...noise, ...real].map((request) => ({ steps, ...request }));
    const expected = askTransforms(requests);
    for (const [i, request] of requests.entries()) {
      const got = preprocess(request.picture, stepsOf(steps, request.size, request.crop));
      const { width, height } = request.picture;
      expect(worst(got, expected[i], `${width}x${height}`), `${width}x${height}`).toBeLessThan(TOLERANCE);
    }
  });

  test('the presets are those steps', () => {
    expect(PRESETS.imagenet.steps).toEqual(stepsOf('imagenet', 256, 224));
    expect(PRESETS.tutorial.steps).toEqual(stepsOf('tutorial', 224, 0));
  });
});
