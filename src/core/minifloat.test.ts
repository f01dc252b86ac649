/**
 * Small floats against their definition: every bit pattern's value by the formula, rounding against a search for the nearest, and what
 * ONNX's tables say of what lies outside.
 */
import { describe, expect, test } from 'vitest';
import { hash } from '../../tests/random.ts';
import { DTYPES, type DType, isSmallFloat, type SmallFloat } from './dtype.ts';
import { minifloatToNumber, numberToMinifloat } from './minifloat.ts';

const NAMES = (Object.keys(DTYPES) as DType[]).filter(isSmallFloat);
const patterns = (dtype: SmallFloat): number[] => Array.from({ length: 2 ** (DTYPES[dtype].bits ?? 0) }, (_, i) => i);

describe.each(NAMES)('%s', (dtype) => {
  const finite = patterns(dtype)
    .map((bits) => ({ bits, value: minifloatToNumber(dtype, bits) }))
    .filter(({ value }) => Number.isFinite(value));

  test('its largest and smallest number are those of its row', () => {
    const values = finite.map(({ value }) => value);
    expect(Math.max(...values)).toBe(DTYPES[dtype].max);
    expect(Math.min(...values)).toBe(DTYPES[dtype].min);
  });

  test('every bit pattern comes back', () => {
    for (const bits of patterns(dtype)) {
      const value = minifloatToNumber(dtype, bits);
      if (Number.isNaN(value)) expect(minifloatToNumber(dtype, numberToMinifloat(dtype, value))).toBeNaN();
      else expect(numberToMinifloat(dtype, value, false), String(value)).toBe(bits);
    }
  });

  test.skipIf(dtype === 'f8e8m0')('a number becomes the nearest one, the even one of two', () => {
    const { max } = DTYPES[dtype];
    const sorted = finite
      .filter(({ bits }) => bits < 2 ** ((DTYPES[dtype].bits ?? 0) - 1))
      .sort((a, b) => a.value - b.value);
    const check = (x: number): void => {
      const distance = Math.min(...sorted.map(({ value }) => Math.abs(value - x)));
      const near = sorted.filter(({ value }) => Math.abs(value - x) === distance);
      const wanted = near.find(({ bits }) => bits % 2 === 0) ?? near[0];
      expect(numberToMinifloat(dtype, x), String(x)).toBe((near.length > 1 ? wanted : near[0]).bits);
    };
    for (let i = 0; i < 2000; i++)
      check(Math.fround(Number(max) * 1.1 * hash(1, i) * 2 ** -Math.floor(24 * hash(2, i))));
    for (let i = 1; i < sorted.length; i++) check((sorted[i].value + sorted[i - 1].value) / 2);
  });
});

test.each([
  ['f8e4m3fn', 0x7f, 448, 448, -448],
  ['f8e4m3fnuz', 0x80, 240, 240, -240],
  ['f8e5m2', 0x7e, 57344, 57344, -57344],
  ['f8e5m2fnuz', 0x80, 57344, 57344, -57344],
  ['f4e2m1', 0x8, 6, 6, -6],
] as const)('%s: NaN, infinities and what is too large', (dtype, nan, large, infinity, negative) => {
  expect(numberToMinifloat(dtype, Number.NaN)).toBe(nan);
  expect(minifloatToNumber(dtype, numberToMinifloat(dtype, 1e30))).toBe(large);
  expect(minifloatToNumber(dtype, numberToMinifloat(dtype, Number.POSITIVE_INFINITY))).toBe(infinity);
  expect(minifloatToNumber(dtype, numberToMinifloat(dtype, Number.NEGATIVE_INFINITY))).toBe(negative);
});

test('formats that ONNX lists values of', () => {
  expect(patterns('f4e2m1').map((b) => minifloatToNumber('f4e2m1', b))).toEqual([
    0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6,
  ]);
  expect(minifloatToNumber('f8e4m3fn', 0x01)).toBe(2 ** -9);
  expect(minifloatToNumber('f8e4m3fnuz', 0x01)).toBe(2 ** -10);
  expect(minifloatToNumber('f8e5m2', 0x01)).toBe(2 ** -16);
  expect(minifloatToNumber('f8e5m2fnuz', 0x01)).toBe(2 ** -17);
  expect(minifloatToNumber('f8e5m2', 0xfc)).toBe(Number.NEGATIVE_INFINITY);
  expect(minifloatToNumber('f8e8m0', 0)).toBe(2 ** -127);
});

test.each([
  [0, 0],
  [-3, 0],
  [2 ** -127, 0],
  [2 ** -126.5, 1],
  [1, 127],
  [1.0001, 128],
  [2 ** 127, 254],
  [3e38, 254],
  [Number.POSITIVE_INFINITY, 254],
  [Number.NaN, 255],
])('f8e8m0 of %d is 2^(%d - 127)', (x, bits) => expect(numberToMinifloat('f8e8m0', x)).toBe(bits));
