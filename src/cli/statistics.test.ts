import { expect, test } from 'vitest';
import { coefficientOfVariation, statistics } from './statistics.ts';

test('of 1 to 100 the percentiles are the ranks', () => {
  const sample = Array.from({ length: 100 }, (_, i) => 100 - i);
  expect(statistics(sample)).toEqual({ min: 1, mean: 50.5, median: 50.5, p90: 90, p95: 95, p99: 99, max: 100 });
});

test('one measurement is all of its statistics', () => {
  expect(statistics([3])).toEqual({ min: 3, mean: 3, median: 3, p90: 3, p95: 3, p99: 3, max: 3 });
  expect(coefficientOfVariation([3])).toBe(0);
});

test('numbers are ordered by size, not by spelling', () => {
  expect(statistics([10, 9, 100]).median).toBe(10);
});

test('the coefficient of variation has no unit', () => {
  expect(coefficientOfVariation([1, 3])).toBeCloseTo(0.5, 12);
  expect(coefficientOfVariation([1000, 3000])).toBeCloseTo(0.5, 12);
});
