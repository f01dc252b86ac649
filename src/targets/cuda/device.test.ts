/** The CUDA device over a driver without a GPU: what it makes, runs, caches and frees, on a small engine whose answers are known exactly. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { FakeDriver, FakeFault, type FakeKernel, type FakeLaunch, STATUS } from '../../../tests/cuda/fake-driver.ts';
import { expectHandmade, handmadeEngine } from '../../../tests/handmade-engine.ts';
import { Context } from '../../cuda/context.ts';
import { Driver } from '../../cuda/driver.ts';
import type { CudaFunctionName } from '../../cuda/functions.ts';
import { DeviceBuffer, PinnedBuffer } from '../../cuda/memory.ts';
import { Stream } from '../../cuda/stream.ts';
import type { DeviceContext, OpenEngine, OpenOptions } from '../../engine/device.ts';
import type { Engine } from '../../engine/engine.ts';
import { parseEngine, serializeEngine } from '../../engine/format.ts';
import { type CacheFolder, openCacheFolder } from '../../host/cache-folder.ts';
import { cubinSections, gpuOf, obtainCubins } from './cubins.ts';
import { openProgram } from './device.ts';
import { type CudaMachine, machineOf } from './machine.ts';
import type { CudaArg, CudaProgram } from './program.ts';

const SIZE = { n: 37, rounds: 3 };
const { engine: plain, weights } = handmadeEngine(SIZE);
const engine: Engine = { ...plain, target: 'cuda', code: [] };
const quiet: OpenOptions = { threads: 'auto', onWarning: () => {} };

const KERNEL_NAMES = ['mix', 'scale', 'total', 'spread', 'trap'];
const program: CudaProgram = {
  // Two kernels a text, and one text twice.
  modules: ['.entry mix ()\n.entry scale ()', '.entry total ()', '.entry spread ()', '.entry total ()'],
  launches: engine.steps.map(({ kernel, buffers }, step) => ({
    step,
    module: [0, 0, 1, 2][kernel],
    entry: KERNEL_NAMES[kernel],
    grid: [2, 1, 1],
    block: [32, 1, 1],
    sharedBytes: kernel === 1 ? 100 * 1024 : 0,
    args: [
      ...buffers.map((ref): CudaArg => ({ kind: 'buffer', ref })),
      { kind: 'scratch', byteOffset: 8 },
      { kind: 'u32', value: SIZE.n },
    ],
  })),
  scratchBytes: 64,
  programmatic: true,
};

const words = (launch: FakeLaunch, i: number): Int32Array => {
  const bytes = launch.pointer(i);
  return new Int32Array(bytes.buffer, bytes.byteOffset, SIZE.n);
};
/** The handmade kernels; each finds its scratch zero. */
const KERNELS: Readonly<Record<string, FakeKernel>> = {
  mix: (l) => {
    const [x, y, n] = [words(l, 0), words(l, 1), l.u32(3)];
    expect([...l.pointer(2).subarray(0, 4)]).toEqual([0, 0, 0, 0]);
    y.set(x.map((v, i) => (Math.imul(v, 3) - x[(i + 1) % n] + x[(i + n - 1) % n]) | 0));
  },
  scale: (l) => void words(l, 2).set(words(l, 0).map((v, i) => Math.imul(v, words(l, 1)[i]))),
  total: (l) => {
    words(l, 1)[0] = words(l, 0).reduce((sum, v) => (sum + v) | 0, 0);
  },
  spread: (l) => void words(l, 2).set(words(l, 0).map((v) => v ^ words(l, 1)[0])),
};

const root = mkdtempSync(join(tmpdir(), 'hotrod-cubins-'));
afterAll(() => rmSync(root, { recursive: true }));
let folders = 0;
const freshCache = (): CacheFolder => openCacheFolder(join(root, `${folders++}`)) as CacheFolder;

interface Opened {
  readonly fake: FakeDriver;
  readonly open: OpenEngine;
}

function machine(options: ConstructorParameters<typeof FakeDriver>[0] = {}) {
  const fake = new FakeDriver({ kernels: KERNELS, ...options });
  return { fake, machine: machineOf(new Driver(fake.library)) as CudaMachine };
}

async function openHandmade(
  cache?: CacheFolder,
  options?: ConstructorParameters<typeof FakeDriver>[0],
): Promise<Opened> {
  const { fake, machine: here } = machine(options);
  return { fake, open: await openProgram(engine, program, quiet, here, cache) };
}

const input = (seed: number): Int32Array =>
  Int32Array.from({ length: SIZE.n }, (_, i) => (i * 7919 + seed * 104729) | 0);
function check(context: DeviceContext, seed: number): void {
  context.inputs[0].set(input(seed) as never);
  context.execute();
  expect(context.outputs[0]).toEqual(expectHandmade(input(seed), weights, SIZE.rounds));
}

test('the machine says what it is', () => {
  const { machine: here } = machine();
  expect(here.chip).toEqual({ computeCapability: 90, multiprocessors: 132, sharedBytesPerBlock: 232448 });
  expect(here.features).toEqual([
    'sm_75',
    'sm_80',
    'sm_86',
    'sm_87',
    'sm_89',
    'sm_90',
    'sm_90a',
    'multiprocessors_132',
  ]);
});

describe('running', () => {
  test('an inference is one launch and one wait', async () => {
    const { fake, open } = await openHandmade();
    const context = open.createContext();
    check(context, 1);
    fake.calls.length = 0;
    check(context, 2);
    expect(fake.calls.filter((name) => name !== 'cuCtxSetCurrent')).toEqual(['cuGraphLaunch', 'cuStreamSynchronize']);
  });

  test('contexts share the weights and nothing else', async () => {
    const { fake, open } = await openHandmade();
    const [a, b] = [open.createContext(), open.createContext()];
    check(a, 1);
    const kept = a.outputs[0].slice();
    check(b, 2);
    expect(a.outputs[0]).toEqual(kept);
    expect(fake.live()).toMatchObject({ memory: 3, pinned: 2, stream: 2 });
    b.dispose();
    check(a, 3);
    expect(open.memoryBytes()).toBeGreaterThan(engine.weightBytes.length + engine.arenaBytes);
  });

  test('each step is timed', async () => {
    const { open } = await openHandmade();
    const context = open.createContext();
    context.inputs[0].set(input(5) as never);
    const ns = new Float64Array(engine.steps.length);
    context.profile(ns);
    context.profile(ns);
    // A launch takes a microsecond of the fake's time, events none.
    for (const time of ns) expect(time).toBeCloseTo(2000);
  });

  test('phases are timed one by one, more of them than are in flight at once', async () => {
    const { fake, open } = await openHandmade();
    const context = open.createContext();
    const times = context.phases?.(150);
    expect(times?.gpuNs.length).toBe(150);
    for (const ns of times?.gpuNs ?? []) expect(ns).toBeCloseTo(1000 * engine.steps.length);
    for (const ns of [...(times?.h2dNs ?? []), ...(times?.d2hNs ?? [])]) expect(ns).toBe(0);
    expect(fake.live()).toMatchObject({ event: 1 });
  });
});

describe('enqueue', () => {
  const setup = async () => {
    const { fake, machine: here } = machine();
    const open = await openProgram(engine, program, quiet, here, undefined);
    const gpu = new Context(here.driver, here.device);
    const bytes = 4 * SIZE.n;
    return { fake, open, gpu, stream: new Stream(gpu), bytes };
  };

  test('takes memory of the GPU, and leaves what it answers there', async () => {
    const { open, gpu, stream, bytes } = await setup();
    const context = open.createContext();
    const [x, y] = [new DeviceBuffer(gpu, bytes), new DeviceBuffer(gpu, bytes)];
    for (const seed of [1, 2]) {
      stream.upload(x, input(seed));
      context.enqueue?.(stream, [x], [y]);
      const out = new Int32Array(SIZE.n);
      stream.download(out, y);
      stream.synchronize();
      expect(out).toEqual(expectHandmade(input(seed), weights, SIZE.rounds));
    }
    check(context, 3);
  });

  test('takes pinned memory, and leaves out what nobody wants', async () => {
    const { open, gpu, stream, bytes } = await setup();
    const context = open.createContext();
    const [x, y] = [new PinnedBuffer(gpu, bytes), new PinnedBuffer(gpu, bytes)];
    const array = (b: PinnedBuffer): Int32Array => new Int32Array(b.bytes.buffer, b.bytes.byteOffset, SIZE.n);
    array(x).set(input(4));
    context.enqueue?.(stream, [x], [undefined]);
    stream.synchronize();
    expect(array(y)).toEqual(new Int32Array(SIZE.n));
    context.enqueue?.(stream, [x], [y]);
    stream.synchronize();
    expect(array(y)).toEqual(expectHandmade(input(4), weights, SIZE.rounds));
  });

  test('another stream waits for the one before', async () => {
    const { fake, open, gpu, stream, bytes } = await setup();
    const context = open.createContext();
    const [x, y] = [new DeviceBuffer(gpu, bytes), new DeviceBuffer(gpu, bytes)];
    const waits = (): number => fake.calls.filter((name) => name === 'cuStreamWaitEvent').length;
    context.enqueue?.(stream, [x], [y]);
    context.enqueue?.(stream, [x], [y]);
    expect(waits()).toBe(0);
    context.enqueue?.(new Stream(gpu), [x], [y]);
    expect(waits()).toBe(1);
    context.execute();
    expect(waits()).toBe(2);
    context.execute();
    expect(waits()).toBe(2);
  });

  test('a stream of something else is refused', async () => {
    const { open } = await setup();
    expect(() => open.createContext().enqueue?.({ handle: 1 }, [], [])).toThrow(/not one of the GPU/);
  });
});

describe('lifetimes', () => {
  test('everything is freed, in any order, once', async () => {
    const { fake, open } = await openHandmade();
    const [a, b] = [open.createContext(), open.createContext()];
    a.profile(new Float64Array(engine.steps.length));
    a.phases?.(3);
    a.dispose();
    a.dispose();
    expect(() => a.execute()).toThrow(/used after dispose/);
    open.dispose();
    open.dispose();
    b.dispose();
    expect(fake.live()).toEqual({});
    expect(open.memoryBytes()).toBe(0);
    expect(() => open.createContext()).toThrow(/was disposed/);
    b.inputs[0].fill(0 as never);
  });

  const FAILURES: readonly (readonly [CudaFunctionName, number, string])[] = [
    ['cuMemAlloc_v2', STATUS.outOfMemory, 'out-of-memory'],
    ['cuModuleLoadDataEx', STATUS.noBinary, 'device-code'],
    ['cuModuleGetFunction', STATUS.notFound, 'driver-error'],
    ['cuFuncSetAttribute', STATUS.invalidValue, 'driver-error'],
    ['cuMemcpyHtoDAsync_v2', STATUS.illegalAddress, 'device-lost'],
  ];
  test.each(FAILURES)('opening that fails in %s leaves nothing', async (name, status, code) => {
    const { fake, machine: here } = machine();
    fake.failNext.set(name, status);
    await expect(openProgram(engine, program, quiet, here, undefined)).rejects.toMatchObject({ code });
    expect(fake.live()).toEqual({});
  });

  test.each([
    'cuMemAlloc_v2',
    'cuStreamCreate',
    'cuEventCreate',
    'cuStreamBeginCapture_v2',
    'cuLaunchKernelEx',
    'cuGraphInstantiateWithFlags',
    'cuGraphUpload',
    'cuStreamSynchronize',
  ] as const)('a context that fails in %s leaves the engine as it was', async (name) => {
    const { fake, open } = await openHandmade();
    const before = fake.live();
    fake.failNext.set(name, STATUS.outOfMemory);
    expect(() => open.createContext()).toThrow(expect.objectContaining({ code: 'out-of-memory' }));
    expect(fake.live()).toEqual(before);
    check(open.createContext(), 1);
  });

  test('a kernel that faults is an error with nothing left behind', async () => {
    const { fake, open } = await openHandmade(undefined, {
      kernels: {
        ...KERNELS,
        total: () => {
          throw new FakeFault('outside');
        },
      },
    });
    expect(() => open.createContext().execute()).toThrow(expect.objectContaining({ code: 'device-lost' }));
    open.dispose();
    expect(fake.live()).toEqual({});
  });
});

describe('compiled code', () => {
  test('is compiled once a text, and found again', async () => {
    const cache = freshCache();
    const first = await openHandmade(cache);
    expect(first.fake.compiled).toBe(3);
    expect(readdirSync(cache.folder).length).toBe(3);
    const second = await openHandmade(cache);
    expect(second.fake.compiled).toBe(0);
    check(second.open.createContext(), 1);
  });

  test('of another driver is not taken', async () => {
    const cache = freshCache();
    await openHandmade(cache);
    expect((await openHandmade(cache, { version: 13010 })).fake.compiled).toBe(3);
    expect(readdirSync(cache.folder).length).toBe(6);
  });

  test('that was damaged is compiled again', async () => {
    const cache = freshCache();
    await openHandmade(cache);
    const [cut, changed] = readdirSync(cache.folder).map((name) => join(cache.folder, name));
    writeFileSync(cut, readFileSync(cut).subarray(0, 50));
    const bytes = readFileSync(changed);
    bytes[bytes.length - 1] ^= 1;
    writeFileSync(changed, bytes);
    const again = await openHandmade(cache);
    expect(again.fake.compiled).toBe(2);
    check(again.open.createContext(), 1);
    expect((await openHandmade(cache)).fake.compiled).toBe(0);
  });

  test('in an engine file is used where the file is trusted, and only there', async () => {
    const { fake, machine: here } = machine();
    const gpu = new Context(here.driver, here.device);
    const code = await cubinSections(
      await obtainCubins(gpuOf(gpu), program.modules, { cache: undefined, embedded: [] }),
    );
    expect(code.length).toBe(3);
    const file = serializeEngine({ ...engine, steps: [], kernels: [], code });
    const withCode = { ...engine, code: (await parseEngine(file)).code };
    expect(withCode.code.map(({ name }) => name)).toEqual(code.map(({ name }) => name));
    const compiledBy = async (trusted: boolean, sections = withCode.code): Promise<number> => {
      const before = fake.compiled;
      const open = await openProgram({ ...withCode, code: sections }, program, { ...quiet, trusted }, here, undefined);
      check(open.createContext(), 2);
      open.dispose();
      return fake.compiled - before;
    };
    expect(await compiledBy(true)).toBe(0);
    expect(await compiledBy(false)).toBe(3);
    const damaged = code.map(({ name, bytes }, i) => ({ name, bytes: i === 1 ? bytes.subarray(0, 70) : bytes }));
    expect(await compiledBy(true, damaged)).toBe(1);
  });
});
