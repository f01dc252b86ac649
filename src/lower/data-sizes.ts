/**
 * Sizes that the data decide, as names: a node that finds out while it runs how much it gives takes its counted form (ops/counted.ts),
 * and its sizes become open sizes like those of inputs, each with what it cannot exceed.
 *
 * In comes a graph as it was read, out the same with such nodes. What must hold afterwards: every open size is an input's or in the list.
 */
import { ModelError } from '../core/errors.ts';
import { type Dim, namesIn, printDim, type Shape, shapesEqual } from '../core/shape.ts';
import { freshNames } from '../graph/build.ts';
import { type Facts, inferContext, inferNode, initialFacts, operatorOf } from '../graph/infer.ts';
import { type Graph, type Node, nodeLabel } from '../graph/ir.ts';
import {
  countedBounds,
  countedForm,
  countedNode,
  countsItsSizes,
  keptForm,
  keptNode,
  sizesAsked,
  withSizes,
} from '../ops/counted.ts';
import type { Op } from '../ops/op.ts';

/** A size that some node counts. */
export interface DataSize {
  readonly name: string;
  readonly atMost: Dim;
  /** Where the count is: the value, i32, and the position in it. */
  readonly counts: string;
  readonly at: number;
}

export interface CountedGraph {
  readonly graph: Graph;
  /** With the counted forms that the graph uses. */
  readonly ops: ReadonlyMap<string, Op>;
  /** In the order of the nodes: what a size cannot exceed is made of sizes before it. */
  readonly sizes: readonly DataSize[];
}

/** Outputs of the nodes that could be counted. */
export function countable(graph: Graph, ops: ReadonlyMap<string, Op>): ReadonlySet<string> {
  const found = new Set<string>();
  walk(graph, ops, (node, op, facts) => {
    if (isCountable(node, op, facts)) for (const name of node.outputs) if (name !== '') found.add(name);
    return undefined;
  });
  return found;
}

/** Takes the counted form of the nodes that have one of these outputs. */
export function countSizes(graph: Graph, ops: ReadonlyMap<string, Op>, chosen: ReadonlySet<string>): CountedGraph {
  const nodes: Node[] = [];
  const forms = new Map<string, Op>();
  const sizes: DataSize[] = [];
  const fresh = freshNames(new Set(graph.values.keys()));
  const facts = walk(graph, ops, (node, op, known) => {
    if (!node.outputs.some((name) => chosen.has(name)) || !isCountable(node, op, known)) {
      const kept = staysOpen(node, op, known, sizes) ? keptNode(node) : node;
      if (kept !== node) forms.set(kept.op, forms.get(kept.op) ?? keptForm(op));
      nodes.push(kept);
      return kept === node ? undefined : [kept, forms.get(kept.op) as Op];
    }
    const counts = fresh(`${node.outputs.find(Boolean)}/counts`);
    const asked = sizesAsked(op, inferContext(node, known));
    sizes.push(...asked.map(({ name, atMost }, at) => ({ name, atMost: atMost as Dim, counts, at })));
    const counted = countedNode(
      node,
      counts,
      asked.map(({ name }) => name),
    );
    const form = forms.get(counted.op) ?? countedForm(op);
    forms.set(counted.op, form);
    nodes.push(counted);
    return [counted, form];
  });
  return { graph: { ...graph, nodes, values: facts.types }, ops: new Map([...ops, ...forms]), sizes };
}

/**
 * The sizes with bounds made of `names` and of each other. A bound that inference has no formula for, while sizes are names, becomes the
 * number that it is where all sizes are the largest: `bound` is the graph with the largest sizes of its inputs.
 */
export function closeBounds(
  { sizes, ops }: CountedGraph,
  names: ReadonlySet<string>,
  bound: Graph,
): readonly DataSize[] {
  const known = new Set(names);
  const isClosed = ({ name, atMost }: DataSize): boolean => {
    known.add(name);
    return namesIn(atMost).every((n) => known.has(n));
  };
  const closed = sizes.map(isClosed);
  if (closed.every(Boolean)) return sizes;
  const largest = largestSizes(bound, ops, sizes);
  return sizes.map((size, i) => (closed[i] ? size : { ...size, atMost: largest.get(size.name) ?? size.atMost }));
}

function largestSizes(graph: Graph, ops: ReadonlyMap<string, Op>, sizes: readonly DataSize[]): Map<string, number> {
  const largest = new Map<string, number>();
  walk(graph, ops, (node, op, facts) => {
    const own = sizes.filter(({ counts }) => node.outputs.includes(counts));
    if (own.length === 0) return undefined;
    const bounds = countedBounds(op, inferContext(node, facts));
    for (const { name, at } of own) {
      const most = bounds[at];
      if (typeof most !== 'number')
        throw new ModelError(
          'shape-open',
          `${nodeLabel(node)} gives no more than ${printDim(most ?? 0)}, which nothing tells`,
        );
      largest.set(name, most);
    }
    return [withSizes(node, largest), op];
  });
  return largest;
}

function isCountable(node: Node, op: Op, facts: Facts): boolean {
  if (!countsItsSizes(op)) return false;
  const asked = sizesAsked(op, inferContext(node, facts));
  return asked.length > 0 && asked.every(({ atMost }) => atMost !== undefined);
}

/**
 * Whether the node must be computed at run time though its inputs are sizes or known: it gives as many elements as the data say, or
 * what it makes of such a size is no size itself (a comparison with 0). Folded at sample sizes it would be what it is at those.
 * Throws ModelError `shape-open` where it has no kernel.
 */
function staysOpen(node: Node, op: Op, facts: Facts, sizes: readonly DataSize[]): boolean {
  if (sizes.length === 0) return false;
  if (mayBeNoOp(node, op, facts, sizes)) return true;
  if (!node.inputs.every((name) => name === '' || facts.constants.has(name) || facts.dims.has(name))) return false;
  const isDecided = decidedBy(sizes);
  const ctx = inferContext(node, facts);
  if (op.infer(ctx).some(({ shape }) => isDecided(shape))) return op.lower !== undefined;
  const computes = node.inputs.some((name) => isDecided(facts.dims.get(name) ?? []));
  if (!computes || op.inferDims?.(ctx)) return false;
  if (op.lower) return true;
  throw new ModelError('shape-open', `${nodeLabel(node)} computes with a size that the data decide`, {
    hint: 'target reference runs it',
  });
}

const decidedBy = (sizes: readonly DataSize[]): ((dims: Shape) => boolean) => {
  const names = new Set(sizes.map(({ name }) => name));
  return (dims) => dims.some((dim) => namesIn(dim).some((name) => names.has(name)));
};

/** Whether the node changes nothing at some sizes only (the first 300 of n): it must be there at all samples. */
function mayBeNoOp(node: Node, op: Op, facts: Facts, sizes: readonly DataSize[]): boolean {
  const from = facts.types.get(node.inputs[0] ?? '')?.shape;
  if (!op.identity || !op.lower || !from) return false;
  const [{ shape }] = op.infer(inferContext(node, facts));
  return shape.length === from.length && decidedBy(sizes)([...shape, ...from]) && !shapesEqual(shape, from);
}

/** Infers node by node; where `visit` gives another node, that one. */
function walk(
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  visit: (node: Node, op: Op, facts: Facts) => readonly [Node, Op] | undefined,
): Facts {
  const facts = initialFacts(graph);
  for (const node of graph.nodes) {
    const op = operatorOf(node, ops) as Op;
    const [made, form] = visit(node, op, facts) ?? [node, op];
    inferNode(made, form, facts);
  }
  return facts;
}
