import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from './float16.ts';

const ALL_BITS = Array.from({ length: 1 << 16 }, (_, bits) => bits);

/** The number of a format with `mantissaBits` bits after the point and this exponent range nearest to x, ties to even. */
function nearest(x: number, mantissaBits: number, minExponent: number, maxFinite: number): number {
  if (x === 0 || !Number.isFinite(x)) return x;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(x))), minExponent);
  // log2 may be one off at a power of two; scaling by 2 either way is exact, so both candidates are tried.
  const candidates = [exponent - 1, exponent, exponent + 1]
    .filter((e) => e >= minExponent && (Math.abs(x) < 2 ** (e + 1) || e === exponent + 1))
    .map((e) => {
      const unit = 2 ** (e - mantissaBits);
      const floor = Math.floor(x / unit);
      const rest = x / unit - floor;
      return (floor + (rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? 1 : 0)) * unit;
    });
  const best = candidates[0];
  return Math.abs(best) > maxFinite ? Math.sign(x) * Number.POSITIVE_INFINITY : best;
}

const near16 = fc
  .tuple(fc.integer({ min: -70000, max: 70000 }), fc.integer({ min: -30, max: 2 }))
  .map(([a, e]) => a * 2 ** e);
const value = fc.oneof(fc.double({ noNaN: true }), fc.float({ noNaN: true }), near16);

describe('f16', () => {
  it('reads the values of the standard', () => {
    expect([0x0000, 0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x7c00].map(f16ToNumber)).toEqual([
      0,
      1,
      -2,
      65504,
      2 ** -14,
      2 ** -24,
      Number.POSITIVE_INFINITY,
    ]);
    expect(f16ToNumber(0x8000)).toBe(-0);
    expect(f16ToNumber(0x7e00)).toBeNaN();
  });

  it('keeps every number', () => {
    const changed = ALL_BITS.filter(
      (bits) => !Number.isNaN(f16ToNumber(bits)) && numberToF16(f16ToNumber(bits)) !== bits,
    );
    expect(changed).toEqual([]);
    expect(numberToF16(Number.NaN)).toBe(0x7e00);
  });

  it('rounds a double once, to nearest even', () => {
    expect(
      [2049, 2051, 65519.99, 65520, 2 ** -25, 2 ** -25 * 1.01, -65536].map((x) => f16ToNumber(numberToF16(x))),
    ).toEqual([2048, 2052, 65504, Number.POSITIVE_INFINITY, 0, 2 ** -24, Number.NEGATIVE_INFINITY]);
    // Rounding to float32 first would make this a tie, and then 1.
    expect(f16ToNumber(numberToF16(1 + 2 ** -11 + 2 ** -40))).toBe(1 + 2 ** -10);
    fc.assert(
      fc.property(value, (x) => {
        expect(f16ToNumber(numberToF16(x)) + 0).toBe(nearest(x, 10, -14, 65504) + 0);
      }),
      { numRuns: 3000 },
    );
  });
});

describe('bf16', () => {
  it('keeps every number', () => {
    const changed = ALL_BITS.filter(
      (bits) => !Number.isNaN(bf16ToNumber(bits)) && numberToBf16(bf16ToNumber(bits)) !== bits,
    );
    expect(changed).toEqual([]);
    expect(bf16ToNumber(numberToBf16(Number.NaN))).toBeNaN();
  });

  it('rounds a double once, to nearest even', () => {
    expect(
      [1 + 2 ** -8, 1 + 3 * 2 ** -8, 1e39, 1 + 2 ** -8 + 2 ** -40].map((x) => bf16ToNumber(numberToBf16(x))),
    ).toEqual([1, 1 + 2 ** -6, Number.POSITIVE_INFINITY, 1 + 2 ** -7]);
    fc.assert(
      fc.property(value, (x) => {
        expect(bf16ToNumber(numberToBf16(x)) + 0).toBe(nearest(x, 7, -126, 3.3895313892515355e38) + 0);
      }),
      { numRuns: 3000 },
    );
  });
});
