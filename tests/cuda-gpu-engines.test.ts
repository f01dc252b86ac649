/**
 * Engines on the GPU of this machine, where there is one: built for other GPUs, beside each other, and after processes that ended badly.
 *
 * What ends a process's use of the GPU is done in processes of their own, which run the built package.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { build } from '../src/build.ts';
import { type Tensor, toNumbers } from '../src/core/tensor.ts';
import { Context } from '../src/cuda/context.ts';
import type { Driver } from '../src/cuda/driver.ts';
import { DeviceBuffer, PinnedBuffer } from '../src/cuda/memory.ts';
import { Event, Stream } from '../src/cuda/stream.ts';
import type { Engine } from '../src/engine/engine.ts';
import { parseEngine, serializeEngine } from '../src/engine/format.ts';
import { graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import { openCacheFolder } from '../src/host/cache-folder.ts';
import { OPS } from '../src/ops/all.ts';
import { load } from '../src/runtime/runtime.ts';
import { cubinSections, gpuOf, obtainCubins } from '../src/targets/cuda/cubins.ts';
import { programOf } from '../src/targets/cuda/device.ts';
import type { CudaMachine } from '../src/targets/cuda/machine.ts';
import { GPU, WITHOUT_GPU } from './cuda/gpu-here.ts';
import { randomTensor } from './random.ts';

const DIST = fileURLToPath(new URL('../dist', import.meta.url));

/** Convolutions for tensor cores and for others, a mean, a classifier. */
const graph = (() => {
  const b = graphBuilder('net', OPS);
  let seed = 1;
  const weight = (...shape: number[]) => b.constant(randomTensor('f32', shape, seed++, [-0.2, 0.2]));
  const conv = (x: string, ...shape: number[]) =>
    b.node('Relu', b.node('Conv', [x, weight(...shape), weight(shape[0])], { attrs: { pads: [1, 1, 1, 1] } }))[0];
  const x = b.input('x', 'f32', [2, 16, 18, 18]);
  const a = conv(conv(x, 32, 16, 3, 3), 32, 32, 3, 3);
  const mean = b.node('Flatten', b.node('GlobalAveragePool', [conv(a, 64, 32, 3, 3)]))[0];
  b.output(b.node('Gemm', [mean, weight(64, 40)])[0]);
  return b.finish();
})();
const OUTPUT = graph.outputs[0];
const inputOf = (seed: number): Tensor => randomTensor('f32', [2, 16, 18, 18], seed);
const wanted = (x: Tensor): number[] => Array.from(toNumbers(evalGraph(graph, OPS, new Map([['x', x]])).get(OUTPUT)!));

function check(got: ArrayLike<number | bigint>, want: readonly number[], tolerance: number, label = ''): void {
  const rms = Math.sqrt(want.reduce((sum, v) => sum + v * v, 0) / want.length);
  const worst = Math.max(...want.map((v, i) => Math.abs(Number(got[i]) - v)));
  expect(worst / rms, label).toBeLessThan(tolerance);
}

async function engineFor(gpuArch?: string): Promise<Engine> {
  const { engine } = await build(graph, { target: 'cuda', precision: 'fp16', ...(gpuArch && { gpuArch }) });
  return engine;
}

/** Runs an ES module with the built package in `dist`. */
function child(code: string): {
  readonly kill: () => void;
  readonly line: Promise<string>;
  readonly end: Promise<string>;
} {
  const text = `const dist = ${JSON.stringify(DIST)};\n${code}`;
  const process_ = spawn(process.execPath, ['--input-type=module', '-e', text], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const line = new Promise<string>((resolve) => {
    for (const stream of [process_.stdout, process_.stderr])
      stream.on('data', (data) => {
        output += data;
        if (output.includes('\n')) resolve(output);
      });
  });
  const end = new Promise<string>((resolve) => process_.on('exit', (status) => resolve(`${output}exit ${status}`)));
  return { kill: () => process_.kill('SIGKILL'), line, end };
}

const OPEN_IN_CHILD = `
const { openCuda, Context, listDevices, Module, Launch, Stream, DeviceBuffer } = await import(dist + '/cuda/cuda.js');
const driver = await openCuda();
const gpu = new Context(driver, listDevices(driver)[0]);
const stream = new Stream(gpu);
const kernel = (body) => new Module(gpu, '.version 6.3\\n.target sm_75\\n.address_size 64\\n.visible .entry k(.param .u64 x)\\n{\\n' + body + '\\n}').function('k');
const x = new DeviceBuffer(gpu, 1 << 20);
const run = (body, block = [32, 1, 1]) => { new Launch(kernel(body), { grid: [1, 1, 1], block }, [x]).enqueue(stream); stream.synchronize(); };
const codeOf = (work) => { try { work(); return 'done'; } catch (error) { return error.code + ': ' + error.message; } };
`;

describe.skipIf(!GPU)(`engines on the GPU of this machine${GPU ? '' : ` (skipped: ${WITHOUT_GPU})`}`, () => {
  const { driver, device } = (GPU ?? {}) as CudaMachine;
  const open = (): { readonly gpu: Context; readonly stream: Stream; readonly driver: Driver } => {
    const gpu = new Context(driver, device);
    onTestFinished(() => gpu.dispose());
    return { gpu, stream: new Stream(gpu), driver };
  };

  test.each(['sm_75', 'sm_80', 'sm_89', 'sm_90'])('built for %s', async (arch) => {
    const warnings: string[] = [];
    const loaded = await load(serializeEngine(await engineFor(arch)), { onWarning: (w) => warnings.push(w) });
    const x = inputOf(1);
    check(loaded.createContext().run({ x })[OUTPUT], wanted(x), 2e-2);
    // Nothing that it could do is missing; it may have been meant for a larger or a smaller GPU.
    if (Number(arch.slice(3)) <= device.computeCapability)
      expect(warnings.filter((text) => /sm_/.test(text) || !/multiprocessors_/.test(text))).toEqual([]);
    loaded.dispose();
  });

  test('code of a file is used where the file is trusted, and compiled where it is stale', async () => {
    const engine = await engineFor();
    const { modules } = programOf(engine, GPU!);
    const { gpu } = open();
    const folder = mkdtempSync(join(tmpdir(), 'hotrod-cubins-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const cache = openCacheFolder(folder)!;
    const compiled = await obtainCubins(gpuOf(gpu), modules, { cache, embedded: [] });
    expect(compiled.compiled).toBe(new Set(compiled.keys).size);
    expect(readdirSync(folder).length).toBe(compiled.compiled);
    expect((await obtainCubins(gpuOf(gpu), modules, { cache, embedded: [] })).compiled).toBe(0);
    const code = await cubinSections(compiled);
    const file = await parseEngine(serializeEngine({ ...engine, code: [...engine.code, ...code] }));
    expect((await obtainCubins(gpuOf(gpu), modules, { cache: undefined, embedded: file.code })).compiled).toBe(0);
    const stale = file.code.map(({ name, bytes }) => ({ name, bytes: bytes.map((b, i) => (i === 99 ? b ^ 1 : b)) }));
    expect((await obtainCubins(gpuOf(gpu), modules, { cache: undefined, embedded: stale })).compiled).toBeGreaterThan(
      0,
    );
    const x = inputOf(2);
    for (const trusted of [true, false]) {
      const loaded = await load(serializeEngine(file), { trusted });
      check(loaded.createContext().run({ x })[OUTPUT], wanted(x), 2e-2);
      loaded.dispose();
    }
  });

  test('contexts in streams of their own at once, from pinned memory', async () => {
    const loaded = await load(await engineFor());
    const { gpu } = open();
    const bytes = 4 * inputOf(0).data.length;
    const lanes = Array.from({ length: 4 }, (_, lane) => ({
      lane,
      context: loaded.createContext(),
      stream: new Stream(gpu),
      from: Array.from({ length: 8 }, () => new PinnedBuffer(gpu, bytes)),
      to: Array.from({ length: 8 }, () => new PinnedBuffer(gpu, 4 * 80)),
      start: new Event(gpu),
      end: new Event(gpu),
    }));
    const seedOf = (lane: number, i: number): number => 10 + 8 * lane + i;
    for (const { lane, from } of lanes)
      from.forEach((buffer, i) => {
        buffer.bytes.set(new Uint8Array((inputOf(seedOf(lane, i)).data as Float32Array).buffer));
      });
    for (const { start, stream } of lanes) start.record(stream);
    for (let i = 0; i < 8; i++)
      for (const { context, stream, from, to } of lanes) context.enqueue(stream, { x: from[i] }, { [OUTPUT]: to[i] });
    for (const { end, stream } of lanes) end.record(stream);
    for (const { stream, start, end } of lanes) {
      stream.synchronize();
      expect(end.nsSince(start)).toBeGreaterThan(0);
    }
    for (const { lane, to } of lanes)
      to.forEach(({ bytes: out }, i) => {
        const got = new Float32Array(out.buffer, out.byteOffset, 80);
        check(got, wanted(inputOf(seedOf(lane, i))), 2e-2, `lane ${lane}, inference ${i}`);
      });
    // One context in two streams, without a wait of the host.
    const [{ context, from, to }, other] = lanes;
    for (let i = 0; i < 8; i++)
      context.enqueue(i % 2 === 0 ? lanes[0].stream : other.stream, { x: from[7 - i] }, { [OUTPUT]: to[i] });
    gpu.synchronize();
    to.forEach(({ bytes: out }, i) => {
      check(new Float32Array(out.buffer, out.byteOffset, 80), wanted(inputOf(seedOf(0, 7 - i))), 2e-2, `again, ${i}`);
    });
    loaded.dispose();
  });

  test('its phases and its steps are timed', async () => {
    const loaded = await load(await engineFor());
    const context = loaded.createContext();
    const x = inputOf(3);
    const phases = context.phases({ x }, 70)!;
    for (const times of [phases.enqueueNs, phases.h2dNs, phases.gpuNs, phases.d2hNs]) {
      expect(times.length).toBe(70);
      expect(times.every((ns) => ns > 0 && ns < 1e9)).toBe(true);
    }
    const steps = context.profile({ x });
    expect(steps.length).toBeGreaterThan(3);
    expect(steps.reduce((sum, { ns }) => sum + ns, 0)).toBeGreaterThan(0);
    check(context.run({ x })[OUTPUT], wanted(x), 2e-2);
    loaded.dispose();
  });

  test('a memory that is full is an error with nothing left behind', async () => {
    const { gpu } = open();
    const engine = await engineFor();
    const full: DeviceBuffer[] = [];
    // Down to the last pieces: an engine needs about a megabyte.
    for (let bytes = 2 ** 36; bytes >= 2 ** 16; )
      try {
        full.push(new DeviceBuffer(gpu, bytes));
      } catch (cause) {
        expect(cause).toMatchObject({ code: 'out-of-memory' });
        bytes /= 2;
      }
    for (let i = 0; i < 3; i++)
      await expect(load(engine).then((loaded) => loaded.createContext())).rejects.toMatchObject({
        code: 'out-of-memory',
        message: expect.stringMatching(/GPU|memory/),
      });
    for (const buffer of full) buffer.dispose();
    const loaded = await load(engine);
    const x = inputOf(4);
    check(loaded.createContext().run({ x })[OUTPUT], wanted(x), 2e-2);
    loaded.dispose();
  });

  describe.skipIf(!existsSync(join(DIST, 'cuda/cuda.js')))('processes (npm run build makes what they run)', () => {
    const BAD: readonly (readonly [string, string])[] = [
      ['a trap', 'trap;'],
      ['an address outside', '.reg .b64 %d;\n mov.u64 %d, 4096;\n st.global.u32 [%d], 1;\n ret;'],
      ['an address not aligned', '.reg .b64 %d;\n ld.param.u64 %d, [x];\n st.global.u32 [%d+1], 1;\n ret;'],
    ];
    test.each(BAD)('%s is a clear error, and the next process works', async (_, body) => {
      const text = await child(`${OPEN_IN_CHILD}
console.log(codeOf(() => run(${JSON.stringify(body)})));
console.log(codeOf(() => new DeviceBuffer(gpu, 4096)));
console.log(driver.isLost);
gpu.dispose();
`).end;
      const lines = text.trim().split('\n');
      expect(lines[0]).toMatch(/^device-lost: CUDA could not finish the work of a stream: CUDA_ERROR_/);
      expect(lines[1]).toMatch(/^device-lost: /);
      expect(lines.slice(2)).toEqual(['true', 'exit 0']);
      const loaded = await load(await engineFor());
      const x = inputOf(5);
      check(loaded.createContext().run({ x })[OUTPUT], wanted(x), 2e-2);
      loaded.dispose();
    });

    test('a process killed in the midst of a kernel leaves the GPU free', async () => {
      const running = child(`${OPEN_IN_CHILD}
const held = new DeviceBuffer(gpu, 2 ** 32);
console.log('begins');
// About a minute: nobody waits for it.
run('.reg .b32 %r;\\n.reg .pred %p;\\n mov.u32 %r, 0;\\nL: nanosleep.u32 1000000;\\n add.u32 %r, %r, 1;\\n setp.lt.u32 %p, %r, 60000;\\n @%p bra L;\\n ret;');
`);
      expect(await running.line).toBe('begins\n');
      await new Promise((done) => setTimeout(done, 500));
      const { gpu } = open();
      const before = gpu.memoryInfo().freeBytes;
      running.kill();
      expect(await running.end).toMatch(/exit null/);
      const deadline = Date.now() + 10_000;
      while (gpu.memoryInfo().freeBytes < before + 2 ** 31 && Date.now() < deadline)
        await new Promise((done) => setTimeout(done, 50));
      expect(gpu.memoryInfo().freeBytes).toBeGreaterThan(before + 2 ** 31);
      const loaded = await load(await engineFor());
      const x = inputOf(6);
      check(loaded.createContext().run({ x })[OUTPUT], wanted(x), 2e-2);
      loaded.dispose();
    });
  });
});
