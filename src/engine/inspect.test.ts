import { expect, test } from 'vitest';
import { parseKernel } from '../loop/parse.ts';
import type { Engine } from './engine.ts';
import { inspectEngine, inspectionText } from './inspect.ts';

const arena = (byteOffset: number, bytes: number) => ({ space: 'arena', byteOffset, bytes }) as const;
const engine: Engine = {
  name: 'net',
  target: 'wasm',
  builtBy: '0.1.0',
  machine: ['simd128'],
  precision: 'fp32',
  inputs: [{ name: 'x', dtype: 'f32', shape: [3, 5], buffer: arena(0, 60) }],
  outputs: [{ name: 'y', dtype: 'f32', shape: [3, 5], buffer: arena(64, 60) }],
  kernels: [
    parseKernel(
      'kernel k = map (in x: f32[15], in w: f32[5], out y: f32[15]) for i < 3, j < 5 {\n  y[i * 5 + j] = x[i * 5 + j] + w[j]\n}',
    ),
  ],
  steps: [
    {
      kernel: 0,
      tactic: { template: 'rows', params: { m: 3, n: 16 }, predictedNs: 12.5 },
      buffers: [arena(0, 60), { space: 'weights', byteOffset: 0, bytes: 20 }, arena(64, 60)],
      values: ['x', 'w', 'y'],
      shapes: [[3, 5], [5], [3, 5]],
      loc: ['/add', '/relu'],
      tiles: 3,
      maxThreads: 2,
      barrier: false,
      flops: 15000,
      bytesMoved: 140,
    },
  ],
  weights: [
    { name: 'w', dtype: 'f32', shape: [5], byteOffset: 0, bytes: 20 },
    {
      name: 'w',
      dtype: 'f32',
      shape: [5],
      byteOffset: 64,
      bytes: 32,
      packing: { kind: 'panels', width: 4, batch: 1, k: 1, n: 5, zeros: 0 },
    },
  ],
  weightBytes: new Uint8Array(96),
  arenaBytes: 128,
  code: [{ name: 'wasm-simd128', bytes: new Uint8Array(8) }],
};

test('a layer has its nodes, tactic, operands and cost', () => {
  const report = inspectEngine(engine);
  expect(report.layers).toHaveLength(1);
  expect(report.layers[0]).toMatchObject({
    name: '/add + /relu',
    loc: ['/add', '/relu'],
    form: 'map',
    tactic: 'rows(m=3 n=16)',
    flops: 15000,
    bytes: 140,
    threads: 2,
  });
  expect(report.layers[0].operands).toEqual([
    { value: 'x', role: 'in', dtype: 'f32', shape: [3, 5], space: 'arena', byteOffset: 0, bytes: 60 },
    { value: 'w', role: 'in', dtype: 'f32', shape: [5], space: 'weights', byteOffset: 0, bytes: 20 },
    { value: 'y', role: 'out', dtype: 'f32', shape: [3, 5], space: 'arena', byteOffset: 64, bytes: 60 },
  ]);
});

test('a constant in two arrangements counts once as parameters, twice as bytes', () => {
  expect(inspectEngine(engine)).toMatchObject({ parameters: 5, weightsBytes: 96, arenaBytes: 128 });
});

test('the text has a line a layer', () => {
  const lines = inspectionText(inspectEngine(engine)).split('\n');
  expect(lines.at(-1)).toMatch(/^0 +map +f32\[3,5\] +rows\(m=3 n=16\) +15,000 +140 +2 +\/add \+ \/relu$/);
  expect(lines).toContain('inputs     x f32[3,5]');
});

test('without shapes operands are flat', () => {
  const { shapes: _, ...step } = engine.steps[0];
  expect(inspectEngine({ ...engine, steps: [step] }).layers[0].operands.map((o) => o.shape)).toEqual([[15], [5], [15]]);
});
