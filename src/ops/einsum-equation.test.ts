import { describe, expect, it } from 'vitest';
import { parseEquation, printEquation } from './einsum-equation.ts';

const fail = (message: string): never => {
  throw new Error(message);
};
const shape = (rank: number): number[] => new Array(rank).fill(2);
const parse = (text: string, ...ranks: number[]) => parseEquation(text, ranks.map(shape), fail);

describe('an equation', () => {
  it('has the letters that occur once, sorted, as its implied result', () => {
    expect(parse('ba,ac', 2, 2).output).toEqual(['b', 'c']);
    expect(parse('ii', 2).output).toEqual([]);
  });

  it('aligns the dims under ellipses at their last', () => {
    const { operands, output } = parse('...ij,...jk', 4, 3);
    expect(operands).toEqual([
      ['.1', '.0', 'i', 'j'],
      ['.0', 'j', 'k'],
    ]);
    expect(output).toEqual(['.1', '.0', 'i', 'k']);
  });

  it('prints with letters in place of ellipses', () => {
    expect(printEquation(parse('...a,...a->...', 3, 2))).toBe('bca,ca->bc');
  });

  it.each([
    ['ij->k', [2], 'makes "k" from no input'],
    ['ij->ii', [2], 'repeats "i"'],
    ['ij,jk->ik', [2], '2 terms for 1 inputs'],
    ['ijk->i', [2], 'names 3 dims of an input of rank 2'],
    ['i...j...->i', [3], 'at most one ellipsis'],
    ['i1->i', [2], 'no list of letters'],
    ['i->i->i', [1], 'more than one arrow'],
  ])('%s of ranks %j is refused', (text, ranks, message) => {
    expect(() => parse(text, ...ranks)).toThrow(message);
  });
});
