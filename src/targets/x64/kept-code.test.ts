/**
 * Code kept in the user's cache: the same bytes as would be emitted, found by nothing but an equal engine on an equal machine, and never
 * run where anything about it has changed.
 */
import { chmodSync, copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { build } from '../../build.ts';
import { fromNumbers } from '../../core/tensor.ts';
import type { Device } from '../../engine/device.ts';
import type { Engine } from '../../engine/engine.ts';
import { parseEngine, serializeEngine } from '../../engine/format.ts';
import { graphBuilder } from '../../graph/build.ts';
import { type CacheFolder, openCacheFolder } from '../../host/cache-folder.ts';
import { OPS } from '../../ops/all.ts';
import { loadEngine } from '../../runtime/load.ts';
import { compileEngine } from './compile.ts';
import { x64DeviceWith } from './device.ts';
import { type KeptCode, keptCode } from './kept-code.ts';
import { type X64Machine, x64Machine } from './machine.ts';
import { crewOf } from './open.ts';

const found = await x64Machine();
const machine = found as X64Machine;
const reason = typeof found === 'string' ? ` (skipped: ${found})` : '';

const root = mkdtempSync(join(tmpdir(), 'hotrod-kept-'));
afterAll(() => rmSync(root, { recursive: true }));
let folders = 0;
const freshFolder = (): CacheFolder => openCacheFolder(join(root, `${folders++}`)) as CacheFolder;

/** What was asked for and found, and what was written. */
interface Watched {
  readonly device: Device;
  readonly counts: { found: number; missed: number; written: number };
}
function watch(kept: KeptCode): Watched {
  const counts = { found: 0, missed: 0, written: 0 };
  const watched: KeptCode = {
    read: async (...args) => {
      const compiled = await kept.read(...args);
      counts[compiled ? 'found' : 'missed']++;
      return compiled;
    },
    write: (...args) => {
      counts.written++;
      return kept.write(...args);
    },
  };
  return { counts, device: x64DeviceWith(() => watched) };
}

/** softmax(relu(x · w)), w all of one number. */
async function buildNetwork(weight = 0.5): Promise<Engine> {
  const b = graphBuilder('net', OPS);
  const x = b.input('x', 'f32', [3, 20]);
  const w = b.constant(fromNumbers('f32', [20, 37], new Array<number>(740).fill(weight)), 'w');
  const [product] = b.node('MatMul', [x, w]);
  const [rectified] = b.node('Relu', [product]);
  b.output(rectified);
  b.output(b.node('Softmax', [rectified])[0]);
  return (await build(b.finish(), { target: 'x64' })).engine;
}

const INPUT = Float32Array.from({ length: 60 }, (_, i) => (i % 7) - 3);
async function outputs(bytes: Uint8Array, device: Device, options: Partial<Parameters<typeof loadEngine>[1]> = {}) {
  const loaded = await loadEngine(bytes, { devices: [device], threads: 2, ...options });
  try {
    return Object.values(loaded.createContext().run({ x: INPUT }));
  } finally {
    loaded.dispose();
  }
}

describe.skipIf(typeof found === 'string')(`kept code${reason}`, () => {
  let engine: Engine;
  let file: Uint8Array;
  beforeAll(async () => {
    engine = await buildNetwork();
    file = serializeEngine(engine);
  });

  test('an engine is compiled once and found from then on, with the same answers', async () => {
    const { device, counts } = watch(keptCode(freshFolder(), 'a'));
    const first = await outputs(file, device);
    expect(counts).toEqual({ found: 0, missed: 1, written: 1 });
    expect(await outputs(file, device)).toEqual(first);
    expect(counts).toEqual({ found: 1, missed: 1, written: 1 });
    // 20 products of a half and a number whose sum over the row is exact.
    const row = INPUT.subarray(0, 20).reduce((sum, v) => sum + v, 0);
    expect(first[0][0]).toBe(Math.max(0, row / 2));
  });

  test('what is found is what would be emitted, byte for byte', async () => {
    const kept = keptCode(freshFolder(), 'a');
    const crew = crewOf(3);
    const read = await parseEngine(file);
    const compiled = { ...compileEngine(read, machine, crew), warnings: ['slower', 'for two reasons'] };
    await kept.write('f', machine, crew, compiled);
    expect(await kept.read('f', machine, crew)).toEqual(compiled);
    expect(compileEngine(await parseEngine(file), machine, crew).code).toEqual(compiled.code);
  });

  test('warnings are told again', async () => {
    const { device } = watch(keptCode(freshFolder(), 'a'));
    // A tactic of no machine gives way to another.
    const params = { ...engine.steps[0].tactic.params, lanes: 5 };
    const steps = engine.steps.map((step, i) => (i > 0 ? step : { ...step, tactic: { ...step.tactic, params } }));
    const strange = serializeEngine({ ...engine, steps });
    for (let round = 0; round < 2; round++) {
      const told: string[] = [];
      await outputs(strange, device, { onWarning: (message) => told.push(message) });
      expect(told, `round ${round}`).toEqual([expect.stringContaining('were chosen again')]);
    }
  });

  test('other sources, threads, features, kernels or manifest find nothing', async () => {
    const folder = freshFolder();
    const crew = crewOf(2);
    const compiled = { code: emptyCode, contextBytes: 64, warnings: [] };
    await keptCode(folder, 'a').write('f', machine, crew, compiled);
    const narrow = { ...machine, features: machine.features.slice(1) };
    expect(await keptCode(folder, 'a').read('f', machine, crew)).toEqual(compiled);
    expect(await keptCode(folder, 'b').read('f', machine, crew)).toBeUndefined();
    expect(await keptCode(folder, 'a').read('g', machine, crew)).toBeUndefined();
    expect(await keptCode(folder, 'a').read('f', machine, { ...crew, threads: 3 })).toBeUndefined();
    expect(
      await keptCode(folder, 'a').read('f', machine, { ...crew, patience: { ...crew.patience, spins: 3 } }),
    ).toBeUndefined();
    expect(await keptCode(folder, 'a').read('f', narrow, crew)).toBeUndefined();
  });

  test('other weights of the same network are run by the same code', async () => {
    const { device, counts } = watch(keptCode(freshFolder(), 'a'));
    const [half] = await outputs(file, device);
    const [whole] = await outputs(serializeEngine(await buildNetwork(1)), device);
    expect(counts).toEqual({ found: 1, missed: 1, written: 1 });
    expect([...whole]).toEqual(Array.from(half as Float32Array, (v) => 2 * v));
  });

  test('an engine that is not from a file keeps nothing, and who wants no cache neither reads nor writes', async () => {
    const { device, counts } = watch(keptCode(freshFolder(), 'a'));
    (await loadEngine(engine, { devices: [device] })).dispose();
    await outputs(file, device, { cache: false });
    await outputs(file, device);
    await outputs(file, device, { cache: false });
    expect(counts).toEqual({ found: 0, missed: 1, written: 1 });
  });

  test('a cut or altered entry is not run but made again', async () => {
    const folder = freshFolder();
    const kept = keptCode(folder, 'a');
    const crew = crewOf(2);
    const compiled = { code: emptyCode, contextBytes: 64, warnings: [] };
    await kept.write('f', machine, crew, compiled);
    const [name] = readdirSync(folder.folder);
    const path = join(folder.folder, name);
    const whole = readFileSync(path);
    const change = fc.oneof(
      fc.nat(whole.length - 1).map((length) => whole.subarray(0, length)),
      fc.tuple(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 })).map(([at, flip]) => {
        const other = Uint8Array.from(whole);
        other[at] ^= flip;
        return other;
      }),
      fc.uint8Array({ minLength: 1, maxLength: 70 }).map((more) => Buffer.concat([whole, more])),
    );
    await fc.assert(
      fc.asyncProperty(change, async (bytes) => {
        writeFileSync(path, bytes, { mode: 0o600 });
        expect(await kept.read('f', machine, crew)).toBeUndefined();
        // It will not be read again.
        expect(readdirSync(folder.folder)).toEqual([]);
      }),
      { numRuns: 200 },
    );
    // The same by loading.
    const watched = watch(keptCode(folder, 'a'));
    const right = await outputs(file, watched.device);
    const [entry] = readdirSync(folder.folder);
    const bytes = readFileSync(join(folder.folder, entry));
    // The first function of the code: what would be run is a return at once.
    bytes[bytes.length >> 1] = 0xc3;
    writeFileSync(join(folder.folder, entry), bytes);
    expect(await outputs(file, watched.device)).toEqual(right);
    expect(watched.counts).toEqual({ found: 0, missed: 2, written: 2 });
  });

  test('an entry under the name of another is not run', async () => {
    const folder = freshFolder();
    const kept = keptCode(folder, 'a');
    const crew = crewOf(2);
    const compiled = { code: emptyCode, contextBytes: 64, warnings: [] };
    await kept.write('f', machine, crew, compiled);
    const [f] = readdirSync(folder.folder);
    await kept.write('g', machine, crew, compiled);
    const g = readdirSync(folder.folder).find((name) => name !== f) as string;
    copyFileSync(join(folder.folder, f), join(folder.folder, g));
    expect(await kept.read('g', machine, crew)).toBeUndefined();
    expect(await kept.read('f', machine, crew)).toEqual(compiled);
  });

  test.skipIf(process.platform === 'win32')('a folder that others may write is not trusted', async () => {
    const folder = freshFolder();
    const { device, counts } = watch(keptCode(folder, 'a'));
    const right = await outputs(file, device);
    chmodSync(folder.folder, 0o777);
    expect(await outputs(file, device)).toEqual(right);
    expect(counts).toEqual({ found: 0, missed: 2, written: 2 });
  });

  test('damaged or hostile files are refused as ever, whatever was kept', async () => {
    const folder = freshFolder();
    const { device, counts } = watch(keptCode(folder, 'a'));
    await outputs(file, device);
    const damaged = Uint8Array.from(file);
    damaged[new TextDecoder('latin1').decode(file).indexOf('reduce max0')] ^= 1;
    await expect(outputs(damaged, device)).rejects.toMatchObject({ code: 'engine-parse' });
    // One that says of itself that it is whole: its kernel stores behind its buffer.
    const [step] = engine.steps;
    const buffers = step.buffers.map((buffer, i) =>
      i < step.buffers.length - 1 ? buffer : { ...buffer, byteOffset: engine.arenaBytes },
    );
    const hostile = serializeEngine({ ...engine, steps: [{ ...step, buffers }, ...engine.steps.slice(1)] });
    for (let round = 0; round < 2; round++)
      await expect(outputs(hostile, device)).rejects.toMatchObject({ code: 'engine-parse' });
    expect(counts).toMatchObject({ found: 0, written: 1 });
    expect(readdirSync(folder.folder)).toHaveLength(1);
  });
});

const emptyCode = {
  bytes: Uint8Array.from({ length: 300 }, (_, i) => i * 7),
  controlBytes: 320,
  run: 0,
  stop: 1,
  step: 2,
  steps: [3, 4],
  workers: [5],
};
