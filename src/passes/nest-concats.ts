/**
 * Builds a concatenation on an earlier one whose inputs it begins with:
 *
 *     a = concat(x, y)   b = concat(x, y, z)      becomes      b = concat(a, z)
 *
 * Lowering then lets a lie inside b, so that what grows by concatenation (DenseNet's features) is written once and never copied.
 */
import type { Graph, Node } from '../graph/ir.ts';
import type { PassContext } from './pass.ts';

export function nestConcats(graph: Graph, { ops }: PassContext): Graph {
  /** Results of the concatenations so far, by axis and inputs as they were written. */
  const known = new Map<string, string>();
  let changed = false;
  const nodes = graph.nodes.map((node) => {
    const lowering = ops.get(node.op)?.lower;
    if (lowering?.kind !== 'concat') return node;
    const axis = lowering.axis(node.attrs, graph.values.get(node.outputs[0])?.shape.length ?? 0);
    const nested = nest(node, axis, known);
    known.set(keyOf(axis, node.inputs), node.outputs[0]);
    changed ||= nested !== node;
    return nested;
  });
  return changed ? { ...graph, nodes } : graph;
}

/** The node on the longest earlier concatenation that its inputs begin with; the node itself where there is none. */
function nest(node: Node, axis: number, known: ReadonlyMap<string, string>): Node {
  for (let length = node.inputs.length - 1; length >= 2; length--) {
    const prefix = known.get(keyOf(axis, node.inputs.slice(0, length)));
    if (prefix !== undefined) return { ...node, inputs: [prefix, ...node.inputs.slice(length)] };
  }
  return node;
}

const keyOf = (axis: number, inputs: readonly string[]): string => JSON.stringify([axis, inputs]);
