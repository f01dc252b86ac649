/**
 * Maps behind products in another view of them: how many steps are left, and that these compute what the graph says.
 */
import { describe, expect, it } from 'vitest';
import { fromNumbers, type Tensor, toNumbers } from '../src/core/tensor.ts';
import { graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Graph } from '../src/graph/ir.ts';
import { verifyKernel } from '../src/loop/verify.ts';
import { findAttention, placeAttention } from '../src/lower/find-attention.ts';
import { fuseSteps } from '../src/lower/fuse-steps.ts';
import { type LoweredGraph, lower } from '../src/lower/lower.ts';
import { OPS } from '../src/ops/all.ts';
import { type NodeWriter, nodeWriter } from '../src/ops/node-writer.ts';
import { attend, mergeHeads } from '../src/ops/scaled-dot-product.ts';
import { runPipeline } from '../src/passes/pipeline.ts';
import { narrow } from '../src/precision/narrow.ts';
import { randomTensor } from './random.ts';
import { runLowered } from './run-lowered.ts';

interface Net {
  readonly name: string;
  /** Steps as nodes give them, and as they are fused. */
  readonly steps: readonly [before: number, after: number];
  build(w: NodeWriter, input: (name: string, ...shape: number[]) => string): string | readonly string[];
}

const weight = (w: NodeWriter, seed: number, ...shape: number[]): string =>
  w.constant(randomTensor('f32', shape, seed));
const columns = (w: NodeWriter, n: number): string =>
  w.constant(
    fromNumbers(
      'f32',
      [n],
      Array.from({ length: n }, (_, i) => 1 + i / 8),
    ),
  );

const NETS: readonly Net[] = [
  {
    name: 'a residual behind a product whose batch went from behind positions to before them',
    steps: [2, 1],
    build(w, input) {
      const y = w.reshape(w.matmul(input('x', 5, 8), weight(w, 1, 8, 6)), [5, 1, 6]);
      return w.add(w.transpose(y, [1, 0, 2]), input('residual', 1, 5, 6));
    },
  },
  {
    name: 'channels last in the product, first in the sum, as ConvNeXt has it',
    steps: [4, 3],
    build(w, input) {
      const first = w.matmul(input('x', 1, 4, 3, 5), weight(w, 7, 5, 6));
      const x = w.transpose(first, [0, 3, 1, 2]);
      const rows = w.node('Mul', [w.matmul(first, weight(w, 2, 6, 6)), columns(w, 6)]);
      const y = w.node('Relu', [w.add(w.transpose(rows, [0, 3, 1, 2]), x)]);
      return w.matmul(w.transpose(y, [0, 2, 3, 1]), weight(w, 3, 6, 2));
    },
  },
  {
    name: 'a map that uses its element twice',
    steps: [2, 1],
    build(w, input) {
      const y = w.transpose(w.reshape(w.matmul(input('x', 6, 4), weight(w, 4, 4, 5)), [6, 1, 5]), [1, 0, 2]);
      return w.node('Mul', [y, w.node('Sigmoid', [y])]);
    },
  },
  {
    name: 'rows of the product cut in two and turned',
    steps: [2, 1],
    build(w, input) {
      const y = w.transpose(w.reshape(w.matmul(input('x', 6, 4), weight(w, 8, 4, 5)), [2, 3, 5]), [1, 0, 2]);
      return w.node('Mul', [y, w.node('Sigmoid', [y])]);
    },
  },
  {
    name: 'windows put together, as Swin has them',
    steps: [3, 1],
    build(w, input) {
      const windows = w.add(w.matmul(input('x', 6, 20, 4), weight(w, 9, 4, 3)), columns(w, 3));
      const turned = w.transpose(w.reshape(windows, [1, 2, 3, 4, 5, 3]), [0, 1, 3, 2, 4, 5]);
      return w.add(w.reshape(turned, [1, 8, 15, 3]), input('residual', 1, 8, 15, 3));
    },
  },
  {
    name: 'windows read where they lie, and put together again',
    steps: [5, 2],
    build(w, input) {
      const x = w.node('Softmax', [input('x', 1, 8, 15, 4)]);
      const cutUp = w.transpose(w.reshape(x, [1, 2, 4, 3, 5, 4]), [0, 1, 3, 2, 4, 5]);
      const windows = w.add(w.matmul(w.reshape(cutUp, [6, 20, 4]), weight(w, 11, 4, 3)), columns(w, 3));
      const turned = w.transpose(w.reshape(windows, [1, 2, 3, 4, 5, 3]), [0, 1, 3, 2, 4, 5]);
      return w.node('Relu', [w.add(w.reshape(turned, [1, 8, 15, 3]), input('residual', 1, 8, 15, 3))]);
    },
  },
  {
    name: 'axes that do not cut each other evenly',
    steps: [2, 2],
    build(w, input) {
      const y = w.reshape(w.matmul(input('x', 6, 4), weight(w, 10, 4, 4)), [4, 6]);
      return w.add(w.transpose(y, [1, 0]), input('residual', 6, 4));
    },
  },
  {
    name: 'a product that another step reads, too, is stored',
    steps: [3, 3],
    build(w, input) {
      const x = w.matmul(input('x', 6, 4), weight(w, 5, 4, 5));
      const y = w.transpose(w.reshape(x, [2, 3, 5]), [1, 0, 2]);
      return [w.add(y, input('r', 3, 2, 5)), w.node('Softmax', [x])];
    },
  },
];

const make = (net: Net): { graph: Graph; inputs: ReadonlyMap<string, Tensor> } => {
  const b = graphBuilder(net.name, OPS);
  const inputs = new Map<string, Tensor>();
  const input = (name: string, ...shape: number[]): string => {
    inputs.set(name, randomTensor('f32', shape, inputs.size + 1));
    return b.input(name, 'f32', shape);
  };
  for (const output of [net.build(nodeWriter(b), input)].flat()) b.output(output);
  const context = { ops: OPS, computes: new Set(['f32', 'f16', 'i32', 'i64', 'bool'] as const), onWarning: () => {} };
  return { graph: runPipeline(b.finish(), context, { verify: true, stopAfter: '' }), inputs };
};

function expectSame(graph: Graph, inputs: ReadonlyMap<string, Tensor>, lowered: LoweredGraph, within: number): void {
  const wanted = evalGraph(graph, OPS, inputs);
  const got = runLowered(lowered, inputs);
  for (const name of graph.outputs) {
    const numbers = toNumbers(wanted.get(name) as Tensor);
    for (let i = 0; i < numbers.length; i++)
      expect(Math.abs(Number(got.get(name)?.[i]) - numbers[i]), `${name}[${i}]`).toBeLessThanOrEqual(within);
  }
}

describe('maps behind products', () => {
  it.each(NETS)('$name', (net) => {
    const { graph, inputs } = make(net);
    const lowered = lower(graph, OPS);
    const fused = fuseSteps(lowered);
    for (const { kernel } of fused.steps) verifyKernel(kernel);
    expect([lowered.steps.length, fused.steps.length]).toEqual(net.steps);
    expectSame(graph, inputs, fused, 1e-5);
  });

  // Sums of up to 8 products below 4 and a few numbers of that size, each rounded to 11 bits before and after.
  it.each(NETS)('$name, in halves', (net) => {
    const { graph, inputs } = make(net);
    const halves = narrow(graph, OPS, { to: 'f16' }).graph;
    const fused = fuseSteps(lower(halves, OPS));
    for (const { kernel } of fused.steps) verifyKernel(kernel);
    expectSame(graph, inputs, fused, 8 * 4 * 2 ** -10);
  });

  it('takes moves and scales of queries, keys and values into an attention of halves', () => {
    const net: Net = {
      name: 'qkv in one product',
      steps: [0, 0],
      build(w, input) {
        const qkv = w.reshape(w.matmul(input('x', 10, 8), weight(w, 6, 8, 24)), [2, 5, 3, 2, 4]);
        const part = (i: number): string => {
          const one = w.node('Gather', [qkv, w.constant(fromNumbers('i64', [], [i]))], { axis: 2 });
          return w.transpose(one, [0, 2, 1, 3]);
        };
        const [q, k, v] = [0, 1, 2].map(part);
        return mergeHeads(w, attend(w, { q, k, v, scale: 0.5, addends: [] }).y);
      },
    };
    const { graph, inputs } = make(net);
    for (const [narrowed, within] of [
      [graph, 1e-5],
      [narrow(graph, OPS, { to: 'f16' }).graph, 0.05],
    ] as const) {
      const lowered = fuseSteps(lower(narrowed, OPS));
      const found = findAttention(lowered);
      expect(found.length).toBe(1);
      const placed = placeAttention(lowered, found);
      for (const { kernel } of placed.steps) verifyKernel(kernel);
      // What is left but casts of the input and the output: the product and the attention.
      expect(placed.steps.filter(({ kernel }) => ['contract', 'attend'].includes(kernel.form.kind)).length).toBe(2);
      const { form } = found[0].step.kernel;
      if (form.kind !== 'attend') throw new Error('no attend');
      expect(
        [form.q, form.k, form.v].map((x) => found[0].step.kernel.buffers.find((b) => b.name === x.buffer)?.dtype),
      ).toEqual(Array(3).fill(narrowed === graph ? 'f32' : 'f16'));
      expectSame(graph, inputs, placed, within);
    }
  });
});
