/**
 * IEEE 754 binary16 and bfloat16 as bits: conversion to and from float32, round to nearest even.
 *
 *     f16  s eeeee mmmmmmmmmm        bias 15     bf16  s eeeeeeee mmmmmmm   the upper half of a float32
 *
 * The bit-level forms are needed wherever Float16Array is absent (Node 20); results are identical where it is present.
 */

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

export function f16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

/** Rounds a double once: the double is first rounded to odd in float32, so the second rounding cannot err. */
export function numberToF16(value: number): number {
  const x = roundToOddF32(value);
  const sign = (x >>> 16) & 0x8000;
  const abs = x & 0x7fffffff;
  if (abs > 0x7f800000) return sign | 0x7e00;
  if (abs >= 0x477ff000) return sign | 0x7c00;
  if (abs < 0x38800000) {
    // Subnormal: value / 2^-24, rounded to nearest even by the shift below.
    const shift = 126 - (abs >>> 23);
    if (shift > 24) return sign;
    return sign | roundShift((abs & 0x7fffff) | 0x800000, shift);
  }
  return sign | (roundShift(abs, 13) - (112 << 10));
}

export function bf16ToNumber(bits: number): number {
  u32[0] = bits << 16;
  return f32[0];
}

export function numberToBf16(value: number): number {
  const x = roundToOddF32(value);
  if ((x & 0x7fffffff) > 0x7f800000) return ((x >>> 16) & 0x8000) | 0x7fc0;
  return roundShift(x >>> 0, 16) & 0xffff;
}

/** x / 2^shift rounded to nearest, ties to even; x is an unsigned 32-bit integer. */
function roundShift(x: number, shift: number): number {
  const floor = shift >= 32 ? 0 : x >>> shift;
  const rest = x - floor * 2 ** shift;
  const half = 2 ** (shift - 1);
  return floor + (rest > half || (rest === half && floor & 1) ? 1 : 0);
}

/** The float32 bits of a double, rounded toward zero with the lowest bit set where bits were lost (round to odd). */
function roundToOddF32(value: number): number {
  f32[0] = value;
  const rounded = f32[0];
  if (rounded === value || Number.isNaN(value)) return u32[0];
  if (Math.abs(rounded) > Math.abs(value)) u32[0] -= 1;
  return u32[0] | 1;
}
