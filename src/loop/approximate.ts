/**
 * float32 functions as loop-IR expressions over add, sub, mul, div, min, max, abs, sqrt, round, comparisons, select and i32 bits.
 *
 * Each takes an f32 expression and gives one that is within the stated units in the last place of the true value, also when every
 * operation is rounded to float32 and when a·b + c is fused. Infinities, NaN, zeros and subnormals come out as in IEEE 754.
 * Coefficients of exp, log, sin, cos, asin, atan, sinh, asinh, acosh, atanh are those of the single-precision Cephes library
 * (S. Moshier); erf and tanh are the odd rational approximations that Eigen made known.
 */
import { add, binary, bitcast, cast, constant, div, index, max, min, mul, select, sub, unary } from './expr.ts';
import type { Expr } from './ir.ts';

/** A float32 constant: the nearest one. */
export const f32 = (value: number): Expr => constant('f32', Math.fround(value));
const i32 = index;

const abs = (x: Expr): Expr => unary('abs', x);
const neg = (x: Expr): Expr => unary('neg', x);
const sqrt = (x: Expr): Expr => unary('sqrt', x);
const lt = (a: Expr, b: Expr): Expr => binary('lt', a, b);
const shl = (x: Expr, bits: number): Expr => binary('shl', x, i32(bits));
const shr = (x: Expr, bits: number): Expr => binary('shr', x, i32(bits));

/** Σ coefs[i]·x^(last - i): highest power first, by Horner's rule. */
export const polynomial = (x: Expr, coefs: readonly number[]): Expr =>
  coefs.slice(1).reduce<Expr>((sum, coef) => add(mul(sum, x), f32(coef)), f32(coefs[0]));

/** x + x·z·P(z), for odd functions near 0: the small part is added last. */
const oddNear0 = (x: Expr, z: Expr, coefs: readonly number[]): Expr => add(mul(mul(polynomial(z, coefs), z), x), x);

/** A value >= 0 with the sign of x, -0 included: the sign bit of x set in it. */
const withSignOf = (x: Expr, value: Expr): Expr =>
  bitcast('f32', binary('bitor', bitcast('i32', value), binary('bitand', bitcast('i32', x), i32(-(2 ** 31)))));

/**
 * v · 2^n for an i32 n of -252 to 254, in two steps so that neither factor leaves the exponent range and subnormal results round once.
 *
 *     float32 bits of 2^k:  0 | k + 127 (8 bits) | 0 (23 bits)
 */
export function scaleByPowerOf2(v: Expr, n: Expr): Expr {
  const half = shr(n, 1);
  const rest = sub(n, half);
  const power = (k: Expr): Expr => bitcast('f32', shl(add(k, i32(127)), 23));
  return mul(mul(v, power(half)), power(rest));
}

const LN2_HI = 0.693359375;
const LN2_LO = Math.LN2 - LN2_HI;

/**
 * e^x, 1 ulp: x = n·ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts so that n·hi is exact; 2^n from its bits.
 * Beyond [-104, 89] the result is 0 or inf anyway, so clamping keeps n in range.
 */
export function exp(x: Expr): Expr {
  const clamped = min(max(x, f32(-104)), f32(89));
  const n = unary('round', mul(clamped, f32(Math.LOG2E)));
  const r = sub(sub(clamped, mul(n, f32(LN2_HI))), mul(n, f32(LN2_LO)));
  const tail = polynomial(
    r,
    [1.98756915e-4, 1.39819995e-3, 8.33345191e-3, 4.166579589e-2, 0.16666665459, 0.50000001201],
  );
  const series = add(add(mul(mul(r, r), tail), r), f32(1));
  return scaleByPowerOf2(series, cast('i32', n));
}

/** x = m · 2^e with m in [√½, √2), for positive finite x; subnormals are first scaled by 2^23. e as f32. */
export function splitExponent(x: Expr): { readonly m: Expr; readonly e: Expr } {
  const tiny = lt(x, f32(2 ** -126));
  const bits = bitcast('i32', select(tiny, mul(x, f32(2 ** 23)), x));
  // 0x3f3504f3 is √½: subtracting it moves the boundary between exponents from powers of two to √½ · 2^e.
  const e = shr(sub(bits, i32(0x3f3504f3)), 23);
  return {
    m: bitcast('f32', sub(bits, shl(e, 23))),
    e: sub(cast('f32', e), select(tiny, f32(23), f32(0))),
  };
}

/** ln x, 1 ulp: ln m by a polynomial in m - 1, plus e · ln 2 in two parts. -inf at 0, NaN below. */
export function log(x: Expr): Expr {
  const { m, e } = splitExponent(x);
  const f = sub(m, f32(1));
  const z = mul(f, f);
  const tail = polynomial(
    f,
    [
      7.0376836292e-2, -0.1151461031, 0.1167699874, -0.12420140846, 0.14249322787, -0.16668057665, 0.20000714765,
      -0.24999993993, 0.33333331174,
    ],
  );
  const small = sub(add(mul(mul(tail, z), f), mul(e, f32(LN2_LO))), mul(z, f32(0.5)));
  const value = add(add(f, small), mul(e, f32(LN2_HI)));
  const finite = select(lt(x, f32(Number.POSITIVE_INFINITY)), value, x);
  const outside = select(binary('eq', x, f32(0)), f32(Number.NEGATIVE_INFINITY), f32(Number.NaN));
  return select(binary('gt', x, f32(0)), finite, outside);
}

/** tanh x, 6 ulp: an odd rational function on [-7.905, 7.905], beyond which float32 knows only ±1; x itself near 0. */
export function tanh(x: Expr): Expr {
  const clamped = min(max(x, f32(-7.905311107635498)), f32(7.905311107635498));
  const z = mul(clamped, clamped);
  const p = polynomial(
    z,
    [
      -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-8, 1.48572235717979e-5,
      6.37261928875436e-4, 4.89352455891786e-3,
    ],
  );
  const q = polynomial(z, [1.19825839466702e-6, 1.18534705686654e-4, 2.268434632439e-3, 4.89352518554385e-3]);
  return select(lt(abs(x), f32(0.0004)), x, div(mul(clamped, p), q));
}

/** erf x, 8 ulp (so at most 5e-7): an odd rational function on [-4, 4], beyond which float32 knows only ±1; 2/√π·x near 0. */
export function erf(x: Expr): Expr {
  const clamped = min(max(x, f32(-4)), f32(4));
  const z = mul(clamped, clamped);
  const p = polynomial(
    z,
    [
      -2.72614225801306e-10, 2.77068142495902e-8, -2.10102402082508e-6, -5.69250639462346e-5, -7.34990630326855e-4,
      -2.95459980854025e-3, -1.60960333262415e-2,
    ],
  );
  const q = polynomial(
    z,
    [-1.45660718464996e-5, -2.13374055278905e-4, -1.68282697438203e-3, -7.37332916720468e-3, -1.42647390514189e-2],
  );
  const value = min(max(div(mul(clamped, p), q), f32(-1)), f32(1));
  return select(lt(abs(x), f32(2 ** -12)), mul(x, f32(2 / Math.sqrt(Math.PI))), value);
}

/**
 * x = k·π/2 + r with |r| <= π/4, and sin and cos of r. π/2 in three parts, the first two short enough that k times them is exact
 * for |x| < 8192; beyond, digits of r are lost, one more with each bit of x.
 */
function quarterTurns(x: Expr): { readonly k: Expr; readonly sin: Expr; readonly cos: Expr } {
  const turns = unary('round', mul(x, f32(2 / Math.PI)));
  const parts = [1.5703125, 4.837512969970703e-4, 7.54978995489188e-8];
  const r = parts.reduce<Expr>((rest, part) => sub(rest, mul(turns, f32(part))), x);
  const near = min(max(r, f32(-1)), f32(1));
  const z = mul(near, near);
  const sin = oddNear0(near, z, [-1.9515295891e-4, 8.3321608736e-3, -0.16666654611]);
  const tail = mul(mul(polynomial(z, [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2]), z), z);
  return { k: cast('i32', turns), sin, cos: add(sub(tail, mul(z, f32(0.5))), f32(1)) };
}
const bit = (x: Expr, mask: number): Expr => binary('ne', binary('bitand', x, i32(mask)), i32(0));

/** sin x, 2 ulp or 2^-24 absolute for |x| < 8192, in [-1, 1] for all finite x. x itself near 0, which keeps -0. */
export function sin(x: Expr): Expr {
  const { k, sin: s, cos: c } = quarterTurns(x);
  const value = select(bit(k, 1), c, s);
  return select(lt(abs(x), f32(1e-4)), x, select(bit(k, 2), neg(value), value));
}

/** cos x, 2 ulp or 2^-24 absolute for |x| < 8192, in [-1, 1] for all finite x. */
export function cos(x: Expr): Expr {
  const { k, sin: s, cos: c } = quarterTurns(x);
  const value = select(bit(k, 1), s, c);
  return select(bit(add(k, i32(1)), 2), neg(value), value);
}

/** tan x, 4 ulp for |x| < 8192 away from its zeros and poles. */
export function tan(x: Expr): Expr {
  const { k, sin: s, cos: c } = quarterTurns(x);
  return select(lt(abs(x), f32(1e-4)), x, select(bit(k, 1), neg(div(c, s)), div(s, c)));
}

/** asin of a in [0, ½], from z = a². */
const asinNear0 = (a: Expr, z: Expr): Expr =>
  oddNear0(a, z, [4.2163199048e-2, 2.4181311049e-2, 4.5470025998e-2, 7.4953002686e-2, 0.16666752422]);

/** asin x, 3 ulp; beyond ½ by π/2 - 2·asin √((1 - |x|)/2). NaN outside [-1, 1]. */
export function asin(x: Expr): Expr {
  const a = abs(x);
  const far = lt(f32(0.5), a);
  const z = select(far, mul(sub(f32(1), a), f32(0.5)), mul(a, a));
  const near = asinNear0(select(far, sqrt(z), a), z);
  return withSignOf(x, select(far, sub(f32(Math.PI / 2), mul(near, f32(2))), near));
}

/** acos x, 3 ulp. NaN outside [-1, 1]. */
export function acos(x: Expr): Expr {
  const a = abs(x);
  const far = lt(f32(0.5), a);
  const z = select(far, mul(sub(f32(1), a), f32(0.5)), mul(a, a));
  const near = asinNear0(select(far, sqrt(z), a), z);
  const twice = mul(near, f32(2));
  const middle = sub(f32(Math.PI / 2), withSignOf(x, near));
  return select(far, select(lt(x, f32(0)), sub(f32(Math.PI), twice), twice), middle);
}

/** atan x, 3 ulp: |x| reduced to [0, tan π/8] by 1/x and (x - 1)/(x + 1). */
export function atan(x: Expr): Expr {
  const a = abs(x);
  const far = lt(f32(2.414213562373095), a);
  const middle = lt(f32(0.4142135623730951), a);
  const base = select(far, f32(Math.PI / 2), select(middle, f32(Math.PI / 4), f32(0)));
  const reduced = select(middle, div(sub(a, f32(1)), add(a, f32(1))), a);
  const t = select(far, div(f32(-1), a), reduced);
  const z = mul(t, t);
  const value = oddNear0(t, z, [8.05374449538e-2, -0.138776856032, 0.199777106478, -0.333329491539]);
  return withSignOf(x, add(base, value));
}

/** e^|x|/2 and e^-|x|/2, as squares of e^(|x|/2) so that the first overflows only where it must. */
function halfExponentials(x: Expr): readonly [Expr, Expr] {
  const e = exp(mul(abs(x), f32(0.5)));
  return [mul(mul(e, f32(0.5)), e), div(div(f32(0.5), e), e)];
}

/** sinh x, 4 ulp. */
export function sinh(x: Expr): Expr {
  const z = mul(x, x);
  const near = oddNear0(x, z, [2.03721912945e-4, 8.33028376239e-3, 0.166667160211]);
  const [up, down] = halfExponentials(x);
  return select(lt(abs(x), f32(1)), near, withSignOf(x, sub(up, down)));
}

/** cosh x, 4 ulp. */
export function cosh(x: Expr): Expr {
  const [up, down] = halfExponentials(x);
  return add(up, down);
}

/** asinh x, 4 ulp: ln(x + √(x² + 1)); ln x + ln 2 where x² would swamp or overflow. */
export function asinh(x: Expr): Expr {
  const a = abs(x);
  const z = mul(x, x);
  const near = oddNear0(a, z, [2.0122003309e-2, -4.2699340972e-2, 7.4847586088e-2, -0.16666288134]);
  const huge = lt(f32(1500), a);
  const logged = log(select(huge, a, add(a, sqrt(add(z, f32(1))))));
  const far = add(logged, select(huge, f32(Math.LN2), f32(0)));
  return withSignOf(x, select(lt(a, f32(0.5)), near, far));
}

/** acosh x, 3 ulp: √t·P(t) with t = x - 1 near 1. NaN below 1. */
export function acosh(x: Expr): Expr {
  const t = sub(x, f32(1));
  const near = mul(
    polynomial(t, [1.7596881071e-3, -7.5272886713e-3, 2.6454905019e-2, -0.11784741703, 1.4142135263]),
    sqrt(t),
  );
  const huge = lt(f32(1500), x);
  const logged = log(select(huge, x, add(x, sqrt(mul(t, add(x, f32(1)))))));
  return select(lt(t, f32(0.5)), near, add(logged, select(huge, f32(Math.LN2), f32(0))));
}

/** atanh x, 3 ulp. ±inf at ±1, NaN beyond. */
export function atanh(x: Expr): Expr {
  const z = mul(x, x);
  const near = oddNear0(x, z, [0.181740078349, 8.24370301058e-2, 0.14669143173, 0.1997821645, 0.333337300303]);
  const far = mul(log(div(add(f32(1), x), sub(f32(1), x))), f32(0.5));
  return select(lt(abs(x), f32(0.5)), near, far);
}
