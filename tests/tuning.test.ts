/**
 * Measured tactics, on target wasm: what is measured lands in the cache, and a build from the cache measures nothing and is the same.
 */
import { expect, it } from 'vitest';
import { build } from '../src/build.ts';
import { serializeEngine } from '../src/engine/format.ts';
import { graphBuilder } from '../src/graph/build.ts';
import { OPS } from '../src/ops/all.ts';
import { wasmTarget } from '../src/targets/wasm/target.ts';
import { candidates } from '../src/tune/choose.ts';
import { measureTactics } from '../src/tune/measure.ts';
import { TimingCache } from '../src/tune/timing-cache.ts';
import { randomTensor } from './random.ts';

function network() {
  const b = graphBuilder('net', OPS);
  const x = b.input('x', 'f32', [1, 8, 14, 14]);
  const [y] = b.node('Conv', [x, b.constant(randomTensor('f32', [32, 8, 3, 3], 1))], { attrs: { pads: [1, 1, 1, 1] } });
  b.output(b.node('Relu', [y])[0]);
  return b.finish();
}

it('keeps measured times, and the same times give the same engine', async () => {
  const cache = new TimingCache();
  const first = await build(network(), { target: 'wasm', effort: 3, timingCache: cache });
  expect(cache.size).toBeGreaterThanOrEqual(2);
  const known = TimingCache.parse(cache.print());
  const again = await build(network(), { target: 'wasm', effort: 3, timingCache: known });
  expect(known.size).toBe(cache.size);
  expect(Buffer.compare(serializeEngine(first.engine), serializeEngine(again.engine))).toBe(0);
});

it('takes the tactic that the cache calls fastest, whatever was predicted', async () => {
  const cache = new TimingCache();
  await build(network(), { target: 'wasm', effort: 5, timingCache: cache });
  const slowest = JSON.parse(cache.print()).times as Record<string, number>;
  const [wanted] = Object.keys(slowest).filter((key) => key.includes('generated'));
  const rigged = new TimingCache(Object.entries(slowest).map(([key, ns]) => [key, key === wanted ? 1 : ns]));
  const { engine } = await build(network(), { target: 'wasm', effort: 5, timingCache: rigged });
  expect(engine.steps.map((s) => s.tactic.template)).toContain('generated');
});

it('measures every candidate of a kernel', async () => {
  const { engine } = await build(network(), { target: 'wasm' });
  const task = { kernel: engine.kernels[0], facts: { constant: new Set([engine.kernels[0].buffers[1].name]) } };
  const tactics = candidates(task, wasmTarget, wasmTarget.features());
  // Twice in one engine, once with fewer tactics: each time comes back where it belongs.
  const [few, all] = await measureTactics(
    [
      { task, tactics: tactics.slice(0, 1) },
      { task, tactics },
    ],
    wasmTarget,
    1,
  );
  expect(few).toHaveLength(1);
  expect(all).toHaveLength(tactics.length);
  for (const ns of [...few, ...all]) expect(ns).toBeGreaterThan(0);
});
