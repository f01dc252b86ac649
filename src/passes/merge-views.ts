/**
 * Merges a view of a view into one: Transpose of Transpose, Reshape of Squeeze of Flatten.
 *
 * Two nodes of one operator merge where the operator says how (`mergeWith`). Two aliases, of whatever operators, are one Reshape,
 * for an alias keeps the elements in row-major order. Where the two cancel, nothing is left. The first view stays for other readers.
 */
import { isStatic } from '../core/shape.ts';
import { fromNumbers } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import type { Graph, Node } from '../graph/ir.ts';
import { mergeLocs } from '../graph/rewrite.ts';
import { rewriteNodes } from '../graph/rewrite-nodes.ts';
import type { InferContext } from '../graph/semantics.ts';
import type { Op } from '../ops/op.ts';
import type { PassContext } from './pass.ts';
import { substitution, unchangedInput } from './remove-no-ops.ts';

/** The alias that can be written for any pair of shapes. */
const RESHAPE = 'Reshape';

export function mergeViews(graph: Graph, { ops }: PassContext): Graph {
  const mayStandFor = substitution(graph);
  /** Views by the value they make, as they stand after merging. */
  const views = new Map<string, Node>();

  return rewriteNodes(graph, ops, (node, b, contextOf) => {
    const op = ops.get(node.op);
    if (node.outputs.length !== 1 || !op || !(op.mergeWith || isAlias(op))) return undefined;
    const [output] = node.outputs;
    const first = views.get(node.inputs[0]);
    const merged = first && (mergeAlike(first, node, op, contextOf) ?? mergeAliases(first, node, ops, graph, b));
    views.set(output, merged ?? node);
    if (!merged) return undefined;
    const mergedOp = ops.get(merged.op) as Op;
    const unchanged = unchangedInput(mergedOp, contextOf(merged), graph.values.get(output));
    if (unchanged !== undefined && mayStandFor(merged.inputs[unchanged], output)) return [merged.inputs[unchanged]];
    return b.node(merged.op, merged.inputs, { attrs: merged.attrs, loc: merged.loc });
  });
}

const isAlias = (op: Op | undefined): boolean => op?.lower?.kind === 'alias';

function mergeAlike(first: Node, second: Node, op: Op, contextOf: (node: Node) => InferContext): Node | undefined {
  if (first.op !== second.op) return undefined;
  const attrs = op.mergeWith?.(contextOf(first), contextOf(second));
  return attrs && { ...second, inputs: first.inputs, attrs, loc: mergeLocs(first.loc, second.loc) };
}

function mergeAliases(
  first: Node,
  second: Node,
  ops: PassContext['ops'],
  graph: Graph,
  b: GraphBuilder,
): Node | undefined {
  const shape = graph.values.get(second.outputs[0])?.shape;
  if (!isAlias(ops.get(first.op)) || !isAlias(ops.get(second.op)) || !shape || !isStatic(shape)) return undefined;
  return {
    op: RESHAPE,
    inputs: [first.inputs[0], b.constant(fromNumbers('i64', [shape.length], shape), b.fresh('shape'))],
    outputs: second.outputs,
    // Without it a 0 in the shape would mean "as the input has it".
    attrs: { allowzero: shape.includes(0) },
    loc: mergeLocs(first.loc, second.loc),
  };
}
