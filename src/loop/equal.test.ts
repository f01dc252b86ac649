/** Equal by what is said: every kernel against its own copy, and against copies with one thing changed. */
import { expect, test } from 'vitest';
import { equalAxes, equalStmts } from './equal.ts';
import type { Kernel } from './ir.ts';
import { parseKernel } from './parse.ts';

const TEXT = `kernel k = map (in x: f32[24], in p: i32[6], out y: f32[24]) for i < 4, j < 6 {
  let a: f32 = select(i < 2, x[i * 6 + j], 0) * 2 + -0
  reduce s: f32 = add over k < 6 of x[i * 6 + k] * a
  for l < 2 {
    if p[j] > l {
      y[i * 6 + j] = sqrt(s) + cast<f32>(l)
    }
  }
}`;
const parse = (text: string): Kernel => parseKernel(text);

test('a copy is equal', () => {
  const [one, other] = [parse(TEXT), parse(TEXT)];
  expect(one.body[0]).not.toBe(other.body[0]);
  expect(equalStmts(one.body, other.body)).toBe(true);
  expect(equalAxes(one.axes, other.axes)).toBe(true);
});

test.each([
  ['i < 4, j < 6', 'i < 4, j < 5'],
  ['i < 2', 'i < 3'],
  ['i < 2', 'i > 2'],
  ['* 2', '* 3'],
  ['-0', '0'],
  ['let a', 'let b'],
  ['reduce s: f32 = add', 'reduce s: f32 = max'],
  ['over k < 6', 'over k < 5'],
  ['x[i * 6 + k]', 'x[i * 6 + j]'],
  ['for l < 2', 'for l < 3'],
  ['for l', 'scan l'],
  ['p[j] > l', 'p[i] > l'],
  ['sqrt', 'exp'],
  ['y[i * 6 + j] =', 'y[j * 4 + i] ='],
  ['cast<f32>(l)', 'cast<f32>(j)'],
])('%s is not %s', (from, to) => {
  const [one, text] = [parse(TEXT), TEXT.replace(from, to)];
  expect(text).not.toBe(TEXT);
  const other = parse(text);
  expect(equalStmts(one.body, other.body) && equalAxes(one.axes, other.axes)).toBe(false);
});
