/**
 * What spares the search for precisions its time: it looks at one sample of a batch, and what it found for a network is kept in the
 * user's cache.
 *
 * A search runs the network on this machine's processor, with packed weights and code made for that: seconds, which a second build of the
 * same network need not take. The key says all that a search depends on: the graph and its weights, the samples, the processor, the sources of
 * Hotrod.
 */
import type { BuildOptions } from './build-options.ts';
import { ModelError } from './core/errors.ts';
import { SOURCES } from './core/sources.ts';
import type { Tensor } from './core/tensor.ts';
import type { Precision } from './engine/engine.ts';
import { bindShapes } from './graph/bind.ts';
import type { Graph, Node } from './graph/ir.ts';
import { printGraph } from './graph/print.ts';
import { type CacheFolder, openUserCache } from './host/cache-folder.ts';
import { now } from './host/clock.ts';
import { processorName } from './host/processor.ts';
import { keyOf, readSealed, seal } from './host/sealed.ts';
import { sha256 } from './host/sha256.ts';
import type { Op } from './ops/op.ts';
import type { Recall } from './precision/assign.ts';
import type { KeptWide } from './precision/keep-wide.ts';

const MAX_CACHE_BYTES = 8 * 2 ** 20;
/** What takes less is done again each time. */
const WORTH_KEEPING_NS = 2e8;

/** Where what was found is kept, and which Hotrod finds it. */
export interface Findings {
  readonly folder: CacheFolder;
  /** Tells one Hotrod from another. */
  readonly sources: string;
}

/** This user's; undefined where there is no place for them, none are wanted, or it is not known which Hotrod this is. */
export function userFindings(): Findings | undefined {
  const folder = SOURCES === undefined ? undefined : openUserCache('precisions');
  return folder && { folder, sources: SOURCES as string };
}

/** Looks among the findings before it searches. `samples` are the caller's own. */
export const recallFrom =
  ({ folder, sources }: Findings, precision: Precision, samples: BuildOptions['samples'] = []): Recall =>
  async (graph, search) => {
    const key = await keyOfSearch(graph, `${sources} ${precision} ${processorName()}`, samples);
    const known = await readSealed(folder, key);
    if (known) return parseFinding(new TextDecoder().decode(known));
    const start = now();
    const found = await search();
    if (found && now() - start >= WORTH_KEEPING_NS) {
      folder.write(key, await seal(new TextEncoder().encode(printFinding(found))));
      folder.trim(MAX_CACHE_BYTES);
    }
    return found;
  };

async function keyOfSearch(graph: Graph, by: string, samples: NonNullable<BuildOptions['samples']>): Promise<string> {
  const digestOf = async ({ data }: Tensor): Promise<string> =>
    keyOf(await sha256(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)));
  const parts = [by, printGraph(graph, { inlineElements: 0 })];
  for (const constant of graph.constants.values()) parts.push(await digestOf(constant));
  for (const sample of samples)
    for (const [name, value] of Object.entries(sample))
      parts.push(`${name} ${value.dtype} ${value.shape} ${await digestOf(value)}`);
  return keyOf(await sha256(new TextEncoder().encode(parts.join('\n'))));
}

/** JSON has no infinities: numbers are written as JavaScript prints them. */
const printFinding = ({ nodes, large, inaccurate, error, isAccurate }: KeptWide): string =>
  JSON.stringify({
    nodes: [...nodes],
    large: large.map(({ value, magnitude }) => [value, String(magnitude)]),
    inaccurate: [...inaccurate],
    ...(error !== undefined && { error: String(error) }),
    isAccurate,
  });

interface PrintedFinding {
  readonly nodes: readonly string[];
  readonly large: readonly (readonly [string, string])[];
  readonly inaccurate: readonly string[];
  readonly error?: string;
  readonly isAccurate: boolean;
}

function parseFinding(text: string): KeptWide {
  const { nodes, large, inaccurate, error, isAccurate } = JSON.parse(text) as PrintedFinding;
  return {
    nodes: new Set(nodes),
    large: large.map(([value, magnitude]) => ({ value, magnitude: Number(magnitude) })),
    inaccurate: new Set(inaccurate),
    error: error === undefined ? undefined : Number(error),
    isAccurate,
  };
}

export interface Bound {
  /** As it was read, with its sizes open. */
  readonly read: Graph;
  /** Bound to sizes and optimised. */
  readonly graph: Graph;
}

/**
 * The optimised graph for one sample where the inputs' first dims are open and `graph` is for more; `graph` itself where not, or where it is another network
 * then. What must stay in f32 in one sample must in many.
 */
export function forOneSample(
  { read, graph }: Bound,
  ops: ReadonlyMap<string, Op>,
  optimise: (bound: Graph) => Graph,
): Graph {
  const shapes = Object.fromEntries(
    graph.inputs.map((name) => {
      const isOpen = typeof read.values.get(name)?.shape[0] === 'object';
      const shape = (graph.values.get(name)?.shape ?? []) as readonly number[];
      return [name, isOpen ? [1, ...shape.slice(1)] : shape] as const;
    }),
  );
  if (graph.inputs.every((name) => shapes[name][0] === graph.values.get(name)?.shape[0])) return graph;
  const one = boundTo(read, ops, shapes, optimise);
  const { nodes } = graph;
  return one?.nodes.length === nodes.length && one.nodes.every((node, i) => isSame(node, nodes[i])) ? one : graph;
}

/** Undefined where the network does not take one sample. */
function boundTo(
  read: Graph,
  ops: ReadonlyMap<string, Op>,
  shapes: Readonly<Record<string, readonly number[]>>,
  optimise: (bound: Graph) => Graph,
): Graph | undefined {
  try {
    return optimise(bindShapes(read, ops, shapes, () => {}));
  } catch (cause) {
    if (cause instanceof ModelError) return undefined;
    throw cause;
  }
}

const isSame = (a: Node, b: Node): boolean =>
  a.op === b.op && a.inputs.join() === b.inputs.join() && a.outputs.join() === b.outputs.join();
