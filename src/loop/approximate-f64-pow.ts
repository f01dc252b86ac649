/**
 * The two halves of x^y = 2^(y · log2 x) in float64: the logarithm as a pair, since y multiplies its error by up to 1024, and the
 * power of a pair. Polynomials as in approximate-f64.ts.
 */
import { f64, polynomial, scaleByPowerOf2, splitExponent } from './approximate-f64.ts';
import { add, cast, div, max, min, mul, sub, unary } from './expr.ts';
import type { Expr } from './ir.ts';
import { exactProduct, exactSum, type Pair } from './pairs.ts';

// 2/ln 2 and 2/(3·ln 2), in two parts each.
const SCALE: readonly [number, number] = [2.8853900817779268, 4.0710547481862066e-17];
const CUBIC: readonly [number, number] = [0.9617966939259756, 5.0577616648125907e-17];

/** a pair · (constant in two parts): the product of the leading parts exactly, the others once. */
function scaled(a: Pair, [hi, lo]: readonly [number, number]): Pair {
  const product = exactProduct(a.hi, f64(hi));
  return { hi: product.hi, lo: add(product.lo, add(mul(a.lo, f64(hi)), mul(a.hi, f64(lo)))) };
}

/**
 * log2 x = e + 2/ln 2 · (s + s³/3 + s⁵/5 + …) with s = (m - 1)/(m + 1), |s| <= 0.172, for positive finite x: e and the terms in s and s³ as
 * pairs, so that the sum is right to about 2^-66.
 */
export function log2(x: Expr): Pair {
  const { m, e } = splitExponent(x);
  const numerator = sub(m, f64(1));
  const denominator = exactSum(f64(1), m);
  const hi = div(numerator, denominator.hi);
  const back = exactProduct(hi, denominator.hi);
  const remainder = sub(sub(sub(numerator, back.hi), back.lo), mul(hi, denominator.lo));
  const s: Pair = { hi, lo: div(remainder, denominator.hi) };
  const linear = scaled(s, SCALE);
  const square = exactProduct(s.hi, s.hi);
  const z = square.hi;
  const squareScaled = scaled(square, CUBIC);
  const cube = exactProduct(squareScaled.hi, s.hi);
  const cubicLo = add(cube.lo, add(mul(squareScaled.lo, s.hi), mul(mul(squareScaled.hi, s.lo), f64(3))));
  // (log2 of (1 + s)/(1 - s) without the terms in s and s³) / s⁵ on s² <= 0.0295.
  const series = polynomial(
    z,
    [
      0.1691521126764087, 0.16888314809984956, 0.19238064610791256, 0.22195278711183897, 0.2623081914819492,
      0.3205988979670938, 0.412198583111144, 0.5770780163555853,
    ],
  );
  const rest = mul(mul(mul(series, z), z), s.hi);
  const first = exactSum(e, linear.hi);
  const second = exactSum(first.hi, cube.hi);
  const low = add(first.lo, add(second.lo, add(linear.lo, add(cubicLo, rest))));
  return exactSum(second.hi, low);
}

/** 2^t. */
export function exp2(t: Pair): Expr {
  const clamped = min(max(t.hi, f64(-1100)), f64(1100));
  const n = unary('round', clamped);
  // Where hi is clamped lo may be anything; elsewhere it is below this bound.
  const lo = min(max(t.lo, f64(-1e-9)), f64(1e-9));
  const r = add(sub(clamped, n), lo);
  // (2^r - 1) / r on ±0.505.
  const series = polynomial(r, [
    2.5730348009234352e-11,
    4.4560247551334643e-10,
    7.054896722470352e-9,
    1.0178055912546169e-7,
    1.3215486809848003e-6,
    1.5252733843864855e-5,
    1.5403530393369832e-4,
    1.333355814640465e-3,
    9.61812910762848e-3,
    5.550410866482163e-2,
    0.24022650695910072,
    Math.LN2,
  ]);
  return scaleByPowerOf2(add(mul(series, r), f64(1)), cast('i64', n));
}
