/**
 * The driver's interface and whole engines on the GPU of this machine, where there is one: everything else about target cuda is tested without.
 */
import { describe, expect, test } from 'vitest';
import { build } from '../src/build.ts';
import { toNumbers } from '../src/core/tensor.ts';
import { compileAll } from '../src/cuda/compile.ts';
import { Context } from '../src/cuda/context.ts';
import { listDevices } from '../src/cuda/device.ts';
import { type Driver, findDriver } from '../src/cuda/driver.ts';
import { Graph } from '../src/cuda/graph.ts';
import { Launch } from '../src/cuda/launch.ts';
import { DeviceBuffer, PinnedBuffer } from '../src/cuda/memory.ts';
import { Module } from '../src/cuda/module.ts';
import { Event, Stream } from '../src/cuda/stream.ts';
import { graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import { OPS } from '../src/ops/all.ts';
import { load } from '../src/runtime/runtime.ts';
import { randomTensor } from './random.ts';

const found = await findDriver();
const driver = found as Driver;
const reason =
  typeof found === 'string' ? found : listDevices(found).length === 0 ? 'the driver shows no GPU' : undefined;

/** x[i] = 2·x[i] for i < n. */
const TWICE = `.version 6.3
.target sm_75
.address_size 64
.visible .entry twice(.param .u64 x, .param .u32 n)
{
  .reg .pred %p1;
  .reg .b32 %r<6>;
  .reg .b64 %d<3>;
  .reg .f32 %f1;
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mad.lo.u32 %r4, %r1, %r2, %r3;
  ld.param.u32 %r5, [n];
  setp.ge.u32 %p1, %r4, %r5;
  @%p1 ret;
  ld.param.u64 %d1, [x];
  mul.wide.u32 %d2, %r4, 4;
  add.u64 %d1, %d1, %d2;
  ld.global.f32 %f1, [%d1];
  add.f32 %f1, %f1, %f1;
  st.global.f32 [%d1], %f1;
  ret;
}`;
const N = 1000;

describe.skipIf(reason !== undefined)(`on the GPU of this machine${reason ? ` (skipped: ${reason})` : ''}`, () => {
  const open = () => {
    const gpu = new Context(driver, listDevices(driver)[0]);
    return { gpu, stream: new Stream(gpu) };
  };

  test('a kernel, a graph of it, events, memory of both kinds', () => {
    const { gpu, stream } = open();
    const fn = new Module(gpu, TWICE).function('twice');
    expect(fn.attributes().maxThreadsPerBlock).toBeGreaterThanOrEqual(256);
    const x = new DeviceBuffer(gpu, 4 * N);
    const host = new PinnedBuffer(gpu, 4 * N);
    const values = new Float32Array(host.bytes.buffer, host.bytes.byteOffset, N);
    values.fill(1);
    stream.upload(x, host.bytes);
    const launch = new Launch(fn, { grid: [4, 1, 1], block: [256, 1, 1] }, [x, { type: 'u32', value: N - 1 }]);
    const graph = new Graph(stream, () => {
      for (let i = 0; i < 3; i++) launch.enqueue(stream);
    });
    const [start, end] = [new Event(gpu), new Event(gpu)];
    start.record(stream);
    graph.launch(stream);
    end.record(stream);
    stream.download(host.bytes, x);
    stream.synchronize();
    expect(end.nsSince(start)).toBeGreaterThan(0);
    expect([...new Set(values.subarray(0, N - 1))]).toEqual([8]);
    expect(values[N - 1]).toBe(1);
    gpu.dispose();
  });

  test('texts are compiled beside each other, and one that is no PTX is refused with its line', async () => {
    const { gpu } = open();
    const all = await compileAll(
      gpu,
      Array.from({ length: 5 }, (_, i) => TWICE.replaceAll('twice', `twice${i}`)),
    );
    expect(new Module(gpu, all[4].cubin).function('twice4').occupancy(256)).toBeGreaterThan(0);
    await expect(compileAll(gpu, [TWICE, TWICE.replace('mad.lo', 'mad.high')])).rejects.toMatchObject({
      code: 'device-code',
      message: expect.stringMatching(/line 13/),
    });
    gpu.dispose();
  });

  test('more memory than there is', () => {
    const { gpu } = open();
    expect(() => new DeviceBuffer(gpu, 2 ** 50)).toThrow(expect.objectContaining({ code: 'out-of-memory' }));
    expect(new DeviceBuffer(gpu, 2 ** 20).address).toBeGreaterThan(0);
    gpu.dispose();
  });

  test.each(['fp32', 'fp16'] as const)('an engine in %s, run and put into a stream', async (precision) => {
    const b = graphBuilder('net', OPS);
    const x = b.input('x', 'f32', [1, 8, 20, 20]);
    const [y] = b.node('Conv', [x, b.constant(randomTensor('f32', [64, 8, 3, 3], 1))], {
      attrs: { pads: [1, 1, 1, 1] },
    });
    b.output(b.node('Relu', [y])[0]);
    const graph = b.finish();
    const input = randomTensor('f32', [1, 8, 20, 20], 2);
    const [[name, value]] = evalGraph(graph, OPS, new Map([['x', input]]));
    const want = Array.from(toNumbers(value));
    const rms = Math.sqrt(want.reduce((sum, v) => sum + v * v, 0) / want.length);
    const check = (got: ArrayLike<number | bigint>): void => {
      const worst = Math.max(...want.map((v, i) => Math.abs(Number(got[i]) - v)));
      expect(worst / rms).toBeLessThan(precision === 'fp32' ? 1e-4 : 2e-2);
    };
    const { engine } = await build(graph, { target: 'cuda', precision });
    const loaded = await load(engine);
    const context = loaded.createContext();
    check(context.run({ x: input })[name]);
    const { gpu, stream } = open();
    const [from, to] = [new DeviceBuffer(gpu, 4 * 3200), new DeviceBuffer(gpu, 4 * want.length)];
    stream.upload(from, input.data);
    context.enqueue(stream, { x: from }, { [name]: to });
    const out = new Float32Array(want.length);
    stream.download(out, to);
    stream.synchronize();
    check(out);
    loaded.dispose();
    gpu.dispose();
  });
});
