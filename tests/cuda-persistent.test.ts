/**
 * Persistent kernels without a GPU: small networks whose launches are joined, interpreted with all blocks side by side and several runs
 * in the same memory, against graph evaluation. Memory knows who wrote what: a wait that is missing is an error, and so is one that
 * never ends.
 *
 * Tolerance: as in cuda-engines.test.ts.
 */
import { describe, expect, test } from 'vitest';
import { build } from '../src/build.ts';
import type { StaticShape } from '../src/core/shape.ts';
import { toNumbers } from '../src/core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Graph } from '../src/graph/ir.ts';
import { OPS } from '../src/ops/all.ts';
import type { Residency, StepRecord } from '../src/targets/cuda/persistent.ts';
import { type CudaArg, emitProgram } from '../src/targets/cuda/program.ts';
import { GPU, gpuHere, INTERPRETS } from './cuda/gpu-here.ts';
import { assemble, ptxasIsPresent } from './ptx/ptxas.ts';
import { interpretProgram } from './ptx/run-engine.ts';
import { CHIPS } from './ptx/run-kernel.ts';
import { runEngine } from './ptx/run-on-gpu.ts';
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
  'branches that meet in a concatenation': (b) => {
    const x = b.input('x', 'f32', [1, 16, 11, 10]);
    const conv = (from: string, channels: number, k: number): string => {
      const shape = [channels, from === x ? 16 : 8, k, k];
      const pads = Array.from({ length: 4 }, () => (k - 1) / 2);
      return apply(b, 'Relu', [apply(b, 'Conv', [from, weight(b, shape), weight(b, [channels])], { pads })]);
    };
    const pool = apply(b, 'MaxPool', [x], { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1] });
    const pooled = apply(b, 'Conv', [pool, weight(b, [8, 16, 1, 1]), weight(b, [8])]);
    const branches = [conv(x, 24, 1), conv(conv(x, 8, 1), 16, 3), conv(conv(x, 8, 1), 8, 5), pooled];
    const joined = apply(b, 'Concat', branches, { axis: 1 });
    b.output(apply(b, 'Relu', [apply(b, 'Conv', [joined, weight(b, [16, 56, 1, 1])])]));
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

const TOLERANCES = { fp32: 1e-4, fp16: 2e-2 } as const;
const CHIP = CHIPS[2];
const residency = (blocks: number, change: Partial<Residency> = {}): Residency => ({
  threads: 512,
  resident: 1,
  cluster: 1,
  blocks,
  sharedBytes: CHIP.sharedBytesPerBlock,
  ...change,
});

async function check(graph: Graph, precision: 'fp32' | 'fp16', persistent: Residency): Promise<void> {
  const { engine } = await build(graph, { target: 'cuda', gpuArch: 'sm_90', precision });
  const program = emitProgram(engine, CHIP, { persistent });
  expect(program.launches.filter((l) => l.cooperative).length).toBeGreaterThan(0);
  const inputs = new Map(graph.inputs.map((name) => [name, inputOf(graph, name)]));
  const expected = await evalGraph(graph, OPS, inputs);
  const runs = [
    ...(INTERPRETS ? [interpretProgram(engine, program, inputs, 3)] : []),
    ...(GPU ? [runEngine(gpuHere().gpu, CHIP, engine, inputs, { persistent })] : []),
  ];
  for (const outputs of runs)
    for (const [name, want] of expected) {
      const [x, y] = [want, outputs.get(name)!].map((t) => Array.from(toNumbers(t)));
      const size = Math.sqrt(x.reduce((n, v) => n + v * v, 0) / x.length) || 1;
      for (const [i, v] of x.entries())
        expect(Math.abs(v - y[i]) / size, `${name}[${i}]`).toBeLessThan(TOLERANCES[precision]);
    }
}

function inputOf(graph: Graph, name: string) {
  const { dtype, shape } = graph.values.get(name)!;
  return randomTensor(dtype, shape as StaticShape, 7);
}

function make(name: keyof typeof NETS): Graph {
  seed = 1;
  const b = graphBuilder(name, OPS);
  NETS[name](b);
  return b.finish();
}

describe.each(Object.keys(NETS))('%s', (name) => {
  test.each([1, 3, 8])('on %i blocks', (blocks) => check(make(name), 'fp16', residency(blocks)), 60_000);
  test('exactly', () => check(make(name), 'fp32', residency(5)), 60_000);
});

describe.skipIf(!ptxasIsPresent())('by ptxas', () => {
  test.each(Object.keys(NETS))('%s: taken, in the registers that the blocks leave', async (name) => {
    const { engine } = await build(make(name), { target: 'cuda', gpuArch: 'sm_90', precision: 'fp16' });
    const { modules } = emitProgram(engine, CHIP, { persistent: residency(132) });
    for (const module of modules) expect(assemble(module, 'sm_90a')).toBe('');
  });
});

describe('what would go wrong on a chip', () => {
  /** The second network, its records changed. */
  async function changed(change: (record: StepRecord) => StepRecord): Promise<() => void> {
    const graph = make('branches that meet in a concatenation');
    const { engine } = await build(graph, { target: 'cuda', gpuArch: 'sm_90', precision: 'fp16' });
    const program = emitProgram(engine, CHIP, { persistent: residency(4) });
    const args = (arg: CudaArg): CudaArg =>
      arg.kind === 'records' ? { ...arg, table: { ...arg.table, records: arg.table.records.map(change) } } : arg;
    const launches = program.launches.map((launch) => ({ ...launch, args: launch.args.map(args) }));
    const inputs = new Map(graph.inputs.map((input) => [input, inputOf(graph, input)]));
    return () => interpretProgram(engine, { ...program, launches }, inputs);
  }

  test('a step that does not wait reads or writes what others do', async () => {
    expect(await changed((record) => record)).not.toThrow();
    expect(await changed((record) => ({ ...record, waits: [] }))).toThrow(/race: block \d (reads|writes) arena/);
  });

  test('a step that waits for more blocks than there are never ends', async () => {
    const more = ({ waits, ...record }: StepRecord): StepRecord => ({
      ...record,
      waits: waits.map((wait) => ({ ...wait, blocks: wait.blocks + 1 })),
    });
    expect(await changed(more)).toThrow(/nothing moves any more/);
  });
});
