/**
 * Folds scales and shifts a channel into the weights of the linear operator before them. Batch normalisation behind a convolution is
 * a scale and a shift once it is expanded, and so costs nothing at run time.
 *
 *     scale[c] · (Σ w[c, …] · x + bias[c]) + shift[c]  =  Σ (scale[c] · w[c, …]) · x + (scale[c] · bias[c] + shift[c])
 *
 * Which operators scale (`channelAffine`) and which take a scale in (`absorbAffine`) is theirs to say. Each value on the way must
 * have one reader, or the linear node's work would be done twice. A chain is composed in float64 and rounded once.
 */
import { shapesEqual } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import { factsOf, inferContext } from '../graph/infer.ts';
import type { Graph, Loc, Node } from '../graph/ir.ts';
import { mergeLocs, usersOf } from '../graph/rewrite.ts';
import { rewriteNodes } from '../graph/rewrite-nodes.ts';
import type { ChannelAffine } from '../ops/op.ts';
import type { PassContext } from './pass.ts';

/** A linear node and the scales behind it, composed link by link. */
interface Chain {
  readonly linear: Node;
  readonly links: Link[];
}
interface Link {
  /** The value after this link. */
  readonly output: string;
  readonly affine: ChannelAffine;
  readonly loc: Loc;
}
interface Fold {
  readonly linear: Node;
  readonly weights: ReadonlyMap<number, Tensor>;
  readonly loc: Loc;
}

export function foldChannelAffine(graph: Graph, { ops }: PassContext): Graph {
  const facts = factsOf(graph);
  const folds = new Map<string, Fold>();
  for (const { linear, links } of chains(graph, ops)) {
    // The longest run of links that the operator takes: a product without a bias has no place for a shift.
    for (const { output, affine, loc } of links.toReversed()) {
      const weights = ops.get(linear.op)?.absorbAffine?.(inferContext(linear, facts), affine);
      if (!weights) continue;
      folds.set(output, { linear, weights, loc });
      break;
    }
  }
  return rewriteNodes(graph, ops, (node, b) => {
    const fold = folds.get(node.outputs[0]);
    if (!fold) return undefined;
    const { linear, weights, loc } = fold;
    return b.node(linear.op, withConstants(linear, weights, b), { attrs: linear.attrs, loc });
  });
}

/** Linear nodes that have scales behind them. */
function chains(graph: Graph, ops: PassContext['ops']): readonly Chain[] {
  const facts = factsOf(graph);
  const users = usersOf(graph);
  const outputs = new Set(graph.outputs);
  const ends = new Map<string, Chain>();
  for (const node of graph.nodes) {
    const op = ops.get(node.op);
    const [output] = node.outputs;
    if (op?.absorbAffine) ends.set(output, { linear: node, links: [] });
    const affine = op?.channelAffine?.(inferContext(node, facts));
    const source = affine && node.inputs[affine.input];
    const chain = source === undefined ? undefined : ends.get(source);
    if (!affine || source === undefined || !chain || users.get(source)?.length !== 1 || outputs.has(source)) continue;
    // A constant of a higher rank than its operand would broadcast the operand.
    if (!shapesEqual(facts.types.get(source)?.shape ?? [], facts.types.get(output)?.shape ?? [])) continue;
    const last = chain.links.at(-1);
    const composed = compose(last?.affine, affine);
    if (!composed) continue;
    chain.links.push({ output, affine: composed, loc: mergeLocs(last?.loc ?? chain.linear.loc, node.loc) });
    ends.set(output, chain);
  }
  return [...new Set(ends.values())].filter((chain) => chain.links.length > 0);
}

/** b(a(x)) = b.scale · (a.scale · x + a.shift) + b.shift; undefined where the two are along different axes. */
function compose(a: ChannelAffine | undefined, b: ChannelAffine): ChannelAffine | undefined {
  if (!a) return b;
  if (a.axis !== b.axis) return undefined;
  return {
    axis: b.axis,
    scale: b.scale.map((s, c) => s * a.scale[c]),
    shift: b.shift.map((t, c) => b.scale[c] * a.shift[c] + t),
  };
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
