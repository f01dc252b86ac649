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
import { parseEngine, serializeEngine } from '../src/engine/format.ts';
import { bindShapes } from '../src/graph/bind.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Graph } from '../src/graph/ir.ts';
import type { ShapeProfile } from '../src/graph/profiles.ts';
import { OPS } from '../src/ops/all.ts';
import { loadEngine } from '../src/runtime/load.ts';
import { cudaDevice } from '../src/targets/cuda/device.ts';
import { wasmDevice } from '../src/targets/wasm/device.ts';
import { x64Device } from '../src/targets/x64/device.ts';
import { x64Machine } from '../src/targets/x64/machine.ts';
import { GPU, gpuHere } from './cuda/gpu-here.ts';
import { attention, CASES, expectClose, inputsFor, places } from './open-networks.ts';

const machine = await x64Machine();
const TARGETS = [
  'wasm',
  ...(typeof machine === 'string' ? [] : ['x64' as const]),
  ...(GPU ? ['cuda' as const] : []),
] as const;
it.skipIf(typeof machine !== 'string')(`x64: ${typeof machine === 'string' ? machine : ''}`, () => {});

if (GPU) gpuHere();
const DEVICES = [wasmDevice, x64Device, cudaDevice];
const codeOf = (work: () => unknown): string => {
  try {
    work();
    return 'done';
  } catch (error) {
    return error instanceof ModelError ? error.code : String(error);
  }
};

describe.each(TARGETS)('%s', (target) => {
  it.each(CASES.map((c) => [c.graph.name, c] as const))(
    '%s at many shapes',
    async (_, { graph, profile, runs, templates = [], threads = 2 }) => {
      const { engine } = await build(graph, { target, profiles: [profile], verify: true });
      // The GPU has templates of its own.
      if (target !== 'cuda')
        expect(engine.steps.map(({ tactic }) => tactic.template)).toEqual(expect.arrayContaining([...templates]));
      const loaded = await loadEngine(serializeEngine(engine), { devices: DEVICES, threads });
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
    },
  );

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

it.each(TARGETS.filter((target) => target !== 'cuda'))('%s: attention is one kernel at all sizes', async (target) => {
  const [{ profile }] = CASES.filter(({ graph }) => graph === attention);
  const { engine } = await build(attention, { target, profiles: [profile] });
  const forms = engine.steps.map(({ kernel }) => engine.kernels[kernel].form);
  const [attend] = forms.flatMap((form) => (form.kind === 'attend' ? [form] : []));
  const open = attend?.axes.filter(({ limit }) => limit).map(({ role }) => role);
  expect(open?.sort()).toEqual(['batch', 'key', 'query']);
});
