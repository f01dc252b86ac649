/** The x64 device: threads, contexts, lifetimes, on a small engine whose answers are known exactly. */
import { readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { emitHandmade, expectHandmade, type HandmadeOptions, handmadeEngine } from '../../../tests/handmade-engine.ts';
import { openX64Program } from '../../../tests/x64-program.ts';
import { ModelError } from '../../core/errors.ts';
import type { DeviceContext, OpenEngine, OpenOptions } from '../../engine/device.ts';
import type { Engine } from '../../engine/engine.ts';
import { x64Device } from './device.ts';
import { type X64Machine, x64Machine } from './machine.ts';

const found = await x64Machine();
const reason = typeof found === 'string' ? ` (skipped: ${found})` : '';
const machine = found as X64Machine;
const quiet: OpenOptions = { threads: 1, onWarning: () => {} };

function build(options: HandmadeOptions): { engine: Engine; weights: Int32Array } {
  const { engine, weights } = handmadeEngine(options);
  return { engine: { ...engine, target: 'x64', code: [] }, weights };
}

const SIZE = { n: 101, rounds: 6 };
const { engine, weights } = build(SIZE);
const input = (seed: number): Int32Array =>
  Int32Array.from({ length: SIZE.n }, (_, i) => Math.imul(i + 1, seed * 2654435));

const openHandmade = (options: Partial<OpenOptions> = {}, which: Engine = engine): OpenEngine =>
  openX64Program(which, which, { ...quiet, ...options }, machine, emitHandmade);

/** Runs a context on a seed's input and checks every output. */
function check(context: DeviceContext, seed: number): void {
  const x = input(seed);
  (context.inputs[0] as Int32Array).set(x);
  context.execute();
  expect(context.outputs[0]).toEqual(expectHandmade(x, weights, SIZE.rounds));
}

test('probe tells features or a reason', async () => {
  const info = await x64Device.probe();
  expect(info.available).toBe(typeof found !== 'string');
  if (info.available) expect(info.features).toEqual(expect.arrayContaining(['avx2', 'fma']));
  else expect(info.reason).toBe(found);
});

describe.skipIf(typeof found === 'string')(`threads${reason}`, () => {
  test.each([1, 2, 3, 4, 5])('%d threads give the right answer, hundreds of times', (threads) => {
    const open = openHandmade({ threads });
    expect(open.threads).toBe(threads);
    const context = open.createContext();
    for (let run = 0; run < 300; run++) check(context, run);
    open.dispose();
  });

  test('many more threads than cores, and than tiles', () => {
    const open = openHandmade({ threads: 40 });
    const context = open.createContext();
    for (let run = 0; run < 20; run++) check(context, run);
    open.dispose();
    const small = build({ n: 3, rounds: 4, maxThreads: 2 });
    const narrow = openHandmade({ threads: 5 }, small.engine);
    const x = Int32Array.of(7, -8, 9);
    const few = narrow.createContext();
    for (let run = 0; run < 100; run++) {
      (few.inputs[0] as Int32Array).set(x);
      few.execute();
      expect(few.outputs[0]).toEqual(expectHandmade(x, small.weights, 4));
    }
    narrow.dispose();
  });

  test('workers that fell asleep wake again', async () => {
    const open = openHandmade({ threads: 3 });
    const context = open.createContext();
    for (let run = 0; run < 10; run++) {
      await new Promise((resolve) => setTimeout(resolve, run));
      check(context, run);
    }
    open.dispose();
  });

  test('auto is at least one', () => {
    const open = openHandmade({ threads: 'auto' });
    expect(open.threads).toBeGreaterThanOrEqual(1);
    check(open.createContext(), 1);
    open.dispose();
  });

  test('a system that gives no thread is an error, and what was started ends', () => {
    let started = 0;
    const system = {
      ...machine.system,
      startThread: (entry: number, argument: number): number => {
        if (started === 2) throw new Error('no more');
        started++;
        return machine.system.startThread(entry, argument);
      },
    };
    const refused = (): OpenEngine =>
      openX64Program(engine, engine, { ...quiet, threads: 6 }, { ...machine, system }, emitHandmade);
    expect(refused).toThrow(expect.objectContaining({ code: 'target-unavailable' }));
  });

  test('a system that allows no executable memory is an error', () => {
    const makeExecutable = (): void => {
      throw new Error('denied');
    };
    const strict = { ...machine, system: { ...machine.system, makeExecutable } };
    expect(() => openX64Program(engine, engine, quiet, strict, emitHandmade)).toThrow(
      expect.objectContaining({ code: 'target-unavailable' }),
    );
  });
});

describe.skipIf(typeof found === 'string')(`contexts${reason}`, () => {
  test('several in turn, each with its own values', () => {
    const open = openHandmade({ threads: 2 });
    const before = open.memoryBytes();
    const contexts = Array.from({ length: 50 }, () => open.createContext());
    expect(open.memoryBytes()).toBe(before + 50 * engine.arenaBytes);
    contexts.forEach((context, i) => {
      (context.inputs[0] as Int32Array).set(input(i));
    });
    for (const context of contexts) context.execute();
    contexts.forEach((context, i) => {
      expect(context.outputs[0]).toEqual(expectHandmade(input(i), weights, SIZE.rounds));
    });
    for (const context of contexts) context.dispose();
    expect(open.memoryBytes()).toBe(before);
    open.dispose();
  });

  test('profile runs every step and adds its time', () => {
    const open = openHandmade({ threads: 2 });
    const context = open.createContext();
    const ns = new Float64Array(engine.steps.length).fill(1);
    (context.inputs[0] as Int32Array).set(input(5));
    context.profile(ns);
    expect(context.outputs[0]).toEqual(expectHandmade(input(5), weights, SIZE.rounds));
    expect(ns.every((x) => x >= 1)).toBe(true);
    expect(ns.some((x) => x > 1)).toBe(true);
    open.dispose();
  });

  test('weights that are shared memory, aligned and with a guard are used where they are', () => {
    const home = new Uint8Array(new SharedArrayBuffer(4096));
    const offset = -machine.system.ffi.addressOf(home) & 63;
    const inPlace = home.subarray(offset, offset + engine.weightBytes.length);
    inPlace.set(engine.weightBytes);
    const open = openHandmade({}, { ...engine, weightBytes: inPlace });
    const context = open.createContext();
    check(context, 3);
    // Changed weights give another answer: they were not copied.
    inPlace.fill(0);
    context.execute();
    expect(new Set(context.outputs[0] as Int32Array).size).toBe(1);
    open.dispose();
  });
});

describe.skipIf(typeof found === 'string')(`lifetimes${reason}`, () => {
  const nativeThreads = (): number => (process.platform === 'linux' ? readdirSync('/proc/self/task').length : 0);

  test('dispose ends contexts and threads, twice is harmless, arrays stay readable', () => {
    const open = openHandmade({ threads: 3 });
    const context = open.createContext();
    check(context, 1);
    const kept = context.outputs[0].slice();
    open.dispose();
    open.dispose();
    context.dispose();
    expect(open.memoryBytes()).toBe(0);
    expect(context.outputs[0]).toEqual(kept);
    context.inputs[0].fill(0 as never);
    expect(() => context.execute()).toThrow(ModelError);
    expect(() => context.profile(new Float64Array(engine.steps.length))).toThrow(ModelError);
    expect(() => open.createContext()).toThrow(ModelError);
  });

  test('an array of a context outlives the engine', () => {
    const outputs = (() => {
      const open = openHandmade();
      const context = open.createContext();
      check(context, 2);
      open.dispose();
      return context.outputs;
    })();
    for (let i = 0; i < 20; i++) openHandmade().dispose();
    expect(outputs[0]).toEqual(expectHandmade(input(2), weights, SIZE.rounds));
  });

  test('many engines one after the other leave no thread behind', () => {
    const before = nativeThreads();
    for (let i = 0; i < 30; i++) {
      const open = openHandmade({ threads: 4 });
      check(open.createContext(), i);
      open.dispose();
      if (i % 2) openHandmade({ threads: 4 }).dispose();
    }
    // Of the 135 threads that were started; Node itself may have started some meanwhile.
    expect(nativeThreads()).toBeLessThan(before + 10);
  });

  test('an engine that is opened and never run can be disposed of', () => {
    openHandmade({ threads: 5 }).dispose();
  });
});

test.skipIf(typeof found === 'string')(`an engine of another target is refused${reason}`, async () => {
  await expect(x64Device.open({ ...engine, target: 'wasm' }, quiet)).rejects.toMatchObject({ code: 'engine-machine' });
});
