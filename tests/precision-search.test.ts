/**
 * What spares the search for precisions its time: one sample of a batch, and what was found before.
 */
import { describe, expect, it } from 'vitest';
import { build } from '../src/build.ts';
import { forOneSample, recallFrom } from '../src/build-precision.ts';
import { numberToF16 } from '../src/core/float16.ts';
import { type StaticShape, sym } from '../src/core/shape.ts';
import { fromNumbers } from '../src/core/tensor.ts';
import { bindShapes } from '../src/graph/bind.ts';
import { type GraphBuilder, graphBuilder } from '../src/graph/build.ts';
import type { Graph } from '../src/graph/ir.ts';
import type { CacheFolder } from '../src/host/cache-folder.ts';
import { OPS } from '../src/ops/all.ts';
import { runPipeline } from '../src/passes/pipeline.ts';
import type { KeptWide } from '../src/precision/keep-wide.ts';
import { roundConstant } from '../src/precision/round-constant.ts';
import { randomTensor } from './random.ts';

function network(write: (b: GraphBuilder) => readonly string[]): Graph {
  const b = graphBuilder('net', OPS);
  for (const name of write(b)) b.output(name);
  return b.finish();
}
const convolution = (seed: number, channels = 8, size = 7): Graph =>
  network((b) => {
    const x = b.input('x', 'f32', [sym('n'), channels, size, size]);
    const weight = b.constant(randomTensor('f32', [channels, channels, 3, 3], seed));
    return b.node('Relu', b.node('Conv', [x, weight], { attrs: { pads: [1, 1, 1, 1] } }));
  });
const bound = (read: Graph, shapes: Readonly<Record<string, StaticShape>>): Graph =>
  optimise(bindShapes(read, OPS, shapes, () => {}));
const optimise = (graph: Graph): Graph =>
  runPipeline(graph, { ops: OPS, computes: new Set(['f32']), onWarning: () => {} }, { verify: true, stopAfter: '' });

describe('recallFrom', () => {
  const found: KeptWide = {
    nodes: new Set(['a', 'b "c"']),
    large: [{ value: 'a', magnitude: Number.POSITIVE_INFINITY }],
    inaccurate: new Set(['b "c"']),
    error: 0.00123456789012345,
    isAccurate: true,
  };
  function searching(ms: number) {
    let searches = 0;
    return {
      searches: () => searches,
      search: async () => {
        searches++;
        await new Promise((done) => setTimeout(done, ms));
        return found;
      },
    };
  }
  function folder() {
    const files = new Map<string, Uint8Array>();
    const made: CacheFolder = {
      folder: 'memory',
      read: (key) => files.get(key),
      write: (key, bytes) => void files.set(key, bytes),
      trim: () => {},
      remove: (key) => void files.delete(key),
    };
    return { files, folder: made };
  }

  const by = (sources: string, memory: CacheFolder) => ({ folder: memory, sources });

  it('searches a network once, and again where its weights, the samples, the precision or Hotrod differ', async () => {
    const { files, folder: memory } = folder();
    const { search, searches } = searching(250);
    const graph = bound(convolution(1), { x: [1, 8, 7, 7] });
    expect(await recallFrom(by('a', memory), 'fp16')(graph, search)).toEqual(found);
    expect(await recallFrom(by('a', memory), 'fp16')(graph, search)).toEqual(found);
    expect(await recallFrom(by('a', memory), 'fp16')(bound(convolution(1), { x: [1, 8, 7, 7] }), search)).toEqual(
      found,
    );
    expect(searches()).toBe(1);
    await recallFrom(by('a', memory), 'fp16')(bound(convolution(2), { x: [1, 8, 7, 7] }), search);
    await recallFrom(by('a', memory), 'auto')(graph, search);
    await recallFrom(by('a', memory), 'fp16', [{ x: randomTensor('f32', [1, 8, 7, 7], 1) }])(graph, search);
    await recallFrom(by('a', memory), 'fp16', [{ x: randomTensor('f32', [1, 8, 7, 7], 2) }])(graph, search);
    await recallFrom(by('b', memory), 'fp16')(graph, search);
    expect(searches()).toBe(6);
    expect(files.size).toBe(6);
  });

  it('does not believe a damaged entry, and keeps nothing that is found in no time', async () => {
    const { files, folder: memory } = folder();
    const graph = bound(convolution(1), { x: [1, 8, 7, 7] });
    const quick = searching(0);
    for (let i = 0; i < 2; i++) await recallFrom(by('a', memory), 'fp16')(graph, quick.search);
    expect([quick.searches(), files.size]).toEqual([2, 0]);
    const slow = searching(250);
    await recallFrom(by('a', memory), 'fp16')(graph, slow.search);
    for (const [key, bytes] of files) files.set(key, bytes.slice(0, -3));
    expect(await recallFrom(by('a', memory), 'fp16')(graph, slow.search)).toEqual(found);
    expect(slow.searches()).toBe(2);
  });
});

describe('forOneSample', () => {
  it('is the same nodes for one of the batch', () => {
    const read = convolution(1);
    const graph = bound(read, { x: [5, 8, 7, 7] });
    const one = forOneSample({ read, graph }, OPS, optimise);
    expect(one.values.get('x')?.shape).toEqual([1, 8, 7, 7]);
    expect(one.nodes.map((node) => [node.op, ...node.outputs])).toEqual(
      graph.nodes.map((node) => [node.op, ...node.outputs]),
    );
  });

  it('is the graph itself where nothing is open, where it is for one, and where another network comes out', () => {
    const read = convolution(1);
    const single = bound(read, { x: [1, 8, 7, 7] });
    expect(forOneSample({ read, graph: single }, OPS, optimise)).toBe(single);
    const fixed = bound(read, { x: [5, 8, 7, 7] });
    expect(forOneSample({ read: fixed, graph: fixed }, OPS, optimise)).toBe(fixed);
    // Five rows need not be spread to five.
    const rows = network((b) => {
      const shape = b.constant(fromNumbers('i64', [2], [5, 4]));
      const spread = b.node('Expand', [b.input('x', 'f32', [sym('n'), 4]), shape]);
      return b.node('Relu', spread);
    });
    const graph = bound(rows, { x: [5, 4] });
    const one = bound(rows, { x: [1, 4] });
    expect(one.nodes.length).toBeGreaterThan(graph.nodes.length);
    expect(forOneSample({ read: rows, graph }, OPS, optimise)).toBe(graph);
  });
});

it('a large batch of a network that is searched in no time is searched too', async () => {
  const { warnings, engine } = await build(convolution(1, 64, 40), {
    target: 'cuda',
    gpuArch: 'sm_90',
    precision: 'fp16',
    shapes: { x: [1024, 64, 40, 40] },
  });
  expect(engine.steps.reduce((sum, { flops }) => sum + flops, 0)).toBeGreaterThan(1e11);
  expect(warnings.filter((text) => /not checked/.test(text))).toEqual([]);
});

it('constants are rounded to f16 as single numbers are', () => {
  const words = new Uint32Array(300_000);
  for (let i = 0; i < words.length; i++) {
    // Around every boundary of f16's exponents, ties and neighbours of ties among them, and anywhere.
    const exponent = 96 + (i % 52);
    const mantissa =
      i % 3 === 0 ? Math.imul(i, 0x9e3779b1) >>> 9 : ((i * 7919) & 0x3ff) * 0x2000 + [0, 0x1000, 0xfff, 0x1001][i % 4];
    words[i] = ((i & 1) << 31) | (exponent << 23) | (mantissa & 0x7fffff);
  }
  const data = new Float32Array(words.buffer);
  const { value, overflows } = roundConstant({ dtype: 'f32', shape: [data.length], data }, 'f16');
  const beyond = data.filter((x) => Math.abs(x) > 65504);
  expect(overflows).toBe(beyond.length);
  for (const [i, x] of data.entries()) {
    const finite = Math.sign(x) * Math.min(Math.abs(x), 65504);
    if (value.data[i] !== numberToF16(finite)) expect.fail(`${x} became ${value.data[i]}`);
  }
  expect(fromNumbers('f16', [1], [1]).data[0]).toBe(0x3c00);
});
