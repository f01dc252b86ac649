/**
 * Programs kept in the user's cache: the same outputs as emitted ones, found by nothing but an equal engine on an equal machine, and not
 * used where anything is missing or damaged. On a driver that interprets PTX.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FakeDriver } from '../../../tests/cuda/fake-driver.ts';
import { randomTensor } from '../../../tests/random.ts';
import { build } from '../../build.ts';
import { toNumbers } from '../../core/tensor.ts';
import { Driver } from '../../cuda/driver.ts';
import type { Device } from '../../engine/device.ts';
import { parseEngine, serializeEngine } from '../../engine/format.ts';
import { graphBuilder } from '../../graph/build.ts';
import { evalGraph } from '../../graph/eval.ts';
import { type CacheFolder, openCacheFolder } from '../../host/cache-folder.ts';
import { OPS } from '../../ops/all.ts';
import { loadEngine } from '../../runtime/load.ts';
import { openEmitted, recallProgram } from './device.ts';
import { keptPrograms } from './kept-program.ts';
import { type CudaMachine, machineOf } from './machine.ts';
import { type Chip, emitProgram } from './program.ts';

const root = mkdtempSync(join(tmpdir(), 'hotrod-programs-'));
afterAll(() => rmSync(root, { recursive: true }));
let folders = 0;
const freshFolder = (): CacheFolder => openCacheFolder(join(root, `${folders++}`)) as CacheFolder;

const graph = (() => {
  const b = graphBuilder('net', OPS);
  const x = b.input('x', 'f32', [2, 16, 6, 5]);
  const conv = b.node('Conv', [x, b.constant(randomTensor('f32', [16, 16, 3, 3], 1))], {
    attrs: { pads: [1, 1, 1, 1] },
  });
  const [mean] = b.node('GlobalAveragePool', b.node('Relu', conv));
  b.output(b.node('Softmax', b.node('Flatten', [mean]))[0]);
  return b.finish();
})();
const INPUT = randomTensor('f32', [2, 16, 6, 5], 2);
const [[OUTPUT, WANTED]] = evalGraph(graph, OPS, new Map([['x', INPUT]]));

let file: Uint8Array;
beforeAll(async () => {
  file = serializeEngine((await build(graph, { target: 'cuda', gpuArch: 'sm_90', precision: 'fp16' })).engine);
});

interface Caches {
  readonly cubins: CacheFolder;
  readonly programs: CacheFolder;
}
const freshCaches = (): Caches => ({ cubins: freshFolder(), programs: freshFolder() });

/** Loads the file in a process of its own, as it were: what was found, emitted and compiled there. */
async function loadOnce(
  { cubins, programs }: Caches,
  {
    sources = 'a',
    bytes = file,
    cache = true,
    driver = {},
  }: {
    sources?: string;
    bytes?: Uint8Array;
    cache?: boolean;
    driver?: { version?: number; computeCapability?: number };
  } = {},
): Promise<{ readonly found: boolean; readonly compiled: number }> {
  const fake = new FakeDriver({ runsPtx: true, computeCapability: 90, hostAddresses: true, ...driver });
  const machine = machineOf(new Driver(fake.library)) as CudaMachine;
  const caches = { cubins, programs: keptPrograms(programs, sources) };
  let found = false;
  const device: Device = {
    target: 'cuda',
    probe: async () => ({ target: 'cuda', name: 'fake', available: true, features: [] }),
    recall: async (engine, options) => {
      const open = options.cache === false ? undefined : await recallProgram(engine, options, machine, caches);
      found = open !== undefined;
      return open;
    },
    open: (engine, options) =>
      openEmitted(
        engine,
        options,
        machine,
        options.cache === false ? { cubins: undefined, programs: undefined } : caches,
      ),
  };
  const loaded = await loadEngine(bytes, { devices: [device], cache });
  const context = loaded.createContext();
  for (let run = 0; run < 2; run++) {
    const got = context.run({ x: INPUT })[OUTPUT];
    Array.from(toNumbers(WANTED)).forEach((want, i) => {
      expect(Math.abs(Number(got[i]) - want)).toBeLessThan(2e-3);
    });
  }
  loaded.dispose();
  expect(fake.live()).toEqual({});
  return { found, compiled: fake.compiled };
}

const change = (folder: CacheFolder, how: (bytes: Uint8Array) => Uint8Array): void => {
  for (const name of readdirSync(folder.folder)) {
    const entry = join(folder.folder, name);
    writeFileSync(entry, how(readFileSync(entry)));
  }
};

describe('a kept program', () => {
  test('is what the second load runs', async () => {
    const caches = freshCaches();
    const first = await loadOnce(caches);
    expect(first.found).toBe(false);
    expect(first.compiled).toBeGreaterThan(0);
    expect(readdirSync(caches.programs.folder).length).toBe(1);
    for (let i = 0; i < 2; i++) expect(await loadOnce(caches)).toEqual({ found: true, compiled: 0 });
    expect(readdirSync(caches.programs.folder).length).toBe(1);
  });

  test('is of one Hotrod, one engine, one driver and one GPU', async () => {
    const caches = freshCaches();
    await loadOnce(caches);
    expect((await loadOnce(caches, { sources: 'b' })).found).toBe(false);
    expect((await loadOnce(caches, { driver: { version: 13010 } })).found).toBe(false);
    expect((await loadOnce(caches, { driver: { computeCapability: 80 } })).found).toBe(false);
    const { engine } = await build(graph, { target: 'cuda', gpuArch: 'sm_90', precision: 'fp32' });
    expect((await loadOnce(caches, { bytes: serializeEngine(engine) })).found).toBe(false);
    expect((await loadOnce(caches, { cache: false })).found).toBe(false);
    expect((await loadOnce(caches)).found).toBe(true);
  });

  test('is made again where it, or a cubin of it, is damaged or gone', async () => {
    const caches = freshCaches();
    await loadOnce(caches);
    const damages: readonly (readonly [CacheFolder, (bytes: Uint8Array) => Uint8Array])[] = [
      [caches.programs, (bytes) => bytes.subarray(0, bytes.length - 5)],
      [caches.programs, (bytes) => bytes.map((b, i) => (i === 60 ? b ^ 1 : b))],
      [caches.cubins, (bytes) => bytes.subarray(0, 40)],
    ];
    for (const [folder, damage] of damages) {
      change(folder, damage);
      expect((await loadOnce(caches)).found).toBe(false);
      expect((await loadOnce(caches)).found).toBe(true);
    }
    rmSync(caches.cubins.folder, { recursive: true });
    expect((await loadOnce(caches)).found).toBe(false);
    expect((await loadOnce(caches)).found).toBe(true);
  });
});

const CHIP: Chip = { computeCapability: 90, multiprocessors: 132, sharedBytesPerBlock: 232_448 };
test('a program is plain data: JSON keeps all of it', async () => {
  const program = emitProgram(await parseEngine(file), CHIP);
  expect(JSON.parse(JSON.stringify(program))).toEqual(program);
});
