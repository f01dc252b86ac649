/**
 * The order of nodes for machines that run independent steps at the same time: by depth, so that branches of a network are neighbours.
 *
 *     x → a1 → a2 → a3 → y          a1 b1 | a2 b2 | a3 | y          and not          a1 a2 a3 | b1 b2 | y
 *       → b1 → b2      →
 *
 * A node's depth is how many kernels lie before its result; work that fuses or costs nothing does not count. All results of a depth are
 * alive together, so graphs with large values, which a machine is filled by one at a time, keep their order.
 */
import { elements, type StaticShape } from '../core/shape.ts';
import type { Graph } from '../graph/ir.ts';
import type { Op } from '../ops/op.ts';

/** Values with more elements fill a GPU. */
const MOST_ELEMENTS = 2 ** 21;

export function orderByDepth(graph: Graph, ops: ReadonlyMap<string, Op>): Graph {
  const depths = new Map<string, number>();
  const depthOf = (value: string): number => depths.get(value) ?? 0;
  const placed = graph.nodes.map((node) => {
    const before = node.inputs.reduce((most, value) => Math.max(most, depthOf(value)), 0);
    const depth = before + (ops.get(node.op)?.lower?.kind === 'kernel' ? 1 : 0);
    for (const value of node.outputs) depths.set(value, depth);
    return { node, depth };
  });
  const isLarge = [...depths.keys()].some(
    (value) => elements((graph.values.get(value)?.shape ?? []) as StaticShape) > MOST_ELEMENTS,
  );
  if (isLarge) return graph;
  // The sort is stable: what a node reads is of its depth or less, and stands before it.
  return { ...graph, nodes: placed.sort((a, b) => a.depth - b.depth).map(({ node }) => node) };
}
