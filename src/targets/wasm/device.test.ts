/** The device: right answers on any number of threads, contexts that share an engine, and orderly ends. */
import { describe, expect, test } from 'vitest';
import { emitHandmade, expectHandmade, type HandmadeOptions, handmadeEngine } from '../../../tests/handmade-engine.ts';
import { ModelError } from '../../core/errors.ts';
import type { DeviceContext, OpenEngine, OpenOptions } from '../../engine/device.ts';
import type { Engine } from '../../engine/engine.ts';
import { type WasmFeatures, wasmFeatures } from '../../host/wasm-features.ts';
import { VARIANTS } from './control.ts';
import { openWasm, wasmDevice } from './device.ts';
import { ModuleBuilder } from './module.ts';
import { emitProgram } from './program.ts';

const FEATURES = wasmFeatures();
const UNSHARED: WasmFeatures = { ...FEATURES, threads: false };
const quiet: OpenOptions = { threads: 1, onWarning: () => {} };

function build(options: HandmadeOptions): { engine: Engine; weights: Int32Array } {
  const { engine, weights } = handmadeEngine(options);
  const code = VARIANTS.map((v) => ({ name: v.name, bytes: emitProgram(engine, v, emitHandmade) }));
  return { engine: { ...engine, code }, weights };
}

const SIZE = { n: 101, rounds: 6 };
const { engine, weights } = build(SIZE);
const input = (seed: number): Int32Array =>
  Int32Array.from({ length: SIZE.n }, (_, i) => Math.imul(i + 1, seed * 2654435));

/** Runs a context on a seed's input and checks every output. */
function check(context: DeviceContext, seed: number): void {
  const x = input(seed);
  (context.inputs[0] as Int32Array).set(x);
  context.execute();
  expect(context.outputs[0]).toEqual(expectHandmade(x, weights, SIZE.rounds));
}

async function withEngine(
  options: Partial<OpenOptions>,
  use: (open: OpenEngine) => void | Promise<void>,
): Promise<void> {
  const open = await wasmDevice.open(engine, { ...quiet, ...options });
  try {
    await use(open);
  } finally {
    open.dispose();
  }
}

describe('threads', () => {
  test.each([1, 2, 3, 4, 5])('%d threads give the right answer, hundreds of times', async (threads) => {
    await withEngine({ threads }, (open) => {
      expect(open.threads).toBe(threads);
      const context = open.createContext();
      for (let run = 0; run < 150; run++) check(context, run);
    });
  });

  test('workers that fell asleep wake again', async () => {
    await withEngine({ threads: 3 }, async (open) => {
      const context = open.createContext();
      for (let run = 0; run < 10; run++) {
        await new Promise((resolve) => setTimeout(resolve, run));
        check(context, run);
      }
    });
  });

  test('a thread 0 that may not sleep gets on all the same', async () => {
    const open = await openWasm(engine, { ...quiet, threads: 4 }, { ...FEATURES, mayWait: false });
    const context = open.createContext();
    for (let run = 0; run < 50; run++) check(context, run);
    open.dispose();
  });

  test('steps that few threads share, steps with fewer tiles than threads', async () => {
    const small = build({ n: 3, rounds: 4, maxThreads: 2 });
    const open = await openWasm(small.engine, { ...quiet, threads: 5 }, FEATURES);
    const context = open.createContext();
    const x = Int32Array.of(7, -8, 9);
    for (let run = 0; run < 100; run++) {
      (context.inputs[0] as Int32Array).set(x);
      context.execute();
      expect(context.outputs[0]).toEqual(expectHandmade(x, small.weights, 4));
    }
    open.dispose();
  });

  test('auto is at least one', async () => {
    await withEngine({ threads: 'auto' }, (open) => {
      expect(open.threads).toBeGreaterThanOrEqual(1);
      check(open.createContext(), 1);
    });
  });
});

describe.each([
  ['shared memory', FEATURES],
  ['a memory of its own', UNSHARED],
  ['no relaxed SIMD', { ...FEATURES, relaxedSimd: false }],
] as const)('%s', (_, features) => {
  test('several contexts in turn; their arrays outlive growth of the memory', async () => {
    const open = await openWasm(engine, { ...quiet, threads: 2 }, features);
    const before = open.memoryBytes();
    const contexts = Array.from({ length: 80 }, () => open.createContext());
    expect(open.memoryBytes()).toBeGreaterThan(before);
    contexts.forEach((context, i) => {
      (context.inputs[0] as Int32Array).set(input(i));
    });
    for (const context of contexts) context.execute();
    contexts.forEach((context, i) => {
      expect(context.outputs[0]).toEqual(expectHandmade(input(i), weights, SIZE.rounds));
    });
    open.dispose();
  });

  test('a disposed context gives its arena to the next', async () => {
    const open = await openWasm(engine, quiet, features);
    open.createContext().dispose();
    const bytes = open.memoryBytes();
    for (let i = 0; i < 500; i++) {
      const context = open.createContext();
      expect(context.inputs[0].every((x) => x === 0)).toBe(true);
      check(context, i);
      context.dispose();
    }
    expect(open.memoryBytes()).toBe(bytes);
    open.dispose();
  });

  test('profile runs every step and adds its time', async () => {
    const open = await openWasm(engine, { ...quiet, threads: 2 }, features);
    const context = open.createContext();
    const ns = new Float64Array(engine.steps.length).fill(1);
    (context.inputs[0] as Int32Array).set(input(5));
    context.profile(ns);
    expect(context.outputs[0]).toEqual(expectHandmade(input(5), weights, SIZE.rounds));
    expect(ns.every((x) => x >= 1)).toBe(true);
    expect(ns.some((x) => x > 1)).toBe(true);
    open.dispose();
  });
});

describe('what is missing is said once, and costs threads only', () => {
  test('no shared memory', async () => {
    const warnings: string[] = [];
    const open = await openWasm(engine, { threads: 4, onWarning: (m) => warnings.push(m) }, UNSHARED);
    expect(open.threads).toBe(1);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('SharedArrayBuffer');
    check(open.createContext(), 3);
    open.dispose();
  });
  test('no SIMD', async () => {
    await expect(openWasm(engine, quiet, { ...FEATURES, simd: false })).rejects.toMatchObject({
      code: 'target-unavailable',
    });
  });
  test('no code for this host', async () => {
    const bare = { ...engine, code: engine.code.filter((s) => s.name === 'wasm-relaxed-threads') };
    await expect(openWasm(bare, quiet, UNSHARED)).rejects.toMatchObject({ code: 'engine-machine' });
  });
  test('code that is not WebAssembly', async () => {
    const damaged = { ...engine, code: engine.code.map((s) => ({ ...s, bytes: s.bytes.slice(0, -40) })) };
    await expect(openWasm(damaged, quiet, FEATURES)).rejects.toMatchObject({ code: 'engine-parse' });
  });
  test('code that is another module', async () => {
    const empty = new ModuleBuilder().build();
    const needy = new ModuleBuilder();
    needy.importFunction('env', 'system', { params: [], results: [] });
    for (const bytes of [empty, needy.build()]) {
      const other = { ...engine, code: engine.code.map((s) => ({ ...s, bytes })) };
      await expect(openWasm(other, { ...quiet, threads: 2 }, FEATURES)).rejects.toMatchObject({ code: 'engine-parse' });
    }
  });
  test('an engine of another target', async () => {
    await expect(wasmDevice.open({ ...engine, target: 'cuda' }, quiet)).rejects.toMatchObject({
      code: 'engine-machine',
    });
  });
  test('more memory than 32 bits address', async () => {
    const huge = { ...engine, arenaBytes: 5 * 2 ** 30 };
    await expect(wasmDevice.open(huge, quiet)).rejects.toMatchObject({ code: 'out-of-memory' });
  });
});

describe('dispose', () => {
  test('ends contexts, twice is harmless', async () => {
    const open = await wasmDevice.open(engine, { ...quiet, threads: 3 });
    const context = open.createContext();
    check(context, 1);
    open.dispose();
    open.dispose();
    context.dispose();
    expect(open.memoryBytes()).toBe(0);
    expect(() => context.execute()).toThrow(ModelError);
    expect(() => open.createContext()).toThrow(ModelError);
  });
  test('many engines one after the other', async () => {
    for (let i = 0; i < 8; i++) await withEngine({ threads: 3 }, (open) => check(open.createContext(), i));
  });
});

describe('a trap is an error, not a hang', () => {
  test.each([
    ['thread 0', 0],
    ['a worker', SIZE.n - 1],
  ])('in %s', async (_, trapAt) => {
    for (const threads of [1, 3]) {
      for (const mayWait of [true, false]) {
        const { engine: faulty } = build({ ...SIZE, trapAt });
        const open = await openWasm(faulty, { ...quiet, threads }, { ...FEATURES, mayWait });
        expect(() => open.createContext().execute()).toThrow(/trapped/);
        open.dispose();
      }
    }
  });
});
