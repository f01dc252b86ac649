/**
 * Which dtype each value of a graph has when it runs: the stage between the graph passes and lowering.
 *
 * fp32 and tf32 leave the graph as it is (tf32 is the kernels' affair: products of f32 operands may round them to 10 bits of mantissa).
 * bf16 narrows all it can. fp16 and auto keep in f32 what overflows on samples, so that it never is an infinity, and what the outputs'
 * accuracy asks for: auto whatever the search takes, fp16 where it is a matter of seconds.
 * Told to the user: constants that overflow or lose digits, and what was kept in f32.
 */
import { ModelError } from '../core/errors.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Precision } from '../engine/engine.ts';
import type { Graph } from '../graph/ir.ts';
import type { Op } from '../ops/op.ts';
import { chooseWideNodes, type KeptWide, type OpenGraph, type Samples } from './keep-wide.ts';
import { type NarrowedGraph, narrow } from './narrow.ts';
import { type NarrowDType, roundConstant } from './round-constant.ts';

export interface AssignOptions {
  readonly precision: Precision;
  /** Inputs that are typical for the network, one map a sample: what `auto` and `fp16` measure on. */
  readonly samples: (graph: Graph) => Samples;
  /** The graph for one sample of its batch with the same nodes, where there is one: it tells as much in less time. */
  readonly forOneSample?: (graph: Graph) => Graph;
  /** Makes a graph ready to run, for these two. */
  readonly open: OpenGraph;
  /** What a search of that graph found before; else searches and keeps it. */
  readonly recall?: Recall;
  readonly onWarning: (message: string) => void;
}

export type Recall = (graph: Graph, search: () => Promise<KeptWide | undefined>) => Promise<KeptWide | undefined>;

const NARROW: { readonly [P in Precision]?: NarrowDType } = { fp16: 'f16', bf16: 'bf16', auto: 'f16' };
const MOST_NAMES = 5;
/** About a second of two cores: what a check may take that was not asked for. */
const MOST_FLOPS = 2e11;

/** The graph to lower. Its inputs and outputs keep their types. */
export const assignPrecision = async (
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  options: AssignOptions,
): Promise<Graph> => (await choosePrecisions(graph, ops, options)).assign(graph);

/** What was chosen for a graph, for the same graph at other sizes. */
export interface Assignment {
  assign(graph: Graph): Graph;
  /** A constant of such a graph, `find` being told the name that it had in the graph before. */
  constant(name: string, find: (name: string) => Tensor): Tensor;
}

export async function choosePrecisions(
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  options: AssignOptions,
): Promise<Assignment> {
  const { precision, onWarning } = options;
  const to = NARROW[precision];
  if (to === undefined) return { assign: (same) => same, constant: (name, find) => find(name) };
  const kept = await chooseWide(graph, ops, options);
  const narrowed = narrow(graph, ops, { to, keepWide: kept.nodes });
  warnOfConstants(narrowed, to, onWarning);
  if (kept.large.length > 0) {
    const names = kept.large.map(({ value, magnitude }) => `"${value}" (${magnitude.toPrecision(3)})`);
    onWarning(`${kept.large.length} values come near the largest number of f16 and stay in f32: ${list(names)}`);
  }
  if (kept.inaccurate.size > 0)
    onWarning(`${kept.inaccurate.size} nodes stay in f32 for accuracy: ${list([...kept.inaccurate])}`);
  if (!kept.isAccurate && kept.error !== undefined) {
    const hint = precision === 'fp16' ? '; precision auto looks longer for what to keep in f32' : '';
    onWarning(`on a sample the outputs are off by up to ${kept.error.toPrecision(2)} of their root mean square${hint}`);
  }
  return {
    assign: (other) => (other === graph ? narrowed : narrow(other, ops, { to, keepWide: kept.nodes })).graph,
    constant: (name, find) => {
      const source = narrowed.sources.get(name);
      return source === undefined ? find(name) : roundConstant(find(source), to).value;
    },
  };
}

const NOTHING: KeptWide = { large: [], nodes: new Set(), inaccurate: new Set(), error: undefined, isAccurate: true };

/** bf16 has the exponents of f32, so nothing overflows there, and who asks for it knows its eight bits. */
async function chooseWide(
  whole: Graph,
  ops: ReadonlyMap<string, Op>,
  { precision, samples, forOneSample, open, recall = (_, search) => search(), onWarning }: AssignOptions,
): Promise<KeptWide> {
  const search = async (mostFlops?: number): Promise<KeptWide | undefined> => {
    const graph = forOneSample?.(whole) ?? whole;
    return recall(graph, () => chooseWideNodes(graph, ops, samples(graph), open, mostFlops));
  };
  switch (precision) {
    case 'auto':
      return (await search()) ?? NOTHING;
    case 'fp16':
      try {
        const found = await search(MOST_FLOPS);
        if (found) return found;
        onWarning(
          'values were not checked for overflow in f16, for a run of the network takes long here; precision auto does',
        );
      } catch (error) {
        // fp16 is what was asked for, with or without a machine that can say what overflows.
        if (!(error instanceof ModelError) || error.code !== 'out-of-memory') throw error;
        onWarning(`values were not checked for overflow in f16: ${error.message}`);
      }
      return NOTHING;
    default:
      return NOTHING;
  }
}

function warnOfConstants(
  { rounded, refused }: NarrowedGraph,
  to: NarrowDType,
  onWarning: (message: string) => void,
): void {
  for (const { node, constant, overflows } of refused) {
    const what = overflows > 0 ? `${overflows} of its elements overflow ${to}` : `elements of it become 0 in ${to}`;
    onWarning(`${node} stays in f32: its constant "${constant}" does not fit, ${what}`);
  }
  const lossy = [...rounded].filter(([, r]) => r.subnormals > 0).sort(([, a], [, b]) => b.subnormals - a.subnormals);
  if (lossy.length === 0) return;
  const names = lossy.map(
    ([name, r]) => `"${name}" (${r.subnormals} of ${r.value.data.length}, ${r.vanished} become 0)`,
  );
  onWarning(`weights with elements too small for all digits of ${to}: ${list(names)}`);
}

const list = (names: readonly string[]): string =>
  names.length <= MOST_NAMES
    ? names.join(', ')
    : `${names.slice(0, MOST_NAMES).join(', ')} and ${names.length - MOST_NAMES} more`;
