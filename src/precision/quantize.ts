/**
 * Precision int8: a graph of floats as one in which the products that can be are of bytes, in the form that quantised models have.
 *
 *     x → Q → DQ → every reader of x        one scale and zero point (u8) from the range that x has on samples
 *     w → DQ                                i8, a scale a channel: its largest weight is 127 steps
 *
 * Whatever reads an activation of a product reads its dequantised form, so that no second copy of it is kept. What selects among
 * numbers (pooling by the largest) hands the steps of what it reads on. `passes/sum-bytes.ts` makes sums of bytes of the result.
 * Ranges are of least and largest values, as most calibrators begin with; sums, biases and what is between products stay f32.
 */
import { elements, isStatic } from '../core/shape.ts';
import { fromNumbers, scalarTensor, type Tensor, toNumbers } from '../core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../graph/build.ts';
import { factsOf, inferContext } from '../graph/infer.ts';
import type { Graph, Node } from '../graph/ir.ts';
import { rewriteNodes } from '../graph/rewrite-nodes.ts';
import type { Op } from '../ops/op.ts';
import type { GraphRunner } from './instrument.ts';
import type { OpenGraph, Samples } from './keep-wide.ts';

/** Least and largest value. */
export type Range = readonly [low: number, high: number];

/** A product that is quantised: its activation, and the axis along which its weight's scales differ. */
interface Product {
  readonly node: Node;
  readonly axis: number;
}

function productsOf(graph: Graph, ops: ReadonlyMap<string, Op>): Product[] {
  const facts = factsOf(graph);
  return graph.nodes.flatMap((node) => {
    const [x, w] = node.inputs.map((name) => graph.values.get(name));
    if (x?.dtype !== 'f32' || w?.dtype !== 'f32' || !isStatic(x.shape) || graph.constants.has(node.inputs[0]))
      return [];
    const isKnown = graph.constants.has(node.inputs[1] ?? '');
    const axis = isKnown ? ops.get(node.op)?.weightChannels?.(inferContext(node, facts)) : undefined;
    return axis === undefined || elements(x.shape) === 0 ? [] : [{ node, axis }];
  });
}

/** The activations to quantise: what products read, seen through what selects. */
function activationsOf(graph: Graph, ops: ReadonlyMap<string, Op>, products: readonly Product[]): Set<string> {
  const wanted = new Set(products.map(({ node }) => node.inputs[0]));
  for (const node of graph.nodes.toReversed()) {
    const [source] = node.inputs;
    if (!ops.get(node.op)?.traits.selects || !wanted.has(node.outputs[0]) || graph.constants.has(source)) continue;
    wanted.delete(node.outputs[0]);
    wanted.add(source);
  }
  return wanted;
}

/** The ranges of f32 values on the samples, found by running the graph. */
async function rangesOf(
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  values: ReadonlySet<string>,
  samples: Samples,
  open: OpenGraph,
): Promise<ReadonlyMap<string, Range>> {
  const b = graphBuilder(graph.name, ops);
  for (const name of graph.inputs) {
    const { dtype, shape } = graph.values.get(name)!;
    b.input(name, dtype, shape);
  }
  for (const [name, value] of graph.constants) b.constant(value, name);
  for (const { op, inputs, outputs, attrs, loc } of graph.nodes) b.node(op, inputs, { attrs, outputs, loc });
  const probes = [...values].map((value) => ({
    value,
    bounds: ['ReduceMin', 'ReduceMax'].map((reduce) => b.node(reduce, [value], { attrs: { keepdims: false } })[0]),
  }));
  for (const name of [...graph.outputs, ...probes.flatMap(({ bounds }) => bounds)]) b.output(name);
  const runner = (await open(b.finish())) as GraphRunner;
  const ranges = new Map<string, Range>();
  try {
    for (const sample of samples) {
      const outputs = runner.run(sample);
      for (const { value, bounds } of probes) {
        const [low, high] = bounds.map((name) => Number(toNumbers(outputs.get(name) as Tensor)[0]));
        const [least, largest] = ranges.get(value) ?? [0, 0];
        ranges.set(value, [Math.min(least, low), Math.max(largest, high)]);
      }
    }
  } finally {
    runner.dispose();
  }
  return ranges;
}

/** The graph with its products quantised by the ranges that values have on the samples; the same where there is nothing to quantise. */
export async function quantizeGraph(
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  samples: Samples,
  open: OpenGraph,
): Promise<Graph> {
  const products = productsOf(graph, ops);
  if (products.length === 0) return graph;
  const ranges = await rangesOf(graph, ops, activationsOf(graph, ops, products), samples, open);
  const axes = new Map(products.map(({ node, axis }) => [node.outputs[0], axis]));
  const inSteps = new Map<string, string>();
  const activation = (b: GraphBuilder, name: string): string => {
    const range = ranges.get(name);
    if (!range?.every(Number.isFinite)) return name;
    const made = inSteps.get(name) ?? dequantized(b, name, range);
    inSteps.set(name, made);
    return made;
  };
  return rewriteNodes(graph, ops, (node, b) => {
    const inputs = node.inputs.map((name) => (name === '' ? '' : activation(b, name)));
    const axis = axes.get(node.outputs[0]);
    const isQuantized = axis !== undefined && b.type(inputs[0]).dtype === 'f32';
    if (!isQuantized && inputs.every((name, i) => name === node.inputs[i])) return undefined;
    if (isQuantized) inputs[1] = weight(b, b.constantValue(inputs[1]) as Tensor, axis);
    const outputs = node.outputs.map((name) => name && b.fresh(name));
    return b.node(node.op, inputs, { attrs: node.attrs, loc: node.loc, outputs });
  });
}

const STEPS = 255;
const WEIGHT_STEPS = 127;

function dequantized(b: GraphBuilder, name: string, [low, high]: Range): string {
  const scale = Math.fround((high - low) / STEPS || 1);
  const zero = Math.max(0, Math.min(STEPS, Math.round(-low / scale)));
  const parameters = [b.constant(scalarTensor('f32', scale)), b.constant(fromNumbers('u8', [], [zero]))];
  const [q] = b.node('QuantizeLinear', [name, ...parameters]);
  return b.node('DequantizeLinear', [q, ...parameters])[0];
}

/** The weight's bytes and what they stand for. */
function weight(b: GraphBuilder, value: Tensor, axis: number): string {
  const channels = value.shape[axis];
  const run = elements(value.shape.slice(axis + 1));
  const data = toNumbers(value);
  const channelOf = (i: number): number => Math.floor(i / run) % channels;
  const largest = new Float64Array(channels);
  for (let i = 0; i < data.length; i++) largest[channelOf(i)] = Math.max(largest[channelOf(i)], Math.abs(data[i]));
  const scales = Float32Array.from(largest, (x) => x / WEIGHT_STEPS || 1);
  const bytes = Float64Array.from(data, (x, i) =>
    Math.max(-WEIGHT_STEPS, Math.min(WEIGHT_STEPS, Math.round(x / scales[channelOf(i)]))),
  );
  const q = b.constant(fromNumbers('i8', value.shape, bytes));
  return b.node('DequantizeLinear', [q, b.constant(fromNumbers('f32', [channels], scales))], { attrs: { axis } })[0];
}
