/**
 * Engines with open sizes for target cuda: one engine, built with profiles, opened on a driver that interprets PTX, and on the GPU where
 * there is one, and run at the least, the usual and the largest shapes and between, against graph evaluation at each. The arena is not cleared between runs.
 *
 * Tolerance: f32 sums in another order; f16 rounds each value in memory to 11 bits.
 */
import { describe, expect, it } from 'vitest';
import { build } from '../src/build.ts';
import { elements, type StaticShape } from '../src/core/shape.ts';
import { fromNumbers, scalarTensor } from '../src/core/tensor.ts';
import { Context } from '../src/cuda/context.ts';
import { DeviceBuffer } from '../src/cuda/memory.ts';
import { Stream } from '../src/cuda/stream.ts';
import { serializeEngine } from '../src/engine/format.ts';
import { bindShapes } from '../src/graph/bind.ts';
import { graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Graph } from '../src/graph/ir.ts';
import type { ShapeProfile } from '../src/graph/profiles.ts';
import { OPS } from '../src/ops/all.ts';
import { loadEngine } from '../src/runtime/load.ts';
import { type CudaMachine, machineOf } from '../src/targets/cuda/machine.ts';
import { cudaDevices } from './cuda/devices.ts';
import { attention, convolutions, expectClose, inputsFor, places } from './open-networks.ts';
import { random } from './random-kernel.ts';

type Shapes = Readonly<Record<string, StaticShape>>;
interface Case {
  readonly graph: Graph;
  readonly profile: ShapeProfile;
  readonly runs: readonly Shapes[];
}
const CASES: readonly Case[] = [
  {
    graph: convolutions,
    profile: { x: { min: [1, 3, 8, 8], opt: [1, 3, 12, 11], max: [2, 3, 21, 18] } },
    runs: [
      [2, 3, 21, 18],
      [1, 3, 8, 8],
      [1, 3, 12, 11],
      [2, 3, 13, 9],
    ].map((x) => ({ x })),
  },
  {
    graph: attention,
    profile: {
      ids: { min: [1, 1], opt: [1, 12], max: [2, 21] },
      mask: { min: [1, 1], opt: [1, 12], max: [2, 21] },
    },
    runs: [
      [2, 21],
      [1, 1],
      [1, 12],
      [2, 17],
    ].map((s) => ({ ids: s, mask: s })),
  },
  {
    graph: places,
    profile: { x: { min: [2, 6], opt: [10, 6], max: [40, 6] }, y: { min: [1, 6], opt: [5, 6], max: [30, 6] } },
    runs: [
      [40, 30],
      [2, 1],
      [10, 5],
      [39, 2],
    ].map(([s, t]) => ({ x: [s, 6], y: [t, 6] })),
  },
];
const TOLERANCES = { fp32: 2e-5, fp16: 2e-2 } as const;

const wanted = (graph: Graph, shapes: Shapes, inputs: ReturnType<typeof inputsFor>) =>
  evalGraph(
    bindShapes(graph, OPS, shapes, () => {}),
    OPS,
    new Map(Object.entries(inputs)),
  );

describe.each(CASES.map((c) => [c.graph.name, c] as const))('%s', (_, { graph, profile, runs }) => {
  const where = [
    ...cudaDevices(90).map((place) => [place.name, 'fp32', place] as const),
    ...cudaDevices(80, 90).map((place) => [place.name, 'fp16', place] as const),
  ];
  it.each(where)('%s %s at many shapes', { timeout: 300_000 }, async (_, precision, { gpuArch, make }) => {
    const { engine } = await build(graph, { target: 'cuda', gpuArch, precision, profiles: [profile], verify: true });
    const { device, live } = make();
    const loaded = await loadEngine(serializeEngine(engine), { devices: [device] });
    const context = loaded.createContext();
    for (const [i, shapes] of [...runs, runs[0]].entries()) {
      const inputs = inputsFor(graph, shapes, 100 + i);
      for (const [name, shape] of Object.entries(shapes)) context.setShape(name, shape);
      const got = context.run(inputs);
      for (const [name, value] of wanted(graph, shapes, inputs)) {
        const label = `${graph.name} ${name} at ${JSON.stringify(shapes)}`;
        expect(context.shapeOf(name), label).toEqual(value.shape);
        expectClose(got[name] as Float32Array, value, label, TOLERANCES[precision]);
      }
    }
    loaded.dispose();
    expect(live()).toEqual({});
  });
});

const DEVICES = cudaDevices(90).map((place) => [place.name, place] as const);

it.each(DEVICES)('%s: inferences in a stream each have the sizes of their time', async (_, { gpuArch, make }) => {
  const profile: ShapeProfile = {
    x: { min: [2, 6], opt: [10, 6], max: [40, 6] },
    y: { min: [3, 6], opt: [3, 6], max: [3, 6] },
  };
  const { engine } = await build(places, { target: 'cuda', gpuArch, profiles: [profile] });
  const { driver, device } = make();
  const loaded = await loadEngine(engine, { devices: [device] });
  const context = loaded.createContext();
  const machine = machineOf(driver) as CudaMachine;
  const gpu = new Context(driver, machine.device);
  const stream = new Stream(gpu);
  const output = engine.outputs[0];
  const outputs = [5, 33].map((s, run) => {
    const inputs = inputsFor(places, { x: [s, 6], y: [3, 6] }, run);
    context.setShape('x', [s, 6]);
    // Smaller shapes are corners of the largest, row-major.
    const from = Object.fromEntries(
      Object.entries(inputs).map(([name, { data }]) => {
        const buffer = new DeviceBuffer(gpu, engine.inputs.find((b) => b.name === name)!.buffer.bytes);
        stream.upload(buffer, data as Float32Array);
        return [name, buffer];
      }),
    );
    const to = new DeviceBuffer(gpu, output.buffer.bytes);
    context.enqueue(stream, from, { [output.name]: to });
    return { s, inputs, to, shape: context.shapeOf(output.name) };
  });
  for (const { s, inputs, to, shape } of outputs) {
    const whole = new Float32Array(elements(output.shape));
    stream.download(whole, to);
    stream.synchronize();
    const want = wanted(places, { x: [s, 6], y: [3, 6] }, inputs).get(output.name)!;
    expect(shape).toEqual(want.shape);
    expectClose(whole.subarray(0, elements(shape)), want, `${s} rows`);
  }
  gpu.dispose();
  loaded.dispose();
});

/** The elements of x above 0 with their positions, their softmax and how many there are. */
const picked = ((): Graph => {
  const b = graphBuilder('picked', OPS);
  const x = b.input('x', 'f32', [5, 13]);
  const one = (op: string, inputs: readonly string[], attrs = {}): string => b.node(op, inputs, { attrs })[0];
  const isAbove = one('Greater', [x, b.constant(scalarTensor('f32', 0))]);
  const positions = one('NonZero', [isAbove]);
  const kept = one('GatherND', [x, one('Transpose', [positions], { perm: [1, 0] })]);
  for (const output of [positions, one('Softmax', [kept]), one('Shape', [kept])]) b.output(output);
  return b.finish();
})();

const PRECISIONS = DEVICES.flatMap(([name, place]) =>
  (['fp32', 'fp16'] as const).map((precision) => [name, precision, place] as const),
);
it.each(PRECISIONS)('%s: sizes that the data decide, %s', async (_, precision, { gpuArch, make }) => {
  const { engine } = await build(picked, { target: 'cuda', gpuArch, precision });
  const { device } = make();
  const loaded = await loadEngine(serializeEngine(engine), { devices: [device] });
  const context = loaded.createContext();
  for (const [run, above] of [0, 1, 30, 65, 2].entries()) {
    const { x } = inputsFor(picked, { x: [5, 13] }, run);
    // So many of them positive, here and there.
    const data = (x.data as Float32Array).map((v, i) => ((i * 7) % 65 < above ? 0.1 : -0.1) * (1 + v * v));
    const input = { ...x, data };
    const got = context.run({ x: input });
    for (const [name, value] of evalGraph(picked, OPS, new Map([['x', input]]))) {
      expect(context.shapeOf(name), `${name} of ${above}`).toEqual(value.shape);
      expectClose(
        Float64Array.from(got[name] as Float32Array, Number),
        value,
        `${name} of ${above}`,
        TOLERANCES[precision],
      );
    }
  }
  loaded.dispose();
});

/** Boxes of several sizes, many of them over each other, in two classes. */
const suppressed = (boxes: number): Graph => {
  const b = graphBuilder('suppressed', OPS);
  const inputs = [b.input('boxes', 'f32', [1, boxes, 4]), b.input('scores', 'f32', [1, 2, boxes])];
  const most = b.constant({ dtype: 'i64', shape: [1], data: BigInt64Array.of(100n) });
  const overlap = b.constant(fromNumbers('f32', [1], [0.4]));
  const least = b.constant(fromNumbers('f32', [1], [0.1]));
  b.output(b.node('NonMaxSuppression', [...inputs, most, overlap, least])[0]);
  return b.finish();
};

it.each(DEVICES.flatMap(([name, place]) => [1, 63, 64, 65, 331].map((boxes) => [name, boxes, place] as const)))(
  '%s: of %i boxes a warp compares each with those that were kept',
  async (_, boxes, { gpuArch, make }) => {
    const graph = suppressed(boxes);
    const { engine } = await build(graph, { target: 'cuda', gpuArch, verify: true });
    const { device } = make();
    const loaded = await loadEngine(engine, { devices: [device] });
    const context = loaded.createContext();
    for (let run = 0; run < 3; run++) {
      const rnd = random(100 * boxes + run);
      const corners = Array.from({ length: boxes }, () => {
        const [y, x] = [rnd.next() * 3, rnd.next() * 3];
        return [y, x, y + rnd.next(), x + rnd.next()];
      });
      const scores = Array.from({ length: 2 * boxes }, () => rnd.below(50) / 50);
      const inputs = {
        boxes: fromNumbers('f32', [1, boxes, 4], corners.flat()),
        scores: fromNumbers('f32', [1, 2, boxes], scores),
      };
      const got = context.run(inputs);
      for (const [name, value] of evalGraph(graph, OPS, new Map(Object.entries(inputs)))) {
        expect(context.shapeOf(name)).toEqual(value.shape);
        expect([...got[name]]).toEqual([...value.data]);
      }
    }
    loaded.dispose();
  },
);
