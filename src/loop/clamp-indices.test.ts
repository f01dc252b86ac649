/** Kernels made safe: what keeps its rules is untouched, what breaks them stays inside its buffers, and answers stay the same. */
import { describe, expect, test } from 'vitest';
import { randomKernel } from '../../tests/random-kernel.ts';
import { convKernel } from '../../tests/support/contract-kernels.ts';
import { loopKernels } from '../../tests/support/loop-kernels.ts';
import { DTYPES, type TypedArray } from '../core/dtype.ts';
import { clampIndices } from './clamp-indices.ts';
import { evalKernel } from './eval.ts';
import * as e from './expr.ts';
import type { Expr, Kernel } from './ir.ts';
import { printKernel } from './print.ts';

const [i, j] = ['i', 'j'].map(e.axis);
const n = e.index;

/** y[at] = value for i < 8, j < 8, with x of 64 elements. */
function kernel(value: Expr, at: Expr = e.add(e.mul(i, n(8)), j), elements = 64): Kernel {
  return {
    name: 'k',
    form: { kind: 'map' },
    buffers: [
      { name: 'x', dtype: 'f32', elements, role: 'in' },
      { name: 'p', dtype: 'i64', elements: 8, role: 'in' },
      { name: 'y', dtype: 'f32', elements: 64, role: 'out' },
    ],
    axes: [
      { name: 'i', extent: 8 },
      { name: 'j', extent: 8 },
    ],
    body: [{ kind: 'store', buffer: 'y', index: at, value }],
  };
}
const x = (at: Expr): Expr => e.load('x', 'f32', at);
const zero = e.constant('f32', 0);
const flat = (a: Expr, b: Expr): Expr => e.add(e.mul(a, n(8)), b);
const shift = (a: Expr, by: number): Expr => e.add(a, n(by));
const both = (a: Expr, b: Expr): Expr => e.binary('and', a, b);

describe('proved, so untouched', () => {
  const [up, left] = [shift(e.add(i, i), -3), shift(j, -1)];
  const rows: readonly (readonly [string, Kernel])[] = [
    ['a sum of axes', kernel(x(flat(i, j)))],
    [
      'a window padded on all sides',
      kernel(e.select(both(e.inRange(up, 8), e.inRange(left, 8)), x(flat(up, left)), zero)),
    ],
    ['the other branch', kernel(e.select(e.binary('lt', left, n(0)), zero, x(flat(i, left))))],
    ['a condition turned round', kernel(e.select(e.unary('not', e.binary('gt', n(1), j)), x(flat(i, left)), zero))],
    [
      'one of two reasons not to',
      kernel(e.select(e.binary('or', e.binary('eq', j, n(0)), e.binary('eq', i, n(0))), x(flat(i, j)), zero)),
    ],
    [
      'a position clamped before it is narrowed',
      kernel(
        x(flat(i, e.cast('i32', e.min(e.max(e.load('p', 'i64', j), e.constant('i64', 0n)), e.constant('i64', 7n))))),
      ),
    ],
    [
      'a statement under a condition',
      {
        ...kernel(zero),
        body: [
          {
            kind: 'if',
            cond: e.inRange(left, 8),
            body: [{ kind: 'store', buffer: 'y', index: flat(i, left), value: zero }],
          },
        ],
      },
    ],
  ];
  test.each(rows)('%s', (_, k) => {
    expect(clampIndices(k)).toBe(k);
  });

  test('padded, strided, dilated and grouped convolutions', () => {
    for (const stride of [1, 2, 3])
      for (const pad of [0, 1, 2])
        for (const dilation of [1, 2])
          for (const group of [1, 4])
            for (const layout of ['nhwc', 'nchw'] as const) {
              const k = convKernel({
                size: [9, 11],
                ic: 8,
                oc: 8,
                kernel: [3, 3],
                stride,
                pad,
                dilation,
                group,
                layout,
              });
              expect(clampIndices(k)).toBe(k);
            }
  });

  test('what elementwise work, pooling, softmax, norms and transposes are lowered to', () => {
    for (const k of loopKernels([5, 7, 9])) {
      const safe = clampIndices(k) as Kernel;
      if (!k.name.includes('gather')) expect(printKernel(safe)).toBe(printKernel(k));
    }
  });
});

describe('not proved, so clamped', () => {
  const huge = e.mul(i, n(2 ** 30));
  const rows: readonly (readonly [string, Kernel])[] = [
    ['past the end', kernel(x(flat(i, shift(j, 1))))],
    ['before the start', kernel(x(flat(i, shift(j, -1))))],
    ['a condition on something else', kernel(e.select(e.inRange(shift(j, 1), 8), x(flat(i, shift(j, -1))), zero))],
    [
      'a condition one off',
      kernel(e.select(e.binary('le', j, n(8)), x(flat(n(7), shift(j, 0))), x(shift(flat(n(7), j), 1)))),
    ],
    ['a position from memory', kernel(x(e.cast('i32', e.load('p', 'i64', i))))],
    [
      'a position clamped too far',
      kernel(x(e.cast('i32', e.min(e.max(e.load('p', 'i64', j), e.constant('i64', 0n)), e.constant('i64', 64n))))),
    ],
    ['an index that wraps on its way', kernel(x(e.add(huge, huge)))],
    [
      'a condition that wraps',
      kernel(e.select(e.inRange(e.mul(i, n(2 ** 31 - 1)), 8), x(e.mul(i, n(2 ** 31 - 1))), zero)),
    ],
    [
      'an offset that wraps in bytes',
      kernel(e.select(e.binary('eq', i, n(1)), x(e.add(e.mul(i, n(2 ** 29)), n(-(2 ** 29)))), zero)),
    ],
    ['a store', kernel(zero, flat(i, e.add(j, j)))],
    ['no elements at all', kernel(x(n(0)), undefined, 0)],
  ];
  test.each(rows)('%s', (_, k) => {
    const safe = clampIndices(k) as Kernel;
    expect(safe).not.toBe(k);
    // A second look finds nothing more to do.
    expect(clampIndices(safe)).toBe(safe);
    const data = new Map<string, TypedArray>(
      k.buffers.map((b) => [
        b.name,
        new DTYPES[b.dtype].array(b.elements).fill((b.dtype === 'i64' ? -5n : 3) as never),
      ]),
    );
    expect(() => evalKernel(safe, data)).not.toThrow();
  });
});

test('random kernels that keep the rules are proved, and so untouched', () => {
  for (let seed = 1; seed <= 400; seed++) {
    const k = randomKernel(seed);
    expect(clampIndices(k), `seed ${seed}`).toBe(k);
  }
});

test('a contract whose operands leave their buffers is refused, its epilogue is clamped', () => {
  const k = convKernel({ size: [5, 5], ic: 4, oc: 4, kernel: [3, 3], pad: 1, epilogue: 'bias-relu' });
  const shorter = (name: string): Kernel => ({
    ...k,
    buffers: k.buffers.map((b) => (b.name === name ? { ...b, elements: 3 } : b)),
  });
  if (k.form.kind !== 'contract') throw new Error('convKernel makes contracts');
  expect(clampIndices(shorter(k.form.a.buffer))).toBeUndefined();
  expect(clampIndices(shorter(k.form.b.buffer))).toBeUndefined();
  const others = k.buffers.filter(
    (b) => k.form.kind === 'contract' && b.name !== k.form.a.buffer && b.name !== k.form.b.buffer,
  );
  for (const { name } of others) {
    const short = shorter(name);
    const safe = clampIndices(short) as Kernel;
    expect(safe.form.kind === 'contract' && safe.form.epilogue).toEqual(safe.body.slice(1));
    expect(printKernel(safe)).not.toBe(printKernel(short));
  }
});
