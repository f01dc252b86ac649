/**
 * Every approximation against Math in float64, each operation rounded to float32: over all exponents, over the interesting range,
 * and at special values. Bounds are the ones that approximate.ts states.
 */
import { expect, test } from 'vitest';
import { random } from '../../tests/random-kernel.ts';
import { legalFunction } from '../../tests/support/legal-function.ts';
import { erf } from '../core/erf.ts';
import { binary, unary } from './expr.ts';
import type { UnaryOp } from './ir.ts';

const bits = new DataView(new ArrayBuffer(4));
const fromBits = (b: number): number => {
  bits.setUint32(0, b);
  return bits.getFloat32(0);
};
/** The distance between neighbours at a float32 value. */
const ulp = (x: number): number => 2 ** (Math.max(-126, Math.floor(Math.log2(Math.abs(x)))) - 23);

const SPECIAL = [
  0,
  -0,
  1,
  -1,
  0.5,
  -0.5,
  Infinity,
  -Infinity,
  NaN,
  2 ** -149,
  -(2 ** -149),
  2 ** -126,
  3.4028234663852886e38,
  -3.4028234663852886e38,
];

/** Error in ulps; infinite where one of the two is special and the other is not it. */
function error(got: number, real: number): number {
  const want = Math.fround(real);
  if (Object.is(got, want) || (Number.isNaN(got) && Number.isNaN(want))) return 0;
  // The largest finite number and inf are neighbours.
  if (Math.abs(want) === Infinity)
    return Math.abs(got) > 3.4028e38 && Math.sign(got) === Math.sign(want) ? 1 : Infinity;
  if (!Number.isFinite(got)) return got === Math.sign(real) * Infinity && Math.abs(real) > 3.4028e38 ? 1 : Infinity;
  return Math.abs(got - real) / ulp(real);
}

interface Row {
  readonly op: UnaryOp;
  readonly real: (x: number) => number;
  readonly ulps: number;
  /** Where the bound holds relative to the result; outside the domain only special values are checked. */
  readonly range: readonly [number, number];
  /** Absolute error allowed where it is larger than the ulps. */
  readonly absolute?: number;
}
const ALL = [-3.4e38, 3.4e38] as const;
const ROWS: readonly Row[] = [
  { op: 'exp', real: Math.exp, ulps: 1.5, range: [-110, 95] },
  { op: 'log', real: Math.log, ulps: 1.5, range: [0, 3.4e38] },
  { op: 'tanh', real: Math.tanh, ulps: 6, range: ALL },
  { op: 'erf', real: erf, ulps: 8, range: ALL },
  { op: 'sin', real: Math.sin, ulps: 2, range: [-8192, 8192], absolute: 2 ** -24 },
  { op: 'cos', real: Math.cos, ulps: 2, range: [-8192, 8192], absolute: 2 ** -24 },
  { op: 'tan', real: Math.tan, ulps: 4, range: [-1.5, 1.5] },
  { op: 'asin', real: Math.asin, ulps: 3, range: [-1, 1] },
  { op: 'acos', real: Math.acos, ulps: 3, range: [-1, 1] },
  { op: 'atan', real: Math.atan, ulps: 3, range: ALL },
  { op: 'sinh', real: Math.sinh, ulps: 4, range: [-91, 91] },
  { op: 'cosh', real: Math.cosh, ulps: 4, range: [-91, 91] },
  { op: 'asinh', real: Math.asinh, ulps: 4, range: ALL },
  { op: 'acosh', real: Math.acosh, ulps: 3, range: [1, 3.4e38] },
  { op: 'atanh', real: Math.atanh, ulps: 3, range: [-1, 1] },
];

test.each(ROWS)('$op within $ulps ulp', ({ op, real, ulps, range: [lo, hi], absolute = 0 }) => {
  const f = legalFunction('f32', (x) => unary(op, x));
  const rnd = random(1);
  let worst = 0;
  let at = 0;
  const check = (x: number): void => {
    if (!(x >= lo && x <= hi)) return;
    const off = error(f(x), real(x));
    if (off > worst && Math.abs(f(x) - real(x)) > absolute) [worst, at] = [off, x];
  };
  for (let b = 0; b < 2 ** 32; b += 65_537 + 16 * rnd.below(2)) check(fromBits(b));
  const [from, to] = [Math.max(lo, -120), Math.min(hi, 120)];
  for (let i = 0; i <= 50_000; i++) check(Math.fround(from + ((to - from) * i) / 50_000));
  for (let i = 0; i < 50_000; i++) check(Math.fround((rnd.next() - 0.5) * 4));
  expect(worst, `at ${at}: ${f(at)} for ${real(at)}`).toBeLessThan(ulps);
});

test.each(ROWS)('$op of special values', ({ op, real }) => {
  const f = legalFunction('f32', (x) => unary(op, x));
  for (const x of SPECIAL) {
    // Beyond the range of the reduction sin, cos and tan promise only their bounds.
    if (Math.abs(x) > 1e38 && Number.isFinite(x) && /sin|cos|tan/.test(op) && op.length === 3) {
      if (op !== 'tan') expect(Math.abs(f(x))).toBeLessThanOrEqual(1);
      continue;
    }
    const [got, want] = [f(x), Math.fround(real(x))];
    if (Math.abs(want) < 1e-4 || !Number.isFinite(want)) expect(got, `${op}(${x})`).toBe(want);
    else expect(Math.abs(got - want), `${op}(${x}) is ${got}`).toBeLessThanOrEqual(4 * ulp(want));
  }
});

test('erf is within 5e-7 everywhere', () => {
  const f = legalFunction('f32', (x) => unary('erf', x));
  let worst = 0;
  for (let x = -5; x <= 5; x += 1e-4) worst = Math.max(worst, Math.abs(f(Math.fround(x)) - erf(Math.fround(x))));
  expect(worst).toBeLessThan(5e-7);
});

/** IEEE's pow where JavaScript's differs. */
const realPow = (x: number, y: number): number => (x === 1 || (x === -1 && Math.abs(y) === Infinity) ? 1 : x ** y);

test('pow of all pairs of special values', () => {
  const f = legalFunction('f32', (x, y) => binary('pow', x, y));
  const values = [...SPECIAL, 2, -2, 3, -3, 1.5, -1.5, 2 ** 24, 2 ** 24 - 1, -(2 ** 24) + 1, 1e10];
  for (const x of values)
    for (const y of values) expect(error(f(x, y), realPow(x, y)), `${x} ^ ${y} is ${f(x, y)}`).toBeLessThan(5);
});

test('pow within 5 ulp', () => {
  const f = legalFunction('f32', (x, y) => binary('pow', x, y));
  const rnd = random(2);
  let worst = 0;
  let at: readonly number[] = [];
  for (let i = 0; i < 300_000; i++) {
    const x = i % 3 === 0 ? fromBits(rnd.below(0x7f800000)) : Math.fround(rnd.next() * (i % 3 === 1 ? 2 : 100));
    const reach = 150 / Math.max(1e-3, Math.abs(Math.log2(x)));
    const y = Math.fround((rnd.next() - 0.5) * 2 * reach);
    const off = error(f(x, y), x ** y);
    if (off > worst) [worst, at] = [off, [x, y]];
  }
  expect(worst, `at ${at}`).toBeLessThan(5);
});

test.each([0, 1, 2, 3, 5, 8, -1, -2, 0.5, -0.5, 0.25, 0.75, 2.5, -0.75])(
  'constant exponent %d needs no logarithm',
  (n) => {
    const f = legalFunction('f32', (x) => binary('pow', x, { kind: 'const', dtype: 'f32', value: n }));
    for (const x of [0.1, 1, 2.5, 7, 100]) expect(error(f(Math.fround(x)), Math.fround(x) ** n)).toBeLessThan(5);
  },
);
