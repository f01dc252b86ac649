import { expect, test } from 'vitest';
import { noisePicture } from '../../tests/pictures.ts';
import { toNumbers } from '../core/tensor.ts';
import { type Preprocess, preprocess } from './preprocess.ts';
import { PRESETS } from './presets.ts';

const picture = { width: 2, height: 1, rgb: Uint8Array.of(10, 20, 30, 40, 50, 60) };
const plain: Preprocess = { order: 'rgb', scale: 1, mean: [0], std: [1], layout: 'nchw', dtype: 'f32' };
const values = (steps: Partial<Preprocess>) => {
  const { shape, data } = preprocess(picture, { ...plain, ...steps });
  return { shape, values: [...(data as Float32Array)] };
};

test('channel order and layout', () => {
  expect(values({})).toEqual({ shape: [1, 3, 1, 2], values: [10, 40, 20, 50, 30, 60] });
  expect(values({ order: 'bgr' })).toEqual({ shape: [1, 3, 1, 2], values: [30, 60, 20, 50, 10, 40] });
  expect(values({ layout: 'nhwc' })).toEqual({ shape: [1, 1, 2, 3], values: [10, 20, 30, 40, 50, 60] });
  expect(values({ order: 'grey' })).toEqual({ shape: [1, 1, 1, 2], values: [18, 48] });
});

test('scale, then mean, then deviation; one number a channel or one for all', () => {
  expect(values({ scale: 0.5, mean: [1, 2, 3], std: [2] }).values).toEqual([2, 9.5, 4, 11.5, 6, 13.5]);
  expect(values({ mean: [10, 20, 30], std: [1, 2, 3] }).values).toEqual([0, 30, 0, 15, 0, 10]);
});

test('float16 holds the rounded values', () => {
  const t = preprocess(picture, { ...plain, scale: 1 / 255, dtype: 'f16' });
  expect(t.data).toBeInstanceOf(Uint16Array);
  expect(toNumbers(t)[0]).toBeCloseTo(10 / 255, 4);
});

test('shapes that the presets give', () => {
  const wide = noisePicture(150, 100, 2);
  expect(preprocess(wide, PRESETS.imagenet.steps).shape).toEqual([1, 3, 224, 224]);
  expect(preprocess(wide, PRESETS.tutorial.steps).shape).toEqual([1, 3, 224, 336]);
  expect(preprocess(wide, PRESETS.squeezenet.steps).shape).toEqual([1, 3, 224, 224]);
  expect(preprocess(wide, PRESETS.grey.steps).shape).toEqual([1, 1, 224, 224]);
});

test('imagenet maps black and white to the bounds of the convention', () => {
  const flat = (level: number) => ({ width: 4, height: 4, rgb: new Uint8Array(48).fill(level) });
  const first = (level: number) => toNumbers(preprocess(flat(level), PRESETS.imagenet.steps))[0];
  expect(first(0)).toBeCloseTo(-0.485 / 0.229, 5);
  expect(first(255)).toBeCloseTo((1 - 0.485) / 0.229, 5);
});
