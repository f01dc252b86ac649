/**
 * Every assembler against its definition (eval-asm.ts): each operation on each register type over edge values, and control flow.
 *
 * A program leaves its results in memory; the memories must agree bit by bit, except that one NaN is as good as another.
 */
import { describe, expect, test as realTest } from 'vitest';
import type { Asm, AsmOp, MemType, Reg, RegType } from '../../src/targets/cpu/asm.ts';
import { EvalAsm } from './eval-asm.ts';
import { runWasm } from './wasm-runner.ts';
import { runX64, withoutWideX64, withoutX64 } from './x64-runner.ts';

type Program = (asm: Asm) => void;
type Run = (program: Program, memory: ArrayBuffer, args: readonly number[]) => void;

interface Runner {
  readonly name: string;
  readonly lanes: number;
  readonly pointerBits: 32 | 64;
  /** Why it cannot run here. */
  readonly absent: string | undefined;
  readonly run: Run;
}
const RUNNERS: readonly Runner[] = [
  {
    name: 'wasm-simd128',
    lanes: 4,
    pointerBits: 32,
    absent: undefined,
    run: (program, memory, args) => runWasm(program, memory, args, false),
  },
  {
    name: 'wasm-relaxed',
    lanes: 4,
    pointerBits: 32,
    absent: undefined,
    run: (program, memory, args) => runWasm(program, memory, args, true),
  },
  {
    name: `x64-avx2${withoutX64 ? ` (skipped: ${withoutX64})` : ''}`,
    lanes: 8,
    pointerBits: 64,
    absent: withoutX64,
    run: runX64,
  },
  {
    name: `x64-avx512${withoutWideX64 ? ` (skipped: ${withoutWideX64})` : ''}`,
    lanes: 16,
    pointerBits: 64,
    absent: withoutWideX64,
    run: (program, memory, args) => runX64(program, memory, args, 16),
  },
];

const BYTES = 65536;
const [A, B, OUT] = [1024, 16384, 32768];

type Element = 'i32' | 'i64' | 'f32' | 'f64';
const ELEMENT: Readonly<Record<RegType, Element>> = {
  i32: 'i32',
  ptr: 'i32',
  i64: 'i64',
  f32: 'f32',
  f64: 'f64',
  vf32: 'f32',
  vi32: 'i32',
};
const ARRAYS = { i32: Int32Array, i64: BigInt64Array, f32: Float32Array, f64: Float64Array } as const;
const INTS = [
  0,
  1,
  2,
  3,
  7,
  31,
  32,
  33,
  100,
  65535,
  2 ** 30,
  2 ** 31 - 1,
  -1,
  -2,
  -7,
  -100,
  -(2 ** 31),
  -(2 ** 31) + 1,
];
const LONGS = [
  0n,
  1n,
  3n,
  63n,
  64n,
  2n ** 31n,
  2n ** 53n + 1n,
  2n ** 63n - 1n,
  -1n,
  -2n,
  -7n,
  -(2n ** 63n),
  -(2n ** 32n),
];
const FLOATS = [
  0,
  -0,
  1,
  -1,
  0.5,
  -0.5,
  1.5,
  2.5,
  -2.5,
  0.49999997,
  3.2,
  -7.25,
  1e-40,
  1e-45,
  3.4028234663852886e38,
  2147483520,
  2147483648,
  -2147483648,
  -2147483904,
  4294967040,
  9.3e18,
  -9.3e18,
  16777217,
  Infinity,
  -Infinity,
  NaN,
]; // prettier-ignore
const VALUES: Readonly<Record<Element, readonly (number | bigint)[]>> = {
  i32: INTS,
  i64: LONGS,
  f32: FLOATS,
  f64: [...FLOATS, 2 ** -1074, Number.MAX_VALUE, 2 ** 53 + 2, 4503599627370495.5],
};

/** All pairs of edge values of an element type, in memory at A and B; the number of pairs, a multiple of 16. */
function writePairs(memory: ArrayBuffer, a: Element, b: Element): number {
  const pairs = VALUES[a].flatMap((x) => VALUES[b].map((y) => [x, y] as const));
  while (pairs.length % 16) pairs.push(pairs[0]);
  new ARRAYS[a](memory, A, pairs.length).set(pairs.map(([x]) => x) as never);
  new ARRAYS[b](memory, B, pairs.length).set(pairs.map(([, y]) => y) as never);
  return pairs.length;
}

/** Runs both and compares the memory from OUT on, as elements of a type. */
function agree(
  { run, lanes }: Pick<Runner, 'run' | 'lanes'>,
  element: Element,
  memory: ArrayBuffer,
  args: readonly number[],
  program: Program,
): void {
  const expected = memory.slice(0);
  program(new EvalAsm(expected, args, lanes));
  run(program, memory, args);
  const [got, wanted] = [memory, expected].map((m) => Array.from(new ARRAYS[element](m, OUT) as ArrayLike<unknown>));
  const wrong = wanted.findIndex((x, i) => !Object.is(x, got[i]));
  expect(wrong === -1 ? 'agree' : `element ${wrong}: got ${got[wrong]}, wanted ${wanted[wrong]}`).toBe('agree');
}

const load = (asm: Asm, type: RegType, base: Reg): Reg =>
  asm.load((type === 'ptr' ? 'i32' : type) as MemType, base, 0, type === 'ptr' ? asm.reg('ptr') : undefined);
const bytesOf = (type: RegType, lanes: number): number =>
  isVector(type) ? 4 * lanes : type === 'i64' || type === 'f64' ? 8 : 4;

/** For each value, or vector of values, of the inputs: out = f(a, b). */
function elementwise(type: RegType, result: RegType, f: (asm: Asm, a: Reg, b: Reg) => Reg): Program {
  return (asm) => {
    const [begin, end, a, b, out] = asm.params;
    asm.loop(begin, end, 1, (i) => {
      const x = load(asm, type, asm.address(a, i, bytesOf(type, asm.lanes)));
      const y = load(asm, type, asm.address(b, i, bytesOf(type, asm.lanes)));
      asm.store(
        (result === 'ptr' ? 'i32' : result) as MemType,
        asm.address(out, i, bytesOf(result, asm.lanes)),
        0,
        f(asm, x, y),
      );
    });
  };
}

const COMPARE: readonly AsmOp[] = ['eq', 'ne', 'lt', 'le', 'gt', 'ge'];
const INT_OPS: readonly AsmOp[] = [
  'add',
  'sub',
  'mul',
  'div',
  'div_u',
  'rem',
  'rem_u',
  'min',
  'max',
  'neg',
  'abs',
  'and',
  'or',
  'xor',
  'not',
  'shl',
  'shr',
  'shr_u',
  'lt_u',
  'gt_u',
  ...COMPARE,
]; // prettier-ignore
const FLOAT_OPS: readonly AsmOp[] = [
  'add',
  'sub',
  'mul',
  'div',
  'min',
  'max',
  'neg',
  'abs',
  'sqrt',
  'floor',
  'ceil',
  'trunc',
  'nearest',
  ...COMPARE,
]; // prettier-ignore
const UNARY: ReadonlySet<AsmOp> = new Set(['neg', 'abs', 'sqrt', 'floor', 'ceil', 'trunc', 'nearest', 'not']);
const TYPES: Readonly<Record<RegType, readonly AsmOp[]>> = {
  i32: INT_OPS,
  i64: INT_OPS,
  ptr: INT_OPS.filter((op) => op !== 'neg' && op !== 'abs' && op !== 'div' && op !== 'rem'),
  f32: FLOAT_OPS,
  f64: FLOAT_OPS,
  vf32: FLOAT_OPS,
  vi32: INT_OPS,
};
const OF_32_BIT_ADDRESSES: ReadonlySet<AsmOp> = new Set(['shl', 'shr', 'shr_u']);
const compares = (op: AsmOp): boolean => COMPARE.includes(op) || op === 'lt_u' || op === 'gt_u';
const isVector = (type: RegType): boolean => type === 'vf32' || type === 'vi32';

describe.each(RUNNERS)('$name', (runner) => {
  const { run, lanes } = runner;
  const test = realTest.skipIf(runner.absent !== undefined);
  // Addresses of 64 bits hold an i32 without its sign here: what depends on the width of an address is no part of the contract.
  const cases = (Object.keys(TYPES) as RegType[]).flatMap((type) =>
    TYPES[type]
      .filter((op) => type !== 'ptr' || runner.pointerBits === 32 || !OF_32_BIT_ADDRESSES.has(op))
      .map((op) => ({ op, type })),
  );
  test.each(cases)('$op of $type', ({ op, type }) => {
    const memory = new ArrayBuffer(BYTES);
    const element = ELEMENT[type];
    const count = writePairs(memory, element, element) / (isVector(type) ? lanes : 1);
    const result = compares(op) ? (isVector(type) ? 'vi32' : 'i32') : type;
    const program = elementwise(type, result, (asm, a, b) => asm.op(op, UNARY.has(op) ? [a] : [a, b]));
    agree(runner, ELEMENT[result], memory, [0, count, A, B, OUT], program);
  });

  test.each(['div', 'rem', 'div_u', 'rem_u', 'shl', 'shr', 'shr_u'] as const)('%s by constants', (op) => {
    for (const type of ['i32', 'i64', 'vi32'] as const) {
      for (const by of [1, 3, 4, -5, -1, 0]) {
        const memory = new ArrayBuffer(BYTES);
        const count = writePairs(memory, ELEMENT[type], ELEMENT[type]) / (type === 'vi32' ? lanes : 1);
        const program = elementwise(type, type, (asm, a) => asm.op(op, [a, asm.const(type, by)]));
        agree(runner, ELEMENT[type], memory, [0, count, A, B, OUT], program);
      }
    }
  });

  const CONVERSIONS: readonly (readonly [RegType, RegType])[] = [
    ['i32', 'i64'],
    ['i64', 'i32'],
    ['i32', 'f32'],
    ['i32', 'f64'],
    ['i64', 'f32'],
    ['i64', 'f64'],
    ['f32', 'i32'],
    ['f64', 'i32'],
    ['f32', 'i64'],
    ['f64', 'i64'],
    ['f32', 'f64'],
    ['f64', 'f32'],
    ['vi32', 'vf32'],
    ['vf32', 'vi32'],
    ['f32', 'f32'],
    ['i32', 'ptr'],
    ['ptr', 'i32'],
  ]; // prettier-ignore
  test.each(CONVERSIONS)('convert %s to %s', (from, to) => {
    for (const unsigned of [false, true]) {
      const memory = new ArrayBuffer(BYTES);
      const count = writePairs(memory, ELEMENT[from], ELEMENT[from]) / (isVector(from) ? lanes : 1);
      const program = elementwise(from, to, (asm, a) => asm.convert(to, a, { unsigned }));
      agree(runner, ELEMENT[to], memory, [0, count, A, B, OUT], program);
    }
  });

  test.each([
    ['i32', 'f32'],
    ['f32', 'i32'],
    ['i64', 'f64'],
    ['f64', 'i64'],
    ['vi32', 'vf32'],
    ['vf32', 'vi32'],
  ] as const)('bitcast %s to %s and back', (from, to) => {
    const memory = new ArrayBuffer(BYTES);
    const count = writePairs(memory, ELEMENT[from], ELEMENT[from]) / (isVector(from) ? lanes : 1);
    // JavaScript does not keep the bits of a NaN, so the patterns of NaNs are left out.
    const inputs = new Int32Array(memory, A, count * (isVector(from) ? lanes : 1));
    if (ELEMENT[from] === 'i32') for (let i = 0; i < inputs.length; i++) inputs[i] &= 0xbfffffff;
    const program = elementwise(from, from, (asm, a) => asm.bitcast(from, asm.bitcast(to, a)));
    agree(runner, ELEMENT[from], memory, [0, count, A, B, OUT], program);
  });

  test('select by a flag and by a mask', () => {
    for (const type of ['i32', 'i64', 'f32', 'f64', 'vf32', 'vi32'] as const) {
      const memory = new ArrayBuffer(BYTES);
      const count = writePairs(memory, ELEMENT[type], ELEMENT[type]) / (isVector(type) ? lanes : 1);
      const byMask = elementwise(type, type, (asm, a, b) => asm.select(asm.op('lt', [a, b]), a, b));
      agree(runner, ELEMENT[type], memory, [0, count, A, B, OUT], byMask);
      const byFlag = elementwise(type, type, (asm, a, b) =>
        asm.select(asm.op('lt', [asm.params[0], asm.params[1]]), a, b),
      );
      agree(runner, ELEMENT[type], memory, [0, count, A, B, OUT], byFlag);
    }
  });

  test.each(['min', 'max'] as const)('%s with a bound, of a register and of a constant', (op) => {
    for (const limit of [undefined, ...FLOATS]) {
      const memory = new ArrayBuffer(BYTES);
      const count = writePairs(memory, 'f32', 'f32') / lanes;
      const program = elementwise('vf32', 'vf32', (asm, a, b) =>
        asm.bounded(op, a, limit === undefined ? b : asm.const('vf32', limit)),
      );
      agree(runner, 'f32', memory, [0, count, A, B, OUT], program);
    }
  });

  test('a comparison is of the values that were compared, not of later ones', () => {
    for (const type of ['f32', 'f64', 'vf32'] as const) {
      const memory = new ArrayBuffer(BYTES);
      writePairs(memory, ELEMENT[type], ELEMENT[type]);
      agree(runner, ELEMENT[type], memory, [0, 6, A, B, OUT], (asm) => {
        const [begin, end, a, b, out] = asm.params;
        const [x, y] = [load(asm, type, a), load(asm, type, b)];
        asm.op('add', [x, asm.const(type, 2)], x);
        const bytes = bytesOf(type, asm.lanes);
        const isLess = asm.op('lt', [y, x]);
        asm.loop(begin, end, 1, (i) => {
          const at = asm.address(out, i, 4 * bytes);
          const isGreater = asm.op('gt', [y, x]);
          asm.store(type, at, 0, asm.select(isLess, y, x));
          asm.op('add', [y, asm.const(type, 1)], y);
          asm.store(type, at, bytes, asm.select(isGreater, y, x));
          asm.store(type, at, 2 * bytes, asm.select(asm.op('gt', [y, x]), y, x));
          asm.store(type, at, 3 * bytes, asm.select(isLess, x, y));
        });
      });
    }
  });

  test('lanes: splat, extract, insert, horizontal', () => {
    for (const type of ['vf32', 'vi32'] as const) {
      const memory = new ArrayBuffer(BYTES);
      const count = writePairs(memory, ELEMENT[type], ELEMENT[type]) / lanes;
      const inputs = new ARRAYS[ELEMENT[type]](memory, A, lanes * count);
      // Sums and products of any order agree only where they are exact.
      for (let i = 0; i < inputs.length; i++) inputs[i] = (i * 7) % 11;
      const program = elementwise(type, type, (asm, a, b) => {
        let out = asm.insert(asm.insert(a, 1, asm.extract(b, 2)), 3, asm.extract(a, 0));
        out = asm.insert(out, 0, asm.horizontal('add', a));
        out = asm.op('add', [out, asm.splat(asm.horizontal('max', a))]);
        out = asm.op('sub', [out, asm.splat(asm.horizontal('mul', a))]);
        out = asm.op('add', [out, asm.splat(asm.horizontal('min', b))]);
        for (const first of [0, 3]) out = asm.op('add', [out, asm.convert(type, asm.count(first))]);
        return out;
      });
      agree(runner, ELEMENT[type], memory, [0, count, A, B, OUT], program);
    }
  });

  test('floats that are below 2^31 become integers as any do', () => {
    const memory = new ArrayBuffer(BYTES);
    const special = [Number.NaN, Number.NEGATIVE_INFINITY, -3e9, -(2 ** 31), -1.5, -0.5, -0, 0.99, 2.5, 2 ** 30, 1e-40];
    const x = new Float32Array(memory, A, 64);
    for (let i = 0; i < 64; i++) x[i] = special[i] ?? (i - 40) * 1234.567;
    const program = elementwise('vf32', 'vi32', (asm, v) => asm.convert('vi32', v, { isBelow: true }));
    agree(runner, 'i32', memory, [0, 64 / lanes, A, B, OUT], program);
  });

  test('fma rounds once or twice, and is exact where it can be', () => {
    for (const type of ['f32', 'f64', 'vf32'] as const) {
      const memory = new ArrayBuffer(BYTES);
      const [a, b] = [A, B].map((at) => new ARRAYS[ELEMENT[type]](memory, at, 64));
      for (let i = 0; i < 64; i++) [a[i], b[i]] = [i - 31.5, (i * 5) % 17];
      const program = elementwise(type, type, (asm, x, y) => {
        const acc = asm.reg(type);
        asm.move(acc, asm.const(type, 3));
        asm.fma(acc, x, y);
        asm.fma(acc, acc, y);
        return acc;
      });
      agree(runner, ELEMENT[type], memory, [0, type === 'vf32' ? 64 / lanes : 64, A, B, OUT], program);
    }
    const multiplied = new ArrayBuffer(BYTES);
    const [p, q] = [A, B].map((at) => new Float32Array(multiplied, at, 64));
    for (let i = 0; i < 64; i++) [p[i], q[i]] = [i - 31.5, (i * 5) % 17];
    const sums = elementwise('vf32', 'vf32', (asm, x, y) => {
      const [two, three] = [2, 3].map((value) => asm.const('vf32', value));
      // Factors and addends in registers or constant, read again afterwards or not.
      const polynomial = asm.multiplyAdd(asm.multiplyAdd(two, x, three), x, two);
      const others = asm.multiplyAdd(asm.multiplyAdd(x, y, x), two, asm.multiplyAdd(two, three, y));
      return asm.op('add', [asm.op('add', [polynomial, others]), asm.multiplyAdd(y, two, three)]);
    });
    agree(runner, 'f32', multiplied, [0, 64 / lanes, A, B, OUT], sums);

    const memory = new ArrayBuffer(BYTES);
    new Float32Array(memory, A, lanes).fill(1 + 2 ** -12);
    run(
      elementwise('vf32', 'vf32', (asm, x) => {
        const acc = asm.reg('vf32');
        asm.move(acc, asm.const('vf32', -1));
        asm.fma(acc, x, x);
        return acc;
      }),
      memory,
      [0, 1, A, B, OUT],
    );
    // (1 + 2^-12)² = 1 + 2^-11 + 2^-24: the last term survives only one rounding.
    expect([2 ** -11, 2 ** -11 + 2 ** -24]).toContain(new Float32Array(memory, OUT, 1)[0]);
  });

  test('loads widen, stores narrow, offsets may be negative', () => {
    const memory = new ArrayBuffer(BYTES);
    const bytes = new Uint8Array(memory, A, 256);
    for (let i = 0; i < 256; i++) bytes[i] = (i * 37 + 128) & 255;
    agree(runner, 'i32', memory, [0, 1, A, B, OUT], (asm) => {
      const [, , a, , out] = asm.params;
      let at = 0;
      for (const type of ['i8', 'u8', 'i16', 'u16', 'i32', 'i64', 'splati32', 'vi32'] as const) {
        for (const offset of [0, 1, 7, 64]) {
          const value = asm.load(type, a, offset);
          const below = asm.load(type, asm.address(a, asm.const('i32', 100), 1), offset - 100);
          const sum = asm.op('add', [value, below]);
          const stored = type === 'splati32' ? 'vi32' : type;
          asm.store(stored, out, at, sum);
          asm.store(stored, asm.address(out, asm.const('i32', 5000), 1), at - 2000, sum);
          at += 32;
        }
      }
    });
  });

  test('addresses by every scale, in branches, and after their registers changed', () => {
    const memory = new ArrayBuffer(BYTES);
    agree(runner, 'i32', memory, [0, 7, A, B, OUT], (asm) => {
      const [begin, end, , , out] = asm.params;
      const c = (value: number): Reg => asm.const('i32', value);
      asm.loop(begin, end, 1, (i) => {
        const j = asm.reg('i32');
        asm.op('sub', [i, c(2)], j);
        [1, 2, 3, 4, 8, 12, 100].forEach((scale, s) => {
          asm.if(asm.op('eq', [i, c(s)]), () => asm.store('i32', asm.address(out, j, scale), 2048 * s + 4, i));
          asm.store('i32', asm.address(out, j, scale), 2048 * s + 1024, i);
        });
        const [before, base] = [asm.address(out, j, 4), asm.reg('ptr')];
        asm.op('add', [j, c(3)], j);
        asm.store('i32', before, 16384, j);
        asm.store('i32', asm.address(out, j, 4), 16640, j);
        asm.move(base, out);
        const moved = asm.address(base, i, 8);
        asm.op('add', [base, asm.const('ptr', 16)], base);
        asm.store('i32', moved, 17000, j);
        asm.store('i32', asm.address(base, i, 8), 17400, j);
        asm.loop(c(0), c(3), 1, () => {
          asm.store('i32', asm.address(base, j, 12), 18000, i);
          asm.op('add', [base, asm.const('ptr', 4)], base);
        });
      });
    });
  });

  test('loops of no, one and many rounds; nested; conditions', () => {
    for (const n of [-1, 0, 1, 2, 5, 17]) {
      const memory = new ArrayBuffer(BYTES);
      agree(runner, 'i32', memory, [0, n, A, B, OUT], (asm) => {
        const [begin, end, , , out] = asm.params;
        const total = asm.reg('i32');
        asm.move(total, asm.const('i32', 0));
        asm.loop(begin, end, 3, (i) => {
          asm.loop(i, end, 1, (j) => {
            asm.if(
              asm.op('lt', [asm.op('and', [j, asm.const('i32', 1)]), asm.const('i32', 1)]),
              () => asm.op('add', [total, asm.op('mul', [i, j])], total),
              () => asm.op('sub', [total, j], total),
            );
          });
          asm.repeat(2, () => asm.op('add', [total, asm.const('i32', 1)], total));
          asm.repeat(0, () => asm.op('add', [total, asm.const('i32', 1000)], total));
          asm.repeat(1, () => asm.op('add', [total, asm.const('i32', 7)], total));
          asm.store('i32', asm.address(out, i, 4), 16, total);
        });
        asm.loop(asm.const('i32', 0), asm.const('i32', 5), 2, (i) => asm.op('add', [total, i], total));
        asm.loop(asm.const('i32', 3), asm.const('i32', 3), 1, () => asm.op('add', [total, total], total));
        asm.if(asm.op('eq', [begin, end]), () => asm.op('xor', [total, asm.const('i32', -1)], total));
        asm.store('i32', out, 0, total);
      });
    }
  });

  test('loops that end early', () => {
    for (const n of [-1, 0, 1, 5, 17]) {
      for (const least of [-1000, -40, 3, 4]) {
        const memory = new ArrayBuffer(BYTES);
        agree(runner, 'i32', memory, [0, n, A, B, OUT], (asm) => {
          const [begin, end, , , out] = asm.params;
          const [total, kept] = [asm.reg('i32'), asm.reg('i32')];
          asm.move(total, asm.const('i32', 3));
          asm.move(kept, asm.const('i32', 100));
          const isMore = (): Reg => asm.op('gt', [total, asm.const('i32', least)]);
          const round = (i: Reg): void => {
            // Whether to go on is told by a register, and by the flags of what was compared last.
            asm.loop(
              asm.const('i32', 0),
              asm.const('i32', 9),
              1,
              (j) => {
                asm.op('sub', [total, asm.op('add', [i, j])], total);
                asm.op('add', [kept, asm.const('i32', 1)], kept);
              },
              (j) => asm.op('and', [isMore(), asm.op('lt', [j, i])]),
            );
            asm.store('i32', asm.address(out, i, 4), 16, total);
          };
          asm.loop(begin, end, 2, round, isMore);
          asm.loop(asm.const('i32', 1), asm.const('i32', 4), 1, round, () => asm.op('lt', [begin, end]));
          asm.store('i32', out, 0, total);
          asm.store('i32', out, 4, kept);
        });
      }
    }
  });

  test('a limit that the body changes was read once', () => {
    const memory = new ArrayBuffer(BYTES);
    agree(runner, 'i32', memory, [0, 6, A, B, OUT], (asm) => {
      const [begin, end, , , out] = asm.params;
      const limit = asm.reg('i32');
      asm.move(limit, end);
      asm.loop(begin, limit, 1, (i) => {
        asm.op('sub', [limit, asm.const('i32', 2)], limit);
        asm.store('i32', asm.address(out, i, 4), 0, limit);
      });
    });
  });
});
