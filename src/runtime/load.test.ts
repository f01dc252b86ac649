import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { copyEngine, fakeDevice } from '../../tests/fake-device.ts';
import { serializeEngine } from '../engine/format.ts';
import { checkedFile } from '../host/checked-files.ts';
import { mapOrReadFile } from '../host/mapped-file.ts';
import { sha256 } from '../host/sha256.ts';
import { loadEngine } from './load.ts';

const engine = copyEngine([['x', 'f32', [2]]], ['simd128', 'relaxed-simd']);

test('tells inputs, outputs and what is in use', async () => {
  const device = fakeDevice(['simd128', 'relaxed-simd']);
  const loaded = await loadEngine(engine, { devices: [device], threads: 3 });
  expect(loaded).toMatchObject({
    name: 'copy',
    target: 'wasm',
    threads: 3,
    inputs: [{ name: 'x', dtype: 'f32', shape: [2], elements: 2 }],
    outputs: [{ name: 'x_out', dtype: 'f32', shape: [2], elements: 2 }],
  });
  loaded.createContext();
  expect(loaded.memoryBytes()).toBe(100);
  loaded.dispose();
  loaded.dispose();
  expect(device.counts).toMatchObject({ opened: 1, disposed: 1 });
  expect(() => loaded.createContext()).toThrow(expect.objectContaining({ code: 'disposed' }));
});

test('a machine with less warns once, and is refused by strict with everything closed', async () => {
  const device = fakeDevice(['simd128']);
  const warnings: string[] = [];
  await loadEngine(engine, { devices: [device], onWarning: (m) => warnings.push(m) });
  expect(warnings).toEqual([expect.stringContaining('relaxed-simd')]);
  await expect(loadEngine(engine, { devices: [device], strict: true })).rejects.toMatchObject({
    code: 'engine-machine',
  });
  expect(device.counts.disposed).toBe(1);
  const told: string[] = [];
  await loadEngine(engine, { devices: [fakeDevice(['simd128'], 'no relaxed SIMD')], onWarning: (m) => told.push(m) });
  expect(told).toEqual(['no relaxed SIMD']);
});

test('refuses targets that are not here, wrong options and damaged bytes', async () => {
  const devices = [fakeDevice()];
  const other = { ...engine, target: 'cuda' } as const;
  await expect(loadEngine(other, { devices })).rejects.toMatchObject({ code: 'engine-machine' });
  await expect(loadEngine(engine, { devices, threads: 0 })).rejects.toMatchObject({ code: 'option-invalid' });
  await expect(loadEngine(Uint8Array.of(1, 2, 3), { devices })).rejects.toMatchObject({ code: 'engine-parse' });
  const bytes = serializeEngine({ ...engine, steps: [] });
  bytes[bytes.length >> 1] ^= 1;
  await expect(loadEngine(bytes, { devices })).rejects.toMatchObject({ code: 'engine-parse' });
});

test('large weights in shared memory are hashed beside, and damaged ones are refused with everything closed', async () => {
  const weightBytes = new Uint8Array(2 ** 21).fill(3);
  const bytes = serializeEngine({ ...engine, weightBytes, arenaBytes: 4096 });
  const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
  shared.set(bytes);
  const device = fakeDevice(['simd128', 'relaxed-simd']);
  (await loadEngine(shared, { devices: [device] })).dispose();
  expect(device.counts).toMatchObject({ opened: 1, disposed: 1 });
  shared[shared.lastIndexOf(3) - 2 ** 20] ^= 1;
  await expect(loadEngine(shared, { devices: [device] })).rejects.toThrow(/section "weights" has changed/);
  expect(device.counts).toMatchObject({ opened: 2, disposed: 2 });
  // Who cannot wait for an answer is told before anything is opened.
  const copy = Uint8Array.from(shared);
  await expect(loadEngine(copy, { devices: [device] })).rejects.toThrow(/section "weights" has changed/);
});

test('weights are hashed once a version of a file, unless no cache is wanted', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hotrod-load-'));
  onTestFinished(() => {
    vi.useRealTimers();
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true });
  });
  vi.stubEnv('XDG_CACHE_HOME', folder);
  vi.stubEnv('HOTROD_CACHE', 'on');
  const file = join(folder, 'net.engine');
  const weightBytes = new Uint8Array(2 ** 22).fill(3);
  const bytes = serializeEngine({ ...engine, weightBytes, arenaBytes: 4096 });
  const devices = [fakeDevice(['simd128', 'relaxed-simd'])];
  const load = async (cache = true) => (await loadEngine(await mapOrReadFile(file), { devices, cache })).dispose();
  writeFileSync(file, bytes);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 60_000 });
  await load();
  const note = checkedFile(await mapOrReadFile(file));
  const digest = await sha256(weightBytes);
  expect(await note?.isKnown(digest)).toBe(true);
  // Whoever has written to the file is found out; the clock for files goes in steps of up to ten milliseconds.
  await new Promise((resolve) => setTimeout(resolve, 30));
  bytes[bytes.lastIndexOf(3) - 2 ** 20] ^= 1;
  writeFileSync(file, bytes);
  for (let round = 0; round < 2; round++) await expect(load()).rejects.toThrow(/section "weights" has changed/);
  // A note that is not true is believed: so nothing is hashed where there is one, and all where no cache is wanted.
  await checkedFile(await mapOrReadFile(file))?.note(digest);
  await load();
  await expect(load(false)).rejects.toThrow(/section "weights" has changed/);
});
