/**
 * Composite operators: those whose definition is a graph of simpler ones. Such an operator is its inference and its `expand`; `eval`
 * is the expansion, evaluated, so no target and no reader ever needs more than the simpler operators.
 *
 * What must hold: with static shapes and all inputs known, `expand` gives an expansion.
 */
import { isFloat } from '../core/dtype.ts';
import { Bug } from '../core/errors.ts';
import { isStatic } from '../core/shape.ts';
import { fromNumbers, type Tensor, type TensorType, toNumbers, type ValueType } from '../core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../graph/build.ts';
import { evalGraph } from '../graph/eval.ts';
import type { Node } from '../graph/ir.ts';
import type { OpTable } from '../graph/semantics.ts';
import { type NodeWriter, nodeWriter } from './node-writer.ts';
import { type AttrSpecs, type AttrsOf, defineOp, type Op, type OpDef } from './op.ts';
import { PARTS } from './parts.ts';

/** What an expansion is made of. */
export interface Expansion<A> {
  readonly w: NodeWriter;
  readonly b: GraphBuilder;
  readonly node: Node;
  readonly attrs: A;
  /** Types of the inputs, all static; undefined where an optional input is absent. */
  readonly types: readonly (TensorType | undefined)[];
  /** The name of input i; '' where it is absent. */
  input(i: number): string;
  /** The type of an input that must be there. */
  type(i: number): TensorType;
  /** Whether somebody wants output i. */
  wants(i: number): boolean;
}

export interface CompositeDef<S extends AttrSpecs> extends Omit<OpDef<S>, 'eval' | 'lower' | 'expand'> {
  /**
   * How eval rounds. `once`: floats are float64 throughout and rounded on output, as elsewhere. `each`: every node rounds to its
   * dtype, which is how quantised arithmetic is defined (where a quotient is a tie decides the integer).
   */
  readonly rounding: 'once' | 'each';
  /** Composite operators that the expansion uses. */
  readonly uses?: readonly Op[];
  /** Names of the outputs, '' for one that nobody wants. */
  write(x: Expansion<AttrsOf<S>>): readonly string[];
}

/** Makes an operator from its inference and its expansion. */
export function defineComposite<S extends AttrSpecs>(def: CompositeDef<S>): Op {
  const ops: OpTable = def.uses ? new Map([...PARTS, ...def.uses.map((op) => [op.key, op] as const)]) : PARTS;
  const { rounding, uses: _, write, ...rest } = def;
  const expand = (
    b: GraphBuilder,
    node: Node,
    attrs: AttrsOf<S>,
    types: readonly (ValueType | undefined)[],
  ): readonly string[] | undefined => {
    if (!types.every((type) => type === undefined || isStatic(type.shape))) return undefined;
    return write(expansion(b, node, attrs, types as readonly (TensorType | undefined)[]));
  };
  return defineOp<S>({
    ...rest,
    expand,
    eval: (inputs, attrs, outputs) => evalExpansion(def.name, ops, rounding, expand, { inputs, attrs, outputs }),
  });
}

function expansion<A>(b: GraphBuilder, node: Node, attrs: A, types: readonly (TensorType | undefined)[]): Expansion<A> {
  return {
    w: nodeWriter(b),
    b,
    node,
    attrs,
    types,
    input: (i) => node.inputs[i] ?? '',
    type(i) {
      const type = types[i];
      if (!type) throw new Bug('expand-input', `the expansion of ${node.op} needs input ${i}`);
      return type;
    },
    wants: (i) => (node.outputs[i] ?? '') !== '',
  };
}

/** A node on given tensors. */
interface Call<A> {
  readonly inputs: readonly (Tensor | undefined)[];
  readonly attrs: A;
  readonly outputs: readonly TensorType[];
}

/** Evaluates the expansion on its inputs. Integers are constants of it, because sizes and positions may decide what it is made of. */
function evalExpansion<A>(
  name: string,
  ops: OpTable,
  rounding: 'once' | 'each',
  expand: (
    b: GraphBuilder,
    node: Node,
    attrs: A,
    types: readonly (ValueType | undefined)[],
  ) => readonly string[] | undefined,
  { inputs, attrs, outputs }: Call<A>,
): Tensor[] {
  const b = graphBuilder(name, ops);
  const feeds = new Map<string, Tensor>();
  const args = inputs.map((t) => t && (rounding === 'once' && isFloat(t.dtype) ? toF64(t) : t));
  const names = args.map((t, i) => {
    if (!t) return '';
    if (!isFloat(t.dtype)) return b.constant(t);
    feeds.set(`x${i}`, t);
    return b.input(`x${i}`, t.dtype, t.shape);
  });
  const node: Node = { op: name, inputs: names, outputs: outputs.map((_, i) => `y${i}`), attrs: {}, loc: [name] };
  const results = expand(b, node, attrs, args);
  if (!results) throw new Bug('expand-none', `${name} has no expansion for its inputs`);
  // One value may be several outputs.
  const copies = results.map((result) => b.node('Identity', [result])[0]);
  for (const copy of copies) b.output(copy);
  const values = evalGraph(b.finish(), ops, feeds);
  return outputs.map((type, i) => asType(values.get(copies[i]) as Tensor, type));
}

const toF64 = (t: Tensor): Tensor => fromNumbers('f64', t.shape, toNumbers(t));
const asType = (t: Tensor, { dtype }: TensorType): Tensor =>
  t.dtype === dtype ? t : fromNumbers(dtype, t.shape, toNumbers(t));
