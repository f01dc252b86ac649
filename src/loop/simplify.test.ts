import fc from 'fast-check';
import { expect, test } from 'vitest';
import { random, randomBuffers, randomContract, randomKernel } from '../../tests/random-kernel.ts';
import { evalKernel } from './eval.ts';
import { add, axis, binary, children, index, mul } from './expr.ts';
import { intervalOf, noFacts, within } from './intervals.ts';
import type { BinaryOp, Expr, Kernel } from './ir.ts';
import { parseKernel } from './parse.ts';
import { printExpr } from './print.ts';
import { RULES, simplifyExpr, simplifyKernel } from './simplify.ts';
import { Structure } from './structure.ts';
import { verifyKernel } from './verify.ts';

const run = (kernel: Kernel, seed: number) => {
  const buffers = randomBuffers(kernel, seed);
  evalKernel(kernel, buffers, { rounding: 'each' });
  return buffers;
};

test('a simplified random kernel is valid and computes the same', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      for (const kernel of [randomKernel(seed), randomContract(seed)]) {
        const simple = simplifyKernel(kernel);
        verifyKernel(simple);
        expect(run(simple, seed)).toEqual(run(kernel, seed));
      }
    }),
    { numRuns: 1000 },
  );
});

const AXES = [
  { name: 'i', extent: 5 },
  { name: 'j', extent: 3 },
  { name: 'k', extent: 7 },
];
const FACTS = within(AXES, noFacts());

/** Index arithmetic as views make it: sums of multiples of axes, divided and wrapped by small constants. */
function randomIndex(seed: number): Expr {
  const rnd = random(seed);
  const make = (depth: number): Expr => {
    if (depth === 0) return rnd.below(4) === 0 ? index(rnd.below(13) - 4) : axis(rnd.pick(AXES).name);
    const op = rnd.pick<BinaryOp>([
      'add',
      'add',
      'add',
      'mul',
      'mul',
      'sub',
      'floordiv',
      'floordiv',
      'mod',
      'mod',
      'div',
      'rem',
      'min',
      'max',
    ]);
    const divides = ['mul', 'floordiv', 'mod', 'div', 'rem'].includes(op);
    return binary(op, make(depth - 1), divides ? index(rnd.pick([1, 2, 3, 5, 6, 7, 15, 21])) : make(depth - 1));
  };
  return make(1 + rnd.below(5));
}

/** Values of an index at every point of AXES. */
function table(value: Expr): readonly number[] {
  const kernel: Kernel = {
    name: 'k',
    form: { kind: 'map' },
    buffers: [{ name: 'y', dtype: 'i32', elements: 105, role: 'out' }],
    axes: AXES,
    body: [
      {
        kind: 'store',
        buffer: 'y',
        index: add(mul(add(mul(axis('i'), index(3)), axis('j')), index(7)), axis('k')),
        value,
      },
    ],
  };
  const y = new Int32Array(105);
  evalKernel(kernel, new Map([['y', y]]));
  return [...y];
}

test('index arithmetic: the same at every point, inside its interval', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const e = randomIndex(seed);
      const values = table(e);
      const { lo, hi } = intervalOf(e, FACTS);
      expect(Math.min(...values)).toBeGreaterThanOrEqual(lo);
      expect(Math.max(...values)).toBeLessThanOrEqual(hi);
      expect(table(simplifyExpr(e, FACTS)), printExpr(e)).toEqual(values);
    }),
    { numRuns: 2000 },
  );
});

test.each([
  ['(i * 3 + j) // 3', 'i'],
  ['(i * 3 + j) % 3', 'j'],
  ['(i * 21 + j * 7 + k) // 7 % 3', 'j'],
  ['(i * 21 + j * 7 + k) // 7 // 3', 'i'],
  ['(i * 21 + j * 7 + k) // 21', 'i'],
  ['(i + 10) // 15', '0'],
  ['(i + k) // 5', '(i + k) // 5'],
  ['min(i, 4)', 'i'],
  ['max(j + 2, 1)', 'j + 2'],
  ['i32(i < 5 && j >= 0)', '1'],
  ['select(k < 8, i, j)', 'i'],
  ['select(!(k < 3), i, j)', 'select(k >= 3, i, j)'],
  ['select(k < 3, select(k < 3, i, 2), j)', 'select(k < 3, i, j)'],
  ['i32(i64(k))', 'k'],
  ['i32(f32(u8(k)))', 'i32(u8(k))'],
  ['i32(i8(f32(i16(k))))', 'i32(i8(f32(i16(k))))'],
  ['(i - j) % 3', '(i - j) % 3'],
])('%s is %s', (before, after) => {
  const text = `kernel k = map (out y: i32[1]) for i < 5, j < 3, k < 7 { y[0] = ${before} }`;
  const [store] = parseKernel(text).body;
  if (store.kind !== 'store') throw new Error('the kernel is one store');
  expect(printExpr(simplifyExpr(store.value, FACTS), 'i32')).toBe(after);
});

test.each([
  ['x[0] + 0', 'x[0] + 0'],
  ['x[0] + -0', 'x[0]'],
  ['x[0] - 0', 'x[0]'],
  ['x[0] * 0', 'x[0] * 0'],
  ['x[0] / 4', 'x[0] * 0.25'],
  ['x[0] / 3', 'x[0] / 3'],
  ['-(-x[0])', 'x[0]'],
  ['min(x[0], inf)', 'x[0]'],
  ['x[0] * -1', '-x[0]'],
  ['x[0] - x[0]', 'x[0] - x[0]'],
  ['f32(!(x[0] < 1))', 'f32(!(x[0] < 1))'],
  ['f32(f64(x[0]))', 'x[0]'],
  ['f32(f16(x[0]))', 'f32(f16(x[0]))'],
])('on floats %s is %s', (before, after) => {
  const [store] = parseKernel(`kernel k = map (in x: f32[1], out y: f32[1]) { y[0] = ${before} }`).body;
  if (store.kind !== 'store') throw new Error('the kernel is one store');
  expect(printExpr(simplifyExpr(store.value, noFacts()), 'f32')).toBe(after);
});

test('every rule fires in these tests: none is dead', () => {
  const never = new Set(RULES.map((r) => r.name));
  expect(never.size).toBe(RULES.length);
  const structure = new Structure();
  const context = { facts: FACTS, same: (a: Expr, b: Expr) => structure.id(a) === structure.id(b) };
  const watch = (e: Expr): void => {
    for (const { name, apply } of RULES) if (never.has(name) && apply(e, context)) never.delete(name);
    children(e).forEach(watch);
  };
  for (let seed = 0; seed < 3000; seed++) watch(randomIndex(seed));
  for (const text of [
    '1 * x[0] / 1',
    'x[0] - (-x[0])',
    'x[0] + (-x[0])',
    '-(-x[0]) + abs(-x[0])',
    'x[0] * 1 - 0 + -0',
    'x[0] * -1 / 8',
    'min(x[0], inf) + max(x[0], -inf)',
    'exp(1) + 2 * 3',
    'f32(f64(x[0])) + f32(1:i32)',
    'f32(!(!(x[0] < 1))) + f32(!(i < 3))',
    'f32((i < 3 && true) && (false && i < 3))',
    'f32((i < 3 || false) || (true || i < 3))',
    'select(true, x[0], 2) + select(i < 3, x[0], x[0]) + select(!(i < 3), x[0], 2)',
    'select(i < 3, select(i < 3, x[0], 2), 3) + select(i < 3, 1, select(i < 3, x[0], 2))',
    'f32(select(i < 3, true, false)) + f32(i < 9)',
    'f32(i64(i) - i64(i) + 0) + f32(i64(i) * 0 // 1)',
    'f32(i // 2 // 2 + j % 6 % 3)',
  ]) {
    const kernel = parseKernel(`kernel k = map (in x: f32[1], out y: f32[1]) for i < 5, j < 3 { y[0] = ${text} }`);
    for (const stmt of kernel.body) if (stmt.kind === 'store') watch(stmt.value);
  }
  expect([...never]).toEqual([]);
});
