/**
 * x^y as loop-IR expressions. Exponents that are constants become products, square roots and reciprocals where few will do;
 * powers otherwise are 2^(y · log2 x) with the logarithm as a pair, since y multiplies its error by up to 128, on f64 by up to 1024.
 */
import { DTYPES, isFloat } from '../core/dtype.ts';
import { f32, polynomial, scaleByPowerOf2, splitExponent } from './approximate.ts';
import * as f64 from './approximate-f64-pow.ts';
import {
  add,
  binary,
  bitcast,
  cast,
  constant,
  div,
  index,
  isConst,
  like,
  max,
  min,
  mul,
  select,
  sub,
  unary,
} from './expr.ts';
import type { Expr } from './ir.ts';
import { exactProduct, exactSum, type Pair, timesFloat } from './pairs.ts';

/** x^y for operands of one dtype. f32 5 ulp, f64 2 ulp; integers wrap. */
export function pow(x: Expr, y: Expr): Expr {
  const constant = isConst(y) ? constantPower(x, Number(y.value)) : undefined;
  if (constant) return constant;
  if (!isFloat(x.dtype)) return integerPower(x, y);
  if (x.dtype === 'f64') return floatPower(x, y, F64);
  return cast(x.dtype, floatPower(cast('f32', x), cast('f32', y), F32));
}

/**
 * x^n by squaring for whole |n| <= 8; x^(n/4) with √x and √√x; the reciprocal of these for negative exponents of floats.
 * The square roots differ from IEEE's pow only at -inf (NaN for +inf) and in the sign of a zero.
 */
function constantPower(x: Expr, n: number): Expr | undefined {
  const float = isFloat(x.dtype);
  if (Math.abs(n) > 8 || !Number.isInteger(float ? 4 * n : n) || (!float && n < 0)) return undefined;
  if (n < 0) return div(like(x, 1), constantPower(x, -n) as Expr);
  const factors: Expr[] = [];
  for (let rest = Math.floor(n), square = x; rest > 0; rest >>= 1, square = mul(square, square))
    if (rest & 1) factors.push(square);
  const quarters = (n % 1) * 4;
  const root = unary('sqrt', x);
  if (quarters & 2) factors.push(root);
  if (quarters & 1) factors.push(unary('sqrt', root));
  return factors.length === 0 ? like(x, 1) : factors.reduce(mul);
}

/** By squaring, one select for each bit of the exponent; 1/a^n truncated for negative exponents. */
function integerPower(a: Expr, n: Expr): Expr {
  const [zero, one] = [like(a, 0), like(a, 1)];
  const odd = (e: Expr): Expr => binary('ne', binary('bitand', e, one), zero);
  const bits = 8 * DTYPES[a.dtype].bytes;
  let result: Expr = one;
  for (
    let bit = 0, square = a, rest = n;
    bit < bits;
    bit++, square = mul(square, square), rest = binary('shr', rest, one)
  )
    result = select(odd(rest), mul(result, square), result);
  if (a.dtype.startsWith('u')) return result;
  const minusOne = like(a, -1);
  const reciprocal = select(
    binary('eq', a, minusOne),
    select(odd(n), minusOne, one),
    select(binary('eq', a, one), one, zero),
  );
  return select(binary('lt', n, zero), reciprocal, result);
}

/** What a power is made of in one precision. */
interface PowerParts {
  /** Of a positive finite float. */
  log2(x: Expr): Pair;
  exp2(t: Pair): Expr;
  /** Beyond this in either direction the result is 0, 1 or inf already, and products of the pair stay finite. */
  readonly largestExponent: number;
  /** Whether the sign bit is set. */
  isNegative(x: Expr): Expr;
}
const F32: PowerParts = {
  log2,
  exp2,
  largestExponent: 2 ** 40,
  isNegative: (x) => binary('lt', bitcast('i32', x), index(0)),
};
const F64: PowerParts = {
  ...f64,
  largestExponent: 2 ** 70,
  isNegative: (x) => binary('lt', bitcast('i64', x), constant('i64', 0n)),
};

/** IEEE 754's pow with all its special values. */
function floatPower(x: Expr, y: Expr, parts: PowerParts): Expr {
  const c = (value: number): Expr => like(x, value);
  const [zero, inf, nan] = [c(0), c(Number.POSITIVE_INFINITY), c(Number.NaN)];
  const eq = (a: Expr, b: Expr): Expr => binary('eq', a, b);
  const or = (a: Expr, b: Expr): Expr => binary('or', a, b);
  const and = (a: Expr, b: Expr): Expr => binary('and', a, b);
  const not = (a: Expr): Expr => unary('not', a);
  const whole = (v: Expr): Expr => eq(v, unary('trunc', v));
  const size = unary('abs', x);
  const exponent = min(max(y, c(-parts.largestExponent)), c(parts.largestExponent));
  const finite = parts.exp2(timesFloat(parts.log2(size), exponent));
  const positive = binary('gt', y, zero);
  const edge = select(eq(size, zero), select(positive, zero, inf), select(positive, inf, zero));
  const magnitude = select(or(eq(size, zero), eq(size, inf)), edge, finite);
  const odd = and(whole(y), not(whole(mul(y, c(0.5)))));
  const signed = select(and(odd, parts.isNegative(x)), unary('neg', magnitude), magnitude);
  const unreal = and(and(binary('lt', x, zero), binary('lt', size, inf)), not(whole(y)));
  const bad = or(unreal, or(binary('ne', x, x), binary('ne', y, y)));
  return select(or(eq(y, zero), eq(x, c(1))), c(1), select(bad, nan, signed));
}

/**
 * log2 x = e + 2/ln 2 · (s + s³/3 + s⁵/5 + …) with s = (m - 1)/(m + 1), |s| <= 0.172, for positive finite x.
 * The term in s is exact to about 2^-45; the rest is small enough for one float32.
 */
function log2(x: Expr): Pair {
  const { m, e } = splitExponent(x);
  const numerator = sub(m, f32(1));
  const denominator = exactSum(f32(1), m);
  const sHi = div(numerator, denominator.hi);
  const back = exactProduct(sHi, denominator.hi);
  const remainder = sub(sub(sub(numerator, back.hi), back.lo), mul(sHi, denominator.lo));
  const sLo = div(remainder, denominator.hi);
  const scale = 2 / Math.LN2;
  const scaleHi = Math.fround(scale);
  const main = exactProduct(sHi, f32(scaleHi));
  const mainLo = add(main.lo, add(mul(sLo, f32(scaleHi)), mul(sHi, f32(scale - scaleHi))));
  const z = mul(sHi, sHi);
  const rest = mul(mul(polynomial(z, [scale / 11, scale / 9, scale / 7, scale / 5, scale / 3]), z), sHi);
  const sum = exactSum(e, main.hi);
  return exactSum(sum.hi, add(sum.lo, add(mainLo, rest)));
}

/** 2^t, by the polynomial of Cephes' exp2f on [-½, ½]. */
function exp2(t: Pair): Expr {
  const clamped = min(max(t.hi, f32(-160)), f32(160));
  const n = unary('round', clamped);
  // Where hi is clamped lo may be anything; elsewhere it is below this bound.
  const lo = min(max(t.lo, f32(-1e-3)), f32(1e-3));
  const r = add(sub(clamped, n), lo);
  const series = polynomial(
    r,
    [
      1.5353361883195e-4, 1.339887440266574e-3, 9.61843735767464e-3, 5.550332471162809e-2, 0.2402264791363012,
      0.6931472028550421, 1,
    ],
  );
  return scaleByPowerOf2(series, cast('i32', n));
}
