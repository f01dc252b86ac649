/**
 * What each operation of the loop IR does to scalars: tables by operation, one for floats, one for integers of up to 32 bits,
 * one for 64-bit integers (BigInt), one for bool. eval, constant folding and the verifier read the same rows, so an operation
 * exists for a dtype exactly where it has a row.
 *
 * Floats are computed in float64 and not rounded here. Integers wrap to their width. Integer division by zero gives 0.
 */
import { DTYPES, type DType, isBigInt, isFloat, isSmallFloat, isSmallInt, type Scalar } from '../core/dtype.ts';
import { erf } from '../core/erf.ts';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from '../core/float16.ts';
import { minifloatToNumber, numberToMinifloat } from '../core/minifloat.ts';
import { wrapSmall } from '../core/tensor.ts';
import type { BinaryOp, ReduceOp, UnaryOp } from './ir.ts';

export type ScalarFn1 = (x: Scalar) => Scalar;
export type ScalarFn2 = (a: Scalar, b: Scalar) => Scalar;
type Table1<T> = { readonly [op in UnaryOp]?: (x: T) => T };
type Table2<T> = { readonly [op in BinaryOp]?: (a: T, b: T) => T };

/** To the nearest integer, ties to even; keeps -0, inf and NaN. */
export function roundEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest < 0.5 || (rest === 0.5 && floor % 2 === 0)) return floor;
  return floor === -1 ? -0 : floor + 1;
}

/** IEEE 754's pow: 1 for a base of 1 and for ±1 to an infinite power, where Math.pow gives NaN. */
const power = (a: number, b: number): number =>
  a === 1 || (a === -1 && Math.abs(b) === Number.POSITIVE_INFINITY) ? 1 : a ** b;

/** a - b·floor(a/b) without the rounding of the quotient: the divisor's sign. */
function floatMod(a: number, b: number): number {
  const rest = a % b;
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
}

const FLOAT_UNARY: Table1<number> = {
  neg: (x) => -x,
  abs: Math.abs,
  sqrt: Math.sqrt,
  floor: Math.floor,
  ceil: Math.ceil,
  round: roundEven,
  trunc: Math.trunc,
  sign: Math.sign,
  exp: Math.exp,
  log: Math.log,
  erf,
  tanh: Math.tanh,
  sin: Math.sin,
  cos: Math.cos,
  tan: Math.tan,
  asin: Math.asin,
  acos: Math.acos,
  atan: Math.atan,
  sinh: Math.sinh,
  cosh: Math.cosh,
  asinh: Math.asinh,
  acosh: Math.acosh,
  atanh: Math.atanh,
  isnan: (x) => (Number.isNaN(x) ? 1 : 0),
  isinf: (x) => (Math.abs(x) === Number.POSITIVE_INFINITY ? 1 : 0),
};

const COMPARE = {
  eq: (a: Scalar, b: Scalar) => (a === b ? 1 : 0),
  ne: (a: Scalar, b: Scalar) => (a !== b ? 1 : 0),
  lt: (a: Scalar, b: Scalar) => (a < b ? 1 : 0),
  le: (a: Scalar, b: Scalar) => (a <= b ? 1 : 0),
  gt: (a: Scalar, b: Scalar) => (a > b ? 1 : 0),
  ge: (a: Scalar, b: Scalar) => (a >= b ? 1 : 0),
} as const;

const FLOAT_BINARY: Table2<number> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  floordiv: (a, b) => Math.floor(a / b),
  mod: floatMod,
  rem: (a, b) => a % b,
  pow: power,
  min: Math.min,
  max: Math.max,
  ...COMPARE,
};

const BOOL_UNARY: Table1<number> = { not: (x) => (x ? 0 : 1) };
const BOOL_BINARY: Table2<number> = {
  min: Math.min,
  max: Math.max,
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
  ...COMPARE,
};

const INT_UNARY: Table1<number> = { neg: (x) => -x, abs: Math.abs, sign: Math.sign, bitnot: (x) => ~x };
const INT_BINARY: Table2<number> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: Math.imul,
  div: (a, b) => (b === 0 ? 0 : Math.trunc(a / b)),
  floordiv: (a, b) => (b === 0 ? 0 : Math.floor(a / b)),
  mod: (a, b) => (b === 0 ? 0 : a - b * Math.floor(a / b)),
  rem: (a, b) => (b === 0 ? 0 : a % b),
  pow: (a, b) => integerPower(a, b, 1, Math.imul),
  min: Math.min,
  max: Math.max,
  bitand: (a, b) => a & b,
  bitor: (a, b) => a | b,
  bitxor: (a, b) => a ^ b,
  shl: (a, b) => a << b,
  shr: (a, b) => a >> b,
  ...COMPARE,
};
/** Logical where the sign bit is a bit of the number. */
const UINT_BINARY: Table2<number> = { ...INT_BINARY, shr: (a, b) => a >>> b };

const floorDivBig = (a: bigint, b: bigint): bigint => {
  const quotient = a / b;
  return a % b !== 0n && a < 0n !== b < 0n ? quotient - 1n : quotient;
};
const BIG_UNARY: Table1<bigint> = {
  neg: (x) => -x,
  abs: (x) => (x < 0n ? -x : x),
  sign: (x) => (x < 0n ? -1n : x > 0n ? 1n : 0n),
  bitnot: (x) => ~x,
};
const BIG_BINARY: Table2<bigint> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => (b === 0n ? 0n : a / b),
  floordiv: (a, b) => (b === 0n ? 0n : floorDivBig(a, b)),
  mod: (a, b) => (b === 0n ? 0n : a - b * floorDivBig(a, b)),
  rem: (a, b) => (b === 0n ? 0n : a % b),
  pow: (a, b) =>
    BigInt.asIntN(
      64,
      integerPower(a, b, 1n, (x, y) => BigInt.asUintN(64, x * y)),
    ),
  // biome-ignore lint/complexity/useMathMinMax: Math.min takes no BigInt
  min: (a, b) => (a < b ? a : b),
  // biome-ignore lint/complexity/useMathMinMax: Math.max takes no BigInt
  max: (a, b) => (a > b ? a : b),
  bitand: (a, b) => a & b,
  bitor: (a, b) => a | b,
  bitxor: (a, b) => a ^ b,
  shl: (a, b) => a << (b & 63n),
  shr: (a, b) => a >> (b & 63n),
};

/** a^n by squaring, wrapping as `times` does; a negative n gives 1/a^-n truncated: 0 but for a = ±1. */
function integerPower<T extends Scalar>(a: T, n: T, one: T, times: (x: T, y: T) => T): T {
  if (n < 0) {
    const sign = Number(a);
    return (sign === 1 || sign === -1 ? (Number(BigInt(n) & 1n) ? a : one) : typeof a === 'bigint' ? 0n : 0) as T;
  }
  let result = one;
  let square = a;
  for (let rest = BigInt(n); rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = times(result, square);
    square = times(square, square);
  }
  return result;
}

/** Brings an integer back into a dtype's range by dropping high bits; 0 or 1 for bool. Identity on floats. */
export function wrapper(dtype: DType): ScalarFn1 | undefined {
  switch (dtype) {
    case 'i64':
      return (x) => BigInt.asIntN(64, x as bigint);
    case 'u64':
      return (x) => BigInt.asUintN(64, x as bigint);
    case 'i32':
      return (x) => (x as number) | 0;
    case 'u32':
      return (x) => (x as number) >>> 0;
    case 'i16':
      return (x) => ((x as number) << 16) >> 16;
    case 'u16':
      return (x) => (x as number) & 0xffff;
    case 'i8':
      return (x) => ((x as number) << 24) >> 24;
    case 'u8':
      return (x) => (x as number) & 0xff;
    case 'bool':
      return (x) => (x ? 1 : 0);
    default:
      return isSmallInt(dtype) ? (x) => wrapSmall(dtype, x as number) : undefined;
  }
}

/** Rounds a double to what a float dtype can hold; undefined where nothing is lost. */
export function rounder(dtype: DType): ((x: number) => number) | undefined {
  switch (dtype) {
    case 'f32':
      return Math.fround;
    case 'f16':
      return (x) => f16ToNumber(numberToF16(x));
    case 'bf16':
      return (x) => bf16ToNumber(numberToBf16(x));
    default:
      return isSmallFloat(dtype) ? (x) => minifloatToNumber(dtype, numberToMinifloat(dtype, x, false)) : undefined;
  }
}

const isPredicate = (op: UnaryOp | BinaryOp): boolean => Object.hasOwn(COMPARE, op) || op === 'isnan' || op === 'isinf';

/** op on values of a dtype, wrapped to it; undefined where the operation does not exist for the dtype. */
export function unaryFn(op: UnaryOp, dtype: DType): ScalarFn1 | undefined {
  const table = isFloat(dtype) ? FLOAT_UNARY : dtype === 'bool' ? BOOL_UNARY : isBigInt(dtype) ? BIG_UNARY : INT_UNARY;
  const fn = table[op] as ScalarFn1 | undefined;
  const wrap = wrapper(dtype);
  return fn && wrap && !isPredicate(op) ? (x) => wrap(fn(x)) : fn;
}

/** op on two values of a dtype, wrapped to it (comparisons give 0 or 1); undefined where it does not exist for the dtype. */
export function binaryFn(op: BinaryOp, dtype: DType): ScalarFn2 | undefined {
  if (isBigInt(dtype) && Object.hasOwn(COMPARE, op)) return COMPARE[op as keyof typeof COMPARE];
  const table = isFloat(dtype)
    ? FLOAT_BINARY
    : dtype === 'bool'
      ? BOOL_BINARY
      : isBigInt(dtype)
        ? BIG_BINARY
        : DTYPES[dtype].kind === 'uint'
          ? UINT_BINARY
          : INT_BINARY;
  const fn = table[op] as ScalarFn2 | undefined;
  const wrap = wrapper(dtype);
  return fn && wrap && !isPredicate(op) ? (a, b) => wrap(fn(a, b)) : fn;
}

/** Cast between dtypes: float to int truncates and saturates (NaN to 0), int to int wraps, to bool is != 0, to float rounds, to small float saturates. */
export function castFn(from: DType, to: DType): ScalarFn1 {
  if (to === 'bool') return (x) => (x !== 0 && x !== 0n ? 1 : 0);
  if (isSmallFloat(to)) return (x) => minifloatToNumber(to, numberToMinifloat(to, Number(x)));
  if (isFloat(to)) {
    const round = rounder(to);
    return round ? (x) => round(Number(x)) : (x) => Number(x);
  }
  const { min, max } = DTYPES[to];
  if (isFloat(from)) {
    const big = isBigInt(to);
    return (x) => {
      const whole = Math.trunc(x as number);
      if (Number.isNaN(whole)) return big ? 0n : 0;
      return whole <= Number(min) ? min : whole >= Number(max) ? max : big ? BigInt(whole) : whole + 0;
    };
  }
  const wrap = wrapper(to) as ScalarFn1;
  if (isBigInt(to)) return (x) => wrap(BigInt(x));
  return isBigInt(from) ? (x) => wrap(Number(BigInt.asIntN(32, x as bigint))) : wrap;
}

const bits = new DataView(new ArrayBuffer(8));
/** Same bits, other type; undefined where the pair has none. NaN has one pattern here: machines choose its sign and payload freely. */
export function bitcastFn(from: DType, to: DType): ScalarFn1 | undefined {
  switch (`${from}>${to}`) {
    case 'f32>i32':
      return (x) => {
        bits.setFloat32(0, Number.isNaN(x) ? Number.NaN : (x as number));
        return bits.getInt32(0);
      };
    case 'i32>f32':
      return (x) => {
        bits.setInt32(0, x as number);
        return bits.getFloat32(0);
      };
    case 'f64>i64':
      return (x) => {
        bits.setFloat64(0, Number.isNaN(x) ? Number.NaN : (x as number));
        return bits.getBigInt64(0);
      };
    case 'i64>f64':
      return (x) => {
        bits.setBigInt64(0, x as bigint);
        return bits.getFloat64(0);
      };
    default:
      return undefined;
  }
}

/** What a reduction over nothing gives: 0, 1, +inf or the type's largest, -inf or the type's smallest. */
export function identity(op: ReduceOp, dtype: DType): Scalar {
  const whole = isBigInt(dtype) ? BigInt : Number;
  if (op === 'add') return whole(0);
  if (op === 'mul') return whole(1);
  if (isFloat(dtype)) return op === 'min' ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY;
  return op === 'min' ? DTYPES[dtype].max : DTYPES[dtype].min;
}
