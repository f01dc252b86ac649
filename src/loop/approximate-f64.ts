/**
 * float64 functions as loop-IR expressions, as approximate.ts has them for float32, with i64 bits. Bounds in units in the last place hold
 * also where a·b + c is fused; infinities, NaN, zeros and subnormals come out as in IEEE 754.
 *
 * The reductions are those of Sun's fdlibm (exp, log, expm1, log1p, sin, cos, asin, atan and what stands on them) and W. J. Cody and W. Waite,
 * "Software Manual for the Elementary Functions" (1980). Polynomials are Chebyshev interpolants on the reduced range (mpmath's chebyfit,
 * 60 digits), each of the function and range that its comment names, and of a degree at which it adds nothing to the rounding errors.
 */
import { add, binary, bitcast, cast, constant, div, max, min, mul, select, sub, unary } from './expr.ts';
import type { Expr } from './ir.ts';
import { exactSum, exactSumOfAny, type Pair, upperHalf } from './pairs.ts';

export const f64 = (value: number): Expr => constant('f64', value);
const i64 = (value: number | bigint): Expr => constant('i64', BigInt(value));

const abs = (x: Expr): Expr => unary('abs', x);
const neg = (x: Expr): Expr => unary('neg', x);
const sqrt = (x: Expr): Expr => unary('sqrt', x);
const lt = (a: Expr, b: Expr): Expr => binary('lt', a, b);
const shl = (x: Expr, bits: number): Expr => binary('shl', x, i64(bits));
const shr = (x: Expr, bits: number): Expr => binary('shr', x, i64(bits));

/** Σ coefs[i]·x^(last - i): highest power first, by Horner's rule. */
export const polynomial = (x: Expr, coefs: readonly number[]): Expr =>
  coefs.slice(1).reduce<Expr>((sum, coef) => add(mul(sum, x), f64(coef)), f64(coefs[0]));

/** x + x·z·P(z), for odd functions near 0: the small part is added last. */
const oddNear0 = (x: Expr, z: Expr, coefs: readonly number[]): Expr => add(mul(mul(polynomial(z, coefs), z), x), x);

/** A value >= 0 with the sign of x, -0 included. */
const withSignOf = (x: Expr, value: Expr): Expr =>
  bitcast('f64', binary('bitor', bitcast('i64', value), binary('bitand', bitcast('i64', x), i64(-(2n ** 63n)))));

/** 2^k for an i64 k of -1022 to 1023: its bits are 0 | k + 1023 (11 bits) | 0 (52 bits). */
const powerOf2 = (k: Expr): Expr => bitcast('f64', shl(add(k, i64(1023)), 52));

/** v · 2^n for an i64 n of -2044 to 2046, in two steps so that neither factor leaves the exponent range and subnormal results round once. */
export function scaleByPowerOf2(v: Expr, n: Expr): Expr {
  const half = shr(n, 1);
  return mul(mul(v, powerOf2(half)), powerOf2(sub(n, half)));
}

// 32 bits of ln 2, so that a whole number of them is exact, and the rest.
const LN2_HI = 0.6931471803691238;
const LN2_LO = 1.9082149292705877e-10;

/** x = n·ln 2 + r + rest with |r| <= ln 2 / 2, and r²·P(r) = e^r - 1 - r. */
function reduceExponent(x: Expr): { readonly n: Expr; readonly r: Expr; readonly rest: Expr; readonly tail: Expr } {
  const n = unary('round', mul(x, f64(Math.LOG2E)));
  const hi = sub(x, mul(n, f64(LN2_HI)));
  const lo = mul(n, f64(LN2_LO));
  const r = sub(hi, lo);
  // (e^r - 1 - r) / r² on ±0.35.
  const series = polynomial(
    r,
    [
      2.510134692835034e-8, 2.7621338669142925e-7, 2.75572664186123e-6, 2.4801518641395993e-5, 1.9841269864380513e-4,
      1.3888888918939168e-3, 8.333333333329793e-3, 4.166666666662064e-2, 0.16666666666666669, 0.5000000000000001,
    ],
  );
  return { n: cast('i64', n), r, rest: sub(sub(hi, r), lo), tail: mul(mul(r, r), series) };
}

/** e^x, 1 ulp. Beyond [-746, 710] the result is 0 or inf anyway. */
export function exp(x: Expr): Expr {
  const { n, r, rest, tail } = reduceExponent(min(max(x, f64(-746)), f64(710)));
  return scaleByPowerOf2(add(add(add(tail, rest), r), f64(1)), n);
}

/** e^x - 1 for x >= 0, 2 ulp; for x of more than 709 that of 709. */
function expm1(x: Expr): Expr {
  const { n, r, rest, tail } = reduceExponent(min(x, f64(709)));
  const power = powerOf2(n);
  return add(mul(add(add(tail, rest), r), power), sub(power, f64(1)));
}

/** x = m · 2^e with m in [√½, √2), for positive finite x; subnormals are first scaled by 2^54. e as f64. */
export function splitExponent(x: Expr): { readonly m: Expr; readonly e: Expr } {
  const tiny = lt(x, f64(2 ** -1022));
  const bits = bitcast('i64', select(tiny, mul(x, f64(2 ** 54)), x));
  // √½'s bits: subtracting them moves the boundary between exponents from powers of two to √½ · 2^e.
  const e = shr(sub(bits, i64(0x3fe6a09e667f3bcdn)), 52);
  return {
    m: bitcast('f64', sub(bits, shl(e, 52))),
    e: sub(cast('f64', e), select(tiny, f64(54), f64(0))),
  };
}

/**
 * ln(x·(1 + c)) for a small c: e·ln 2 + f - f²/2 + s·(f²/2 + R) with x = (1 + f)·2^e, s = f/(2 + f) and R = (ln(1 + f) - 2s)/s.
 * x must be positive and finite.
 */
function logOf(x: Expr, c?: Expr): Expr {
  const { m, e } = splitExponent(x);
  const f = sub(m, f64(1));
  const s = div(f, add(f, f64(2)));
  const z = mul(s, s);
  // (2·atanh s - 2s) / s³ on s² <= 0.0295.
  const series = polynomial(
    z,
    [
      0.14618236865830497, 0.15331576916675838, 0.18182893480846, 0.2222221107497463, 0.2857142862634218,
      0.39999999999898694, 0.666666666666667,
    ],
  );
  const half = mul(mul(f, f), f64(0.5));
  const low = mul(e, f64(LN2_LO));
  const correction = add(mul(add(mul(series, z), half), s), c ? add(low, c) : low);
  return add(mul(e, f64(LN2_HI)), sub(f, sub(half, correction)));
}

/** `value` where x is positive and finite; else what a logarithm has: x itself (inf, NaN), -inf at 0, NaN below. */
function logarithmic(x: Expr, value: Expr): Expr {
  const finite = select(lt(x, f64(Number.POSITIVE_INFINITY)), value, x);
  const outside = select(binary('eq', x, f64(0)), f64(Number.NEGATIVE_INFINITY), f64(Number.NaN));
  return select(binary('gt', x, f64(0)), finite, outside);
}

/** ln x, 1 ulp. */
export const log = (x: Expr): Expr => logarithmic(x, logOf(x));

/** ln(1 + x), 2 ulp: what the sum loses is put back, as part of 1 + x. */
function log1p(x: Expr): Expr {
  const sum = add(x, f64(1));
  const part = sub(sum, f64(1));
  // The larger of x and 1 is exact in sum - it, so the rest is what rounding took.
  const lost = select(lt(x, f64(1)), sub(x, part), sub(f64(1), sub(sum, x)));
  return logarithmic(sum, logOf(sum, div(lost, sum)));
}

/** tanh x, 3 ulp: t/(t + 2) with t = e^2|x| - 1; 1 from 22 on. */
export function tanh(x: Expr): Expr {
  const t = expm1(mul(min(abs(x), f64(22)), f64(2)));
  return withSignOf(x, div(t, add(t, f64(2))));
}

/** erf x, 2 ulp: x·P(x²) below 1, then 1 - e^-x²·Q((|x| - 3.5)/(|x| + 3.5)) up to 6, beyond which float64 knows only ±1. */
export function erf(x: Expr): Expr {
  const a = min(abs(x), f64(6));
  const z = mul(a, a);
  // erf(√z)/√z on [0, 1].
  const near = polynomial(
    z,
    [
      5.957176147748911e-11, -1.1372848856791674e-9, 1.4659775274047436e-8, -1.6350312701054695e-7,
      1.6461000484121368e-6, -1.4925595266831182e-5, 1.205533111164271e-4, -8.54832698083379e-4, 5.2239776248180145e-3,
      -2.6866170645076792e-2, 0.11283791670954879, -0.3761263890318375, 1.1283791670955126,
    ],
  );
  // e^x²·(1 - erf x) on [1, 6].
  const scaled = polynomial(
    div(sub(a, f64(3.5)), add(a, f64(3.5))),
    [
      -1.5885446316700733e-7, -1.949999883482146e-6, -1.7121197069097852e-6, 1.3412352275651315e-5,
      -4.640178919530465e-6, -1.0808575517121791e-4, 2.88552006757455e-4, 2.6738478589562463e-4, -4.242238468024573e-3,
      1.6976760950897597e-2, -4.543676118647769e-2, 9.442780690876125e-2, -0.16133852476447896, 0.23313048160025399,
      -0.2892650448327675, 0.1552936556088943,
    ],
  );
  const far = sub(f64(1), mul(exp(neg(z)), scaled));
  return withSignOf(x, select(lt(a, f64(1)), mul(near, a), far));
}

// π/2 in parts of 26 bits, so that products with 26 and fewer bits are exact, and the rest.
const HALF_PI = [1.5707963109016418, 1.5893254712295857e-8, 6.123233601181349e-17] as const;
const HALF_PI_REST = 3.9455541665632055e-24;
const LARGEST_ANGLE = 2 ** 50;

/**
 * x = k·π/2 + r, r as a pair, for |x| < 2^50; a larger x counts as 0. |r| <= π/4, and up to 1.1 where x is so large that rounding moves k. k's
 * upper and lower digits are subtracted with each part of π/2, exactly for the first two, with the error kept for the third.
 */
function reduceAngle(x: Expr): { readonly k: Expr; readonly r: Pair } {
  const angle = select(lt(abs(x), f64(LARGEST_ANGLE)), x, mul(x, f64(0)));
  const turns = unary('round', mul(angle, f64(2 / Math.PI)));
  const upper = upperHalf(turns);
  const digits = [upper, sub(turns, upper)];
  const [first, second, third] = HALF_PI.map((part) => digits.map((d) => mul(d, f64(-part))));
  const exact = [...first, ...second].reduce(add, angle);
  const a = exactSumOfAny(exact, third[0]);
  const b = exactSumOfAny(a.hi, third[1]);
  const rest = add(add(a.lo, b.lo), mul(turns, f64(-HALF_PI_REST)));
  return { k: cast('i64', turns), r: exactSum(b.hi, rest) };
}

function sinCos(x: Expr): { readonly k: Expr; readonly sin: Expr; readonly cos: Expr } {
  const { k, r } = reduceAngle(x);
  const z = mul(r.hi, r.hi);
  const half = mul(z, f64(0.5));
  const w = sub(f64(1), half);
  // (sin √z - √z) / z√z and (cos √z - 1 + z/2) / z² on [0, 1.1²].
  const sinSeries = polynomial(
    z,
    [
      -7.528989373648548e-13, 1.6057082534450462e-10, -2.505209222372056e-8, 2.755731915558548e-6,
      -1.9841269841131952e-4, 8.33333333333323e-3, -0.16666666666666666,
    ],
  );
  const cosSeries = polynomial(
    z,
    [
      4.7137756144213336e-14, -1.1469654898726794e-11, 2.0876747999120392e-9, -2.75573191859408e-7,
      2.4801587301510604e-5, -1.388888888888883e-3, 4.1666666666666664e-2,
    ],
  );
  const sin = add(r.hi, add(mul(mul(sinSeries, z), r.hi), mul(r.lo, w)));
  const cos = add(w, add(sub(sub(f64(1), w), half), sub(mul(mul(cosSeries, z), z), mul(r.hi, r.lo))));
  return { k, sin, cos };
}
const bit = (x: Expr, mask: number): Expr => binary('ne', binary('bitand', x, i64(mask)), i64(0));
/** Where sin x and tan x are x to the last place, which keeps -0. */
const isTiny = (x: Expr): Expr => lt(abs(x), f64(2 ** -27));

/** sin x, 1 ulp for |x| < 2^50; beyond, where floats lie a quarter apart and more, 0. */
export function sin(x: Expr): Expr {
  const { k, sin: s, cos: c } = sinCos(x);
  const value = select(bit(k, 1), c, s);
  return select(isTiny(x), x, select(bit(k, 2), neg(value), value));
}

/** cos x, 1 ulp for |x| < 2^50; beyond, 1. */
export function cos(x: Expr): Expr {
  const { k, sin: s, cos: c } = sinCos(x);
  const value = select(bit(k, 1), s, c);
  return select(bit(add(k, i64(1)), 2), neg(value), value);
}

/** tan x, 3 ulp for |x| < 2^50; beyond, 0. */
export function tan(x: Expr): Expr {
  const { k, sin: s, cos: c } = sinCos(x);
  return select(isTiny(x), x, select(bit(k, 1), neg(div(c, s)), div(s, c)));
}

const HALF_PI_LO = 6.123233995736766e-17;

/** asin of a in [0, ½], from z = a²: (asin √z - √z) / z√z. */
const asinNear0 = (a: Expr, z: Expr): Expr =>
  oddNear0(
    a,
    z,
    [
      2.8757851367421566e-2, -1.4851887071247204e-2, 1.740087944269402e-2, 5.457506718640358e-3, 1.032281435018578e-2,
      1.1479177415184906e-2, 1.3971212973552933e-2, 1.7352392720869973e-2, 2.237217294214989e-2, 3.0381944138531247e-2,
      4.464285714635543e-2, 7.499999999998433e-2, 0.16666666666666669,
    ],
  );

/** asin of |x|, or of √((1 - |x|)/2) where |x| > ½. */
function asinParts(x: Expr): { readonly far: Expr; readonly near: Expr } {
  const a = abs(x);
  const far = lt(f64(0.5), a);
  const z = select(far, mul(sub(f64(1), a), f64(0.5)), mul(a, a));
  return { far, near: asinNear0(select(far, sqrt(z), a), z) };
}

/** asin x, 3 ulp; beyond ½ by π/2 - 2·asin √((1 - |x|)/2). NaN outside [-1, 1]. */
export function asin(x: Expr): Expr {
  const { far, near } = asinParts(x);
  const value = sub(f64(Math.PI / 2), sub(mul(near, f64(2)), f64(HALF_PI_LO)));
  return withSignOf(x, select(far, value, near));
}

/** acos x, 2 ulp. NaN outside [-1, 1]. */
export function acos(x: Expr): Expr {
  const { far, near } = asinParts(x);
  const twice = mul(near, f64(2));
  const middle = sub(f64(Math.PI / 2), sub(withSignOf(x, near), f64(HALF_PI_LO)));
  const below = sub(f64(Math.PI), sub(twice, f64(2 * HALF_PI_LO)));
  return select(far, select(lt(x, f64(0)), below, twice), middle);
}

/** atan x, 2 ulp: |x| reduced to [0, tan π/8] by 1/x and (x - 1)/(x + 1). */
export function atan(x: Expr): Expr {
  const a = abs(x);
  const far = lt(f64(2.414213562373095), a);
  const middle = lt(f64(0.41421356237309503), a);
  const eighths = select(far, f64(2), select(middle, f64(1), f64(0)));
  const reduced = select(middle, div(sub(a, f64(1)), add(a, f64(1))), a);
  const t = select(far, div(f64(-1), a), reduced);
  // (atan √z - √z) / z√z on [0, (tan π/8)²].
  const value = oddNear0(
    t,
    mul(t, t),
    [
      -1.9175404711104935e-2, 3.923044778479309e-2, -5.0854078345894844e-2, 5.858140904866328e-2, -6.664510525508936e-2,
      7.692183125376892e-2, -9.09090457530649e-2, 0.11111111015187018, -0.14285714284665682, 0.19999999999995516,
      -0.3333333333333333,
    ],
  );
  const low = mul(eighths, f64(HALF_PI_LO / 2));
  return withSignOf(x, add(mul(eighths, f64(Math.PI / 4)), add(value, low)));
}

/** e^|x| overflows beyond here, where half of its square does not. */
const HALVED_FROM = 709;

/** sinh x, 3 ulp: (t + t/(t + 1))/2 with t = e^|x| - 1; where that overflows half the square of e^(|x|/2). */
export function sinh(x: Expr): Expr {
  const a = abs(x);
  const huge = lt(f64(HALVED_FROM), a);
  const t = expm1(select(huge, mul(a, f64(0.5)), a));
  const value = mul(add(t, div(t, add(t, f64(1)))), f64(0.5));
  return withSignOf(x, select(huge, mul(mul(t, f64(0.5)), t), value));
}

/** cosh x, 2 ulp (3 where e^|x| overflows). */
export function cosh(x: Expr): Expr {
  const a = abs(x);
  const huge = lt(f64(HALVED_FROM), a);
  const e = exp(select(huge, mul(a, f64(0.5)), a));
  return select(huge, mul(mul(e, f64(0.5)), e), add(mul(e, f64(0.5)), div(f64(0.5), e)));
}

/** From here on x² + 1 is x², and ln(x + √(x² ± 1)) is ln x + ln 2. */
const SQUARE_SWAMPS = 2 ** 28;

/** ln(1 + near) below 2^28, ln a + ln 2 from there on. */
function logOfSum(a: Expr, near: Expr): Expr {
  const huge = lt(f64(SQUARE_SWAMPS), a);
  return add(log1p(select(huge, sub(a, f64(1)), near)), select(huge, f64(Math.LN2), f64(0)));
}

/** asinh x, 2 ulp: ln(1 + |x| + x²/(1 + √(1 + x²))). */
export function asinh(x: Expr): Expr {
  const a = abs(x);
  const z = mul(a, a);
  return withSignOf(x, logOfSum(a, add(a, div(z, add(sqrt(add(z, f64(1))), f64(1))))));
}

/** acosh x, 3 ulp: ln(1 + t + √(t·(t + 2))) with t = x - 1. NaN below 1. */
export function acosh(x: Expr): Expr {
  const t = select(lt(x, f64(1)), f64(Number.NaN), sub(x, f64(1)));
  return logOfSum(x, add(t, sqrt(mul(t, add(t, f64(2))))));
}

/** atanh x, 3 ulp: ½·ln(1 + 2|x|/(1 - |x|)). ±inf at ±1, NaN beyond. */
export function atanh(x: Expr): Expr {
  const a = abs(x);
  return withSignOf(x, mul(log1p(div(mul(a, f64(2)), sub(f64(1), a))), f64(0.5)));
}
