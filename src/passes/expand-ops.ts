/**
 * Writes operators with simpler ones, wherever an operator says how (its `expand`). The new nodes stand for the ONNX node that the
 * old one stood for, whatever the expansion calls them. One round; the pipeline repeats it.
 */
import type { GraphBuilder } from '../graph/build.ts';
import type { Graph, Loc } from '../graph/ir.ts';
import { rewriteNodes } from '../graph/rewrite-nodes.ts';
import type { PassContext } from './pass.ts';

export const expandOps = (graph: Graph, { ops }: PassContext): Graph =>
  rewriteNodes(graph, ops, (node, b, contextOf) =>
    ops.get(node.op)?.expand?.(withLoc(b, node.loc), node, node.attrs as never, contextOf(node).inputs),
  );

/** The builder with a loc for nodes that are given none. */
export const withLoc = (b: GraphBuilder, loc: Loc): GraphBuilder => ({
  ...b,
  node: (op, inputs, options) => b.node(op, inputs, { loc, ...options }),
});
