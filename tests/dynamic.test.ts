/**
 * Engines with open sizes: one engine, built with profiles, at many shapes against the graph evaluator at each.
 *
 * The networks hold what depends on sizes in different ways: windows, means, reshapes that merge and split, slices from the end,
 * concatenation along what is open, shape arithmetic, positions. Engines go through their file. The arena is not cleared between
 * runs, so what an earlier, larger shape left shows where it is read. Tolerance: kernels sum in f32, the evaluator in f64.
 */
import { describe, expect, it } from 'vitest';
import { build } from '../src/build.ts';
import { ModelError } from '../src/core/errors.ts';
import { elements, type StaticShape, sym } from '../src/core/shape.ts';
import { fromNumbers, type Tensor, toNumbers } from '../src/core/tensor.ts';
import { parseEngine, serializeEngine } from '../src/engine/format.ts';
import { bindShapes } from '../src/graph/bind.ts';
import { type GraphBuilder, graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Graph } from '../src/graph/ir.ts';
import type { ShapeProfile } from '../src/graph/profiles.ts';
import { OPS } from '../src/ops/all.ts';
import { loadEngine } from '../src/runtime/load.ts';
import { wasmDevice } from '../src/targets/wasm/device.ts';
import { x64Device, x64Machine } from '../src/targets/x64/device.ts';
import { random } from './random-kernel.ts';

const machine = await x64Machine();
const TARGETS = typeof machine === 'string' ? (['wasm'] as const) : (['wasm', 'x64'] as const);
it.skipIf(typeof machine !== 'string')(`x64: ${typeof machine === 'string' ? machine : ''}`, () => {});

const DEVICES = [wasmDevice, x64Device];
const i64 = (b: GraphBuilder, ...values: number[]) => b.constant(fromNumbers('i64', [values.length], values));
const draw = (seed: number, shape: StaticShape): Tensor => {
  const rnd = random(seed);
  return fromNumbers(
    'f32',
    shape,
    Float64Array.from({ length: elements(shape) }, () => rnd.next() * 2 - 1),
  );
};

function network(name: string, make: (b: GraphBuilder) => readonly string[]): Graph {
  const b = graphBuilder(name, OPS);
  for (const output of make(b)) b.output(output);
  return b.finish();
}

const one = (b: GraphBuilder, op: string, inputs: readonly string[], attrs = {}): string =>
  b.node(op, inputs, { attrs })[0];

/** Strided and padded windows, pooling, a residual, a mean over all positions, a classifier. */
const convolutions = network('convolutions', (b) => {
  const x = b.input('x', 'f32', [sym('n'), 3, sym('h'), sym('w')]);
  const conv = (from: string, to: number, input: string, stride: number, size = 3, group = 1) => {
    const weight = b.constant(draw(to + size, [to, from === 'g' ? 1 : Number(b.type(input).shape[1]), size, size]));
    const pad = (size - 1) / 2;
    return one(b, 'Conv', [input, weight], {
      strides: [stride, stride],
      pads: [pad, pad, pad, pad],
      group,
      auto_pad: 'NOTSET',
    });
  };
  const a = one(b, 'Relu', [conv('', 16, x, 2)]);
  const p = one(b, 'MaxPool', [a], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
  const c = one(b, 'Add', [conv('', 16, p, 1), p]);
  const d = one(b, 'Concat', [conv('g', 16, c, 1, 3, 16), c, conv('', 24, c, 1, 1)], { axis: 1 });
  const mean = one(b, 'Flatten', [one(b, 'GlobalAveragePool', [d])], { axis: 1 });
  const weight = b.constant(draw(9, [56, 10]));
  return [one(b, 'Gemm', [mean, weight]), one(b, 'AveragePool', [d], { kernel_shape: [2, 2], strides: [1, 1] })];
});

/** What exporters write around attention: Shape, Gather, Concat, Reshape; heads split and joined; a mask; layer normalisation. */
const attention = network('attention', (b) => {
  const ids = b.input('ids', 'i64', [sym('n'), sym('s')]);
  const mask = b.input('mask', 'f32', [sym('n'), sym('s')]);
  const table = b.constant(draw(1, [50, 24]));
  const positions = b.constant(draw(2, [1, 64, 24]));
  const size = (axis: number) =>
    one(b, 'Gather', [one(b, 'Shape', [ids]), b.constant(fromNumbers('i64', [], [axis]))], { axis: 0 });
  const vector = (value: string) => one(b, 'Unsqueeze', [value, i64(b, 0)]);
  const here = one(b, 'Slice', [positions, i64(b, 0), vector(size(1)), i64(b, 1)]);
  const x = one(b, 'Add', [one(b, 'Gather', [table, ids], { axis: 0 }), here]);
  const heads = (seed: number) => {
    const flat = one(b, 'MatMul', [x, b.constant(draw(seed, [24, 24]))]);
    const shape = one(b, 'Concat', [vector(size(0)), vector(size(1)), i64(b, 3, 8)], { axis: 0 });
    return one(b, 'Transpose', [one(b, 'Reshape', [flat, shape])], { perm: [0, 2, 1, 3] });
  };
  const keys = one(b, 'Transpose', [heads(4)], { perm: [0, 1, 3, 2] });
  const scores = one(b, 'MatMul', [heads(3), keys]);
  const bias = one(b, 'Unsqueeze', [mask, i64(b, 1, 2)]);
  const weights = one(b, 'Softmax', [one(b, 'Add', [scores, bias])], { axis: -1 });
  const mixed = one(b, 'Transpose', [one(b, 'MatMul', [weights, heads(5)])], { perm: [0, 2, 1, 3] });
  const joined = one(b, 'Reshape', [mixed, one(b, 'Concat', [vector(size(0)), i64(b, -1, 24)], { axis: 0 })]);
  const ones = b.constant(fromNumbers('f32', [24], Array(24).fill(1)));
  const normal = one(b, 'LayerNormalization', [one(b, 'Add', [joined, x]), ones]);
  const rows = one(b, 'Reshape', [normal, i64(b, -1, 24)]);
  const last = one(b, 'Gather', [normal, b.constant(fromNumbers('i64', [], [-1]))], { axis: 1 });
  return [normal, one(b, 'MatMul', [rows, b.constant(draw(6, [24, 5]))]), one(b, 'ReduceMean', [last, i64(b, 0)])];
});

/** Parts that begin where an open size ends; slices and reversals from the end; positions; a mask by positions; sums along. */
const places = network('places', (b) => {
  const x = b.input('x', 'f32', [sym('s'), 6]);
  const y = b.input('y', 'f32', [sym('t'), 6]);
  const both = one(b, 'Concat', [x, y, one(b, 'Neg', [x])], { axis: 0 });
  const tail = one(b, 'Slice', [both, i64(b, -3), i64(b, 2 ** 31), i64(b, 0)]);
  const turned = one(b, 'Slice', [x, i64(b, -1), i64(b, -(2 ** 31)), i64(b, 0), i64(b, -1)]);
  const size = one(b, 'Squeeze', [one(b, 'Shape', [x], { start: 0, end: 1 })]);
  const scalar = (value: number) => b.constant(fromNumbers('i64', [], [value]));
  const range = one(b, 'Cast', [one(b, 'Range', [scalar(0), size, scalar(1)])], { to: 'f32' });
  const causal = one(b, 'Trilu', [one(b, 'MatMul', [x, one(b, 'Transpose', [x], { perm: [1, 0] })])], { upper: false });
  const grown = one(b, 'Expand', [one(b, 'ReduceMax', [y, i64(b, 0)]), one(b, 'Shape', [x])]);
  return [
    both,
    tail,
    one(b, 'Mul', [turned, one(b, 'Unsqueeze', [range, i64(b, 1)])]),
    one(b, 'Softmax', [causal], { axis: 0 }),
    one(b, 'CumSum', [one(b, 'Add', [grown, x]), scalar(0)]),
    one(b, 'Reshape', [both, i64(b, 3, -1)]),
  ];
});

interface Case {
  readonly graph: Graph;
  readonly profile: ShapeProfile;
  readonly runs: readonly Readonly<Record<string, StaticShape>>[];
}
const CASES: readonly Case[] = [
  {
    graph: convolutions,
    profile: { x: { min: [1, 3, 8, 8], opt: [2, 3, 33, 40], max: [3, 3, 64, 50] } },
    runs: [
      [3, 3, 64, 50],
      [1, 3, 8, 8],
      [2, 3, 33, 40],
      [3, 3, 17, 49],
      [1, 3, 63, 9],
    ].map((x) => ({ x })),
  },
  {
    graph: attention,
    profile: {
      ids: { min: [1, 1], opt: [1, 32], max: [4, 64] },
      mask: { min: [1, 1], opt: [1, 32], max: [4, 64] },
    },
    runs: [
      [4, 64],
      [1, 32],
      [1, 1],
      [3, 17],
      [2, 31],
      [4, 1],
    ].map((s) => ({ ids: s, mask: s })),
  },
  {
    graph: places,
    profile: { x: { min: [2, 6], opt: [10, 6], max: [40, 6] }, y: { min: [1, 6], opt: [5, 6], max: [30, 6] } },
    runs: [
      [40, 30],
      [2, 1],
      [10, 5],
      [13, 30],
      [39, 2],
    ].map(([s, t]) => ({ x: [s, 6], y: [t, 6] })),
  },
];

function inputsFor(graph: Graph, shapes: Readonly<Record<string, StaticShape>>, seed: number): Record<string, Tensor> {
  return Object.fromEntries(
    graph.inputs.map((name, i) => {
      const shape = shapes[name];
      const rnd = random(seed + i);
      const isFloat = graph.values.get(name)?.dtype === 'f32';
      const values = Array.from({ length: elements(shape) }, () => (isFloat ? rnd.next() * 2 - 1 : rnd.below(50)));
      return [name, fromNumbers(isFloat ? 'f32' : 'i64', shape, values)];
    }),
  );
}

function expectClose(got: ArrayLike<number>, want: Tensor, label: string): void {
  const numbers = toNumbers(want);
  expect(got.length, label).toBe(numbers.length);
  const scale = Math.max(1, ...Array.from(numbers, Math.abs));
  for (let i = 0; i < numbers.length; i++)
    if (!(Math.abs(got[i] - numbers[i]) <= 2e-5 * scale))
      expect.fail(`${label}[${i}] is ${got[i]}, expected ${numbers[i]}`);
}

const codeOf = (work: () => unknown): string => {
  try {
    work();
    return 'done';
  } catch (error) {
    return error instanceof ModelError ? error.code : String(error);
  }
};

describe.each(TARGETS)('%s', (target) => {
  it.each(CASES.map((c) => [c.graph.name, c] as const))('%s at many shapes', async (_, { graph, profile, runs }) => {
    const { engine } = await build(graph, { target, profiles: [profile], verify: true });
    const loaded = await loadEngine(serializeEngine(engine), { devices: DEVICES, threads: 2 });
    const context = loaded.createContext();
    for (const [i, shapes] of [...runs, ...runs].entries()) {
      const inputs = inputsFor(graph, shapes, 100 + i);
      for (const [name, shape] of Object.entries(shapes)) context.setShape(name, shape);
      const got = context.run(Object.fromEntries(Object.entries(inputs).map(([name, t]) => [name, t.data])));
      const bound = bindShapes(graph, OPS, shapes, () => {});
      const want = evalGraph(bound, OPS, new Map(Object.entries(inputs)));
      for (const [name, data] of Object.entries(got)) {
        const label = `${graph.name} ${name} at ${JSON.stringify(shapes)}`;
        expect(context.shapeOf(name), label).toEqual(want.get(name)!.shape);
        expectClose(data as Float32Array, want.get(name)!, label);
      }
    }
    loaded.dispose();
  });

  it('several profiles: each shape that one of them has, and no mixture of them', async () => {
    const range = (s: number, t: number): ShapeProfile => ({
      x: { min: [s - 2, 6], opt: [s, 6], max: [s + 2, 6] },
      y: { min: [t, 6], opt: [t, 6], max: [t, 6] },
    });
    const { engine } = await build(places, { target, profiles: [range(4, 9), range(20, 3)] });
    const loaded = await loadEngine(engine, { devices: DEVICES, threads: 1 });
    expect(loaded.profiles.length).toBe(2);
    const context = loaded.createContext();
    expect(context.shapeOf('x')).toEqual([4, 6]);
    for (const [s, t] of [
      [6, 9],
      [22, 3],
      [2, 9],
      [18, 3],
    ]) {
      const inputs = inputsFor(places, { x: [s, 6], y: [t, 6] }, s);
      const want = evalGraph(
        bindShapes(places, OPS, { x: [s, 6], y: [t, 6] }, () => {}),
        OPS,
        new Map(Object.entries(inputs)),
      );
      // Tensors bring their shapes.
      for (const [name, data] of Object.entries(context.run(inputs)))
        expectClose(data as Float32Array, want.get(name)!, name);
    }
    expect(codeOf(() => context.setShape('x', [10, 6]))).toBe('input-mismatch');
    expect(codeOf(() => context.setShape('x', [4, 7]))).toBe('input-mismatch');
    expect(codeOf(() => context.setShape('x', [4]))).toBe('input-mismatch');
    expect(codeOf(() => context.setShape('z', [4, 6]))).toBe('input-unknown');
    context.setShape('x', [20, 6]);
    context.setShape('y', [9, 6]);
    expect(codeOf(() => context.run({ x: new Float32Array(120), y: new Float32Array(54) }))).toBe('input-mismatch');
    loaded.dispose();
  });
});

describe('what cannot be', () => {
  const refusal = async (graph: Graph, profile: ShapeProfile, target: 'wasm' | 'reference' = 'wasm'): Promise<string> =>
    await build(graph, { target, profiles: [profile] }).then(
      () => 'built',
      (error: unknown) => (error instanceof ModelError ? `${error.code}: ${error.message}` : String(error)),
    );

  it('is refused with its reason', async () => {
    const x = { min: [2, 6], opt: [10, 6], max: [40, 6] };
    expect(await refusal(places, { x: { ...x, opt: [50, 6] } })).toMatch(/^option-invalid: profile 0 .*"x"/);
    expect(await refusal(places, { z: x })).toMatch(/^input-unknown.*"z"/);
    expect(await refusal(places, { x: { min: [2, 5], opt: [10, 5], max: [40, 5] } })).toMatch(/^shape-mismatch/);
    const beyond = { min: [1, 1], opt: [1, 32], max: [4, 80] };
    expect(await refusal(attention, { ids: beyond, mask: beyond })).toMatch(
      /^shape-mismatch: the max shapes of profile 0/,
    );
  });

  it('a context of fixed shapes has no others', async () => {
    const fixed = { x: { min: [5, 6], opt: [5, 6], max: [5, 6] }, y: { min: [3, 6], opt: [3, 6], max: [3, 6] } };
    const { engine } = await build(places, { target: 'wasm', profiles: [fixed] });
    expect(engine.sizes).toBeUndefined();
    const loaded = await loadEngine(engine, { devices: DEVICES, threads: 1 });
    const context = loaded.createContext();
    context.setShape('x', [5, 6]);
    expect(codeOf(() => context.setShape('x', [6, 6]))).toBe('input-mismatch');
    loaded.dispose();
  });

  it('a file whose sizes are not in its table', async () => {
    const profile = { x: { min: [2, 6], opt: [10, 6], max: [40, 6] }, y: { min: [1, 6], opt: [5, 6], max: [30, 6] } };
    const { engine } = await build(places, { target: 'wasm', profiles: [profile] });
    const forged = [
      { ...engine, inputs: engine.inputs.map((b) => ({ ...b, words: [99, null] })) },
      { ...engine, inputs: engine.inputs.map((b) => ({ ...b, words: [0] })) },
      { ...engine, profiles: [] },
      { ...engine, profiles: engine.profiles!.map((p) => ({ ...p, inputs: p.inputs.slice(1) })) },
      { ...engine, sizes: { ...engine.sizes!, buffer: { ...engine.sizes!.buffer, byteOffset: engine.arenaBytes } } },
    ];
    for (const each of forged) {
      const bytes = serializeEngine(each);
      await expect(parseEngine(bytes)).rejects.toMatchObject({ code: 'engine-parse' });
    }
  });
});
