/** The bindings over a driver without a GPU: what they call, what they free, what they say when it fails. */
import { describe, expect, test } from 'vitest';
import { FakeDriver, FakeFault, type FakeLaunch } from '../../tests/cuda/fake-driver.ts';
import { ModelError } from '../core/errors.ts';
import { compileAll, compilePtx } from './compile.ts';
import { Context } from './context.ts';
import { listDevices } from './device.ts';
import { Driver } from './driver.ts';
import { Graph } from './graph.ts';
import { Launch } from './launch.ts';
import { DeviceBuffer, PinnedBuffer } from './memory.ts';
import { Module } from './module.ts';
import { Event, Stream } from './stream.ts';

const PTX = '.version 7.0\n.visible .entry saxpy(.param .u64 x)\n.visible .entry fault(.param .u64 x)';

const floats = (bytes: Uint8Array, n: number): Float32Array => new Float32Array(bytes.buffer, bytes.byteOffset, n);
const launches: FakeLaunch[] = [];
const KERNELS = {
  saxpy: (launch: FakeLaunch): void => {
    launches.push(launch);
    const n = launch.u32(2);
    const [x, y] = [floats(launch.pointer(0), n), floats(launch.pointer(1), n)];
    for (let i = 0; i < n; i++) y[i] += 2 * x[i];
  },
  fault: (): void => {
    throw new FakeFault('faulted');
  },
};

function open(options: ConstructorParameters<typeof FakeDriver>[0] = {}) {
  const fake = new FakeDriver({ kernels: KERNELS, ...options });
  const driver = new Driver(fake.library);
  return { fake, driver, context: new Context(driver, listDevices(driver)[0]) };
}

const codeOf = (f: () => unknown): string | undefined => {
  try {
    f();
    return undefined;
  } catch (error) {
    return (error as ModelError).code;
  }
};

test('a device is described', () => {
  const { driver } = open();
  expect(listDevices(driver)).toMatchObject([
    {
      ordinal: 0,
      name: 'Fake GPU',
      uuid: 'GPU-00010203-0405-0607-0809-0a0b0c0d0e0f',
      computeCapability: 90,
      totalBytes: 2 ** 36,
      attributes: { multiprocessors: 132, sharedBytesPerBlockOptIn: 232448, maxThreadsPerBlock: 1024 },
    },
  ]);
});

test('a machine without a GPU says so', () => {
  expect(() => new Driver(new FakeDriver({ devices: 0 }).library)).toThrow(
    'CUDA could not start the driver: FAKE_ERROR_100 (fake error 100)',
  );
});

describe('memory', () => {
  test('goes there and back, and to other places', () => {
    const { context } = open();
    const stream = new Stream(context);
    const [a, b] = [new DeviceBuffer(context, 64), new DeviceBuffer(context, 64)];
    const data = Float32Array.from({ length: 8 }, (_, i) => i);
    stream.fill(a.address, 0, 64);
    stream.upload(a, data, 16);
    stream.copy(b.address, a.address, 64);
    const back = new Float32Array(12).fill(-1);
    stream.download(back, b);
    stream.synchronize();
    expect([...back]).toEqual([0, 0, 0, 0, ...data]);
  });

  test('no copy leaves its buffer, and an empty one is not a call', () => {
    const { fake, context } = open();
    const stream = new Stream(context);
    const buffer = new DeviceBuffer(context, 16);
    expect(() => stream.upload(buffer, new Float32Array(4), 1)).toThrow(RangeError);
    expect(() => stream.download(new Float32Array(5), buffer)).toThrow(RangeError);
    const empty = new DeviceBuffer(context, 0);
    const before = fake.calls.length;
    stream.upload(empty, new Float32Array(0));
    stream.fill(empty.address, 0, 0);
    expect(fake.calls.length).toBe(before);
  });

  test('pinned memory begins at a page, and its views outlive it', () => {
    const { fake, context } = open();
    const pinned = new PinnedBuffer(context, 5000);
    expect(pinned.isPinned).toBe(true);
    expect(pinned.address % 4096).toBe(0);
    expect(pinned.bytes.length).toBe(5000);
    expect(fake.live()).toMatchObject({ pinned: 1 });
    const { bytes } = pinned;
    pinned.dispose();
    pinned.dispose();
    bytes[4999] = 7;
    expect(bytes[4999]).toBe(7);
    expect(fake.live()).not.toHaveProperty('pinned');
  });

  test('memory that the system does not pin serves all the same', () => {
    const { fake, context } = open();
    fake.failNext.set('cuMemHostRegister_v2', 801);
    const pinned = new PinnedBuffer(context, 64);
    expect(pinned.isPinned).toBe(false);
    const stream = new Stream(context);
    const buffer = new DeviceBuffer(context, 64);
    stream.upload(buffer, pinned.bytes.fill(3));
    pinned.dispose();
    const back = new Uint8Array(64);
    stream.download(back, buffer);
    expect(back).toEqual(new Uint8Array(64).fill(3));
  });

  test('too much is an error that says how much', () => {
    const { fake, context } = open({ totalBytes: 1000 });
    expect(codeOf(() => new DeviceBuffer(context, 2 ** 21))).toBe('out-of-memory');
    expect(() => new DeviceBuffer(context, 2 ** 21)).toThrow('CUDA could not allocate 2.0 MiB on GPU 0: FAKE_ERROR_2');
    expect(fake.live()).toEqual({ context: 1 });
  });
});

describe('kernels', () => {
  const setup = (options: ConstructorParameters<typeof FakeDriver>[0] = {}) => {
    const opened = open(options);
    const stream = new Stream(opened.context);
    const [x, y] = [new DeviceBuffer(opened.context, 400), new DeviceBuffer(opened.context, 400)];
    stream.upload(
      x,
      Float32Array.from({ length: 100 }, (_, i) => i),
    );
    stream.upload(y, new Float32Array(100).fill(1));
    const fn = new Module(opened.context, PTX).function('saxpy');
    const read = (): number[] => {
      const out = new Float32Array(100);
      stream.download(out, y);
      stream.synchronize();
      return [...out];
    };
    launches.length = 0;
    return { ...opened, stream, x, y, fn, read };
  };
  const grid = { grid: [4, 2, 1], block: [32, 1, 1], sharedBytes: 100 } as const;

  for (const without of [[], ['cuLaunchKernelEx']] as const) {
    test(`run with their arguments${without.length > 0 ? `, without ${without}` : ''}`, () => {
      const { stream, x, y, fn, read } = setup({ without });
      new Launch(fn, grid, [x, y, { type: 'u32', value: 100 }]).enqueue(stream);
      expect(read()).toEqual(Array.from({ length: 100 }, (_, i) => 2 * i + 1));
      expect(launches[0]).toMatchObject({ grid: [4, 2, 1], block: [32, 1, 1], sharedBytes: 100, attributes: [] });
    });
  }

  test('overlap and cluster are attributes of the launch', () => {
    const { stream, x, y, fn } = setup();
    const args = [x, y, { type: 'u32', value: 1 }] as const;
    new Launch(fn, { ...grid, programmatic: true, cluster: [2, 1, 1] }, args).enqueue(stream);
    expect(launches[0]).toMatchObject({ grid: [4, 2, 1], sharedBytes: 100, attributes: [4, 6], cluster: [2, 1, 1] });
    new Launch(fn, { ...grid, cooperative: true }, args).enqueue(stream);
    expect(launches[1].attributes).toEqual([2]);
  });

  test('without a driver that knows it, overlap is left out and a cluster refused', () => {
    const { stream, x, y, fn } = setup({ without: ['cuLaunchKernelEx'] });
    const args = [x, y, { type: 'u32', value: 1 }] as const;
    new Launch(fn, { ...grid, programmatic: true }, args).enqueue(stream);
    expect(launches[0].attributes).toEqual([]);
    expect(codeOf(() => new Launch(fn, { ...grid, cluster: [2, 1, 1] }, args))).toBe('driver-error');
    expect(codeOf(() => new Launch(fn, { ...grid, cooperative: true }, args))).toBe('driver-error');
  });

  test('an impossible grid is refused before the driver sees it', () => {
    const { fn } = setup();
    for (const wrong of [
      [0, 1, 1],
      [1, 70000, 1],
      [1.5, 1, 1],
    ] as const)
      expect(codeOf(() => new Launch(fn, { ...grid, grid: wrong }, []))).toBe('option-invalid');
  });

  test('a graph runs what was recorded, each time anew', () => {
    const { fake, stream, x, y, fn, read } = setup();
    const launch = new Launch(fn, grid, [x, y, { type: 'u32', value: 100 }]);
    const graph = new Graph(stream, () => {
      launch.enqueue(stream);
      launch.enqueue(stream);
    });
    expect(graph.nodes).toBe(2);
    expect(read()[3]).toBe(1);
    graph.upload(stream);
    graph.launch(stream);
    graph.launch(stream);
    expect(read()[3]).toBe(1 + 4 * 6);
    graph.dispose();
    graph.dispose();
    expect(fake.live()).not.toHaveProperty('exec');
    expect(fake.live()).not.toHaveProperty('graph');
  });

  test('a recording that fails leaves no graph and a stream of use', () => {
    const { fake, stream, x, y, fn, read } = setup();
    const launch = new Launch(fn, grid, [x, y, { type: 'u32', value: 100 }]);
    const fails = (): Graph =>
      new Graph(stream, () => {
        launch.enqueue(stream);
        throw new Error('mine');
      });
    expect(fails).toThrow('mine');
    fake.failNext.set('cuGraphInstantiateWithFlags', 2);
    expect(codeOf(() => new Graph(stream, () => launch.enqueue(stream)))).toBe('out-of-memory');
    expect(fake.live()).not.toHaveProperty('graph');
    launch.enqueue(stream);
    expect(read()[1]).toBe(3);
  });

  test('events time what lies between them', () => {
    const { context, stream, x, y, fn } = setup();
    const launch = new Launch(fn, grid, [x, y, { type: 'u32', value: 1 }]);
    const [start, end] = [new Event(context), new Event(context)];
    start.record(stream);
    for (let i = 0; i < 3; i++) launch.enqueue(stream);
    end.record(stream);
    end.synchronize();
    expect(end.isReady()).toBe(true);
    expect(end.nsSince(start)).toBeCloseTo(3000);
    const graph = new Graph(stream, () => {
      start.recordInGraph(stream);
      launch.enqueue(stream);
      end.recordInGraph(stream);
    });
    graph.launch(stream);
    expect(end.nsSince(start)).toBeCloseTo(1000);
  });

  test('a kernel that is not there is named', () => {
    const { context } = setup();
    expect(() => new Module(context, PTX).function('nothing')).toThrow('CUDA could not find kernel nothing');
  });

  test('a fault is told to who waits, and ends the use of the GPU', () => {
    const { fake, driver, context, stream, x } = setup();
    new Launch(new Module(context, PTX).function('fault'), grid, [x]).enqueue(stream);
    expect(codeOf(() => stream.synchronize())).toBe('device-lost');
    expect(driver.isLost).toBe(true);
    expect(codeOf(() => new DeviceBuffer(context, 4))).toBe('device-lost');
    context.dispose();
    expect(fake.live()).toEqual({});
    expect(codeOf(() => new Context(driver, listDevices(driver)[0]))).toBe('device-lost');
  });
});

describe('code', () => {
  test('text that is no PTX is refused, and nothing is left', () => {
    const { fake, context } = open();
    expect(codeOf(() => compilePtx(context, 'broken'))).toBe('device-code');
    expect(codeOf(() => new Module(context, 'broken'))).toBe('device-code');
    expect(codeOf(() => new Module(context, 'sm_999 .entry'))).toBe('device-code');
    expect(fake.live()).toEqual({ context: 1 });
  });

  test('a cubin loads where its text was compiled', () => {
    const { fake, context } = open();
    const { cubin } = compilePtx(context, PTX);
    expect(fake.live()).toEqual({ context: 1 });
    expect(new Module(context, cubin).function('saxpy').occupancy(256)).toBe(8);
  });

  for (const compilers of [true, false]) {
    test(`many texts are compiled ${compilers ? 'beside each other' : 'here if it must be'}`, async () => {
      const { fake, context } = open({ compilers });
      const texts = Array.from({ length: 20 }, (_, i) => `.entry k${i}()`);
      const all = await compileAll(context, texts);
      for (const [i, { cubin }] of all.entries())
        expect(new Module(context, cubin).function(`k${i}`).name).toBe(`k${i}`);
      await expect(compileAll(context, ['.entry a()', 'broken', '.entry b()'])).rejects.toMatchObject({
        code: 'device-code',
      });
      expect(fake.live()).toEqual({ context: 1, module: 20 });
      expect(await compileAll(context, [])).toEqual([]);
    });
  }

  test('a cubin that is cut short never reaches the driver', () => {
    const { fake, context } = open();
    const { cubin } = compilePtx(context, PTX);
    new DataView(cubin.buffer).setBigUint64(40, 40n, true);
    new DataView(cubin.buffer).setUint16(58, 64, true);
    new DataView(cubin.buffer).setUint16(60, 3, true);
    for (const wrong of [cubin, cubin.subarray(0, 50), new Uint8Array(200).fill(7), new Uint8Array(0)])
      expect(codeOf(() => new Module(context, wrong))).toBe('device-code');
    expect(fake.calls).not.toContain('cuModuleLoadDataEx');
  });
});

describe('lifetimes', () => {
  test('a context frees what is left in it, the youngest first', () => {
    const { fake, context } = open();
    const kept = new DeviceBuffer(context, 64);
    new Stream(context);
    new Event(context);
    new Module(context, PTX);
    new PinnedBuffer(context, 64);
    new Graph(new Stream(context), () => {});
    context.dispose();
    context.dispose();
    kept.dispose();
    expect(fake.live()).toEqual({});
    const destroyed = fake.calls.filter((name) => /Destroy|Free|Unload|Unregister|Release/.test(name));
    expect(destroyed).toEqual([
      'cuGraphDestroy',
      'cuGraphExecDestroy',
      'cuStreamDestroy_v2',
      'cuMemHostUnregister',
      'cuModuleUnload',
      'cuEventDestroy_v2',
      'cuStreamDestroy_v2',
      'cuMemFree_v2',
      'cuDevicePrimaryCtxRelease_v2',
    ]);
  });

  test('a use that was begun on another thread ends by itself, and a refusal of it is told by the context', async () => {
    const fake = new FakeDriver();
    const driver = new Driver(fake.library);
    const [device] = listDevices(driver);
    const end = await Context.begin(driver, device);
    const retained = fake.calls.filter((name) => name === 'cuDevicePrimaryCtxRetain').length;
    expect(retained).toBe(1);
    const context = new Context(driver, device);
    end();
    expect(new DeviceBuffer(context, 64).address).toBeGreaterThan(0);
    context.dispose();
    expect(fake.live()).toEqual({});
    fake.failNext.set('cuDevicePrimaryCtxRetain', 2);
    const nothing = await Context.begin(driver, device);
    nothing();
    expect(fake.live()).toEqual({});
  });

  test('a context is of no use after dispose', () => {
    const { context } = open();
    const stream = new Stream(context);
    context.dispose();
    expect(codeOf(() => stream.synchronize())).toBe('disposed');
    expect(codeOf(() => new DeviceBuffer(context, 4))).toBe('disposed');
  });

  test('using frees at the end of the block', () => {
    const { fake, context } = open();
    {
      using buffer = new DeviceBuffer(context, 64);
      expect(buffer.byteLength).toBe(64);
    }
    expect(fake.live()).toEqual({ context: 1 });
  });

  test('errors are of one kind', () => {
    const { context } = open({ totalBytes: 1 });
    expect(() => new DeviceBuffer(context, 2)).toThrow(ModelError);
  });
});
