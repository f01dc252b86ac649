/**
 * Lowering of whole graphs against graph evaluation: small networks, each built for what it makes lowering do (fusion, views, concat
 * in place, layout), then run kernel by kernel over the planned arena.
 */
import { describe, expect, it } from 'vitest';
import { elements, type StaticShape } from '../src/core/shape.ts';
import { fromNumbers, type Tensor, toNumbers } from '../src/core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Graph } from '../src/graph/ir.ts';
import { printKernel } from '../src/loop/print.ts';
import { verifyKernel } from '../src/loop/verify.ts';
import { type LoweredGraph, lower } from '../src/lower/lower.ts';
import { OPS } from '../src/ops/all.ts';
import { runPipeline } from '../src/passes/pipeline.ts';
import { randomTensor } from './random.ts';
import { runLowered } from './run-lowered.ts';

interface Net {
  readonly name: string;
  build(b: GraphBuilder): void;
  /** Kernels that lowering must end with: the proof that it fused. */
  readonly kernels: number;
}

let seed = 1;
const weight = (b: GraphBuilder, shape: StaticShape): string => b.constant(randomTensor('f32', shape, seed++));
const scalar = (b: GraphBuilder, value: number): string => b.constant(fromNumbers('f32', [], [value]));
const apply = (b: GraphBuilder, op: string, inputs: readonly string[], attrs = {}): string =>
  b.node(op, inputs, { attrs })[0];
const conv = (b: GraphBuilder, x: string, shape: StaticShape, attrs = {}): string =>
  apply(b, 'Conv', [x, weight(b, shape), weight(b, [shape[0]])], attrs);
const reshape = (b: GraphBuilder, x: string, shape: readonly number[]): string =>
  apply(b, 'Reshape', [x, b.constant(fromNumbers('i64', [shape.length], shape))]);
const same = { pads: [1, 1, 1, 1] };

const NETS: readonly Net[] = [
  {
    name: 'convolution, bias, residual add and activation are one kernel',
    kernels: 2,
    build(b) {
      const x = b.input('x', 'f32', [2, 5, 7, 6]);
      const first = apply(b, 'Relu', [conv(b, x, [5, 5, 3, 3], same)]);
      b.output(apply(b, 'Relu', [apply(b, 'Add', [conv(b, first, [5, 5, 3, 3], same), x])]));
    },
  },
  {
    name: 'x·sigmoid(x) fuses although x has two readers',
    kernels: 1,
    build(b) {
      const x = conv(b, b.input('x', 'f32', [1, 3, 5, 5]), [4, 3, 1, 1]);
      b.output(apply(b, 'Mul', [x, apply(b, 'Sigmoid', [x])]));
    },
  },
  {
    name: 'an elementwise diamond is one kernel',
    kernels: 1,
    build(b) {
      const x = apply(b, 'Abs', [b.input('x', 'f32', [3, 7])]);
      const left = apply(b, 'Mul', [x, x]);
      const right = apply(b, 'Add', [x, weight(b, [7])]);
      b.output(apply(b, 'Sub', [left, apply(b, 'Mul', [right, x])]));
    },
  },
  {
    name: 'squeeze and excite: the gate broadcasts over the feature map',
    kernels: 5,
    build(b) {
      const x = apply(b, 'Relu', [conv(b, b.input('x', 'f32', [1, 3, 6, 6]), [8, 3, 3, 3])]);
      const pooled = apply(b, 'GlobalAveragePool', [x]);
      const gate = apply(b, 'Sigmoid', [conv(b, apply(b, 'Relu', [conv(b, pooled, [2, 8, 1, 1])]), [8, 2, 1, 1])]);
      b.output(apply(b, 'Mul', [x, gate]));
    },
  },
  {
    name: 'convolutions write straight into the concatenation that reads them',
    kernels: 4,
    build(b) {
      const x = conv(b, b.input('x', 'f32', [1, 3, 5, 5]), [4, 3, 1, 1]);
      const both = apply(b, 'Concat', [conv(b, x, [3, 4, 1, 1]), conv(b, x, [5, 4, 3, 3], same)], { axis: 1 });
      b.output(conv(b, both, [2, 8, 1, 1]));
    },
  },
  {
    name: 'a concatenation of inputs copies them',
    kernels: 2,
    build(b) {
      b.output(apply(b, 'Concat', [b.input('x', 'f32', [2, 3]), b.input('y', 'f32', [2, 4])], { axis: 1 }));
    },
  },
  {
    name: 'a transpose between an operator and a product is a view',
    kernels: 2,
    build(b) {
      const x = apply(b, 'Relu', [b.input('x', 'f32', [2, 3, 5])]);
      b.output(apply(b, 'MatMul', [apply(b, 'Transpose', [x], { perm: [0, 2, 1] }), weight(b, [3, 4])]));
    },
  },
  {
    name: 'attention: heads are views; products, softmax and the last reshape are kernels',
    kernels: 7,
    build(b) {
      const x = b.input('x', 'f32', [1, 5, 8]);
      const heads = (perm: readonly number[]): string => {
        const y = apply(b, 'Add', [apply(b, 'MatMul', [x, weight(b, [8, 8])]), weight(b, [8])]);
        return apply(b, 'Transpose', [reshape(b, y, [1, 5, 2, 4])], { perm });
      };
      const scores = apply(b, 'MatMul', [heads([0, 2, 1, 3]), heads([0, 2, 3, 1])]);
      const weights = apply(b, 'Softmax', [apply(b, 'Mul', [scores, scalar(b, 0.5)])], { axis: -1 });
      const mixed = apply(b, 'Transpose', [apply(b, 'MatMul', [weights, heads([0, 2, 1, 3])])], { perm: [0, 2, 1, 3] });
      b.output(reshape(b, mixed, [1, 5, 8]));
    },
  },
  {
    name: 'flattening a channels-last value copies it, flattening one pixel does not',
    kernels: 4,
    build(b) {
      const x = conv(b, b.input('x', 'f32', [1, 3, 4, 4]), [4, 3, 1, 1]);
      b.output(apply(b, 'Flatten', [x]));
      b.output(
        apply(b, 'Flatten', [apply(b, 'GlobalAveragePool', [apply(b, 'MaxPool', [x], { kernel_shape: [2, 2] })])]),
      );
    },
  },
  {
    name: 'split and channel shuffle: halves are copied side by side, the shuffle once',
    kernels: 4,
    build(b) {
      const x = apply(b, 'Relu', [b.input('x', 'f32', [1, 6, 3, 3])]);
      const [left, right] = b.node('Split', [x], { attrs: { axis: 1, num_outputs: 2 }, outputs: ['left', 'right'] });
      const groups = reshape(b, apply(b, 'Concat', [right, left], { axis: 1 }), [1, 2, 3, 3, 3]);
      b.output(reshape(b, apply(b, 'Transpose', [groups], { perm: [0, 2, 1, 3, 4] }), [1, 6, 3, 3]));
    },
  },
  {
    name: 'a network input that is also its output is copied',
    kernels: 1,
    build(b) {
      b.output(b.input('x', 'f32', [3]));
    },
  },
  {
    name: 'grouped, depthwise and strided convolutions with pooling',
    kernels: 4,
    build(b) {
      const x = conv(b, b.input('x', 'f32', [1, 4, 9, 9]), [6, 2, 3, 3], { group: 2, ...same });
      const depthwise = conv(b, x, [6, 1, 3, 3], { group: 6, strides: [2, 2], ...same });
      const clipped = apply(b, 'Clip', [depthwise, scalar(b, 0), scalar(b, 6)]);
      b.output(apply(b, 'MaxPool', [clipped], { kernel_shape: [3, 3], strides: [2, 2], ...same }));
      b.output(apply(b, 'AveragePool', [x], { kernel_shape: [2, 2] }));
    },
  },
];

function graphOf(net: Net): Graph {
  seed = 1;
  const b = graphBuilder(net.name, OPS);
  net.build(b);
  const ctx = { ops: OPS, computes: new Set(['f32'] as const), onWarning: () => {} };
  return runPipeline(b.finish(), ctx, { stopAfter: 'expand-ops' });
}

function check(graph: Graph, lowered: LoweredGraph): void {
  const inputs = new Map<string, Tensor>(
    graph.inputs.map((name, i) => [name, randomTensor('f32', graph.values.get(name)?.shape as StaticShape, 100 + i)]),
  );
  const want = evalGraph(graph, OPS, inputs);
  const got = runLowered(lowered, inputs);
  for (const [name, tensor] of want) {
    const numbers = toNumbers(tensor);
    const scale = Math.max(1, ...Array.from(numbers, Math.abs));
    expect(got.get(name)?.length).toBe(elements(tensor.shape));
    for (let i = 0; i < numbers.length; i++) {
      // Each kernel rounds to float32 once an output; a few roundings deep, so a few ulp of the largest value.
      expect(Math.abs(Number(got.get(name)?.[i]) - numbers[i]), `${name}[${i}]`).toBeLessThanOrEqual(1e-5 * scale);
    }
  }
}

describe('lowering of networks', () => {
  it.each(NETS)('$name', (net) => {
    const graph = graphOf(net);
    const lowered = lower(graph, OPS);
    for (const step of lowered.steps) verifyKernel(step.kernel);
    check(graph, lowered);
    expect(lowered.steps.map((s) => s.kernel.name)).toHaveLength(net.kernels);
  });

  it('a residual sum with a transposed product keeps the channels last that convolutions ask for', () => {
    const net: Net = {
      name: 'convnext block',
      kernels: 4,
      build(b) {
        const x = conv(b, b.input('x', 'f32', [1, 4, 6, 6]), [4, 4, 1, 1]);
        const deep = conv(b, x, [4, 1, 3, 3], { group: 4, ...same });
        const rows = apply(b, 'Transpose', [deep], { perm: [0, 2, 3, 1] });
        const mixed = apply(b, 'Mul', [apply(b, 'MatMul', [rows, weight(b, [4, 4])]), weight(b, [4])]);
        const back = apply(b, 'Transpose', [mixed], { perm: [0, 3, 1, 2] });
        b.output(conv(b, apply(b, 'Add', [back, x]), [4, 1, 3, 3], { group: 4, ...same }));
      },
    };
    const graph = graphOf(net);
    const lowered = lower(graph, OPS);
    check(graph, lowered);
    const depthwise = lowered.steps.flatMap(({ kernel: { form } }) =>
      form.kind === 'contract' && form.axes.some((a) => a.role === 'batch') ? [form] : [],
    );
    expect(
      depthwise.map(({ a, axes }) => a.dims[0].at.terms[0].axis === axes.find((x) => x.role === 'batch')?.name),
    ).toEqual([true, true]);
    expect(depthwise.map(({ a }) => a.dims[0].stride)).toEqual([1, 1]);
  });

  it('channels that are shuffled stay last', () => {
    const net: Net = {
      name: 'shuffle',
      kernels: 3,
      build(b) {
        const x = conv(b, b.input('x', 'f32', [1, 3, 4, 5]), [6, 3, 1, 1]);
        const groups = apply(b, 'Transpose', [reshape(b, x, [1, 2, 3, 4, 5])], { perm: [0, 2, 1, 3, 4] });
        b.output(conv(b, reshape(b, groups, [1, 6, 4, 5]), [6, 1, 3, 3], { group: 6, ...same }));
      },
    };
    const graph = graphOf(net);
    const lowered = lower(graph, OPS);
    check(graph, lowered);
    expect(lowered.steps).toHaveLength(net.kernels);
    const last = lowered.steps.at(-1)?.kernel.form;
    expect(last?.kind === 'contract' && last.a.dims[0].stride).toBe(1);
  });

  it('a part of a transposed value is a view, also where one operator alone reads the part', () => {
    const net: Net = {
      name: 'keys among queries',
      kernels: 2,
      build(b) {
        const x = apply(b, 'Relu', [b.input('x', 'f32', [2, 5, 9])]);
        const ends = [3, 6, 2].map((n) => b.constant(fromNumbers('i64', [1], [n])));
        const part = apply(b, 'Slice', [x, ...ends]);
        b.output(apply(b, 'MatMul', [weight(b, [4, 5]), apply(b, 'Transpose', [part], { perm: [0, 1, 2] })]));
        b.output(apply(b, 'MatMul', [apply(b, 'Transpose', [x], { perm: [0, 2, 1] }), weight(b, [5, 3])]));
      },
    };
    const graph = graphOf(net);
    const lowered = lower(graph, OPS);
    check(graph, lowered);
    expect(lowered.steps.map(({ kernel }) => kernel.form.kind)).toEqual(['map', 'contract', 'contract']);
  });

  it('is deterministic', () => {
    const text = () => NETS.flatMap((net) => lower(graphOf(net), OPS).steps.map((s) => printKernel(s.kernel)));
    expect(text()).toEqual(text());
  });
});
