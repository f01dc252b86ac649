import { expect, test } from 'vitest';
import { fromNumbers, zeros } from '../core/tensor.ts';
import { BINS, summarizeWeight } from './weight-summary.ts';

test('range, mean, spread and histogram', () => {
  const values = Array.from({ length: 1000 }, (_, i) => i);
  const { histogram, ...rest } = summarizeWeight(fromNumbers('f32', [1000], values));
  expect(rest).toEqual({
    elements: 1000,
    min: 0,
    max: 999,
    mean: 499.5,
    std: Math.sqrt((1000 ** 2 - 1) / 12),
    zeros: 1,
    nonFinite: 0,
  });
  expect(histogram).toHaveLength(BINS);
  expect(histogram.reduce((a, b) => a + b)).toBe(1000);
  expect(Math.max(...histogram) - Math.min(...histogram)).toBeLessThanOrEqual(1);
});

test('what is not finite is counted, and left out of the rest', () => {
  const summary = summarizeWeight(
    fromNumbers('f32', [5], [Number.NaN, 1, Number.POSITIVE_INFINITY, 3, Number.NEGATIVE_INFINITY]),
  );
  expect(summary).toMatchObject({ elements: 5, nonFinite: 3, min: 1, max: 3, mean: 2, std: 1 });
  expect(summary.histogram.reduce((a, b) => a + b)).toBe(2);
});

test('nothing, and all alike', () => {
  expect(summarizeWeight(zeros('f32', [0]))).toMatchObject({ elements: 0, min: 0, max: 0, histogram: [] });
  expect(summarizeWeight(zeros('i64', [3]))).toMatchObject({ elements: 3, min: 0, max: 0, zeros: 3, histogram: [] });
});
