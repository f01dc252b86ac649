/**
 * Which nodes of a graph must stay in f32 so that its outputs are right in f16. Found by running samples.
 *
 * 1. Ranges: the largest magnitude of every value over the samples. What comes near the f16 limit is computed and read in f32.
 * 2. Accuracy: the graph runs with every narrow value rounded to f16 behind a switch a node. Where the outputs stray too far, segments
 *    of nodes (in running order) are tried one by one; the worst are switched off until the error is allowed, then as much of each
 *    as can be is switched on again.
 * 3. Proof: switches round neither weights nor what a narrow node reads of a wide one. So where some nodes were kept, the narrowed graph
 *    itself is run, with the roundings of its kernels; while it errs too much, the readers of what is kept are kept, too, and then
 *    step 2 is done again for half of the error.
 * Works on any machine that runs graphs in f32; `open` makes one ready.
 */
import { type Tensor, toNumbers } from '../core/tensor.ts';
import type { Graph, Node } from '../graph/ir.ts';
import type { Op } from '../ops/op.ts';
import { type GraphRunner, instrument } from './instrument.ts';
import { narrow } from './narrow.ts';

/**
 * Halves in the graph are rounded as a machine would that computes in f32 and stores f16. Undefined where a run takes more than
 * `mostFlops`, if that is given: then nothing was made ready.
 */
export type OpenGraph = (graph: Graph, mostFlops?: number) => Promise<GraphRunner | undefined>;
export type Samples = readonly ReadonlyMap<string, Tensor>[];

/** A quarter of f16's largest number: inputs beside the samples may be larger. */
const LARGEST_MAGNITUDE = 65504 / 4;
/** Largest error of an output element that is allowed, relative to the output's root mean square. */
const ALLOWED_ERROR = 1e-2;
const SEGMENTS = 16;
/** What a search may take, and what it takes when it is hard. */
const SEARCH_RUNS = 120;
const MOST_PROOFS = 6;

export interface KeptWide {
  /** First outputs of the nodes to keep in f32. */
  readonly nodes: ReadonlySet<string>;
  /** Values that came near the f16 limit, with the largest magnitude seen. */
  readonly large: readonly { readonly value: string; readonly magnitude: number }[];
  /** Those of the nodes that are kept for accuracy alone. */
  readonly inaccurate: ReadonlySet<string>;
  /** Largest error of the outputs with those nodes kept, relative to their root mean square; undefined where no output is a float. */
  readonly error: number | undefined;
  /** False where the error is more than is allowed. */
  readonly isAccurate: boolean;
}

/**
 * The nodes of an f32 graph of static shapes to keep wide. At least one sample; all inputs are given in each. Undefined where the
 * samples alone take more than `mostFlops`; where only the search would, it is left out.
 */
export async function chooseWideNodes(
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  samples: Samples,
  open: OpenGraph,
  mostFlops = Number.POSITIVE_INFINITY,
): Promise<KeptWide | undefined> {
  const narrowed = (keepWide: ReadonlySet<string>) => narrow(graph, ops, { to: 'f16', keepWide });
  const inOrder = ({ narrowed: names }: { readonly narrowed: ReadonlySet<string> }): readonly string[] =>
    graph.nodes.map((node) => node.outputs[0]).filter((name) => names.has(name));
  const instrumented = instrument(graph, ops, inOrder(narrowed(new Set())));
  const runner = await open(instrumented.graph, mostFlops / (2 * samples.length));
  if (!runner) return undefined;
  try {
    const run = (on: ReadonlySet<string>): ReadonlyMap<string, Tensor>[] =>
      samples.map((sample) => runner.run(new Map([...sample, ...instrumented.switches(on)])));
    const baseline = run(new Set());
    const errorOf = (runs: readonly ReadonlyMap<string, Tensor>[]): number =>
      Math.max(...runs.map((outputs, i) => relativeError(graph.outputs, baseline[i], outputs)));
    const large = largeValues(baseline.map(instrumented.magnitudes));
    const ranged = nodesTouching(graph, large);
    const candidates = inOrder(narrowed(ranged));
    const switchedError = (on: ReadonlySet<string>): number => errorOf(run(on));

    let error = candidates.length === 0 ? 0 : switchedError(new Set(candidates));
    let inaccurate: ReadonlySet<string> = new Set();
    const proofs = SEARCH_RUNS * runner.flops * samples.length <= mostFlops ? MOST_PROOFS : 0;
    for (let i = 0; i < proofs && error > ALLOWED_ERROR; i++) {
      if (i % 2 === 0) {
        const on = search(candidates, switchedError, ALLOWED_ERROR / 2 ** (i / 2));
        inaccurate = withReaders(graph, new Set(candidates.filter((name) => !on.has(name))), i / 2);
      } else inaccurate = withReaders(graph, inaccurate, 1);
      const exact = (await open(narrowed(new Set([...ranged, ...inaccurate])).graph)) as GraphRunner;
      try {
        error = errorOf(samples.map((sample) => exact.run(sample)));
      } finally {
        exact.dispose();
      }
    }
    return {
      nodes: new Set([...ranged, ...inaccurate]),
      large,
      inaccurate,
      error: error === Number.NEGATIVE_INFINITY ? undefined : error,
      isAccurate: error <= ALLOWED_ERROR,
    };
  } finally {
    runner.dispose();
  }
}

/** A NaN or an infinity counts too. */
function largeValues(runs: readonly ReadonlyMap<string, number>[]): KeptWide['large'] {
  return [...runs[0].keys()]
    .map((value) => ({ value, magnitude: Math.max(...runs.map((run) => run.get(value) as number)) }))
    .filter(({ magnitude }) => !(magnitude <= LARGEST_MAGNITUDE));
}

function nodesTouching(graph: Graph, large: KeptWide['large']): Set<string> {
  const tooLarge = new Set(large.map(({ value }) => value));
  const touches = (node: Node): boolean => [...node.inputs, ...node.outputs].some((name) => tooLarge.has(name));
  return new Set(graph.nodes.filter(touches).map((node) => node.outputs[0]));
}

/** The nodes with those that read their values, and the readers' readers, so many times. */
function withReaders(graph: Graph, nodes: ReadonlySet<string>, times: number): ReadonlySet<string> {
  const grown = new Set(nodes);
  for (let i = 0; i < times; i++) {
    const values = new Set(graph.nodes.filter((node) => grown.has(node.outputs[0])).flatMap((node) => node.outputs));
    for (const node of graph.nodes) if (node.inputs.some((name) => values.has(name))) grown.add(node.outputs[0]);
  }
  return grown;
}

/** Largest difference of a float output relative to its root mean square; infinite where something is not a number. */
function relativeError(
  outputs: readonly string[],
  wanted: ReadonlyMap<string, Tensor>,
  got: ReadonlyMap<string, Tensor>,
): number {
  let worst = Number.NEGATIVE_INFINITY;
  for (const name of outputs) {
    const tensor = got.get(name) as Tensor;
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

type ErrorOf = (on: ReadonlySet<string>) => number;

/** A large set of candidates whose error is allowed; none of them where even single segments err too much. */
function search(candidates: readonly string[], errorOf: ErrorOf, allowed: number): ReadonlySet<string> {
  const on = new Set(candidates);
  const size = Math.ceil(candidates.length / SEGMENTS);
  const segments = Array.from({ length: Math.ceil(candidates.length / size) }, (_, i) => {
    const nodes = candidates.slice(i * size, (i + 1) * size);
    return { nodes, error: errorOf(new Set(nodes)) };
  }).sort((a, b) => b.error - a.error);
  const off: (readonly string[])[] = [];
  for (const { nodes } of segments) {
    if (errorOf(on) <= allowed) break;
    for (const name of nodes) on.delete(name);
    off.push(nodes);
  }
  for (const nodes of off) switchOn(nodes, on, errorOf, allowed);
  return on;
}

/** Adds to `on` those halves of the nodes, and halves of halves, with which the error stays allowed. */
function switchOn(nodes: readonly string[], on: Set<string>, errorOf: ErrorOf, allowed: number): void {
  if (nodes.length < 2) return;
  const middle = nodes.length >> 1;
  for (const half of [nodes.slice(0, middle), nodes.slice(middle)]) {
    for (const name of half) on.add(name);
    if (errorOf(on) <= allowed) continue;
    for (const name of half) on.delete(name);
    switchOn(half, on, errorOf, allowed);
  }
}
