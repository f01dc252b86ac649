/**
 * The matrices of Winograd's F(m, 3): m outputs of a 3-tap filter by m + 2 products, and of the same filter with stride 2 by 2m + 1.
 *
 *     y = Aᵀ [(G g) ⊙ (Bᵀ d)]          in two dimensions Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A
 *
 * By Toom and Cook: products of polynomials at points 0, ±p, ±q, … and at infinity. p and -p stand side by side, so that what their rows
 * share is computed once (winograd-transform.ts). With stride 2 the inputs of even places meet the outer taps, which is F(m, 2), and those
 * of odd places the middle one: m products as they are.
 *
 *     d₀ d₁ d₂ d₃ d₄ …    even: F(m, 2) of d₀ d₂ d₄ … by g₀ g₂        odd: d₁ d₃ … times g₁
 *
 * All entries of A and B are exact in f32. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. Errors grow with m and
 * depend on the points (Barabasz et al., 2018): these are the best eighths for m = 4, a fifth of the error that 1 and 2 give, and the usual
 * ones for m = 6, which no others better.
 */

const TAPS = 3;
/** Finite points, a p standing for p and -p. */
const POINTS: Readonly<Record<number, readonly number[]>> = {
  2: [0, 1],
  4: [0, 5 / 8, 3 / 2],
  6: [0, 1 / 2, 1, 2],
};
/** With stride 2. */
const SPARSE_POINTS: Readonly<Record<number, readonly number[]>> = { 2: [1], 4: [5 / 8, 3 / 2] };

export interface WinogradMatrices {
  /** As many as inputs of a window. */
  readonly points: number;
  /** Points p and -p: their rows in bT are `row` and the next. */
  readonly pairs: readonly { readonly row: number; readonly p: number }[];
  /** Row i, column j: by point, then input. */
  readonly bT: readonly (readonly number[])[];
  /** By point, then tap. */
  readonly g: readonly (readonly number[])[];
  /** By output, then point. */
  readonly aT: readonly (readonly number[])[];
}

/** Points, and inputs of a window, in one dimension. */
export const pointsOf = (tile: number, step: number): number => step * (tile - 1) + TAPS;

/** m is 2, 4 or 6 with stride 1, 2 or 4 with stride 2. */
export function winogradMatrices(m: number, step: number): WinogradMatrices {
  if (step === 1) return toomCook(m, TAPS, POINTS[m]);
  const even = toomCook(m, 2, SPARSE_POINTS[m]);
  const points = pointsOf(m, step);
  const places = Array.from({ length: m }, (_, i) => i);
  const row = (length: number, entries: readonly (readonly [number, number])[]): number[] => {
    const out = new Array<number>(length).fill(0);
    for (const [at, value] of entries) out[at] = value;
    return out;
  };
  return {
    points,
    pairs: even.pairs,
    bT: [
      ...even.bT.map((b) =>
        row(
          points,
          b.map((value, j) => [2 * j, value]),
        ),
      ),
      ...places.map((i) => row(points, [[2 * i + 1, 1]])),
    ],
    g: [...even.g.map(([first, last]) => [first, 0, last]), ...places.map(() => [0, 1, 0])],
    aT: even.aT.map((a, r) => [...a, ...row(m, [[r, 1]])]),
  };
}

/** F(m, taps) by these points and infinity. */
function toomCook(m: number, taps: number, halves: readonly number[]): WinogradMatrices {
  const finite = halves.flatMap((p) => (p === 0 ? [0] : [p, -p]));
  const points = finite.length + 1;
  const others = (i: number): number[] => finite.filter((_, j) => j !== i);
  const power = (p: number, n: number): number => (n === 0 ? 1 : p ** n);
  const pad = (row: readonly number[]): number[] => Array.from({ length: points }, (_, j) => row[j] ?? 0);
  const norm = (i: number): number => others(i).reduce((n, p) => n * (finite[i] - p), 1);
  const infinity = (length: number): number[] => Array.from({ length }, (_, j) => (j === length - 1 ? 1 : 0));
  return {
    points,
    pairs: halves.flatMap((p) => (p === 0 ? [] : [{ row: finite.indexOf(p), p }])),
    bT: [...finite.map((_, i) => pad(withRoots(others(i)))), pad(withRoots(finite))],
    g: [...finite.map((p, i) => Array.from({ length: taps }, (_, j) => power(p, j) / norm(i))), infinity(taps)],
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
