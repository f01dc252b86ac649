/**
 * The runtime entry over a real engine: built, written, read back and run through `hotrod/runtime` alone.
 */
import { expect, test } from 'vitest';
import { build } from '../src/build.ts';
import { serializeEngine } from '../src/engine/format.ts';
import { graphBuilder } from '../src/graph/build.ts';
import { OPS } from '../src/ops/all.ts';
import { load } from '../src/runtime/runtime.ts';

async function reluEngine(): Promise<Uint8Array> {
  const b = graphBuilder('relu', OPS);
  const x = b.input('x', 'f32', [3, 5]);
  b.output(b.node('Relu', [x])[0]);
  return serializeEngine((await build(b.finish(), { target: 'wasm' })).engine);
}

test('bytes to answers, one thread and two, several contexts over one engine', async () => {
  const bytes = await reluEngine();
  for (const threads of [1, 2]) {
    using engine = await load(bytes, { threads });
    const [name] = engine.outputs.map((o) => o.name);
    const contexts = [engine.createContext(), engine.createContext()];
    const x = Float32Array.from({ length: 15 }, (_, i) => i - 7);
    const wanted = [...x].map((v) => Math.max(v, 0));
    for (const context of contexts) expect([...(context.run({ x })[name] as Float32Array)]).toEqual(wanted);
    const y = new Float32Array(15);
    expect(contexts[0].run({ x: x.map((v) => -v) }, { [name]: y })[name]).toBe(y);
    // A machine may take either zero as the larger.
    expect([...y].map((v) => v + 0)).toEqual([...wanted].reverse());
    expect(contexts[0].profile({ x }).flatMap((s) => s.loc).length).toBeGreaterThan(0);
    contexts[1].dispose();
    expect(() => contexts[1].run({ x })).toThrow(expect.objectContaining({ code: 'disposed' }));
  }
});

test('a damaged file is refused', async () => {
  const bytes = await reluEngine();
  for (const at of [0, 9, bytes.length >> 2, bytes.length >> 1, bytes.length - 1]) {
    const damaged = bytes.slice();
    damaged[at] ^= 4;
    await expect(load(damaged)).rejects.toMatchObject({ name: 'ModelError' });
  }
});
