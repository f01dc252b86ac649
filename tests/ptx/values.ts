/**
 * Arithmetic of PTX values in JavaScript: 32-bit integers are int32 numbers, 16-bit ones their bits, floats numbers.
 *
 * 64-bit integers are numbers where those are exact and BigInts elsewhere, always in the signed range: addresses stay cheap and
 * products wrap as they must.
 */
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from '../../src/core/float16.ts';

export type Wide = number | bigint;

const view = new DataView(new ArrayBuffer(8));
const f32 = new Float32Array(1);
const i32 = new Int32Array(f32.buffer);

export const wide = (x: bigint): Wide => {
  const s = BigInt.asIntN(64, x);
  return s >= -9007199254740991n && s <= 9007199254740991n ? Number(s) : s;
};
export const unsigned = (x: Wide): bigint => BigInt.asUintN(64, BigInt(x));

export function add64(a: Wide, b: Wide): Wide {
  if (typeof a === 'number' && typeof b === 'number') {
    const s = a + b;
    if (Number.isSafeInteger(s)) return s;
  }
  return wide(BigInt(a) + BigInt(b));
}
export function sub64(a: Wide, b: Wide): Wide {
  if (typeof a === 'number' && typeof b === 'number') {
    const s = a - b;
    if (Number.isSafeInteger(s)) return s;
  }
  return wide(BigInt(a) - BigInt(b));
}
export function mul64(a: Wide, b: Wide): Wide {
  if (typeof a === 'number' && typeof b === 'number') {
    const s = a * b;
    if (Number.isSafeInteger(s)) return s + 0;
  }
  return wide(BigInt(a) * BigInt(b));
}
export function shl64(a: Wide, n: number): Wide {
  const by = n >>> 0;
  if (by > 63) return 0;
  if (typeof a === 'number' && by < 32) {
    const s = a * 2 ** by;
    if (Number.isSafeInteger(s)) return s;
  }
  return wide(BigInt(a) << BigInt(by));
}
export const shr64 = (a: Wide, n: number, isSigned: boolean): Wide => {
  const by = BigInt(Math.min(n >>> 0, 64));
  return wide((isSigned ? BigInt(a) : unsigned(a)) >> by);
};
export function big64(op: string, a: Wide, b: Wide, isUnsigned: boolean): Wide {
  const x = isUnsigned ? unsigned(a) : BigInt(a);
  const y = isUnsigned ? unsigned(b) : BigInt(b);
  switch (op) {
    case 'div':
      return wide(y === 0n ? -1n : x / y);
    case 'rem':
      return wide(y === 0n ? x : x % y);
    case 'min':
      return wide(x < y ? x : y);
    case 'max':
      return wide(x > y ? x : y);
    case 'and':
      return wide(x & y);
    case 'or':
      return wide(x | y);
    case 'xor':
      return wide(x ^ y);
    case 'mulhi':
      return wide((x * y) >> 64n);
    default:
      throw new Error(`big64 ${op}`);
  }
}
export const compare64 = (a: Wide, b: Wide, isUnsigned: boolean): number => {
  if (typeof a === 'number' && typeof b === 'number' && (!isUnsigned || (a >= 0 && b >= 0))) return a - b;
  const x = isUnsigned ? unsigned(a) : BigInt(a);
  const y = isUnsigned ? unsigned(b) : BigInt(b);
  return x < y ? -1 : x > y ? 1 : 0;
};
export const low32 = (x: Wide): number =>
  typeof x === 'number' && Math.abs(x) < 2147483648 ? x | 0 : Number(BigInt.asIntN(32, BigInt(x)));

export const mulhi32 = (a: number, b: number, isSigned: boolean): number =>
  Number(BigInt.asIntN(32, (isSigned ? BigInt(a) * BigInt(b) : BigInt(a >>> 0) * BigInt(b >>> 0)) >> 32n));

export const bitsToF32 = (x: number): number => {
  i32[0] = x;
  return f32[0];
};
export const f32ToBits = (x: number): number => {
  f32[0] = x;
  return i32[0];
};
export const f64ToWide = (x: number): Wide => {
  view.setFloat64(0, x);
  return wide(view.getBigInt64(0));
};
export const wideToF64 = (x: Wide): number => {
  view.setBigInt64(0, BigInt(x));
  return view.getFloat64(0);
};

/** a·b + c rounded once to float32: the product is exact in float64, and the sum is rounded to odd before the last rounding. */
export function fma32(a: number, b: number, c: number): number {
  const p = a * b;
  const s = p + c;
  const t = s - p;
  const error = p - (s - t) + (c - t);
  if (error === 0 || !Number.isFinite(s)) return Math.fround(s);
  view.setFloat64(0, s);
  const low = view.getInt32(4);
  if ((low & 1) === 0) {
    // s is even: the exact sum lies between s and a neighbour, whose last bit is odd.
    const up = error > 0 === s > 0;
    const bits = view.getBigInt64(0) + (up ? 1n : -1n);
    view.setBigInt64(0, bits);
    return Math.fround(view.getFloat64(0));
  }
  return Math.fround(s);
}

export const halfToNumber: readonly number[] = Array.from({ length: 65536 }, (_, bits) => f16ToNumber(bits));
const brainToNumber: readonly number[] = Array.from({ length: 65536 }, (_, bits) => bf16ToNumber(bits));
export const tables: Readonly<Record<string, readonly number[]>> = { f16: halfToNumber, bf16: brainToNumber };
export const toHalf: Readonly<Record<string, (x: number) => number>> = { f16: numberToF16, bf16: numberToBf16 };

export const roundEven = (x: number): number => {
  const r = Math.round(x);
  return r - x === 0.5 && r % 2 !== 0 ? r - 1 : r;
};

const LIMITS: Readonly<Record<string, readonly [number, number]>> = {
  s8: [-128, 127],
  u8: [0, 255],
  s16: [-32768, 32767],
  u16: [0, 65535],
  s32: [-2147483648, 2147483647],
  u32: [0, 4294967295],
};

/** A float to an integer type, saturating; NaN gives 0. */
export function toInteger(x: number, rounding: string, type: string): Wide {
  const r =
    rounding === 'rzi'
      ? Math.trunc(x)
      : rounding === 'rmi'
        ? Math.floor(x)
        : rounding === 'rpi'
          ? Math.ceil(x)
          : roundEven(x);
  if (Number.isNaN(r)) return 0;
  const limits = LIMITS[type];
  if (limits) return Math.min(Math.max(r, limits[0]), limits[1]) + 0;
  const [min, max] = type === 's64' ? [-(2n ** 63n), 2n ** 63n - 1n] : [0n, 2n ** 64n - 1n];
  const value = r === Infinity ? max : r === -Infinity ? min : BigInt(r);
  return wide(value < min ? min : value > max ? max : value);
}

export const roundFloat = (x: number, rounding: string): number =>
  rounding === 'rzi'
    ? Math.trunc(x)
    : rounding === 'rmi'
      ? Math.floor(x)
      : rounding === 'rpi'
        ? Math.ceil(x)
        : roundEven(x);

/** Float64 to float32 in a direction. */
export function narrow(x: number, rounding: string): number {
  const r = Math.fround(x);
  if (
    rounding === 'rn' ||
    r === x ||
    !Number.isFinite(x) ||
    (rounding !== 'rz' && rounding !== 'rm' && rounding !== 'rp')
  )
    return r;
  const up = rounding === 'rp' || (rounding === 'rz' && x < 0);
  if (up ? r > x : r < x) return r;
  const bits = f32ToBits(r);
  return bitsToF32(up === r > 0 ? bits + 1 : bits - 1);
}

/** Float32 to tf32: 10 bits of mantissa, ties away from zero. */
export const toTf32 = (x: number): number => (Number.isFinite(x) ? (f32ToBits(x) + 0x1000) & ~0x1fff : f32ToBits(x));

export const minMax = (op: string, a: number, b: number, keepNaN: boolean): number => {
  if (Number.isNaN(a) || Number.isNaN(b)) return keepNaN ? Number.NaN : Number.isNaN(a) ? b : a;
  return op === 'min' ? Math.min(a, b) : Math.max(a, b);
};

export function permute(a: number, b: number, selector: number): number {
  let out = 0;
  for (let i = 0; i < 4; i++) {
    const s = (selector >>> (4 * i)) & 15;
    const from = (s & 7) < 4 ? a : b;
    let byte = (from >>> (8 * (s & 3))) & 255;
    if (s & 8) byte = byte & 128 ? 255 : 0;
    out |= byte << (8 * i);
  }
  return out;
}

export function lop3(a: number, b: number, c: number, table: number): number {
  let out = 0;
  for (let i = 0; i < 8; i++) {
    if ((table >> i) & 1) out |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  }
  return out | 0;
}

export const popc = (x: number): number => {
  let n = 0;
  for (let v = x >>> 0; v; v &= v - 1) n++;
  return n;
};
export const brev = (x: number): number => {
  let out = 0;
  for (let i = 0; i < 32; i++) out |= ((x >>> i) & 1) << (31 - i);
  return out | 0;
};
export const funnel = (low: number, high: number, by: number, left: boolean, wrap: boolean): number => {
  const n = BigInt(wrap ? by & 31 : Math.min(by >>> 0, 32));
  const both = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  return Number(BigInt.asIntN(32, left ? (both << n) >> 32n : both >> n));
};
export const bfe = (a: number, pos: number, len: number, isSigned: boolean): number => {
  const p = pos & 255;
  const l = len & 255;
  if (l === 0) return 0;
  const value = BigInt(isSigned ? a : a >>> 0) >> BigInt(p);
  return Number(
    BigInt.asIntN(32, isSigned ? BigInt.asIntN(Math.min(l, 64), value) : BigInt.asUintN(Math.min(l, 64), value)),
  );
};
export const bfi = (a: number, b: number, pos: number, len: number): number => {
  const mask = ((1n << BigInt(len & 255)) - 1n) << BigInt(pos & 255);
  return Number(BigInt.asIntN(32, (BigInt(b >>> 0) & ~mask) | ((BigInt(a >>> 0) << BigInt(pos & 255)) & mask)));
};
