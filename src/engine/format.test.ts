import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ModelError } from '../core/errors.ts';
import { sha256 } from '../core/hash.ts';
import { parseKernel } from '../loop/parse.ts';
import { printKernel } from '../loop/print.ts';
import { packSections, unpackSections } from './container.ts';
import type { Engine } from './engine.ts';
import { fileFingerprint, isEngine, parseEngine, readEngine, serializeEngine } from './format.ts';

const hash = async (bytes: Uint8Array): Promise<Uint8Array> => sha256(bytes);

/** y = max(x + w, 0), then z = the sums of y's rows. */
const sample: Engine = {
  name: 'sample "net"',
  target: 'wasm',
  builtBy: '0.1.0',
  machine: ['simd128'],
  precision: 'fp32',
  inputs: [{ name: 'x', dtype: 'f32', shape: [3, 5], buffer: { space: 'arena', byteOffset: 0, bytes: 60 } }],
  outputs: [{ name: 'z', dtype: 'f32', shape: [3], buffer: { space: 'arena', byteOffset: 128, bytes: 12 } }],
  kernels: [
    parseKernel(
      'kernel k = map (in x: f32[15], in w: f32[5], out y: f32[15]) for i < 3, j < 5 {\n  y[i * 5 + j] = max(x[i * 5 + j] + w[j], 0)\n}',
    ),
    parseKernel(
      'kernel r = reduce (in y: f32[15], out z: f32[3]) for i < 3 {\n  reduce s: f32 = add over j < 5 of y[i * 5 + j]\n  z[i] = s\n}',
    ),
  ],
  steps: [
    {
      kernel: 0,
      tactic: { template: 'generated', params: { unroll: 2, lanes: 4 }, predictedNs: 12.5 },
      buffers: [
        { space: 'arena', byteOffset: 0, bytes: 60 },
        { space: 'weights', byteOffset: 0, bytes: 20 },
        { space: 'arena', byteOffset: 64, bytes: 60 },
      ],
      values: ['x', 'w', 'y'],
      loc: ['/add', '/relu'],
      tiles: 3,
      maxThreads: 1,
      scratchBytes: 100,
      barrier: false,
      flops: 30,
      bytesMoved: 140,
    },
    {
      kernel: 1,
      tactic: { template: 'generated', params: {}, predictedNs: 9 },
      buffers: [
        { space: 'arena', byteOffset: 64, bytes: 60 },
        { space: 'arena', byteOffset: 128, bytes: 12 },
      ],
      values: ['y', 'z'],
      shapes: [[3, 5], [3]],
      loc: ['/sum'],
      tiles: 3,
      maxThreads: 2,
      barrier: true,
      flops: 15,
      bytesMoved: 72,
    },
  ],
  weights: [
    { name: 'w', dtype: 'f32', shape: [5], byteOffset: 0, bytes: 20 },
    {
      name: 'v',
      dtype: 'i8',
      shape: [3, 2],
      byteOffset: 64,
      bytes: 16,
      packing: { kind: 'panels', width: 4, batch: 1, k: 2, n: 5, zeros: 0 },
    },
    {
      name: 'u',
      dtype: 'i8',
      shape: [1, 1, 3, 3],
      byteOffset: 128,
      bytes: 64,
      packing: { kind: 'winograd', tile: 2, step: 1, width: 4, k: 1, n: 1 },
    },
    {
      name: 'g',
      dtype: 'i8',
      shape: [4, 4, 1, 1],
      byteOffset: 192,
      bytes: 16,
      packing: { kind: 'groups', width: 4, per: 4, taps: 1, n: 4 },
    },
  ],
  weightBytes: Uint8Array.from({ length: 208 }, (_, i) => i),
  arenaBytes: 192,
  code: [
    { name: 'wasm-simd128', bytes: Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0) },
    { name: 'wasm-relaxed', bytes: new Uint8Array() },
  ],
};
const file = serializeEngine(sample);

const codeOf = async (bytes: Uint8Array): Promise<string> => {
  try {
    await parseEngine(bytes);
    return 'parsed';
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    return error.code;
  }
};

test('an engine comes back as it was', async () => {
  expect(isEngine(file)).toBe(true);
  expect(await parseEngine(file)).toEqual(sample);
  const graph = { ...sample, target: 'reference' as const, graph: 'graph "é" {}', code: [] };
  expect(await parseEngine(serializeEngine(graph))).toEqual(graph);
});

test('equal engines are equal bytes, whatever the order of their keys', () => {
  const reversed = sample.steps.map((s) => ({
    ...Object.fromEntries(Object.entries(s).reverse()),
    tactic: { ...s.tactic, params: Object.fromEntries(Object.entries(s.tactic.params).reverse()) },
  })) as unknown as Engine['steps'];
  expect(serializeEngine({ ...sample, steps: reversed })).toEqual(file);
});

test('weights and code are views on the file at multiples of 64', async () => {
  const engine = await parseEngine(file);
  for (const bytes of [engine.weightBytes, engine.code[0].bytes]) {
    expect(bytes.buffer).toBe(file.buffer);
    expect(bytes.byteOffset % 64).toBe(0);
  }
});

test('every flipped bit is found', async () => {
  for (let bit = 0; bit < file.length * 8; bit++) {
    const damaged = file.slice();
    damaged[bit >> 3] ^= 1 << (bit & 7);
    const code = await codeOf(damaged);
    expect(['engine-parse', 'engine-version'], `bit ${bit}`).toContain(code);
    // Only the version may look like that of a newer file.
    if (code === 'engine-version') expect(bit >> 5).toBe(2);
  }
});

test('every truncation and every extension is found', async () => {
  for (let n = 0; n < file.length; n++) expect(await codeOf(file.subarray(0, n)), `${n} bytes`).toBe('engine-parse');
  expect(await codeOf(Uint8Array.from([...file, 0]))).toBe('engine-parse');
});

test('a newer format is refused by name', async () => {
  const newer = file.slice();
  newer[8] = 2;
  await expect(parseEngine(newer)).rejects.toMatchObject({
    code: 'engine-version',
    hint: expect.stringContaining('update'),
  });
});

/** The file again with its manifest or kernels changed and all hashes right, as a stranger could write it. */
async function forge(section: string, change: (text: string) => string): Promise<Uint8Array> {
  const sections = await unpackSections(file, hash);
  const edited = sections.map(({ name, bytes }) =>
    name === section
      ? { name, bytes: new TextEncoder().encode(change(new TextDecoder().decode(bytes))) }
      : { name, bytes },
  );
  return packSections(edited, sha256);
}
const forgeManifest = (change: (manifest: Record<string, unknown>) => unknown): Promise<Uint8Array> =>
  forge('manifest', (text) => JSON.stringify(change(JSON.parse(text))));

test.each([
  [
    'a step of a kernel that is not there',
    'steps',
    [{ ...sample.steps[0], shapes: null, kernel: 2 }],
    /uses kernel 2 of 2/,
  ],
  ['a negative kernel', 'steps', [{ ...sample.steps[0], shapes: null, kernel: -1 }], /steps\[0\]\.kernel is -1/],
  [
    'no tiles for threads',
    'steps',
    [{ ...sample.steps[0], shapes: null, tiles: 1, maxThreads: 2 }],
    /more threads than tiles/,
  ],
  ['a buffer outside the arena', 'arenaBytes', 128, /outside the arena of 128 bytes/],
  ['an output of the wrong size', 'outputs', [{ ...sample.outputs[0], shape: [4] }], /needs 16 bytes and has 12/],
  ['two inputs of one name', 'inputs', [sample.inputs[0], sample.inputs[0]], /is there twice/],
  ['an unknown target', 'target', 'abacus', /target is "abacus"/],
  ['an unknown dtype', 'inputs', [{ ...sample.inputs[0], dtype: 'f8' }], /inputs\[0\]\.dtype/],
  ['a fraction', 'arenaBytes', 192.5, /expected an integer/],
  ['a field of the wrong kind', 'machine', 'simd128', /machine is "simd128", expected a list/],
  ['a field too many', 'extra', 1, /extra is 1, expected no such field/],
  [
    'a packing that nobody has',
    'weights',
    [{ ...sample.weights[1], packing: { kind: 'zip' } }],
    /packing.kind is "zip", expected one of panels, winograd/,
  ],
  [
    'a weight shorter than its packing',
    'weights',
    [{ ...sample.weights[2], packing: { ...sample.weights[2].packing, tile: 4 } }],
    /has 64 bytes for 144 elements/,
  ],
  ['a missing field', 'precision', undefined, /precision is nothing/],
])('%s is refused', async (_name, key, value, message) => {
  const bytes = await forgeManifest((manifest) => ({ ...manifest, [key]: value }));
  await expect(parseEngine(bytes)).rejects.toThrow(message);
});

test('a kernel that reads outside its buffers is refused', async () => {
  const bytes = await forge('kernels', (text) => text.replace('w[j]', 'w[j + 1]'));
  await expect(parseEngine(bytes)).rejects.toMatchObject({ code: 'engine-parse' });
});

test('a buffer smaller than its kernel uses is refused', async () => {
  const bytes = await forge('kernels', (text) => text.replace('in w: f32[5]', 'in w: f32[6]'));
  await expect(parseEngine(bytes)).rejects.toThrow(/has 20 bytes, its kernel uses 24/);
});

/** Every place of a JSON value, as the keys that lead there. */
function places(value: unknown, path: readonly string[] = []): (readonly string[])[] {
  if (typeof value !== 'object' || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, v]) => places(v, [...path, key]))];
}
function replaceAt(value: unknown, [key, ...rest]: readonly string[], by: unknown): unknown {
  if (key === undefined) return by;
  if (Array.isArray(value)) return value.map((v, i) => (String(i) === key ? replaceAt(v, rest, by) : v));
  return { ...(value as object), [key]: replaceAt((value as Record<string, unknown>)[key], rest, by) };
}

test('what was hashed is what is read, whoever writes to the file meanwhile', async () => {
  const other = serializeEngine({
    ...sample,
    kernels: sample.kernels.map((k) => parseKernel(printKernel(k).replace('+', '*'))),
  });
  expect(other.length).toBe(file.length);
  // After each call another part of the file may be that of another engine: table and kernels among them.
  for (let call = 1; call <= 6; call++) {
    const mapped = Uint8Array.from(file);
    let calls = 0;
    const racing = async (bytes: Uint8Array): Promise<Uint8Array> => {
      const digest = sha256(bytes);
      if (++calls === call) mapped.set(other);
      return digest;
    };
    const engine = await readEngine(mapped, { sha256: racing }).catch((error: unknown) => error);
    if (engine instanceof ModelError) continue;
    expect(fileFingerprint(engine as Engine)).toBe(fileFingerprint(await readEngine(file)));
    expect((engine as Engine).kernels).toEqual(sample.kernels);
  }
});

test('a manifest with anything anywhere gives an engine in range or a ModelError', async () => {
  const [{ bytes }] = await unpackSections(file, hash);
  const paths = places(JSON.parse(new TextDecoder().decode(bytes)));
  const anything = fc.oneof(
    fc.constantFrom(
      0,
      1,
      -1,
      2,
      3,
      63,
      64,
      192,
      2 ** 31,
      2 ** 53,
      1e300,
      0.5,
      null,
      '',
      'f32',
      'weights',
      true,
      '__proto__',
    ),
    fc.integer(),
    fc.jsonValue(),
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...paths), anything, async (path, by) => {
      const forged = await forgeManifest((manifest) => replaceAt(manifest, path, by));
      if ((await codeOf(forged)) !== 'parsed') return;
      const engine = await parseEngine(forged);
      for (const step of engine.steps) {
        expect(engine.kernels[step.kernel]).toBeDefined();
        for (const { space, byteOffset, bytes } of step.buffers) {
          expect(byteOffset).toBeGreaterThanOrEqual(0);
          expect(byteOffset + bytes).toBeLessThanOrEqual(
            space === 'arena' ? engine.arenaBytes : engine.weightBytes.length,
          );
        }
      }
    }),
    { numRuns: 3000 },
  );
});

test('kernel text with random characters changed gives an engine or a ModelError', async () => {
  const characters = [...'0123456789abijkrswxyz[](){}<>=+-*/:,."\n #%'];
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(), fc.constantFrom(...characters)), { minLength: 1, maxLength: 4 }),
      async (edits) => {
        const forged = await forge('kernels', (text) => {
          const out = [...text];
          for (const [at, c] of edits) out[at % out.length] = c;
          return out.join('');
        });
        expect(['parsed', 'engine-parse']).toContain(await codeOf(forged));
      },
    ),
    { numRuns: 1000 },
  );
});
