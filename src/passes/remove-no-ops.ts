/**
 * Takes out nodes that change nothing: their readers read the input instead.
 *
 * Which nodes do is the operators' to say (`identity`; and every alias keeps the elements), the types decide the rest: a Reshape to
 * the shape that is there already, a Cast to the same dtype, x · 1, a Transpose that moves no dim.
 */
import { shapesEqual } from '../core/shape.ts';
import type { ValueType } from '../core/tensor.ts';
import type { Graph } from '../graph/ir.ts';
import { producersOf, usersOf } from '../graph/rewrite.ts';
import { rewriteNodes } from '../graph/rewrite-nodes.ts';
import type { InferContext } from '../graph/semantics.ts';
import type { Op } from '../ops/op.ts';
import type { PassContext } from './pass.ts';

export function removeNoOps(graph: Graph, { ops }: PassContext): Graph {
  const users = usersOf(graph);
  const outputs = new Set(graph.outputs);
  const mayStandFor = substitution(graph);
  const isRead = (name: string): boolean => outputs.has(name) || users.has(name);

  return rewriteNodes(graph, ops, (node, _, contextOf) => {
    const op = ops.get(node.op);
    const [output, ...others] = node.outputs;
    if (!op || op.traits.impure || others.some(isRead)) return undefined;
    const i = unchangedInput(op, contextOf(node), graph.values.get(output));
    if (i === undefined) return undefined;
    const source = node.inputs[i];
    return mayStandFor(source, output) ? [source, ...others.map(() => '')] : undefined;
  });
}

/**
 * Whether `source` may take the place of an equal `output`: always within the graph; where `output` is the graph's, `source` must take
 * over its name, so a node must make it, and it has only one name to give (asking gives it away).
 */
export function substitution(graph: Graph): (source: string, output: string) => boolean {
  const outputs = new Set(graph.outputs);
  const producers = producersOf(graph);
  return (source, output) => {
    if (!outputs.has(output)) return true;
    if (!producers.has(source) || outputs.has(source)) return false;
    outputs.add(source);
    return true;
  };
}

/** The input that output 0, of type `out`, equals in type and elements; undefined where there is none. */
export function unchangedInput(op: Op, ctx: InferContext, out: ValueType | undefined): number | undefined {
  const i = op.identity?.(ctx) ?? (op.lower?.kind === 'alias' ? 0 : undefined);
  const type = i === undefined ? undefined : ctx.inputs[i];
  if (!type || !out || type.dtype !== out.dtype || !shapesEqual(type.shape, out.shape)) return undefined;
  return i;
}
