/**
 * Sums of two floats as loop-IR expressions, on f32 and f64: about twice the digits where a function needs them on the way.
 *
 * A pair hi + lo is an unevaluated sum with |lo| <= ulp(hi)/2. Products split exactly after T. J. Dekker, "A floating-point
 * technique for extending the available precision" (1971), with the split made by clearing the lower half of the significand. All
 * of it holds also where a·b + c is fused.
 */
import { add, binary, bitcast, constant, mul, sub } from './expr.ts';
import type { Expr } from './ir.ts';

export interface Pair {
  readonly hi: Expr;
  readonly lo: Expr;
}

/** The upper half of the significand, 12 bits of f32's 24 and 26 of f64's 53: products of two such are exact. */
export const upperHalf = (x: Expr): Expr =>
  x.dtype === 'f64'
    ? bitcast('f64', binary('bitand', bitcast('i64', x), constant('i64', ~0x7ffffffn)))
    : bitcast('f32', binary('bitand', bitcast('i32', x), constant('i32', ~0xfff)));

/** a·b = hi + lo, exactly on f32; on f64 but for 2^-106 of it. */
export function exactProduct(a: Expr, b: Expr): Pair {
  const hi = mul(a, b);
  const [aHi, bHi] = [upperHalf(a), upperHalf(b)];
  const [aLo, bLo] = [sub(a, aHi), sub(b, bHi)];
  const lo = add(add(add(sub(mul(aHi, bHi), hi), mul(aHi, bLo)), mul(aLo, bHi)), mul(aLo, bLo));
  return { hi, lo };
}

/** a + b = hi + lo exactly, for |a| >= |b| or a = 0. */
export function exactSum(a: Expr, b: Expr): Pair {
  const hi = add(a, b);
  return { hi, lo: sub(b, sub(hi, a)) };
}

/** a + b = hi + lo exactly, whichever is larger (D. E. Knuth, The Art of Computer Programming, vol. 2, 4.2.2). */
export function exactSumOfAny(a: Expr, b: Expr): Pair {
  const hi = add(a, b);
  const bRounded = sub(hi, a);
  return { hi, lo: add(sub(a, sub(hi, bRounded)), sub(b, bRounded)) };
}

export function timesFloat(a: Pair, b: Expr): Pair {
  const product = exactProduct(a.hi, b);
  return { hi: product.hi, lo: add(product.lo, mul(a.lo, b)) };
}
