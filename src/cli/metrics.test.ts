import { describe, expect, test } from 'vitest';
import { allClose, compareElements, rootMeanSquare } from './metrics.ts';

describe('compareElements', () => {
  test('known errors', () => {
    const metrics = compareElements([1, 2, 5], [1, 4, 4], 3);
    expect(metrics).toMatchObject({ mae: 1, maxAbs: 2, maxRel: 0.5, rmse: Math.sqrt(5 / 3) });
    expect(metrics.cosine).toBeCloseTo((1 + 8 + 20) / Math.sqrt(30 * 33), 12);
  });
  test('equal tensors have no error, infinities and NaN included', () => {
    const values = [0, -1, Number.POSITIVE_INFINITY, Number.NaN];
    expect(compareElements(values, values, 4)).toMatchObject({
      mae: 0,
      maxAbs: 0,
      maxRel: 0,
      rmse: 0,
      top1Agrees: true,
    });
  });
  test('NaN on one side is an infinite error', () => {
    expect(compareElements([Number.NaN], [1], 1).maxAbs).toBe(Number.POSITIVE_INFINITY);
    expect(compareElements([1], [Number.NaN], 1).mae).toBe(Number.POSITIVE_INFINITY);
  });
  test('top-1 is compared row by row', () => {
    expect(compareElements([1, 2, 9, 8], [3, 4, 6, 5], 2).top1Agrees).toBe(true);
    expect(compareElements([1, 2, 9, 8], [3, 4, 5, 6], 2).top1Agrees).toBe(false);
  });
  test('zeros and nothing', () => {
    expect(compareElements([0, 0], [0, 0], 2).cosine).toBe(1);
    expect(compareElements([], [], 1)).toMatchObject({ mae: 0, rmse: 0, cosine: 1, top1Agrees: true });
  });
  test('a ratio to an element that is nearly zero does not count', () => {
    expect(compareElements([1e-6, 100], [1e-9, 100], 2).maxRel).toBe(0);
  });
});

test('allClose is numpy.allclose', () => {
  expect(allClose([1.001], [1], 0, 1e-3 + 1e-12)).toBe(true);
  expect(allClose([1.001], [1], 0, 1e-4)).toBe(false);
  expect(allClose([1e-9], [0], 1e-8, 0)).toBe(true);
  expect(allClose([Number.NaN], [0], 1, 1)).toBe(false);
});

test('rootMeanSquare', () => {
  expect(rootMeanSquare([3, 4])).toBeCloseTo(Math.sqrt(12.5), 12);
  expect(rootMeanSquare([])).toBe(0);
});
