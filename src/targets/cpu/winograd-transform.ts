/**
 * The transforms of Winograd's method on vectors of channels: a matrix from winograd-matrices.ts times a column of registers.
 *
 * Rows of Bᵀ for the points p and -p have the same even entries and opposite odd ones, all of these multiples of p: with E and p·O for
 * the two halves they are E + p·O and E - p·O. In Aᵀ the columns of p and -p are that way, so sums and differences come first.
 */
import type { Asm, Reg } from './asm.ts';
import type { WinogradMatrices } from './winograd-matrices.ts';

interface Term {
  readonly coef: number;
  readonly x: Reg;
}

/** Bᵀ d. */
export function transformInput(asm: Asm, { bT, points, pairs }: WinogradMatrices, d: readonly Reg[]): Reg[] {
  const terms = (row: number): (Term & { readonly j: number })[] =>
    bT[row].flatMap((coef, j) => (coef === 0 ? [] : [{ coef, x: d[j], j }]));
  const halves = pairs.flatMap((p, i) => {
    const row = terms(1 + 2 * i);
    const even = combine(
      asm,
      row.filter(({ j }) => j % 2 === 0),
    );
    const odd = combine(
      asm,
      row.flatMap(({ coef, x, j }) => (j % 2 === 1 ? [{ coef: coef / p, x }] : [])),
    );
    return [p, -p].map((coef) =>
      combine(asm, [
        { coef: 1, x: even },
        { coef, x: odd },
      ]),
    );
  });
  return [combine(asm, terms(0)), ...halves, combine(asm, terms(points - 1))];
}

/** Aᵀ m. */
export function transformOutput(asm: Asm, { aT, points }: WinogradMatrices, m: readonly Reg[]): Reg[] {
  const pairs: { readonly sum: Reg; readonly difference: Reg; readonly column: number }[] = [];
  for (let i = 1; i < points - 1; i += 2) {
    const both = [m[i], m[i + 1]];
    pairs.push({ sum: asm.op('add', both), difference: asm.op('sub', both), column: i });
  }
  return aT.map((row, r) => {
    const single = [0, points - 1].flatMap((i) => (row[i] === 0 ? [] : [{ coef: row[i], x: m[i] }]));
    const paired = pairs.map((p) => ({ coef: row[p.column], x: r % 2 === 0 ? p.sum : p.difference }));
    return combine(asm, [...single, ...paired]);
  });
}

/** Σ coef·x in a register of its own. */
function combine(asm: Asm, terms: readonly Term[]): Reg {
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
