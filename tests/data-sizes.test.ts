/**
 * Sizes that the data decide: one engine, run on data that select nothing, one, some and all, against the graph evaluator.
 *
 * The networks hold what detection networks do with such sizes: elements picked by position, the best of them, labels made of how many
 * there are, parts joined, rows normalised, shapes as results. Engines go through their file. The arena is not cleared between runs, so
 * what an earlier, larger result left shows where it is read. Tolerance: kernels sum in f32, the evaluator in f64.
 */
import { describe, expect, it } from 'vitest';
import { build } from '../src/build.ts';
import { ModelError } from '../src/core/errors.ts';
import { elements, type StaticShape, sym } from '../src/core/shape.ts';
import { fromNumbers, type Tensor, toNumbers } from '../src/core/tensor.ts';
import type { TargetName } from '../src/engine/engine.ts';
import { parseEngine, serializeEngine } from '../src/engine/format.ts';
import { inspectEngine, inspectionText } from '../src/engine/inspect.ts';
import { type GraphBuilder, graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Graph } from '../src/graph/ir.ts';
import type { ShapeProfile } from '../src/graph/profiles.ts';
import { index } from '../src/loop/expr.ts';
import { OPS } from '../src/ops/all.ts';
import { loadEngine } from '../src/runtime/load.ts';
import { TARGETS as ALL_TARGETS } from '../src/targets/all.ts';
import { cudaDevice } from '../src/targets/cuda/device.ts';
import { referenceDevice } from '../src/targets/reference/device.ts';
import { wasmDevice } from '../src/targets/wasm/device.ts';
import { x64Device } from '../src/targets/x64/device.ts';
import { x64Machine } from '../src/targets/x64/machine.ts';
import { GPU, gpuHere } from './cuda/gpu-here.ts';
import { random } from './random-kernel.ts';

const machine = await x64Machine();
const TARGETS = [
  'wasm',
  ...(typeof machine === 'string' ? [] : ['x64' as const]),
  ...(GPU ? ['cuda' as const] : []),
] as const;
it.skipIf(typeof machine !== 'string')(`x64: ${typeof machine === 'string' ? machine : ''}`, () => {});
if (GPU) gpuHere();
const DEVICES = [wasmDevice, x64Device, cudaDevice, referenceDevice];

const i64 = (b: GraphBuilder, ...values: number[]) => b.constant(fromNumbers('i64', [values.length], values));
const one = (b: GraphBuilder, op: string, inputs: readonly string[], attrs = {}): string =>
  b.node(op, inputs, { attrs })[0];
function network(name: string, make: (b: GraphBuilder) => readonly string[]): Graph {
  const b = graphBuilder(name, OPS);
  for (const output of make(b)) b.output(output);
  return b.finish();
}

/** The elements of x where a value is above 0, as x[mask] is exported. */
const above = (b: GraphBuilder, mask: string, x: string): string => {
  const zero = b.constant(fromNumbers('f32', [], [0]));
  const positions = one(b, 'NonZero', [one(b, 'Greater', [mask, zero])]);
  return one(b, 'GatherND', [x, one(b, 'Transpose', [positions], { perm: [1, 0] })]);
};
const sizeOf = (b: GraphBuilder, x: string): string => one(b, 'Shape', [x]);

/** A dim of extent n in one network, a fixed size in the others. */
const GRAPHS: readonly { readonly graph: Graph; readonly shapes: Readonly<Record<string, StaticShape>> }[] = [
  {
    graph: network('positions', (b) => {
      const x = b.input('x', 'f32', [3, 7]);
      const positions = one(b, 'NonZero', [x]);
      return [positions, sizeOf(b, positions)];
    }),
    shapes: { x: [3, 7] },
  },
  {
    // As a detector joins what is left of each of its classes: a size of many terms.
    graph: network('many parts', (b) => {
      const x = b.input('x', 'f32', [70, 3]);
      const parts = b.node('Split', [x], {
        attrs: { axis: 0, num_outputs: 70 },
        outputs: Array.from({ length: 70 }, (_, i) => `part${i}`),
      });
      const rows = parts.map((part) => above(b, part, part));
      return [one(b, 'Concat', rows, { axis: 0 })];
    }),
    shapes: { x: [70, 3] },
  },
  {
    graph: network('one-row', (b) => {
      const x = b.input('x', 'f32', [1]);
      return [one(b, 'NonZero', [x]), one(b, 'Unique', [x])];
    }),
    shapes: { x: [1] },
  },
  {
    graph: network('no-rows', (b) => {
      const x = b.input('x', 'f32', [0, 4]);
      return [one(b, 'NonZero', [x]), one(b, 'Relu', [above(b, x, x)])];
    }),
    shapes: { x: [0, 4] },
  },
  {
    graph: network('picked', (b) => {
      const x = b.input('x', 'f32', [5, 13]);
      const boxes = b.input('boxes', 'f32', [5, 13, 4]);
      const scores = above(b, x, x);
      const rows = above(b, x, boxes);
      const weight = b.constant(fromNumbers('f32', [4, 3], [1, -2, 3, 0.5, 1, -1, 2, 0, 1, -1, 1, 0.25]));
      const product = one(b, 'MatMul', [rows, weight]);
      const scaled = one(b, 'Mul', [product, one(b, 'Unsqueeze', [scores, i64(b, 1)])]);
      return [
        one(b, 'Softmax', [scaled], { axis: 0 }),
        one(b, 'ReduceSum', [one(b, 'Sigmoid', [scaled]), i64(b, 0)]),
        one(b, 'Transpose', [one(b, 'Concat', [rows, scaled], { axis: 1 })], { perm: [1, 0] }),
        one(b, 'Reshape', [rows, i64(b, -1)]),
      ];
    }),
    shapes: { x: [5, 13], boxes: [5, 13, 4] },
  },
  {
    // Two classes: the best of each, with labels, side by side; the first ones of all.
    graph: network('classes', (b) => {
      const x = b.input('x', 'f32', [2, 31]);
      const parts = [0, 1].map((label) => {
        const row = one(b, 'Gather', [x, b.constant(fromNumbers('i64', [], [label]))], { axis: 0 });
        const kept = above(b, row, row);
        const both = one(b, 'Concat', [i64(b, 6), sizeOf(b, kept)], { axis: 0 });
        const k = one(b, 'Reshape', [one(b, 'ReduceMin', [both], { keepdims: false }), i64(b, 1)]);
        const [best, at] = b.node('TopK', [kept, k], { outputs: [b.fresh('best'), b.fresh('at')] });
        const value = fromNumbers('i64', [1], [label + 5]);
        return { best, at, labels: one(b, 'ConstantOfShape', [sizeOf(b, best)], { value }) };
      });
      const joined = (['best', 'at', 'labels'] as const).map((which) =>
        one(
          b,
          'Concat',
          parts.map((p) => p[which]),
          { axis: 0 },
        ),
      );
      const first = one(b, 'Slice', [joined[0], i64(b, 0), i64(b, 7), i64(b, 0)]);
      const isEmpty = one(b, 'Equal', [
        one(b, 'ReduceProd', [sizeOf(b, joined[0])], { keepdims: false }),
        b.constant(fromNumbers('i64', [], [0])),
      ]);
      const order = one(b, 'Range', [
        b.constant(fromNumbers('i64', [], [0])),
        one(b, 'Squeeze', [sizeOf(b, joined[1])]),
        b.constant(fromNumbers('i64', [], [1])),
      ]);
      return [...joined, first, one(b, 'Cast', [isEmpty], { to: 'i64' }), order];
    }),
    shapes: { x: [2, 31] },
  },
  {
    graph: network('distinct', (b) => {
      const x = b.input('x', 'f32', [23]);
      const rounded = one(b, 'Round', [one(b, 'Mul', [x, b.constant(fromNumbers('f32', [], [3]))])]);
      const outputs = (axis?: number, sorted = true) =>
        b.node('Unique', [axis === undefined ? rounded : one(b, 'Reshape', [rounded, i64(b, 1, -1)])], {
          attrs: { ...(axis !== undefined && { axis }), sorted },
          outputs: Array.from({ length: 4 }, () => b.fresh('u')),
        });
      return [
        ...outputs(),
        ...outputs(undefined, false),
        ...outputs(1),
        one(b, 'Compress', [x, one(b, 'Cast', [rounded], { to: 'bool' })]),
      ];
    }),
    shapes: { x: [23] },
  },
  {
    graph: network('slices', (b) => {
      const x = b.input('x', 'f32', [3, 11, 2]);
      const means = one(b, 'ReduceMax', [x, i64(b, 0, 2)], { keepdims: false });
      const some = one(b, 'Greater', [means, b.constant(fromNumbers('f32', [], [0.4]))]);
      const kept = one(b, 'Compress', [x, some], { axis: 1 });
      const k = one(b, 'Reshape', [one(b, 'ReduceSum', [one(b, 'Cast', [some], { to: 'i64' })]), i64(b, 1)]);
      const [best] = b.node('TopK', [x, k], {
        attrs: { axis: 1, largest: false },
        outputs: [b.fresh('v'), b.fresh('p')],
      });
      return [kept, one(b, 'Neg', [best]), one(b, 'ReduceMean', [kept, i64(b, 1)])];
    }),
    shapes: { x: [3, 11, 2] },
  },
  {
    graph: network('boxes', (b) => {
      const boxes = b.input('boxes', 'f32', [2, 17, 4]);
      const scores = b.input('x', 'f32', [2, 3, 17]);
      const parameters = [
        b.constant(fromNumbers('i64', [], [4])),
        b.constant(fromNumbers('f32', [], [0.2])),
        b.constant(fromNumbers('f32', [], [0])),
      ];
      const kept = one(b, 'NonMaxSuppression', [boxes, scores, ...parameters]);
      const at = one(b, 'Gather', [kept, i64(b, 0, 2)], { axis: 1 });
      return [kept, one(b, 'GatherND', [boxes, at])];
    }),
    shapes: { x: [2, 3, 17], boxes: [2, 17, 4] },
  },
  {
    // What an If on data becomes: the first rows, or other columns beside them; what follows has the size of either.
    graph: network('branches', (b) => {
      const x = b.input('x', 'f32', [4, 9]);
      const zero = b.constant(fromNumbers('f32', [], [0]));
      const any = one(b, 'ReduceMax', [x], { keepdims: false });
      const few = one(b, 'Greater', [
        b.constant(fromNumbers('f32', [], [9])),
        one(b, 'ReduceSum', [x], { keepdims: false }),
      ]);
      const choose = (cond: string, yes: string, no: string, open: readonly number[]) =>
        one(b, 'ai.hotrod.Choose', [cond, yes, no], { open });
      const rows = one(b, 'Slice', [x, i64(b, 0), i64(b, 2), i64(b, 0)]);
      const wide = one(b, 'Slice', [x, i64(b, 3), i64(b, 8), i64(b, 1)]);
      const kept = above(b, x, x);
      const chosen = choose(few, rows, wide, [0, 1]);
      const nothing = b.constant(fromNumbers('f32', [0], []));
      return [
        chosen,
        one(b, 'Softmax', [one(b, 'Add', [chosen, any])], { axis: 1 }),
        one(b, 'Neg', [choose(one(b, 'Greater', [any, zero]), kept, nothing, [0])]),
      ];
    }),
    shapes: { x: [4, 9] },
  },
];

/** A network with a size of the inputs left open too. */
const OPEN = network('open', (b) => {
  const x = b.input('x', 'f32', [sym('n'), 6]);
  const kept = above(b, x, x);
  const rows = one(
    b,
    'Compress',
    [
      x,
      one(b, 'Greater', [
        one(b, 'ReduceMax', [x, i64(b, 1)], { keepdims: false }),
        b.constant(fromNumbers('f32', [], [0])),
      ]),
    ],
    { axis: 0 },
  );
  const both = one(b, 'Concat', [x, rows], { axis: 0 });
  return [
    kept,
    one(b, 'Softmax', [both], { axis: 0 }),
    one(b, 'Concat', [sizeOf(b, kept), sizeOf(b, x)], { axis: 0 }),
    one(b, 'NonZero', [rows]),
  ];
});

const KINDS = ['none', 'one', 'some', 'all', 'few', 'none'] as const;
function draw(kind: (typeof KINDS)[number], shape: StaticShape, seed: number): Tensor {
  const rnd = random(seed);
  const count = elements(shape);
  const values = Float32Array.from({ length: count }, (_, i) => {
    const value = rnd.next() * 0.9 + 0.1;
    const isKept = {
      none: false,
      one: i === Math.floor(count / 2),
      some: rnd.below(2) === 0,
      all: true,
      few: rnd.below(7) === 0,
    };
    return isKept[kind] ? value : 0;
  });
  return fromNumbers('f32', shape, values);
}

function expectClose(got: Tensor, want: Tensor, label: string): void {
  expect({ shape: got.shape, dtype: got.dtype }, label).toEqual({ shape: want.shape, dtype: want.dtype });
  const [a, b] = [toNumbers(got), toNumbers(want)];
  expect(a.length, label).toBe(b.length);
  const scale = Math.max(1, ...Array.from(b, (v) => (Number.isFinite(v) ? Math.abs(v) : 0)));
  for (let i = 0; i < b.length; i++)
    if (!Object.is(a[i], b[i]) && !(Math.abs(a[i] - b[i]) <= 2e-5 * scale))
      expect.fail(`${label}[${i}] is ${a[i]}, expected ${b[i]}`);
}

async function compare(
  target: TargetName,
  graph: Graph,
  runs: readonly ReadonlyMap<string, Tensor>[],
  profiles: readonly ShapeProfile[] = [],
): Promise<void> {
  const { engine } = await build(graph, { target, verify: true, ...(profiles.length > 0 && { profiles }) });
  const loaded = await loadEngine(serializeEngine(engine), { devices: DEVICES, threads: 2 });
  const context = loaded.createContext();
  for (const [i, inputs] of runs.entries()) {
    const got = context.run(Object.fromEntries(inputs));
    const want = evalGraph(graph, OPS, inputs);
    for (const { name, dtype } of engine.outputs)
      expectClose(
        { dtype, shape: context.shapeOf(name), data: got[name] },
        want.get(name)!,
        `${graph.name} ${name}, run ${i}`,
      );
  }
  loaded.dispose();
}

describe.each([...TARGETS, 'reference'] as const)('%s', (target) => {
  it.each(GRAPHS.map((c) => [c.graph.name, c] as const))('%s', async (_, { graph, shapes }) => {
    const runs = KINDS.map(
      (kind, i) =>
        new Map(graph.inputs.map((name, k) => [name, draw(name === 'x' ? kind : 'all', shapes[name], 50 * i + k)])),
    );
    await compare(target, graph, runs);
  });

  it.skipIf(target === 'reference')('beside open sizes of the inputs', async () => {
    const profile = { x: { min: [1, 6], opt: [10, 6], max: [40, 6] } };
    const runs = KINDS.flatMap((kind, i) => [40, 1, 7].map((n) => new Map([['x', draw(kind, [n, 6], 10 * i + n)]])));
    await compare(target, OPEN, runs, [profile]);
  });
});

const POSITIONS = GRAPHS[0].graph;

describe('an engine whose output sizes the data decide', () => {
  it('tells them after a run, and fills arrays that are larger', async () => {
    const { engine } = await build(POSITIONS, { target: 'wasm' });
    const [name] = POSITIONS.outputs;
    const loaded = await loadEngine(engine, { devices: DEVICES, threads: 1 });
    const context = loaded.createContext();
    expect(context.isDecidedByData(name)).toBe(true);
    expect(context.shapeOf(name)).toEqual([2, 21]);
    const x = draw('one', [3, 7], 1);
    const room = new BigInt64Array(42).fill(-1n);
    context.run({ x }, { [name]: room });
    expect(context.shapeOf(name)).toEqual([2, 1]);
    expect([...room.subarray(0, 3)]).toEqual([1n, 3n, -1n]);
    expect(() => context.run({ x: draw('all', [3, 7], 1) }, { [name]: new BigInt64Array(41) })).toThrow(
      /expected BigInt64Array of 42 elements, got BigInt64Array of 41/,
    );
    loaded.dispose();
  });

  it('says in its inspection what decides them', async () => {
    const profile = { x: { min: [1, 6], opt: [10, 6], max: [40, 6] } };
    const { engine } = await build(OPEN, { target: 'wasm', profiles: [profile] });
    const report = inspectEngine(engine);
    expect(report.dataSizes?.map(({ atMost }) => atMost)).toEqual(['6*n', 'n', '6*compressed(Compress)']);
    expect(report.outputs.map(({ dims }) => dims?.join())).toEqual([
      'nonzero(NonZero)',
      'compressed(Compress)+n,6',
      undefined,
      '2,nonzero(NonZero_1)',
    ]);
    expect(inspectionText(report)).toMatch(/by data +compressed\(Compress\), at most n/);
  });

  it('is refused where an input would be sized by them, and stays in its memory whatever its steps count', async () => {
    const { engine } = await build(POSITIONS, { target: 'wasm' });
    const word = engine.outputs[0].words?.[1] ?? null;
    const asInput = { ...engine, inputs: engine.inputs.map((b) => ({ ...b, words: [null, word] })) };
    await expect(parseEngine(serializeEngine(asInput))).rejects.toMatchObject({ code: 'engine-parse' });
    for (const target of TARGETS) {
      const { engine: honest } = await build(POSITIONS, { target });
      // The step that clamps the count stores what a stranger likes instead.
      for (const lie of [-5, 2 ** 31 - 1, 22]) {
        const kernels = honest.kernels.map((k) =>
          k.form.kind === 'routine' && k.form.name === 'sizes'
            ? { ...k, body: k.body.map((s) => (s.kind === 'store' ? { ...s, value: index(lie) } : s)) }
            : k,
        );
        const program = { ...honest, kernels };
        const forged = { ...program, code: ALL_TARGETS.find((t) => t.name === target)?.emit?.(program) ?? [] };
        const loaded = await loadEngine(serializeEngine(forged), { devices: DEVICES, threads: 1 });
        const context = loaded.createContext();
        const got = context.run({ x: draw('some', [3, 7], 3) });
        expect(context.shapeOf(POSITIONS.outputs[0])).toEqual([2, Math.min(Math.max(lie, 0), 21)]);
        expect(got[POSITIONS.outputs[0]].length).toBe(2 * Math.min(Math.max(lie, 0), 21));
        loaded.dispose();
      }
    }
  });
});

describe('what cannot be', () => {
  const refusal = (make: (b: GraphBuilder) => readonly string[]): Promise<string> =>
    build(network('refused', make), { target: 'wasm' }).then(
      () => 'built',
      (error: unknown) => (error instanceof ModelError ? `${error.code}: ${error.message}` : String(error)),
    );

  it('is refused with its reason before anything is built', async () => {
    const scalar = (b: GraphBuilder, n: number) => b.constant(fromNumbers('i64', [], [n]));
    expect(await refusal((b) => [one(b, 'Range', [scalar(b, 0), b.input('n', 'i64', []), scalar(b, 1)])])).toMatch(
      /^onnx-unsupported: .*Range "Range#0", of which only running tells the shape \[range\(Range\)\]/,
    );
    expect(
      await refusal((b) => {
        const x = b.input('x', 'f32', [9]);
        return [one(b, 'Add', [above(b, x, x), one(b, 'Compress', [x, b.input('c', 'bool', [9])])])];
      }),
    ).toMatch(/^shape-mismatch: Add/);
  });
});

describe('boxes so large or small that float32 has no such areas, or few digits of them', () => {
  it.each(['reference', 'wasm', ...(typeof machine === 'string' ? [] : (['x64'] as const))] as const)(
    '%s',
    async (target) => {
      const b = graphBuilder('boxes', OPS);
      const inputs = [b.input('boxes', 'f32', [1, 6, 4]), b.input('scores', 'f32', [1, 1, 6])];
      const parameters = [fromNumbers('i64', [], [6]), fromNumbers('f32', [], [0.8])].map((x) => b.constant(x));
      b.output(one(b, 'NonMaxSuppression', [...inputs, ...parameters]));
      const { engine } = await build(b.finish(), { target });
      const loaded = await loadEngine(engine, { devices: DEVICES, threads: 1 });
      const context = loaded.createContext();
      const edges = [0, 0, 1, 1, 0, 0.1, 1, 1.1, 0, -0.1, 1, 0.9, 0, 10, 1, 11, 0, 10.1, 1, 11.1, 0, 100, 1, 101];
      const scores = Float32Array.of(0.9, 0.75, 0.6, 0.95, 0.5, 0.3);
      for (const scale of [1e-22, 1e-10, 1, 1.9e19, 1e30]) {
        const kept = context.run({ boxes: Float32Array.from(edges, (x) => x * scale), scores })[engine.outputs[0].name];
        // Neighbours overlap by 0.9 of 1.1.
        expect(Array.from(kept as BigInt64Array, Number), `${scale}`).toEqual([0, 0, 3, 0, 0, 0, 0, 0, 5]);
      }
      loaded.dispose();
    },
  );
});
