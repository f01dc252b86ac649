/**
 * The transforms of Winograd's method on vectors of channels: a matrix from winograd-matrices.ts times a column of registers.
 *
 * Rows of Bᵀ for the points p and -p have entries in common, and others that are opposite and multiples of p: with C and p·O for the two
 * halves they are C + p·O and C - p·O. In Aᵀ the columns of p and -p are that way, so sums and differences come first.
 */
import type { Asm, Reg } from './asm.ts';
import type { WinogradMatrices } from './winograd-matrices.ts';

interface Term {
  readonly coef: number;
  readonly x: Reg;
}

/** Bᵀ d. */
export function transformInput(asm: Asm, { bT, pairs }: WinogradMatrices, d: readonly Reg[]): Reg[] {
  const terms = (coefs: readonly number[]): Term[] =>
    coefs.flatMap((coef, j) => (coef === 0 ? [] : [{ coef, x: d[j] }]));
  const out = new Array<Reg>(bT.length);
  for (const { row, p } of pairs) {
    const other = bT[row + 1];
    const common = combine(asm, terms(bT[row].map((coef, j) => (coef === other[j] ? coef : 0))));
    const opposite = combine(asm, terms(bT[row].map((coef, j) => (coef === other[j] ? 0 : coef / p))));
    [p, -p].forEach((coef, i) => {
      out[row + i] = combine(asm, [
        { coef: 1, x: common },
        { coef, x: opposite },
      ]);
    });
  }
  bT.forEach((coefs, i) => {
    out[i] ??= combine(asm, terms(coefs));
  });
  return out;
}

/** Aᵀ m. */
export function transformOutput(asm: Asm, { aT, pairs }: WinogradMatrices, m: readonly Reg[]): Reg[] {
  const halves = pairs.map(({ row }) => {
    const both = [m[row], m[row + 1]];
    return { row, sum: asm.op('add', both), difference: asm.op('sub', both) };
  });
  const isPaired = (i: number): boolean => pairs.some(({ row }) => i === row || i === row + 1);
  return aT.map((coefs) => {
    const single = coefs.flatMap((coef, i) => (coef === 0 || isPaired(i) ? [] : [{ coef, x: m[i] }]));
    const paired = halves.map(({ row, sum, difference }) => ({
      coef: coefs[row],
      x: coefs[row] === coefs[row + 1] ? sum : difference,
    }));
    return combine(asm, [...single, ...paired]);
  });
}

/** Σ coef·x; a sum of one is x itself. */
function combine(asm: Asm, terms: readonly Term[]): Reg {
  if (terms.length === 1 && terms[0].coef === 1) return terms[0].x;
  const first = terms.findIndex(({ coef }) => coef === 1);
  const start = Math.max(first, 0);
  const { coef, x } = terms[start];
  const acc = asm.reg('vf32');
  if (coef === 1) asm.move(acc, x);
  else asm.op('mul', [x, asm.const('vf32', coef)], acc);
  terms.forEach((term, i) => {
    if (i === start) return;
    if (term.coef === 1) asm.op('add', [acc, term.x], acc);
    else if (term.coef === -1) asm.op('sub', [acc, term.x], acc);
    else asm.fma(acc, term.x, asm.const('vf32', term.coef));
  });
  return acc;
}
