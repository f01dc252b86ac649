import fc from 'fast-check';
import { expect, test } from 'vitest';
import { randomContract, randomKernel } from '../../tests/random-kernel.ts';
import { ModelError } from '../core/errors.ts';
import { add, axis, constant, load, mul, select, unary } from './expr.ts';
import type { Expr, Kernel } from './ir.ts';
import { parseKernel } from './parse.ts';
import { kernelKey, printExpr, printKernel } from './print.ts';

const roundTrips = (kernel: Kernel): void => {
  const text = printKernel(kernel);
  const again = parseKernel(text);
  expect(again).toEqual(kernel);
  expect(printKernel(again)).toBe(text);
};

test('random kernels round-trip', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => roundTrips(randomKernel(seed))),
    { numRuns: 1000 },
  );
});

test('random contracts round-trip', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => roundTrips(randomContract(seed))),
    { numRuns: 300 },
  );
});

const map = (value: Expr): Kernel => ({
  name: 'map_f32',
  form: { kind: 'map' },
  buffers: [
    { name: 'x', dtype: 'f32', elements: 128, role: 'in' },
    { name: 'y', dtype: value.dtype, elements: 128, role: 'out' },
  ],
  axes: [{ name: 'i', extent: 128 }],
  body: [{ kind: 'store', buffer: 'y', index: axis('i'), value }],
});
const x = load('x', 'f32', axis('i'));

test('the text reads as ir.ts shows', () => {
  expect(printKernel(map({ kind: 'binary', dtype: 'f32', op: 'max', a: x, b: constant('f32', 0) }))).toBe(
    ['kernel map_f32 = map (in x: f32[128], out y: f32[128]) for i < 128 {', '  y[i] = max(x[i], 0)', '}'].join('\n'),
  );
});

test.each<[string, Expr]>([
  ['-0', constant('f32', -0)],
  ['nan', constant('f64', Number.NaN)],
  ['-inf', constant('f16', Number.NEGATIVE_INFINITY)],
  ['i64 limits', constant('i64', -(2n ** 63n))],
  ['u64 limits', constant('u64', 2n ** 64n - 1n)],
  ['tiny', constant('f64', 5e-324)],
  ['negated constant', unary('neg', constant('f32', 3))],
  ['doubly negated', unary('neg', unary('neg', x))],
  [
    'comparison of constants',
    { kind: 'binary', dtype: 'bool', op: 'lt', a: constant('i64', 1), b: constant('i64', 2) },
  ],
  ['cast of a constant', { kind: 'cast', dtype: 'f32', x: constant('u8', 200) }],
])('%s', (_name, value) => roundTrips(map(value)));

test('a label may stand first in parentheses', () => {
  const text = 'kernel k = map (in x: f32[1], out y: f32[1]) { y[0] = (#1 = x[0] + 1 - 2 * x[0]) + (#1 - 3) * (#1) }';
  const kernel = parseKernel(text);
  expect(parseKernel(printKernel(kernel))).toEqual(kernel);
});

test('the key leaves out the name and nothing else', () => {
  const kernel = map(x);
  expect(kernelKey({ ...kernel, name: 'other' })).toBe(kernelKey(kernel));
  expect(kernelKey({ ...kernel, form: { kind: 'move' } })).not.toBe(kernelKey(kernel));
});

test('a repeated subexpression is written once, however its objects are shared', () => {
  const twice = (e: Expr): Expr => add(mul(e, e), select(constant('bool', 1), e, e));
  let shared: Expr = x;
  for (let i = 0; i < 200; i++) shared = twice(shared);
  const text = printExpr(shared, 'f32');
  expect(text.length).toBeLessThan(20_000);
  const copy = (e: Expr): Expr => structuredClone(e);
  let apart: Expr = x;
  for (let i = 0; i < 4; i++) apart = add(mul(copy(apart), copy(apart)), copy(apart));
  expect(printExpr(apart, 'f32')).toContain('#1');
  roundTrips(map(apart));
});

test.each<[string, string]>([
  ['', 'line 1: expected "kernel"'],
  ['kernel k = map (in x: f99[1]) {}', 'expected a dtype, got f99'],
  ['kernel k = map (out y: f32[4]) {\n  y[0] = 1 +\n}', 'line 3: expected an expression'],
  ['kernel k = map (out y: i8[4]) { y[0] = 200 }', '200 is out of range of i8'],
  ['kernel k = map (out y: i8[4]) { y[0] = i8(1) }', 'dtype of 1 is not told'],
  ['kernel k = map (out y: i8[4]) { z[0] = 1 }', 'no buffer "z"'],
  ['kernel k = map (out y: i8[4]) { y[0] = #1 }', 'label is used before'],
  ['kernel k = contract f32 (out y: f32[4])\n a x[] b w[] {}', 'no buffer "x"'],
  [`kernel k = map (out y: i8[4]) { y[0] = ${'('.repeat(1e5)}`, 'nested deeper'],
  [`kernel k = map (out y: i8[4]) { y[0] = 1${' + 1'.repeat(1e4)} }`, 'nested deeper'],
  [`kernel k = map () { ${'if true {'.repeat(1e5)}`, 'nested deeper'],
  [
    `kernel k = map (out y: i8[4]) { y[0] = (#1 = y[0])${Array.from({ length: 60 }, (_, i) => ` + (#${i + 2} = #${i + 1} * #${i + 1})`).join('')} }`,
    'expression nodes',
  ],
  ['kernel k = map () {} {}', 'text after the kernel'],
  ['kernel "\\x" = map () {}', 'bad escape'],
  ['kernel k = map () { \u0000', 'unexpected'],
])('refuses text %#', (text, message) => {
  expect(() => parseKernel(text)).toThrow(ModelError);
  expect(() => parseKernel(text)).toThrow(message);
});

test('mutated text gives a kernel or ModelError', () => {
  const base = [printKernel(randomKernel(1)), printKernel(randomKernel(7)), printKernel(randomContract(3))];
  fc.assert(
    fc.property(
      fc.nat(2),
      fc.array(fc.tuple(fc.nat(), fc.string({ maxLength: 6 }), fc.nat(8)), { maxLength: 4 }),
      (n, edits) => {
        let text = base[n];
        for (const [at, put, drop] of edits) {
          const from = at % (text.length + 1);
          text = text.slice(0, from) + put + text.slice(from + drop);
        }
        try {
          parseKernel(text);
        } catch (error) {
          expect(error).toBeInstanceOf(ModelError);
        }
      },
    ),
    { numRuns: 3000 },
  );
});
