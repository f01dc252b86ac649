/**
 * Einsum's equation, `bij,bjk->bik`: which label each dim of each operand has, and which labels the result keeps.
 *
 * An ellipsis stands for the dims that have no letter, aligned at their last; they get the labels `.0`, `.1`, … counted from the last,
 * so operands with fewer of them broadcast. Without an arrow the result has the ellipsis, then the letters that occur once, sorted.
 */
import type { Shape } from '../core/shape.ts';

export interface Equation {
  /** Labels of the dims of each operand. */
  readonly operands: readonly (readonly string[])[];
  readonly output: readonly string[];
}

type Fail = (message: string) => never;

/** Throws through `fail` where the equation is malformed or does not fit the operands' ranks. */
export function parseEquation(text: string, shapes: readonly Shape[], fail: Fail): Equation {
  const [left, right, ...rest] = text.replaceAll(' ', '').split('->');
  if (rest.length > 0) fail(`equation "${text}" has more than one arrow`);
  const terms = left.split(',');
  if (terms.length !== shapes.length) fail(`equation "${text}" has ${terms.length} terms for ${shapes.length} inputs`);
  const operands = terms.map((term, i) => labelsOf(term, shapes[i].length, fail));
  const dots = Math.max(0, ...operands.map((labels) => labels.filter(isDot).length));
  const output = right === undefined ? impliedOutput(operands, dots) : labelsOf(right, undefined, fail, dots);
  for (const label of output) {
    if (!operands.some((labels) => labels.includes(label))) fail(`equation "${text}" makes "${label}" from no input`);
    if (output.indexOf(label) !== output.lastIndexOf(label))
      fail(`equation "${text}" repeats "${label}" in its result`);
  }
  return { operands, output };
}

const isDot = (label: string): boolean => label.startsWith('.');
/** Labels of `count` dims under an ellipsis. */
const dotLabels = (count: number): string[] => Array.from({ length: count }, (_, i) => `.${count - 1 - i}`);

/** Labels of a term; the ellipsis stands for what is missing to `rank`, or for `dots` dims. */
function labelsOf(term: string, rank: number | undefined, fail: Fail, dots = 0): string[] {
  const [before, after, ...more] = term.split('...');
  const letters = before + (after ?? '');
  if (more.length > 0 || /[^A-Za-z]/.test(letters)) fail(`"${term}" is no list of letters with at most one ellipsis`);
  if (after === undefined) {
    if (rank !== undefined && letters.length !== rank)
      fail(`"${term}" names ${letters.length} dims of an input of rank ${rank}`);
    return [...letters];
  }
  const hidden = rank === undefined ? dots : rank - letters.length;
  if (hidden < 0) fail(`"${term}" names ${letters.length} dims of an input of rank ${rank}`);
  return [...before, ...dotLabels(hidden), ...after];
}

function impliedOutput(operands: readonly (readonly string[])[], dots: number): string[] {
  const all = operands.flat().filter((label) => !isDot(label));
  const once = all.filter((label) => all.indexOf(label) === all.lastIndexOf(label));
  return [...dotLabels(dots), ...once.sort()];
}

/** An equation of letters alone, for the same labels. */
export function printEquation({ operands, output }: Equation): string {
  const taken = new Set([...operands.flat(), ...output]);
  const free = [...'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'].filter((letter) => !taken.has(letter));
  const letters = new Map<string, string>();
  for (const label of taken) letters.set(label, isDot(label) ? (free.shift() as string) : label);
  const term = (labels: readonly string[]) => labels.map((label) => letters.get(label)).join('');
  return `${operands.map(term).join(',')}->${term(output)}`;
}
