/**
 * Operations on bytes of every assembler against their definition (eval-asm.ts), with and without VNNI, over memory of all byte values
 * and sums that wrap. What this processor lacks is compared with a disassembler only (instructions.test.ts).
 */
import { describe, expect, test as realTest } from 'vitest';
import type { Asm, MemType, Reg } from '../../src/targets/cpu/asm.ts';
import { EvalAsm } from './eval-asm.ts';
import { runWasm } from './wasm-runner.ts';
import { runX64, withoutVnni, withoutWideVnni, withoutWideX64, withoutX64 } from './x64-runner.ts';

type Program = (asm: Asm) => void;
interface Runner {
  readonly name: string;
  readonly lanes: number;
  readonly hasDot: boolean;
  readonly absent: string | undefined;
  readonly run: (program: Program, memory: ArrayBuffer, args: readonly number[]) => void;
}
const RUNNERS: readonly Runner[] = [
  { name: 'wasm', lanes: 4, hasDot: false, absent: undefined, run: (p, m, args) => runWasm(p, m, args, false) },
  { name: 'wasm-relaxed', lanes: 4, hasDot: false, absent: undefined, run: (p, m, args) => runWasm(p, m, args, true) },
  { name: 'avx2', lanes: 8, hasDot: false, absent: withoutX64, run: runX64 },
  {
    name: 'avx-vnni',
    lanes: 8,
    hasDot: true,
    absent: withoutX64 ?? withoutVnni,
    run: (p, m, a) => runX64(p, m, a, 8, 'vex'),
  },
  { name: 'avx512', lanes: 16, hasDot: false, absent: withoutWideX64, run: (p, m, args) => runX64(p, m, args, 16) },
  {
    name: 'avx512-vnni of 8 lanes',
    lanes: 8,
    hasDot: true,
    absent: withoutWideVnni,
    run: (p, m, args) => runX64(p, m, args, 8, 'evex'),
  },
  {
    name: 'avx512-vnni',
    lanes: 16,
    hasDot: true,
    absent: withoutWideVnni,
    run: (p, m, args) => runX64(p, m, args, 16, 'evex'),
  },
];

const BYTES = 65536;
const [A, B, OUT] = [1024, 16384, 32768];

/** Bytes of every value beside every other, and 32-bit words at the ends of their range. */
function filled(): ArrayBuffer {
  const memory = new ArrayBuffer(BYTES);
  const bytes = new Uint8Array(memory);
  let state = 7;
  for (let i = 0; i < 8192; i++) {
    state = (Math.imul(state, 1103515245) + 12345) | 0;
    bytes[A + i] = i < 512 ? i : state >>> 16;
    bytes[B + i] = i < 512 ? 255 - (i >> 1) : state >>> 8;
  }
  bytes.fill(0xff, A + 1024, A + 1100);
  bytes.fill(0x80, B + 1024, B + 1100);
  return memory;
}

describe.each(RUNNERS)('$name', ({ run, lanes, hasDot, absent }) => {
  const test = realTest.skipIf(absent !== undefined);
  /** Both memories behind OUT, after 64 rounds that move on by `step` bytes. */
  const check = (step: number, body: (asm: Asm, a: Reg, b: Reg, out: Reg) => void): void => {
    const program: Program = (asm) => {
      const [begin, end, a, b, out] = asm.params;
      asm.loop(begin, end, 1, (i) =>
        body(asm, asm.address(a, i, step), asm.address(b, i, step), asm.address(out, i, 4 * lanes)),
      );
    };
    const [memory, expected] = [filled(), filled()];
    program(new EvalAsm(expected, [0, 64, A, B, OUT], lanes));
    run(program, memory, [0, 64, A, B, OUT]);
    const [got, wanted] = [memory, expected].map((m) => new Int32Array(m));
    const wrong = wanted.findIndex((x, i) => x !== got[i]);
    expect(wrong === -1 ? 'agree' : `word ${wrong}: got ${got[wrong]}, wanted ${wanted[wrong]}`).toBe('agree');
  };
  const types: MemType[] =
    lanes === 16 ? ['lanesi8', 'lanesu8'] : ['lanesi8', 'lanesu8', 'pairsi8', 'spreadi8', 'spreadu8'];

  test.each(types)('load %s', (type) => {
    check(19, (asm, a, _, out) => asm.store('vi32', out, 0, asm.load(type, a, 3)));
  });

  test.each(['lanesi8', 'lanesu8'] as const)(
    'store %s keeps the lowest byte of each lane and touches nothing else',
    (type) => {
      check(20, (asm, a, _, out) => asm.store(type, out, 1, asm.load('vi32', a, 0)));
    },
  );

  test('dot products of halves', () => {
    check(64, (asm, a, b, out) => {
      const acc = asm.load('vi32', b, 4);
      asm.dotPairs(acc, asm.load('vi32', a, 0), asm.load('vi32', b, 0));
      asm.store('vi32', out, 0, acc);
    });
  });

  (hasDot ? test : realTest.skip)('dot products of bytes, without saturation', () => {
    check(64, (asm, a, b, out) => {
      const acc = asm.load('vi32', b, 4);
      const [x, y] = [asm.load('vi32', a, 0), asm.load('vi32', b, 0)];
      asm.dotBytes(acc, x, y);
      asm.dotBytes(acc, x, asm.const('vi32', 0x7f7f7f7f));
      asm.store('vi32', out, 0, acc);
    });
  });

  test('a lane of each group in all of its lanes', () => {
    for (let lane = 0; lane < 4; lane++) {
      check(64, (asm, a, _, out) => asm.store('vi32', out, 0, asm.repeatLane(asm.load('vi32', a, 0), lane)));
    }
  });

  (lanes > 4 ? test : realTest.skip)('neighbouring fours exchanged', () => {
    check(64, (asm, a, _, out) => asm.store('vi32', out, 0, asm.swapFours(asm.load('vi32', a, 0))));
  });

  test('to the nearest integer, ties to even, and the lowest byte of NaN', () => {
    const values = [0, -0, 0.5, 1.5, 2.5, -0.5, -1.5, 254.5, 255.5, -128.5, 1e6, -1e6, 0.49999997, 126.50001, NaN, NaN];
    const memory = new ArrayBuffer(BYTES);
    new Float32Array(memory, A, 16).set(values);
    const expected = memory.slice(0);
    const program: Program = (asm) => {
      const [begin, end, a, , out] = asm.params;
      asm.loop(begin, end, asm.lanes, (i) => {
        asm.store('lanesu8', asm.address(out, i, 1), 0, asm.nearestByte(asm.load('vf32', asm.address(a, i, 4), 0)));
      });
    };
    program(new EvalAsm(expected, [0, 16, A, B, OUT], lanes));
    run(program, memory, [0, 16, A, B, OUT]);
    expect(new Uint8Array(memory, OUT, 16)).toEqual(new Uint8Array(expected, OUT, 16));
    expect([...new Uint8Array(memory, OUT + 2, 3)]).toEqual([0, 2, 2]);
  });
});

realTest('where there is no VNNI a dot product of bytes is refused', () => {
  expect(() =>
    runWasm((asm) => asm.dotBytes(asm.params[2], asm.params[2], asm.params[2]), new ArrayBuffer(64), [0, 0, 0], false),
  ).toThrow(/no exact dot product of bytes/);
});
