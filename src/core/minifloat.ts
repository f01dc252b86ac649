/**
 * Floats of 8, 6 and 4 bits: a row a format, and conversion to and from numbers.
 *
 *     s eeee mmm        value = (-1)^s · 2^(e - bias) · (1 + m / 2^mantissaBits), and with e = 0 as subnormals
 *
 * Formats and rules are those of ONNX (docs: float8, float4), the OCP 8-bit and Microscaling specifications (2023) and, for fnuz, Noune et al.,
 * "8-bit Numerical Formats for Deep Neural Networks" (2022). Numbers are rounded to float32 first, then to nearest, ties to even. What is
 * beyond the largest finite value saturates, infinities too; NaN stays NaN, which f4 and f6 do not have: it becomes -0 there.
 */
import type { SmallFloat } from './dtype.ts';

export interface MiniFloat {
  readonly exponentBits: number;
  readonly mantissaBits: number;
  readonly bias: number;
  /** Bits of the largest finite number. */
  readonly largest: number;
  /** Bits of NaN; those of +inf, where there is one. */
  readonly nan: number;
  readonly infinity?: number;
  /** The sign bit stands alone for NaN, and there is no -0. */
  readonly unsignedZero?: boolean;
}

const format = (exponentBits: number, mantissaBits: number, bias: number, largest: number, nan: number): MiniFloat => ({
  exponentBits,
  mantissaBits,
  bias,
  largest,
  nan,
});

/** f8e8m0 is a power of two without sign and zero: its functions are apart. */
export const MINIFLOATS: { readonly [D in Exclude<SmallFloat, 'f8e8m0'>]: MiniFloat } = {
  f8e4m3fn: format(4, 3, 7, 0x7e, 0x7f),
  f8e4m3fnuz: { ...format(4, 3, 8, 0x7f, 0x80), unsignedZero: true },
  f8e5m2: { ...format(5, 2, 15, 0x7b, 0x7e), infinity: 0x7c },
  f8e5m2fnuz: { ...format(5, 2, 16, 0x7f, 0x80), unsignedZero: true },
  f6e2m3: format(2, 3, 1, 0x1f, 0x20),
  f6e3m2: format(3, 2, 3, 0x1f, 0x20),
  f4e2m1: format(2, 1, 1, 0x7, 0x8),
};
/** 2^(bits - 127); 255 is NaN. */
export const E8M0 = { bias: 127, largest: 254, nan: 255 } as const;

/** The sign bit of a format. */
export const signBit = ({ exponentBits, mantissaBits }: MiniFloat): number => 1 << (exponentBits + mantissaBits);

export function minifloatToNumber(dtype: SmallFloat, bits: number): number {
  if (dtype === 'f8e8m0') return bits === E8M0.nan ? Number.NaN : 2 ** (bits - E8M0.bias);
  const { mantissaBits, bias, largest, nan, infinity, unsignedZero } = MINIFLOATS[dtype];
  const sign = signBit(MINIFLOATS[dtype]);
  const size = bits & (sign - 1);
  if (unsignedZero && bits === nan) return Number.NaN;
  if (size > largest) return size === infinity ? Number.POSITIVE_INFINITY * (bits & sign ? -1 : 1) : Number.NaN;
  const exponent = size >> mantissaBits;
  const mantissa = (size & ((1 << mantissaBits) - 1)) / (1 << mantissaBits);
  const value = exponent === 0 ? mantissa * 2 ** (1 - bias) : (1 + mantissa) * 2 ** (exponent - bias);
  return bits & sign ? -value : value;
}

/** Bits of the number that stands for `value`; an infinity stays one where the format has it and `saturate` is false. */
export function numberToMinifloat(dtype: SmallFloat, value: number, saturate = true): number {
  const x = Math.fround(value);
  if (dtype === 'f8e8m0') return numberToE8M0(x);
  const format = MINIFLOATS[dtype];
  if (Number.isNaN(x)) return format.nan;
  const sign = x < 0 || Object.is(x, -0) ? signBit(format) : 0;
  const size = roundedSize(Math.abs(x), format);
  if (size === 0 && format.unsignedZero) return 0;
  if (size <= format.largest) return sign | size;
  if (!saturate && Math.abs(x) === Number.POSITIVE_INFINITY && format.infinity !== undefined)
    return sign | format.infinity;
  return sign | format.largest;
}

/** Bits without the sign, counted on beyond the largest: exponent and mantissa are one number that grows with the value. */
function roundedSize(x: number, { mantissaBits, bias, largest }: MiniFloat): number {
  if (x === Number.POSITIVE_INFINITY) return largest + 1;
  const exponent = Math.max(1 - bias, x === 0 ? 1 - bias : Math.floor(Math.log2(x)));
  const units = x / 2 ** (exponent - mantissaBits);
  const floor = Math.floor(units);
  const rest = units - floor;
  const rounded = floor + (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? 1 : 0);
  return ((exponent - 1 + bias) << mantissaBits) + rounded;
}

/** The next power of two from x on; the least one for what is below it. */
function numberToE8M0(x: number): number {
  if (Number.isNaN(x)) return E8M0.nan;
  if (!(x > 2 ** -E8M0.bias)) return 0;
  const exponent = Math.floor(Math.log2(x));
  const power = 2 ** exponent < x ? exponent + 1 : exponent;
  return Math.min(power + E8M0.bias, E8M0.largest);
}
