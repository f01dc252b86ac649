/**
 * The matrices of Winograd's F(m, 3): m outputs of a 3-tap filter from m + 2 inputs with m + 2 products.
 *
 *     y = Aᵀ [(G g) ⊙ (Bᵀ d)]          in two dimensions Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A
 *
 * By Toom and Cook: products of polynomials at the points 0, ±p, ±q, … and at infinity. p and -p stand side by side, so that what
 * their rows share is computed once (winograd-transform.ts). All entries of A and B are exact in f32. Lavin and Gray, "Fast Algorithms
 * for Convolutional Neural Networks", 2015. Errors grow with m and depend on the points (Barabasz et al., 2018): these are the best
 * eighths for m = 4, a fifth of the error that 1 and 2 give, and the usual ones for m = 6, which no others better.
 */

const TAPS = 3;
const POINTS: Readonly<Record<number, readonly number[]>> = { 2: [1], 4: [5 / 8, 3 / 2], 6: [1 / 2, 1, 2] };

export interface WinogradMatrices {
  /** Points: m + 2. */
  readonly points: number;
  /** p of each pair of points p and -p: rows 1 and 2 of bT, 3 and 4, … */
  readonly pairs: readonly number[];
  /** Row i, column j: by point, then input. */
  readonly bT: readonly (readonly number[])[];
  /** By point, then tap. */
  readonly g: readonly (readonly number[])[];
  /** By output, then point. */
  readonly aT: readonly (readonly number[])[];
}

/** m is 2, 4 or 6. */
export function winogradMatrices(m: number): WinogradMatrices {
  const pairs = POINTS[m];
  const finite = [0, ...pairs.flatMap((p) => [p, -p])];
  const points = m + 2;
  const others = (i: number): number[] => finite.filter((_, j) => j !== i);
  const power = (p: number, n: number): number => (n === 0 ? 1 : p ** n);
  const pad = (row: readonly number[]): number[] => Array.from({ length: points }, (_, j) => row[j] ?? 0);
  const norm = (i: number): number => others(i).reduce((n, p) => n * (finite[i] - p), 1);
  const infinity = (length: number): number[] => Array.from({ length }, (_, j) => (j === length - 1 ? 1 : 0));
  return {
    points,
    pairs,
    bT: [...finite.map((_, i) => pad(withRoots(others(i)))), pad(withRoots(finite))],
    g: [...finite.map((p, i) => Array.from({ length: TAPS }, (_, j) => power(p, j) / norm(i))), infinity(TAPS)],
    aT: Array.from({ length: m }, (_, r) => [...finite.map((p) => power(p, r)), r === m - 1 ? 1 : 0]),
  };
}

/** Coefficients of the product of x - root, from x⁰ up. */
function withRoots(roots: readonly number[]): number[] {
  let poly = [1];
  for (const root of roots) {
    const factor = poly;
    poly = Array.from({ length: factor.length + 1 }, (_, n) => (factor[n - 1] ?? 0) - root * (factor[n] ?? 0));
  }
  return poly;
}
