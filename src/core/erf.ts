/**
 * The error function in float64, within a few ulp: JavaScript's Math has none.
 *
 * |x| < 2.5: erf x = 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (1·3·…·(2n+1)), all terms of one sign (Abramowitz & Stegun 7.1.6).
 * Beyond: erfc x = e^(−x²)/√π · 1/(x + ½/(x + 1/(x + 3⁄2/(x + 2/(x + …))))), evaluated from the inside (7.1.14).
 */

export function erf(x: number): number {
  const size = Math.abs(x);
  if (size < 2.5) {
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > Math.abs(sum) * 1e-17; n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  if (size > 6) return Number.isNaN(x) ? x : Math.sign(x);
  let fraction = size;
  for (let n = 60; n >= 1; n--) fraction = size + n / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-x * x) / Math.sqrt(Math.PI) / fraction);
}
