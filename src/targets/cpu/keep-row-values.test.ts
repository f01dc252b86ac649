import { expect, test } from 'vitest';
import { evalKernel } from '../../loop/eval.ts';
import { parseKernel } from '../../loop/parse.ts';
import { printKernel } from '../../loop/print.ts';
import { keepRowValues } from './keep-row-values.ts';

const softmax = (change = (text: string): string => text) =>
  parseKernel(
    change(
      [
        'kernel k = reduce (in x: f32[21], out y: f32[21]) for i < 3 {',
        '  reduce m: f32 = max over j < 7 of x[i * 7 + j]',
        '  reduce s: f32 = add over j < 7 of exp(x[i * 7 + j] - m)',
        '  let f: f32 = 1 / s',
        '  for k < 7 {',
        '    y[i * 7 + k] = exp(x[i * 7 + k] - m) * f',
        '  }',
        '}',
      ].join('\n'),
    ),
  );

test('the exponentials of a softmax are computed once, and come out the same', () => {
  const kernel = softmax();
  const kept = keepRowValues(kernel);
  expect(printKernel(kernel).match(/exp/g)?.length).toBe(2);
  expect(printKernel(kept).match(/exp/g)?.length).toBe(1);
  const x = Float32Array.from({ length: 21 }, (_, i) => Math.sin(i));
  const [want, got] = [new Float32Array(21), new Float32Array(21).fill(Number.NaN)];
  evalKernel(kernel, new Map([['x', x] as const, ['y', want] as const]));
  evalKernel(kept, new Map([['x', x] as const, ['y', got] as const]));
  got.forEach((value, i) => {
    expect(Math.abs(value - want[i])).toBeLessThan(1e-7);
  });
});

test.each([
  ['the value is cheap', (t: string) => t.replaceAll('exp(', 'abs(')],
  ['the loop is of another length', (t: string) => t.replace('for k < 7', 'for k < 6')],
  ['the value is another one', (t: string) => t.replace('exp(x[i * 7 + k] - m)', 'exp(x[i * 7 + k] + m)')],
  [
    'what it depends on changes in between',
    (t: string) => t.replace('let f: f32 = 1 / s', 'let f: f32 = 1 / s\n  let m: f32 = f'),
  ],
  ['the output is written before', (t: string) => t.replace('  reduce m', '  y[i * 7] = 0\n  reduce m')],
])('nothing is kept where %s', (_, change) => {
  const kernel = softmax(change);
  expect(keepRowValues(kernel)).toBe(kernel);
});
