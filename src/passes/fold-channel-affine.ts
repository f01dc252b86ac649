/**
 * Folds a scale and shift a channel into the weights of the linear operator before it. Batch normalisation behind a convolution is
 * such a scale and shift once it is expanded, and so costs nothing at run time.
 *
 *     scale[c] · (Σ w[c, …] · x + bias[c]) + shift[c]  =  Σ (scale[c] · w[c, …]) · x + (scale[c] · bias[c] + shift[c])
 *
 * Which operators scale (`channelAffine`) and which take a scale in (`absorbAffine`) is theirs to say. The linear node's result must
 * have no other reader, or its work would be done twice. Products are taken in float64 and rounded once.
 */
import { shapesEqual } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import type { Graph, Node } from '../graph/ir.ts';
import { mergeLocs, rewriteNodes, usersOf } from '../graph/rewrite.ts';
import type { PassContext } from './pass.ts';

export function foldChannelAffine(graph: Graph, { ops }: PassContext): Graph {
  const users = usersOf(graph);
  const isPrivate = (name: string): boolean => users.get(name)?.length === 1 && !graph.outputs.includes(name);
  /** Linear nodes by the value they make, as they stand after folding. */
  const linear = new Map<string, Node>();

  return rewriteNodes(graph, ops, (node, b, contextOf) => {
    const op = ops.get(node.op);
    const [output] = node.outputs;
    if (op?.absorbAffine) linear.set(output, node);
    const affine = op?.channelAffine?.(contextOf(node));
    if (!affine) return undefined;
    const source = node.inputs[affine.input];
    const first = linear.get(source);
    if (!first || !isPrivate(source) || !sameShape(graph, source, output)) return undefined;
    const weights = ops.get(first.op)?.absorbAffine?.(contextOf(first), affine);
    if (!weights) return undefined;
    const inputs = withConstants(first, weights, b);
    const [folded] = b.node(first.op, inputs, { attrs: first.attrs, loc: mergeLocs(first.loc, node.loc) });
    linear.set(output, { ...first, inputs, outputs: [output], loc: mergeLocs(first.loc, node.loc) });
    return [folded];
  });
}

/** A scale of a higher rank than its operand would broadcast the operand. */
function sameShape(graph: Graph, a: string, b: string): boolean {
  const [x, y] = [graph.values.get(a), graph.values.get(b)];
  return x !== undefined && y !== undefined && shapesEqual(x.shape, y.shape);
}

/** The node's inputs with constants put in; a new one is named after the constant that it replaces, or the node's output. */
function withConstants(node: Node, constants: ReadonlyMap<number, Tensor>, b: GraphBuilder): readonly string[] {
  const inputs = [...node.inputs];
  while (inputs.length <= Math.max(...constants.keys())) inputs.push('');
  for (const [i, value] of constants) {
    inputs[i] = b.constant(value, b.fresh(inputs[i] === '' ? `${node.outputs[0]}.input${i}` : inputs[i]));
  }
  return inputs;
}
