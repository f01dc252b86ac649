/** The program module: valid in every variant, the same for the same input, each tile done once, whatever the threads. */
import { describe, expect, test } from 'vitest';
import initWabt from 'wabt';
import { emitHandmade, expectHandmade, handmadeEngine, KERNELS } from '../../../tests/handmade-engine.ts';
import type { Step } from '../../engine/engine.ts';
import { wasmFeatures } from '../../host/wasm-features.ts';
import type { Asm } from '../cpu/asm.ts';
import { MAX_PAGES, VARIANTS } from './control.ts';
import { emitProgram } from './program.ts';

wasmFeatures();
const wabt = await initWabt();
const FEATURES = { simd: true, relaxed_simd: true, threads: true, bulk_memory: true };
const { engine } = handmadeEngine({ n: 37, rounds: 3 });
type Exports = Record<'run' | 'step' | 'worker', (...args: number[]) => void>;

function disassemble(bytes: Uint8Array): string {
  const module = wabt.readWasm(bytes, { ...FEATURES, readDebugNames: true });
  (module as { validate(features: object): void }).validate(FEATURES);
  module.applyNames();
  const text = module.toText({ foldExprs: false, inlineExport: false });
  module.destroy();
  return text;
}

const module = (bytes: Uint8Array): WebAssembly.Module => new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>);
const unshared = { relaxed: false, threads: false };

describe.each(VARIANTS)('$name', (variant) => {
  const bytes = emitProgram(engine, variant, emitHandmade);
  const text = disassemble(bytes);

  test('is valid, deterministic, and exports what the device calls', () => {
    expect(emitProgram(engine, variant, emitHandmade)).toEqual(bytes);
    const exported = WebAssembly.Module.exports(module(bytes)).map(({ name }) => name);
    expect(exported.sort()).toEqual(variant.threads ? ['run', 'step', 'worker'] : ['run', 'step']);
  });
  test('has atomics and a shared memory exactly where threads are asked for', () => {
    expect(text.includes('atomic')).toBe(variant.threads);
    expect(/memory \(;0;\) 1 65536 shared/.test(text)).toBe(variant.threads);
  });
  test('has one named function a kernel and tactic in use', () => {
    for (const name of ['mix', 'scale', 'total', 'spread']) {
      expect(text.split(`(func $${name} `).length - 1, name).toBe(1);
    }
    expect(text).not.toContain('$trap');
  });
});

test('equal kernels by other tactics are functions of their own, with names of their own', () => {
  const [first] = engine.steps;
  const steps: Step[] = [first, { ...first, tactic: { ...first.tactic, params: { n: 5 } } }, first];
  const text = disassemble(emitProgram({ kernels: KERNELS, steps, arenaBytes: 0 }, unshared, emitHandmade));
  expect(text).toContain('(func $mix ');
  expect(text).toContain('(func $mix.2 ');
  expect(text).not.toContain('$mix.3');
});

/** A kernel that counts the visits of each tile. */
const count = (asm: Asm): void => {
  const [begin, end, out] = asm.params;
  asm.loop(begin, end, 1, (i) => {
    const at = asm.address(out, i, 4);
    asm.store('i32', at, 0, asm.op('add', [asm.load('i32', at, 0), asm.const('i32', 1)]));
  });
};
function countingStep(tiles: number, maxThreads: number): Step {
  const buffers = [{ space: 'arena', byteOffset: 0, bytes: 4 * tiles }] as const;
  return { ...engine.steps[0], kernel: 0, buffers, values: ['y'], tiles, maxThreads, barrier: false };
}
const COUNTED = [{ ...KERNELS[0], buffers: KERNELS[0].buffers.slice(1) }];

test('each tile is done by exactly one thread', () => {
  for (const tiles of [1, 2, 3, 7, 64, 1000]) {
    for (const maxThreads of [1, 2, 3, 5, 5000].map((n) => Math.min(n, tiles))) {
      const program = { kernels: COUNTED, steps: [countingStep(tiles, maxThreads)], arenaBytes: 0 };
      const code = module(emitProgram(program, { relaxed: false, threads: true }, count));
      for (const threads of [1, 2, 3, 4, 8, 13]) {
        const memory = new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES, shared: true });
        const { run } = new WebAssembly.Instance(code, { env: { memory } }).exports as Exports;
        for (let thread = threads - 1; thread >= 0; thread--) run(0, 1024, 64, thread, threads);
        expect(new Int32Array(memory.buffer, 1024, tiles).every((x) => x === 1)).toBe(true);
        expect(new Int32Array(memory.buffer, 1024 + 4 * tiles, 4).every((x) => x === 0)).toBe(true);
      }
    }
  }
});

test('a thread that comes early does what the others have not begun, in pieces of the grain', () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES, shared: true });
  const program = { kernels: COUNTED, steps: [countingStep(50, 50)], arenaBytes: 0 };
  const calls: (readonly [number, number])[] = [];
  // Where a call stands is told by the place of its mark.
  const mark = (asm: Asm): void => {
    const [begin, end, out] = asm.params;
    asm.store('i32', asm.address(out, begin, 4), 0, end);
  };
  const code = module(emitProgram(program, { relaxed: false, threads: true }, mark, () => 3));
  const { run } = new WebAssembly.Instance(code, { env: { memory } }).exports as Exports;
  const marks = new Int32Array(memory.buffer, 2048, 50);
  run(0, 2048, 64, 1, 2);
  marks.forEach((end, begin) => {
    if (end > 0) calls.push([begin, end]);
  });
  expect(calls.map(([begin]) => begin)).toEqual([0, ...calls.slice(0, -1).map(([, end]) => end)]);
  expect(calls.at(-1)?.[1]).toBe(50);
  expect(calls.filter(([begin, end]) => (end - begin) % 3 !== 0).map(([, end]) => end)).toEqual([25, 50]);
  marks.fill(0);
  run(0, 2048, 64, 0, 2);
  expect(marks.every((end) => end === 0)).toBe(true);
});

test('more tiles than 32 bits times threads hold', () => {
  const begins: number[] = [];
  const memory = new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES, shared: true });
  const program = { kernels: COUNTED, steps: [countingStep(2 ** 31 - 1, 2 ** 20)], arenaBytes: 0 };
  const bytes = emitProgram(program, { relaxed: false, threads: true }, (asm) => {
    const [begin, end, out] = asm.params;
    asm.store('i32', out, 0, begin);
    asm.store('i32', out, 4, end);
  });
  const { run } = new WebAssembly.Instance(module(bytes), { env: { memory } }).exports as Exports;
  for (let thread = 0; thread < 7; thread++) {
    run(0, 1024, 64, thread, 7);
    begins.push(...new Int32Array(memory.buffer, 1024, 2));
  }
  const bound = (t: number): number => Math.floor(((2 ** 31 - 1) * t) / 7);
  expect(begins).toEqual([0, 1, 2, 3, 4, 5, 6].flatMap((t) => [bound(t), bound(t + 1)]));
});

test('each thread has scratch of its own behind the arena', () => {
  const step = { ...countingStep(5, 5), scratchBytes: 100 };
  const program = { kernels: COUNTED, steps: [step, { ...step, scratchBytes: 4 }], arenaBytes: 20 };
  const bytes = emitProgram(program, { relaxed: false, threads: true }, (asm) => {
    const [, , out, scratch] = asm.params;
    asm.store('i32', out, 0, scratch);
  });
  const memory = new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES, shared: true });
  const { run, step: one } = new WebAssembly.Instance(module(bytes), { env: { memory } }).exports as Exports;
  const seen = [0, 1, 2].map((thread) => {
    run(0, 1024, 64, thread, 3);
    return new Int32Array(memory.buffer, 1024, 1)[0];
  });
  expect(seen).toEqual([1024 + 64, 1024 + 64 + 128, 1024 + 64 + 256]);
  one(1, 0, 1024);
  expect(new Int32Array(memory.buffer, 1024, 1)[0]).toBe(1024 + 64);
});

test('addresses wrap, so that bases and offsets reach all 4 GiB', () => {
  const step = { ...countingStep(3, 1), buffers: [{ space: 'weights', byteOffset: 3 * 2 ** 30, bytes: 12 }] as const };
  const memory = new WebAssembly.Memory({ initial: 1 });
  const bytes = emitProgram({ kernels: COUNTED, steps: [step], arenaBytes: 0 }, unshared, count);
  const { run, step: one } = new WebAssembly.Instance(module(bytes), { env: { memory } }).exports as Exports;
  run(2 ** 30 + 256, 0, 64, 0, 1);
  one(0, 2 ** 30 + 256, 0);
  expect([...new Int32Array(memory.buffer, 256, 4)]).toEqual([2, 2, 2, 0]);
});

test('very many steps are split into several functions, and `step` finds each', () => {
  const rounds = 700;
  const long = handmadeEngine({ n: 5, rounds });
  const bytes = emitProgram(long.engine, unshared, emitHandmade);
  expect(disassemble(bytes)).toContain('(func $run.256 ');
  const x = Int32Array.of(3, -1, 4, 1, -5);
  const wanted = expectHandmade(x, long.weights, rounds);
  for (const single of [false, true]) {
    const memory = new WebAssembly.Memory({ initial: 1 });
    const { run, step } = new WebAssembly.Instance(module(bytes), { env: { memory } }).exports as Exports;
    new Int32Array(memory.buffer, 1024, 5).set(long.weights);
    new Int32Array(memory.buffer, 2048, 5).set(x);
    if (single) for (let i = 0; i < long.engine.steps.length + 2; i++) step(i, 1024, 2048);
    else run(1024, 2048, 64, 0, 1);
    expect(new Int32Array(memory.buffer, 2048 + long.engine.outputs[0].buffer.byteOffset, 5)).toEqual(wanted);
  }
});
