/**
 * Whole engines for target cuda without a GPU: built for an architecture, opened by the device on a driver that interprets PTX, and compared
 * with graph evaluation. Memory that nobody wrote is NaN there, and an access outside its allocation fails.
 *
 * Tolerance: f32 sums of at most 300 terms in another order, and functions approximated to 2e-6; f16 rounds each intermediate value to 11 bits.
 */
import { describe, expect, test } from 'vitest';
import { build } from '../src/build.ts';
import type { StaticShape } from '../src/core/shape.ts';
import { toNumbers } from '../src/core/tensor.ts';
import { Driver } from '../src/cuda/driver.ts';
import type { Device } from '../src/engine/device.ts';
import { parseEngine, serializeEngine } from '../src/engine/format.ts';
import { type GraphBuilder, graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Graph } from '../src/graph/ir.ts';
import { OPS } from '../src/ops/all.ts';
import { loadEngine } from '../src/runtime/load.ts';
import { admitEngine } from '../src/targets/admit.ts';
import { openProgram, programOf } from '../src/targets/cuda/device.ts';
import { type CudaMachine, machineOf } from '../src/targets/cuda/machine.ts';
import { type CudaProgram, emitProgram } from '../src/targets/cuda/program.ts';
import { CUDA_TEMPLATES } from '../src/targets/cuda/templates.ts';
import { FakeDriver } from './cuda/fake-driver.ts';
import { assemble, ptxasIsPresent } from './ptx/ptxas.ts';
import { interpretEngine } from './ptx/run-engine.ts';
import { CHIPS } from './ptx/run-kernel.ts';
import { randomTensor } from './random.ts';

let seed = 1;
const weight = (b: GraphBuilder, shape: StaticShape): string => b.constant(randomTensor('f32', shape, seed++));
const apply = (b: GraphBuilder, op: string, inputs: readonly string[], attrs = {}): string =>
  b.node(op, inputs, { attrs })[0];

const NETS: Readonly<Record<string, (b: GraphBuilder) => void>> = {
  'convolutions, one of them depthwise, a residual, pooling and classes': (b) => {
    const x = b.input('x', 'f32', [2, 3, 9, 8]);
    const conv = (from: string, shape: StaticShape, attrs = {}): string =>
      apply(b, 'Relu', [apply(b, 'Conv', [from, weight(b, shape), weight(b, [shape[0]])], attrs)]);
    const stem = conv(x, [8, 3, 3, 3], { pads: [1, 1, 1, 1], strides: [2, 2] });
    const depthwise = conv(stem, [8, 1, 3, 3], { pads: [1, 1, 1, 1], group: 8 });
    const sum = apply(b, 'Add', [conv(depthwise, [8, 8, 1, 1]), stem]);
    const pooled = apply(b, 'Flatten', [apply(b, 'GlobalAveragePool', [sum])]);
    b.output(apply(b, 'Softmax', [apply(b, 'Gemm', [pooled, weight(b, [8, 11]), weight(b, [11])])]));
  },
  'products of so many weights that the step before asks for them': (b) => {
    const x = b.input('x', 'f32', [2, 128]);
    const hidden = apply(b, 'Relu', [apply(b, 'Gemm', [x, weight(b, [128, 300]), weight(b, [300])])]);
    b.output(apply(b, 'Gemm', [hidden, weight(b, [300, 128]), weight(b, [128])]));
  },
  'branches of convolutions and of pooling that meet in a concatenation, and one that meets them in a sum': (b) => {
    const x = b.input('x', 'f32', [1, 16, 7, 6]);
    const conv = (from: string, shape: StaticShape, attrs = {}): string =>
      apply(b, 'Relu', [apply(b, 'Conv', [from, weight(b, shape), weight(b, [shape[0]])], attrs)]);
    const padded = { pads: [1, 1, 1, 1] };
    const second = conv(conv(x, [16, 16, 1, 1]), [8, 16, 3, 3], padded);
    const third = conv(conv(conv(x, [8, 16, 1, 1]), [16, 8, 3, 3], padded), [8, 16, 1, 1]);
    const pooled = conv(apply(b, 'MaxPool', [x], { kernel_shape: [3, 3], ...padded }), [16, 16, 1, 1]);
    const joined = apply(b, 'Concat', [conv(x, [24, 16, 1, 1]), second, third, pooled], { axis: 1 });
    b.output(apply(b, 'Add', [joined, conv(x, [56, 16, 1, 1])]));
  },
  'attention behind a layer normalisation, and a branch that is an output too': (b) => {
    const x = b.input('x', 'f32', [1, 7, 16]);
    const normed = apply(b, 'LayerNormalization', [x, weight(b, [16]), weight(b, [16])], { axis: -1 });
    const [q, k, v] = [0, 1, 2].map(() => apply(b, 'MatMul', [normed, weight(b, [16, 16])]));
    const scores = apply(b, 'Softmax', [apply(b, 'MatMul', [q, apply(b, 'Transpose', [k], { perm: [0, 2, 1] })])]);
    b.output(apply(b, 'Add', [apply(b, 'MatMul', [scores, v]), x]));
    b.output(apply(b, 'Concat', [normed, x], { axis: 1 }));
  },
};

const CAPABILITIES = { sm_75: 75, sm_80: 80, sm_90: 90 } as const;
type Architecture = keyof typeof CAPABILITIES;
const TOLERANCES = { fp32: 1e-4, fp16: 2e-2 } as const;
type Precision = keyof typeof TOLERANCES;

/** Builds the graph for one architecture, runs it on another, twice, and compares with graph evaluation; warnings of the load. */
async function checkEngine(
  graph: Graph,
  precision: Precision,
  { builtFor, runOn, hostAddresses = true }: { builtFor: Architecture; runOn: Architecture; hostAddresses?: boolean },
): Promise<{ readonly warnings: readonly string[]; readonly program: CudaProgram }> {
  const { engine } = await build(graph, { target: 'cuda', gpuArch: builtFor, precision });
  const fake = new FakeDriver({ runsPtx: true, computeCapability: CAPABILITIES[runOn], hostAddresses });
  const machine = machineOf(new Driver(fake.library)) as CudaMachine;
  const warnings: string[] = [];
  const onWarning = (message: string): number => warnings.push(message);
  const program = emitProgram(admitEngine(engine, CUDA_TEMPLATES, machine.features, onWarning), machine.chip);
  const device: Device = {
    target: 'cuda',
    probe: async () => ({ target: 'cuda', name: 'fake', available: true, features: [] }),
    open: (e, options) => openProgram(e, program, options, machine, undefined),
  };
  const loaded = await loadEngine(engine, { devices: [device] });
  const context = loaded.createContext();
  const x = randomTensor('f32', graph.values.get('x')?.shape as StaticShape, 99);
  const want = evalGraph(graph, OPS, new Map([['x', x]]));
  // Twice: nothing of a run may be left to the next.
  for (let run = 0; run < 2; run++) {
    const got = context.run({ x });
    for (const [output, value] of want) {
      const expected = Array.from(toNumbers(value));
      const rms = Math.sqrt(expected.reduce((sum, v) => sum + v * v, 0) / expected.length);
      const worst = Math.max(...expected.map((v, i) => Math.abs(Number(got[output][i]) - v)));
      expect(worst / rms, output).toBeLessThan(TOLERANCES[precision]);
    }
  }
  loaded.dispose();
  expect(fake.live()).toEqual({});
  return { warnings, program };
}

const graphOf = (make: (b: GraphBuilder) => void): Graph => {
  const b = graphBuilder('net', OPS);
  make(b);
  return b.finish();
};

describe.each(Object.entries(NETS))('%s', (_, make) => {
  const graph = graphOf(make);
  for (const builtFor of ['sm_75', 'sm_90'] as const)
    for (const precision of ['fp32', 'fp16'] as const)
      test.each([true, false])(`${builtFor} ${precision}, host addresses %s`, async (hostAddresses) => {
        const { warnings } = await checkEngine(graph, precision, { builtFor, runOn: builtFor, hostAddresses });
        expect(warnings).toEqual([]);
      });

  test('built for the newest, run on an older one', async () => {
    await checkEngine(graph, 'fp16', { builtFor: 'sm_90', runOn: 'sm_80' });
  });
});

test('the step before large weights asks for them, where the chip can', async () => {
  const graph = graphOf(NETS['products of so many weights that the step before asks for them']);
  const asks = async (arch: Architecture): Promise<boolean> => {
    const { program } = await checkEngine(graph, 'fp16', { builtFor: arch, runOn: arch });
    return program.modules.join().includes('cp.async.bulk.prefetch.L2');
  };
  expect(await asks('sm_90')).toBe(true);
  expect(await asks('sm_80')).toBe(false);
});

test('an engine just built and the engine of its file are the same code, so that it is found compiled', async () => {
  const graph = graphOf((b) => {
    const x = b.input('x', 'f32', [1, 4, 12, 12]);
    const pooled = apply(b, 'MaxPool', [x], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
    b.output(apply(b, 'Softmax', [apply(b, 'Conv', [pooled, weight(b, [16, 4, 3, 3])])], { axis: 1 }));
  });
  const { engine } = await build(graph, { target: 'cuda', gpuArch: 'sm_90', precision: 'fp16' });
  const machine = machineOf(new Driver(new FakeDriver().library)) as CudaMachine;
  const read = await parseEngine(serializeEngine(engine));
  expect(programOf(read, machine)).toEqual(programOf(engine, machine));
});

test('branches share launches, each step in one of them, unless steps are to be timed', async () => {
  const name = Object.keys(NETS).find((n) => n.startsWith('branches')) as string;
  const { engine } = await build(graphOf(NETS[name]), { target: 'cuda', gpuArch: 'sm_90', precision: 'fp16' });
  const all = engine.steps.map((_, i) => i);
  const stepsOf = ({ launches }: CudaProgram): number[][] => launches.map(({ step, beside = [] }) => [step, ...beside]);
  const shared = emitProgram(engine, CHIPS[2]);
  expect(stepsOf(shared).flat()).toEqual(all);
  expect(Math.max(...stepsOf(shared).map(({ length }) => length))).toBeGreaterThan(3);
  if (ptxasIsPresent()) for (const text of shared.modules) expect(assemble(text, 'sm_90a')).toBe('');
  expect(stepsOf(emitProgram(engine, CHIPS[2], { apart: true }))).toEqual(all.map((i) => [i]));
});

test.each(['fp32', 'fp16'] as const)(
  'steps that share a launch touch nothing that another one writes: %s',
  async (precision) => {
    const name = Object.keys(NETS).find((n) => n.startsWith('branches')) as string;
    const graph = graphOf(NETS[name]);
    const { engine } = await build(graph, { target: 'cuda', gpuArch: 'sm_90', precision });
    expect(emitProgram(engine, CHIPS[2]).launches.some(({ beside }) => beside)).toBe(true);
    const inputs = new Map([['x', randomTensor('f32', [1, 16, 7, 6], 7)]]);
    // Their blocks run side by side there, and a byte that two of them touch is an error.
    const [got] = interpretEngine(engine, CHIPS[2], inputs).values();
    const [want] = [...evalGraph(graph, OPS, inputs).values()].map((t) => Array.from(toNumbers(t)));
    const rms = Math.sqrt(want.reduce((sum, v) => sum + v * v, 0) / want.length);
    expect(Math.max(...want.map((v, i) => Math.abs(Number(got.data[i]) - v))) / rms).toBeLessThan(
      TOLERANCES[precision],
    );
  },
);
