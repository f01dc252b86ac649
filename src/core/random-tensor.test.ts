import { expect, test } from 'vitest';
import { randomTensor } from './random-tensor.ts';
import { toNumbers } from './tensor.ts';

const values = (dtype: 'f32' | 'i64' | 'bool', index: number, seed: number) =>
  Array.from(toNumbers(randomTensor({ dtype, shape: [1000] }, index, seed)));

test('floats are spread over [-1, 1)', () => {
  const sample = values('f32', 0, 0);
  expect(Math.min(...sample)).toBeGreaterThanOrEqual(-1);
  expect(Math.max(...sample)).toBeLessThan(1);
  expect(Math.abs(sample.reduce((sum, x) => sum + x, 0) / 1000)).toBeLessThan(0.1);
  expect(new Set(sample).size).toBeGreaterThan(990);
});
test('integers and booleans are 0 and 1', () => {
  expect(new Set(values('i64', 0, 0))).toEqual(new Set([0, 1]));
  expect(new Set(values('bool', 0, 0))).toEqual(new Set([0, 1]));
});
test('seed and input number decide', () => {
  expect(values('f32', 0, 7)).toEqual(values('f32', 0, 7));
  expect(values('f32', 0, 7)).not.toEqual(values('f32', 1, 7));
  expect(values('f32', 0, 7)).not.toEqual(values('f32', 0, 8));
});
