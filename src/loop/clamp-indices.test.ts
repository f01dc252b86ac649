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

describe('a reduction over neighbours from a place that the data say', () => {
  const k = e.axis('k');
  const from = e.cast('i32', e.load('p', 'i64', i));
  const at = e.add(from, e.mul(k, n(2)));
  const reduced = (value: Expr, limit?: Expr): Kernel => ({
    ...kernel(e.local('sum', 'f32')),
    body: [
      {
        kind: 'reduce',
        local: 'sum',
        dtype: 'f32',
        op: 'add',
        axes: [{ name: 'k', extent: 9, ...(limit && { limit }) }],
        value,
      },
      ...kernel(e.local('sum', 'f32')).body,
    ],
  });
  const clampedPlace = 'min(max(i32(p[i]), 0), 47) + k * 2';
  const each = 'min(max(i32(p[i]) + k * 2, 0), 63)';

  test('is clamped as a whole, in branches too', () => {
    const text = printKernel(clampIndices(reduced(e.select(e.binary('lt', x(at), zero), x(at), zero))) as Kernel);
    expect(text).toContain(`select(x[${clampedPlace}] < 0, x[${clampedPlace}], 0)`);
    const back = e.sub(from, e.mul(k, n(3)));
    expect(printKernel(clampIndices(reduced(x(back))) as Kernel)).toContain('x[min(max(i32(p[i]), 24), 63) + k * -3]');
  });
  test('but not where some of its points may be left out', () => {
    const guarded = reduced(e.select(e.binary('lt', k, n(4)), x(at), zero));
    expect(printKernel(clampIndices(guarded) as Kernel)).toContain(`select(k < 4, x[${each}], 0)`);
    const limited = reduced(x(at), e.load('sizes', 'i32', n(0)));
    const sizes = { name: 'sizes', dtype: 'i32', elements: 1, role: 'in' } as const;
    const safe = clampIndices({ ...limited, buffers: [...limited.buffers, sizes] }) as Kernel;
    expect(printKernel(safe)).toContain(`x[${each}]`);
    const wide = reduced(x(e.add(from, e.mul(k, n(8)))));
    expect(printKernel(clampIndices(wide) as Kernel)).toContain('x[min(max(i32(p[i]) + k * 8, 0), 63)]');
    const twice = reduced(x(e.add(e.mul(k, k), k)));
    expect(printKernel(clampIndices(twice) as Kernel)).toContain('x[min(max(k * k + k, 0), 63)]');
  });
  test('gives what it gave where all is inside, and stays inside', () => {
    const plain = reduced(e.select(e.binary('lt', x(at), zero), x(at), e.mul(x(at), x(at))));
    const safe = clampIndices(plain) as Kernel;
    const run = (which: Kernel, places: readonly number[]): Float32Array => {
      const y = new Float32Array(64).fill(Number.NaN);
      const data = new Map<string, TypedArray>([
        ['x', Float32Array.from({ length: 64 }, (_, v) => Math.sin(v))],
        ['p', BigInt64Array.from(places, BigInt)],
        ['y', y],
      ]);
      evalKernel(which, data);
      return y;
    };
    const inside = [0, 1, 5, 13, 22, 31, 40, 47];
    expect(run(safe, inside)).toEqual(run(plain, inside));
    expect(() => run(safe, [-1, 48, 2 ** 31 - 1, -(2 ** 31), 63, 64, 1000, 47])).not.toThrow();
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
