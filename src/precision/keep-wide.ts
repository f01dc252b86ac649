/**
 * Precision `auto`: which nodes of a graph must stay in f32 so that its outputs keep their accuracy in f16. Found by running samples.
 *
 * 1. Ranges: the largest magnitude of every value over the samples. What comes near the f16 limit is computed and read in f32.
 * 2. Accuracy: the graph runs with every narrow value rounded to f16 behind a switch a node. Where the outputs stray too far, segments
 *    of nodes (in running order) are tried one by one; the worst are switched off until the error is allowed, then as much of each
 *    as can be is switched on again.
 * Works on any machine that runs graphs in f32; `open` makes one ready.
 */
import { fromNumbers, scalarTensor, type Tensor, type TensorType, toNumbers, type ValueType } from '../core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../graph/build.ts';
import type { Graph, Node } from '../graph/ir.ts';
import { freshNamesFor } from '../graph/rewrite.ts';
import type { Op } from '../ops/op.ts';
import { narrow } from './narrow.ts';

/** A graph ready to run: tensors by input name to tensors by output name. */
export interface GraphRunner {
  /** Floating-point operations of a run. */
  readonly flops: number;
  run(inputs: ReadonlyMap<string, Tensor>): ReadonlyMap<string, Tensor>;
  dispose(): void;
}
export type OpenGraph = (graph: Graph) => Promise<GraphRunner>;
export type Samples = readonly ReadonlyMap<string, Tensor>[];

/** A quarter of f16's largest number: inputs beside the samples may be larger. */
const LARGEST_MAGNITUDE = 65504 / 4;
/** Largest error of an output element that is allowed, relative to the output's root mean square. */
const ALLOWED_ERROR = 1e-2;
const SEGMENTS = 16;
const FLAGS = 'narrow_flags';
/** 2^13 + 1: splits a float32 into its upper 11 bits, which is what f16 keeps, and the rest. */
const SPLIT = 8193;

export interface KeptWide {
  /** First outputs of the nodes to keep in f32. */
  readonly nodes: ReadonlySet<string>;
  /** Values that came near the f16 limit, with the largest magnitude seen. */
  readonly large: readonly { readonly value: string; readonly magnitude: number }[];
  /** Largest error of the outputs with those nodes kept, relative to their root mean square; undefined where no output is a float. */
  readonly error: number | undefined;
}

/** Values that come near the f16 limit over the samples, and the first outputs of the nodes that touch them. */
export interface LargeValues {
  readonly large: KeptWide['large'];
  readonly nodes: ReadonlySet<string>;
}

/**
 * What would overflow in f16, found by running an f32 graph of static shapes; a NaN or an infinity counts too. Undefined where a run
 * takes more than `mostFlops`.
 */
export async function findLargeValues(
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  samples: Samples,
  open: OpenGraph,
  mostFlops: number,
): Promise<LargeValues | undefined> {
  const measured = await measureRanges(graph, ops, samples, open, mostFlops);
  return measured && { large: measured.large, nodes: nodesTouching(graph, measured.large) };
}

function nodesTouching(graph: Graph, large: KeptWide['large']): Set<string> {
  const tooLarge = new Set(large.map(({ value }) => value));
  const touches = (node: Node): boolean => [...node.inputs, ...node.outputs].some((name) => tooLarge.has(name));
  return new Set(graph.nodes.filter(touches).map((node) => node.outputs[0]));
}

/** The nodes of an f32 graph of static shapes to keep wide. At least one sample; all inputs are given in each. */
export async function chooseWideNodes(
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  samples: Samples,
  open: OpenGraph,
): Promise<KeptWide> {
  const { large, baseline } = (await measureRanges(graph, ops, samples, open, Number.POSITIVE_INFINITY)) as Ranges;
  const ranged = nodesTouching(graph, large);
  const { narrowed } = narrow(graph, ops, { to: 'f16', keepWide: ranged });
  const candidates = graph.nodes.map((node) => node.outputs[0]).filter((name) => narrowed.has(name));
  const runner = await open(withSwitches(graph, ops, candidates));
  try {
    const errorOf = (on: ReadonlySet<string>): number => {
      const flags = fromNumbers(
        'bool',
        [candidates.length],
        candidates.map((name) => (on.has(name) ? 1 : 0)),
      );
      return Math.max(
        ...samples.map((sample, i) => relativeError(baseline[i], runner.run(new Map([...sample, [FLAGS, flags]])))),
      );
    };
    const on = search(candidates, errorOf);
    const off = candidates.filter((name) => !on.has(name));
    const error = errorOf(on);
    return {
      nodes: new Set([...ranged, ...off]),
      large,
      error: error === Number.NEGATIVE_INFINITY ? undefined : error,
    };
  } finally {
    runner.dispose();
  }
}

const isF32 = (type: ValueType | undefined): boolean => type?.dtype === 'f32';

interface Ranges {
  readonly large: KeptWide['large'];
  /** The outputs, one map a sample. */
  readonly baseline: readonly ReadonlyMap<string, Tensor>[];
}

async function measureRanges(
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  samples: Samples,
  open: OpenGraph,
  mostFlops: number,
): Promise<Ranges | undefined> {
  const values = graph.nodes.flatMap((n) => n.outputs).filter((name) => name !== '' && isF32(graph.values.get(name)));
  const b = copyOf(graph, ops);
  const fresh = freshNamesFor(graph);
  const measured = new Set(values);
  /** Names of the largest magnitudes, and whose they are. Each is taken at once, so that no value lives longer for it. */
  const probes = new Map<string, string>();
  for (const node of graph.nodes) {
    for (const value of addNode(b, node)) {
      if (!measured.has(value)) continue;
      const [magnitude] = b.node('Abs', [value], { outputs: [fresh(value)] });
      probes.set(b.node('ReduceMax', [magnitude], { attrs: { keepdims: false }, outputs: [fresh(value)] })[0], value);
    }
  }
  for (const name of [...graph.outputs, ...probes.keys()]) b.output(name);
  const runner = await open(b.finish());
  try {
    if (runner.flops * samples.length > mostFlops) return undefined;
    const runs = samples.map((sample) => runner.run(sample));
    const magnitudes = [...probes].map(([probe, value]) => ({
      value,
      magnitude: Math.max(...runs.map((run) => toNumbers(run.get(probe) as Tensor)[0])),
    }));
    return { large: magnitudes.filter(({ magnitude }) => !(magnitude <= LARGEST_MAGNITUDE)), baseline: runs };
  } finally {
    runner.dispose();
  }
}

/**
 * The graph with each candidate's f32 outputs rounded to f16 where its element of the input `narrow_flags` is true. Rounding is Veltkamp's
 * splitting, s = (2^13 + 1)·x, s - (s - x), which leaves the upper 11 bits of a float32's 24 (Dekker, "A floating-point technique for
 * extending the available precision", 1971): a cast there and back would be kept in a register at full width.
 */
function withSwitches(graph: Graph, ops: ReadonlyMap<string, Op>, candidates: readonly string[]): Graph {
  const b = copyOf(graph, ops);
  const fresh = freshNamesFor(graph);
  b.input(FLAGS, 'bool', [candidates.length]);
  const split = b.constant(scalarTensor('f32', SPLIT), fresh('split'));
  const position = new Map(candidates.map((name, i) => [name, i]));
  const outputs = new Set(graph.outputs);
  /** Values to their rounded forms. */
  const rounded = new Map<string, string>();
  for (const node of graph.nodes) {
    const renamed = node.inputs.map((name) => rounded.get(name) ?? name);
    addNode(b, { ...node, inputs: renamed });
    const at = position.get(node.outputs[0]);
    if (at === undefined) continue;
    for (const name of node.outputs) {
      if (name === '' || outputs.has(name) || !isF32(graph.values.get(name))) continue;
      const index = b.constant(fromNumbers('i64', [], [at]), fresh(name));
      const [flag] = b.node('Gather', [FLAGS, index], { outputs: [fresh(name)] });
      const [scaled] = b.node('Mul', [name, split], { outputs: [fresh(name)] });
      const [rest] = b.node('Sub', [scaled, name], { outputs: [fresh(name)] });
      const [half] = b.node('Sub', [scaled, rest], { outputs: [fresh(name)] });
      rounded.set(name, b.node('Where', [flag, half, name], { outputs: [fresh(name)] })[0]);
    }
  }
  for (const name of graph.outputs) b.output(name);
  return b.finish();
}

function copyOf(graph: Graph, ops: ReadonlyMap<string, Op>): GraphBuilder {
  const b = graphBuilder(graph.name, ops);
  for (const name of graph.inputs) {
    const { dtype, shape } = graph.values.get(name) as TensorType;
    b.input(name, dtype, shape);
  }
  for (const [name, value] of graph.constants) b.constant(value, name);
  return b;
}

const addNode = (b: GraphBuilder, { op, inputs, outputs, attrs, loc }: Node): readonly string[] =>
  b.node(op, inputs, { attrs, outputs, loc });

/** Largest difference of a float output relative to its root mean square; infinite where something is not a number. */
function relativeError(wanted: ReadonlyMap<string, Tensor>, got: ReadonlyMap<string, Tensor>): number {
  let worst = Number.NEGATIVE_INFINITY;
  for (const [name, tensor] of got) {
    if (tensor.dtype !== 'f32') continue;
    const [x, y] = [toNumbers(wanted.get(name) as Tensor), toNumbers(tensor)];
    let squares = 0;
    let most = 0;
    for (let i = 0; i < x.length; i++) {
      squares += x[i] * x[i];
      const difference = Object.is(x[i], y[i]) ? 0 : Math.abs(x[i] - y[i]);
      if (!(difference <= most)) most = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    }
    const rms = Math.sqrt(squares / Math.max(1, x.length));
    worst = Math.max(worst, most / (rms || 1));
  }
  return worst;
}

/** A large set of candidates whose error is allowed; none of them where even single segments err too much. */
function search(candidates: readonly string[], errorOf: (on: ReadonlySet<string>) => number): ReadonlySet<string> {
  const all = new Set(candidates);
  if (candidates.length === 0 || errorOf(all) <= ALLOWED_ERROR) return all;
  const size = Math.ceil(candidates.length / SEGMENTS);
  const segments = Array.from({ length: Math.ceil(candidates.length / size) }, (_, i) => {
    const nodes = candidates.slice(i * size, (i + 1) * size);
    return { nodes, error: errorOf(new Set(nodes)) };
  }).sort((a, b) => b.error - a.error);
  const on = all;
  const off: (readonly string[])[] = [];
  for (const { nodes } of segments) {
    if (errorOf(on) <= ALLOWED_ERROR) break;
    for (const name of nodes) on.delete(name);
    off.push(nodes);
  }
  for (const nodes of off) switchOn(nodes, on, errorOf);
  return on;
}

/** Adds to `on` those halves of the nodes, and halves of halves, with which the error stays allowed. */
function switchOn(nodes: readonly string[], on: Set<string>, errorOf: (on: ReadonlySet<string>) => number): void {
  if (nodes.length < 2) return;
  const middle = nodes.length >> 1;
  for (const half of [nodes.slice(0, middle), nodes.slice(middle)]) {
    for (const name of half) on.add(name);
    if (errorOf(on) <= ALLOWED_ERROR) continue;
    for (const name of half) on.delete(name);
    switchOn(half, on, errorOf);
  }
}
