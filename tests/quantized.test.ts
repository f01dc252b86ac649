/**
 * Quantised networks (QDQ) end to end: every layer that is summed in integers against the float definition of the model as it is,
 * evaluated node by node.
 *
 * Tolerance: the definition rounds sums and quotients to float32, the engine sums exactly and rounds once or twice, so a value next to
 * a tie may come out one step higher or lower; that is at most one step of the result's quantisation, and rare: values near a tie
 * within 1e-5 of a step are about one in 50,000. Among a few hundred elements two are allowed.
 */
import { describe, expect, test } from 'vitest';
import { build } from '../src/build.ts';
import type { DType } from '../src/core/dtype.ts';
import { type StaticShape, sym } from '../src/core/shape.ts';
import { fromNumbers, scalarTensor, type Tensor, toNumbers } from '../src/core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Attrs, Graph } from '../src/graph/ir.ts';
import { OPS } from '../src/ops/all.ts';
import { x64Machine } from '../src/targets/x64/machine.ts';
import { runModelOn } from './engine-runner.ts';
import { randomTensor } from './random.ts';
import { type Random, random } from './random-kernel.ts';

const x64 = await x64Machine();
const TARGETS = ['wasm', ...(typeof x64 === 'string' ? [] : (['x64'] as const))] as const;
const SEED = 4711;

/** How a tensor is quantised. */
interface Steps {
  readonly dtype: 'u8' | 'i8';
  readonly scale: number | readonly number[];
  readonly zeroPoint: number;
}

class Sketch {
  readonly b: GraphBuilder = graphBuilder('quantised', OPS);
  readonly #rnd: Random;

  constructor(rnd: Random) {
    this.#rnd = rnd;
  }

  node(op: string, inputs: readonly string[], attrs: Attrs = {}): string {
    return this.b.node(op, inputs, { attrs })[0];
  }
  #parameters({ dtype, scale, zeroPoint }: Steps): string[] {
    const scales = typeof scale === 'number' ? [scale] : scale;
    const shape = typeof scale === 'number' ? [] : [scales.length];
    return [
      this.b.constant(fromNumbers('f32', shape, scales)),
      this.b.constant(
        fromNumbers(
          dtype,
          shape,
          scales.map(() => zeroPoint),
        ),
      ),
    ];
  }
  quantize(x: string, steps: Steps): string {
    return this.node('QuantizeLinear', [x, ...this.#parameters(steps)]);
  }
  dequantize(q: string, steps: Steps, axis = 0): string {
    return this.node('DequantizeLinear', [q, ...this.#parameters(steps)], { axis });
  }
  /** A weight as a model has it: bytes and what they stand for, with a scale a channel, or one. */
  weight(
    shape: StaticShape,
    axis: number,
    dtype: 'u8' | 'i8',
    zeroPoint: number,
  ): { x: string; scales: readonly number[] } {
    const count = shape.reduce((a, d) => a * d, 1);
    const values = Array.from({ length: count }, () => this.#rnd.below(255) - (dtype === 'i8' ? 127 : 0));
    const q = this.b.constant(fromNumbers(dtype, shape, values));
    const perChannel = this.#rnd.below(2) === 0;
    const scales = Array.from({ length: perChannel ? shape[axis] : 1 }, () => 0.002 + 0.01 * this.#rnd.next());
    return { x: this.dequantize(q, { dtype, scale: perChannel ? scales : scales[0], zeroPoint }, axis), scales };
  }
  /** None, numbers, or integers of the sum's scale. */
  bias(channels: number, scales: readonly number[], ofInput: number): string | undefined {
    const kind = this.#rnd.below(3);
    if (kind === 0) return undefined;
    if (kind === 1) return this.b.constant(randomTensor('f32', [channels], 3, [-0.5, 0.5]));
    const values = Array.from({ length: channels }, () => this.#rnd.below(4000) - 2000);
    const q = this.b.constant(fromNumbers('i32', [channels], values));
    const scale = this.b.constant(
      fromNumbers(
        'f32',
        scales.length === 1 ? [] : [channels],
        scales.map((s) => Math.fround(s) * Math.fround(ofInput)),
      ),
    );
    return this.node('DequantizeLinear', [q, scale], { axis: 0 });
  }
}

/** Half the range of what comes out, about: sums of random products grow with the root of their number. */
const stepFor = (products: number): number => (3 * 0.007 * 73 * Math.sqrt(products)) / 128;

function convLayer(rnd: Random): Graph {
  const s = new Sketch(rnd);
  const group = rnd.pick([1, 1, 1, 2, 8]);
  const depthwise = group === 8;
  const perGroup = depthwise ? 1 : rnd.pick([1, 3, 8, 16, 19]);
  const [ic, oc] = [group * perGroup, group * (depthwise ? 1 : rnd.pick([1, 7, 16, 24]))];
  const kernel = rnd.pick([
    [1, 1],
    [3, 3],
    [1, 5],
  ] as const); // prettier-ignore
  const size = [kernel[0] + 2 + rnd.below(6), kernel[1] + 2 + rnd.below(6)];
  const dtype = rnd.pick(['u8', 'i8'] as const);
  const input: Steps = { dtype, scale: 0.02, zeroPoint: rnd.pick([0, 0, 7, dtype === 'u8' ? 128 : -128]) };
  const x = s.b.input('x', 'f32', [rnd.pick([1, 2]), ic, ...size]);
  const q = s.dequantize(s.quantize(x, input), input);
  const [weightDtype, zero] = rnd.pick([
    ['i8', 0],
    ['i8', 0],
    ['u8', 128],
    ['u8', 100],
  ] as const); // prettier-ignore
  const weight = s.weight([oc, perGroup, ...kernel], 0, weightDtype, zero);
  const bias = s.bias(oc, weight.scales, 0.02);
  const pads = rnd.below(2) === 0 ? [0, 0, 0, 0] : [1, 0, 1, 2];
  const attrs = { group, pads, strides: [rnd.pick([1, 1, 2]), rnd.pick([1, 1, 2])] };
  const y = s.node('Conv', [q, weight.x, ...(bias ? [bias] : [])], attrs);
  return finish(s, rnd, y, perGroup * kernel[0] * kernel[1]);
}

function productLayer(rnd: Random): Graph {
  const s = new Sketch(rnd);
  const [m, k, n] = [rnd.pick([1, 2, 13]), rnd.pick([1, 4, 9, 64, 67]), rnd.pick([1, 8, 33])];
  const dtype = rnd.pick(['u8', 'i8'] as const);
  const input: Steps = { dtype, scale: 0.02, zeroPoint: rnd.pick([0, 5]) };
  const isGemm = rnd.below(2) === 0;
  const x = s.b.input('x', 'f32', isGemm ? [m, k] : [2, m, k]);
  const q = s.dequantize(s.quantize(x, input), input);
  const transB = isGemm && rnd.below(2) === 0;
  const weight = s.weight(transB ? [n, k] : [k, n], transB ? 0 : 1, 'i8', 0);
  const bias = s.bias(n, weight.scales, 0.02);
  if (isGemm) return finish(s, rnd, s.node('Gemm', [q, weight.x, ...(bias ? [bias] : [])], { transB }), k);
  const y = s.node('MatMul', [q, weight.x]);
  return finish(s, rnd, bias ? s.node('Add', [y, bias]) : y, k);
}

/** An activation or a sum with another quantised tensor, and the result's own steps. */
function finish(s: Sketch, rnd: Random, y: string, products: number): Graph {
  const scalar = (value: number): string => s.b.constant(scalarTensor('f32', value));
  const step = stepFor(products) * 0.02 * 50;
  const shape = s.b.type(y).shape as StaticShape;
  const beside: Steps = { dtype: 'u8', scale: step, zeroPoint: 100 };
  const made = rnd.pick([
    () => y,
    () => s.node('Relu', [y]),
    () => s.node('Clip', [y, scalar(0), scalar(100 * step)]),
    () => s.node('Add', [y, s.dequantize(s.quantize(s.b.input('beside', 'f32', shape), beside), beside)]),
    () => s.node('Sigmoid', [y]),
    () => s.node('Flatten', [y]),
  ])();
  const dtype = rnd.pick(['u8', 'i8'] as const);
  s.b.output(s.quantize(made, { dtype, scale: step, zeroPoint: rnd.pick([0, 3, dtype === 'u8' ? 120 : -8]) }));
  return s.b.finish();
}

const inputsOf = (graph: Graph, seed: number): Map<string, Tensor> =>
  new Map(
    graph.inputs.map((name, i) => {
      const { shape } = graph.values.get(name)!;
      return [name, randomTensor('f32', shape as StaticShape, seed + i, [-2.5, 2.5])];
    }),
  );

const MOST_OFF = 2;

async function check(graph: Graph, seed: number): Promise<void> {
  const inputs = inputsOf(graph, seed);
  const [name] = graph.outputs;
  const wanted = Array.from(toNumbers(evalGraph(graph, OPS, inputs).get(name)!));
  for (const target of TARGETS) {
    const got = Array.from(toNumbers((await runModelOn(target, graph, inputs)).get(name)!));
    const off = got.map((x, i) => Math.abs(x - wanted[i]));
    expect(Math.max(0, ...off), `${target}, seed ${seed}`).toBeLessThanOrEqual(1);
    expect(off.filter((d) => d > 0).length, `${target}, seed ${seed}`).toBeLessThanOrEqual(MOST_OFF);
  }
}

const RUNS = 40 * Number(process.env.QUANTIZED_TIMES ?? 1);
describe.each([
  ['convolutions', convLayer],
  ['products', productLayer],
] as const)('%s', (_, layer) => {
  test.each(Array.from({ length: RUNS }, (_, i) => SEED + i))('seed %i', async (seed) => {
    await check(layer(random(seed)), seed);
  });
});

test('layers of constants are one kernel each, of bytes', async () => {
  const s = new Sketch(random(SEED));
  const steps: Steps = { dtype: 'u8', scale: 0.02, zeroPoint: 3 };
  let q = s.quantize(s.b.input('x', 'f32', [1, 16, 9, 9]), steps);
  for (const [ic, oc] of [
    [16, 32],
    [32, 24],
  ]) {
    const weight = s.weight([oc, ic, 3, 3], 0, 'i8', 0);
    q = s.quantize(s.node('Relu', [s.node('Conv', [s.dequantize(q, steps), weight.x], {})]), steps);
  }
  s.b.output(q);
  for (const target of TARGETS) {
    const { engine } = await build(s.b.finish(), { target });
    const dtypes = engine.steps.map((step) => engine.kernels[step.kernel].buffers.map((b) => b.dtype));
    // The input is quantised; each layer reads bytes, weights and an i32 a channel, and writes bytes.
    const layer: DType[] = ['u8', 'i8', 'i32'];
    expect(dtypes).toEqual([['f32', 'u8'], layer, layer].map((d) => expect.arrayContaining(d)));
    expect(engine.steps.slice(1).map((step) => step.tactic.template)).toEqual(['bytes', 'bytes']);
  }
});

test('weights that the model quantises itself are bytes too', async () => {
  const s = new Sketch(random(SEED));
  const steps: Steps = { dtype: 'i8', scale: 0.02, zeroPoint: 0 };
  const x = s.dequantize(s.quantize(s.b.input('x', 'f32', [5, 32]), steps), steps);
  const weight = s.b.constant(randomTensor('f32', [32, 16], 9, [-2, 2]));
  const y = s.node('MatMul', [x, s.dequantize(s.quantize(weight, steps), steps)]);
  s.b.output(s.quantize(y, { dtype: 'i8', scale: 0.2, zeroPoint: 0 }));
  const graph = s.b.finish();
  await check(graph, SEED);
  const { engine } = await build(graph, { target: 'wasm' });
  expect(engine.steps.map((step) => step.tactic.template)).toContain('bytes');
});

describe('precision int8', () => {
  /** A small network of floats: convolutions with activations and a sum, pooling, a product. */
  function network(rnd: Random): Graph {
    const s = new Sketch(rnd);
    const c = (shape: StaticShape, seed: number, most = 1): string =>
      s.b.constant(randomTensor('f32', shape, seed, [-most, most]));
    const x = s.b.input('x', 'f32', [1, 3, 17, 15]);
    const stem = s.node('Relu', [s.node('Conv', [x, c([16, 3, 3, 3], 1, 0.3), c([16], 2)], { pads: [1, 1, 1, 1] })]);
    const pooled = s.node('MaxPool', [stem], { kernel_shape: [2, 2], strides: [2, 2] });
    const deep = s.node('Conv', [pooled, c([16, 1, 3, 3], 3, 0.5), c([16], 4)], { pads: [1, 1, 1, 1], group: 16 });
    const six = s.b.constant(scalarTensor('f32', 6));
    const zero = s.b.constant(scalarTensor('f32', 0));
    const wide = s.node('Clip', [deep, zero, six]);
    const back = s.node('Conv', [wide, c([16, 16, 1, 1], 5, 0.3), c([16], 6)]);
    const sum = s.node('Relu', [s.node('Add', [back, pooled])]);
    const flat = s.node('Flatten', [s.node('GlobalAveragePool', [s.node('Conv', [sum, c([32, 16, 3, 3], 7, 0.2)])])]);
    s.b.output(s.node('Gemm', [flat, c([10, 32], 8), c([10], 9)], { transB: true }));
    return s.b.finish();
  }

  test.each(TARGETS)('%s: near the floats, by products of bytes, calibrated on samples', async (target) => {
    const graph = network(random(SEED));
    const samples = [1, 2, 3].map((seed) => ({ x: randomTensor('f32', [1, 3, 17, 15], seed, [-2, 2]) }));
    const warnings: string[] = [];
    const { engine } = await build(graph, { target, precision: 'int8', samples, onWarning: (w) => warnings.push(w) });
    expect(engine.precision).toBe('int8');
    expect(warnings).toEqual([]);
    const templates = engine.steps.map((step) => step.tactic.template);
    expect(templates.filter((t) => t === 'bytes').length).toBe(4);
    expect(templates).toContain('depthwise');
    const floats = engine.steps.flatMap((step) =>
      engine.kernels[step.kernel].buffers.filter(
        ({ role, dtype, elements }) => role === 'out' && dtype === 'f32' && elements > 500,
      ),
    );
    // Between the layers there are bytes; the last convolution is read as numbers, by a mean.
    expect(floats.map(({ elements }) => elements)).toEqual([32 * 6 * 5]);
    const inputs = new Map(Object.entries(samples[1]));
    const [name] = graph.outputs;
    const wanted = Array.from(toNumbers(evalGraph(graph, OPS, inputs).get(name)!));
    const got = Array.from(
      toNumbers((await runModelOn(target, graph, inputs, { precision: 'int8', samples })).get(name)!),
    );
    const norm = (values: readonly number[]): number => Math.hypot(...values);
    // Eight bits a value and five layers: a part in a hundred or so of the whole.
    expect(norm(got.map((v, i) => v - wanted[i])) / norm(wanted)).toBeLessThan(0.05);
    expect(norm(got.map((v, i) => v - wanted[i]))).toBeGreaterThan(0);
  });

  test('without samples it says that numbers were random; open sizes are refused', async () => {
    const graph = network(random(SEED));
    const warnings: string[] = [];
    await build(graph, { target: 'wasm', precision: 'int8', onWarning: (w) => warnings.push(w) });
    expect(warnings.join()).toMatch(/int8 was calibrated on random numbers/);
    const b = graphBuilder('open', OPS);
    b.output(b.node('MatMul', [b.input('x', 'f32', [sym('n'), 16]), b.constant(randomTensor('f32', [16, 8], 1))])[0]);
    const profiles = [{ x: { min: [1, 16], opt: [4, 16], max: [8, 16] } }];
    await expect(build(b.finish(), { target: 'wasm', precision: 'int8', profiles })).rejects.toThrow(
      /calibrated at one shape/,
    );
  });
});
