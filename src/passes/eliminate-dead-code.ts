/**
 * Dead code: nodes of which no output is read on the way to a graph output go, and constants that nobody reads with them.
 * Impure nodes stay. Graph inputs stay too, read or not: they are the model's interface.
 */
import type { Graph, Node } from '../graph/ir.ts';
import { editGraph, nodeUses } from '../graph/rewrite.ts';
import type { PassContext } from './pass.ts';

export function eliminateDeadCode(graph: Graph, { ops }: PassContext): Graph {
  const live = new Set(graph.outputs);
  const dead = new Map<Node, readonly Node[]>();
  for (const node of graph.nodes.toReversed()) {
    if (node.outputs.some((name) => live.has(name)) || ops.get(node.op)?.traits.impure) {
      for (const name of nodeUses(node)) live.add(name);
    } else dead.set(node, []);
  }
  const unread = [...graph.constants.keys()].some((name) => !live.has(name));
  return dead.size === 0 && !unread ? graph : editGraph(graph, { nodes: dead });
}
