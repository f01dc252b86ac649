/**
 * Every float64 approximation against Math (V8's is fdlibm, within 1 ulp itself; erf against its series in 600 bits): over all exponents,
 * over the interesting range, near the multiples of π/2, and at special values. Bounds are one ulp more than approximate-f64.ts states.
 */
import { expect, test } from 'vitest';
import { random } from '../../tests/random-kernel.ts';
import { legalFunction } from '../../tests/support/legal-function.ts';
import { erf } from '../core/erf.ts';
import { binary, unary } from './expr.ts';
import type { UnaryOp } from './ir.ts';

const bits = new DataView(new ArrayBuffer(8));
function fromBits(upper: number, lower: number): number {
  bits.setUint32(0, upper);
  bits.setUint32(4, lower);
  return bits.getFloat64(0);
}
/** The distance between neighbours at a float64 value. */
const ulp = (x: number): number => 2 ** (Math.max(-1022, Math.floor(Math.log2(Math.abs(x)))) - 52);

/** Error in ulps; infinite where one of the two is special and the other is not it. */
function error(got: number, want: number): number {
  if (Object.is(got, want) || (Number.isNaN(got) && Number.isNaN(want))) return 0;
  if (Number.isFinite(got) && Number.isFinite(want)) return want === got ? Infinity : Math.abs(got - want) / ulp(want);
  // The largest finite number and inf are neighbours.
  const [a, b] = [got, want].map(Math.abs);
  return Math.sign(got) === Math.sign(want) && Math.min(a, b) > Number.MAX_VALUE * (1 - 2 ** -50) ? 1 : Infinity;
}

interface Row {
  readonly op: UnaryOp;
  readonly real: (x: number) => number;
  readonly ulps: number;
  readonly range: readonly [number, number];
}
const ALL = [-Number.MAX_VALUE, Number.MAX_VALUE] as const;
const ANGLES = [-(2 ** 50), 2 ** 50] as const;
const ROWS: readonly Row[] = [
  { op: 'exp', real: Math.exp, ulps: 2, range: [-750, 720] },
  { op: 'log', real: Math.log, ulps: 2, range: [0, Number.MAX_VALUE] },
  { op: 'tanh', real: Math.tanh, ulps: 4, range: ALL },
  { op: 'erf', real: exactErf, ulps: 3, range: ALL },
  { op: 'sin', real: Math.sin, ulps: 2, range: ANGLES },
  { op: 'cos', real: Math.cos, ulps: 2, range: ANGLES },
  { op: 'tan', real: Math.tan, ulps: 4, range: ANGLES },
  { op: 'asin', real: Math.asin, ulps: 4, range: [-1, 1] },
  { op: 'acos', real: Math.acos, ulps: 3, range: [-1, 1] },
  { op: 'atan', real: Math.atan, ulps: 3, range: ALL },
  { op: 'sinh', real: Math.sinh, ulps: 4, range: [-711, 711] },
  { op: 'cosh', real: Math.cosh, ulps: 4, range: [-711, 711] },
  { op: 'asinh', real: Math.asinh, ulps: 3, range: ALL },
  { op: 'acosh', real: Math.acosh, ulps: 4, range: [1, Number.MAX_VALUE] },
  { op: 'atanh', real: Math.atanh, ulps: 4, range: [-1, 1] },
];

const FRACTION = 600n;
/** x in units of 2^-600; what lies below is cut off. */
function toFixed(x: number): bigint {
  let [whole, scale] = [x, 600];
  for (; !Number.isInteger(whole); scale--) whole *= 2;
  return scale >= 0 ? BigInt(whole) << BigInt(scale) : BigInt(whole) >> BigInt(-scale);
}
function fixedToNumber(x: bigint): number {
  const drop = Math.max(0, x.toString(2).length - 64);
  return Number(x >> BigInt(drop)) * 2 ** (drop - 300) * 2 ** -300;
}
/** 2/√π = √(4/π), π by Machin's formula. */
const TWO_OVER_ROOT_PI = ((): bigint => {
  const one = 1n << (2n * FRACTION);
  const arctanOfInverse = (n: bigint): bigint => {
    let [sum, power] = [0n, one / n];
    for (let k = 1n; power !== 0n; k += 2n, power /= -n * n) sum += power / k;
    return sum;
  };
  const pi = 4n * (4n * arctanOfInverse(5n) - arctanOfInverse(239n));
  // Newton's square root from above: it falls until it is there.
  const square = (4n * one ** 3n) / pi;
  let root = 2n * one;
  for (let next = root - 1n; next < root; next = (root + square / root) / 2n) root = next;
  return root >> FRACTION;
})();
/** 2/√π · Σ (-1)ⁿ x^(2n+1) / (n!·(2n+1)). */
function exactErf(x: number): number {
  if (!Number.isFinite(x) || x === 0 || Math.abs(x) > 6.5) return Math.abs(x) > 6.5 ? Math.sign(x) : x;
  if (Math.abs(x) < 2 ** -30) return x * 1.1283791670955126 + x * 1.533545961316588e-17;
  const a = toFixed(Math.abs(x));
  const square = (a * a) >> FRACTION;
  let [sum, power] = [0n, a];
  for (let n = 0n; power !== 0n; n++) {
    sum += power / (2n * n + 1n);
    power = -((power * square) >> FRACTION) / (n + 1n);
  }
  return Math.sign(x) * fixedToNumber((sum * TWO_OVER_ROOT_PI) >> FRACTION);
}

test('the series of erf is right at known places', () => {
  // Abramowitz & Stegun, table 7.1.
  expect(exactErf(0.5)).toBeCloseTo(0.5204998778, 10);
  expect(exactErf(2)).toBeCloseTo(0.995322265, 10);
  expect(error(erf(0.3), exactErf(0.3))).toBeLessThan(4);
});

function worstOf(
  f: (x: number) => number,
  real: (x: number) => number,
  xs: Iterable<number>,
): readonly [number, number] {
  let [worst, at] = [0, 0];
  for (const x of xs) {
    const off = error(f(x), real(x));
    if (off > worst) [worst, at] = [off, x];
  }
  return [worst, at];
}

function* arguments_([lo, hi]: readonly [number, number], count: number): Iterable<number> {
  const rnd = random(1);
  const within = (x: number): readonly number[] => (x >= lo && x <= hi ? [x] : []);
  const step = Math.floor(2 ** 32 / count);
  for (let upper = 0; upper < 2 ** 32; upper += step + rnd.below(2)) yield* within(fromBits(upper, rnd.below(2 ** 32)));
  const [from, to] = [Math.max(lo, -720), Math.min(hi, 720)];
  for (let i = 0; i <= count; i++) yield from + ((to - from) * i) / count;
  for (let i = 0; i < count; i++) yield* within((rnd.next() - 0.5) * 4);
  for (let i = 0; i < count; i++) yield* within(1 + (rnd.next() - 0.5) * 2 ** -rnd.below(53));
}

test.each(ROWS)('$op within $ulps ulp', ({ op, real, ulps, range }) => {
  const f = legalFunction('f64', (x) => unary(op, x));
  const [worst, at] = worstOf(f, real, arguments_(range, op === 'erf' ? 3_000 : 40_000));
  expect(worst, `at ${at}: ${f(at)} for ${real(at)}`).toBeLessThan(ulps);
});

test.each(ROWS.filter(({ range }) => range === ANGLES))('$op near the multiples of π/2', ({ op, real, ulps }) => {
  const f = legalFunction('f64', (x) => unary(op, x));
  const rnd = random(3);
  function* near(): Iterable<number> {
    for (let i = 0; i < 60_000; i++) {
      const k = i < 3000 ? i : Math.floor(rnd.next() * 2 ** (12 + rnd.below(37)));
      yield ((k * Math.PI) / 2) * (1 + (rnd.below(5) - 2) * 2 ** -52);
    }
    // The float64 below 2^50 that is nearest to a multiple of π/2, by continued fractions of π.
    yield 6381956970095103 * 2 ** -4;
  }
  const [worst, at] = worstOf(f, real, near());
  expect(worst, `at ${at}: ${f(at)} for ${real(at)}`).toBeLessThan(ulps);
});

test.each(ROWS)('$op of special values', ({ op, real, range }) => {
  const f = legalFunction('f64', (x) => unary(op, x));
  const tiny = [2 ** -1074, 2 ** -1022, 2 ** -1023, 3e-310, 1e-200];
  const xs = [0, 1, 0.5, Infinity, Number.MAX_VALUE, ...tiny, 2 ** 28, 2 ** 53 + 2, 709.7, 709.8, 745, 746];
  for (const x of [Number.NaN, ...xs, ...xs.map((v) => -v)]) {
    if (range === ANGLES && Number.isFinite(x) && Math.abs(x) >= 2 ** 50) {
      expect(Math.abs(f(x)), `${op}(${x})`).toBe(op === 'cos' ? 1 : 0);
      continue;
    }
    expect(error(f(x), real(x)), `${op}(${x}) is ${f(x)}, should be ${real(x)}`).toBeLessThan(4);
  }
});

/** IEEE's pow where JavaScript's differs. */
const realPow = (x: number, y: number): number => (x === 1 || (x === -1 && Math.abs(y) === Infinity) ? 1 : x ** y);

test('pow of all pairs of special values', () => {
  const f = legalFunction('f64', (x, y) => binary('pow', x, y));
  const positive = [
    0,
    1,
    0.5,
    2,
    3,
    1.5,
    2 ** 53,
    2 ** 53 - 1,
    1e10,
    Infinity,
    2 ** -1074,
    2 ** -1022,
    Number.MAX_VALUE,
  ];
  const values = [Number.NaN, ...positive, ...positive.map((v) => -v)];
  for (const x of values)
    for (const y of values) expect(error(f(x, y), realPow(x, y)), `${x} ^ ${y} is ${f(x, y)}`).toBeLessThan(3);
});

test('pow within 3 ulp', () => {
  const f = legalFunction('f64', (x, y) => binary('pow', x, y));
  const rnd = random(2);
  let [worst, at]: [number, readonly number[]] = [0, []];
  for (let i = 0; i < 200_000; i++) {
    const spread = [
      () => fromBits(rnd.below(0x7ff00000), rnd.below(2 ** 32)),
      () => rnd.next() * 100,
      () => 1 + (rnd.next() - 0.5) * 0.9,
    ];
    const x = spread[i % 3]();
    const reach = 1080 / Math.max(1e-3, Math.abs(Math.log2(x)));
    const y = (rnd.next() - 0.5) * 2 * reach;
    const off = error(f(x, y), x ** y);
    if (off > worst) [worst, at] = [off, [x, y]];
  }
  expect(worst, `at ${at}: ${f(at[0], at[1])} for ${at[0] ** at[1]}`).toBeLessThan(3);
});
