import { expect, test } from 'vitest';
import { erf } from './erf.ts';

// Abramowitz & Stegun, table 7.1, and DLMF 7.
test.each([
  [0, 0],
  [0.1, 0.1124629160182849],
  [0.5, 0.5204998778130465],
  [1, 0.8427007929497149],
  [2, 0.9953222650189527],
  [2.5, 0.999593047982555],
  [3, 0.9999779095030014],
  [6.5, 1],
  [Number.POSITIVE_INFINITY, 1],
])('erf(%d) = %d, and odd', (x, y) => {
  expect(Math.abs(erf(x) - y)).toBeLessThan(3e-16);
  expect(erf(-x)).toBe(-erf(x));
});

test('the two forms meet, NaN stays, tiny arguments keep their precision', () => {
  expect(erf(2.5) - erf(2.5 - 1e-12)).toBeLessThan(1e-14);
  expect(erf(Number.NaN)).toBeNaN();
  expect(erf(1e-300)).toBeCloseTo(1.1283791670955126e-300, 310);
});
