/**
 * The network-definition API: a graph built layer by layer, as TensorRT's INetworkDefinition is.
 *
 * Each call adds one node, infers its output types at once, and throws at the layer that does not fit. Value names are the handles.
 *
 *     const b = graphBuilder('net', ops);
 *     const x = b.input('x', 'f32', [1, 3, 224, 224]);
 *     const [y] = b.node('Relu', [x]);
 *     b.output(y);
 *     const graph = b.finish();
 */
import type { DType } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import type { Shape } from '../core/shape.ts';
import type { Tensor, ValueType } from '../core/tensor.ts';
import { addConstant, type Facts, inferNode, noFacts, operatorOf } from './infer.ts';
import { type Attrs, type Graph, type Loc, type Node, nodeLabel } from './ir.ts';
import type { OpTable } from './semantics.ts';

export interface NodeOptions {
  readonly attrs?: Attrs;
  /** ONNX nodes this one stands for; the operator and a number where not given. */
  readonly loc?: Loc;
  /** Names of the outputs, '' for one that nobody wants; their number is the number of outputs. One with a fresh name where not given. */
  readonly outputs?: readonly string[];
}

export interface GraphBuilder {
  input(name: string, dtype: DType, shape: Shape): string;
  constant(value: Tensor, name?: string): string;
  /** Adds a node and returns the names of its outputs. Throws ModelError where the operator or its inputs are wrong. */
  node(op: string, inputs: readonly string[], options?: NodeOptions): readonly string[];
  output(value: string): void;
  type(value: string): ValueType;
  /** The value where it is known at build time: a constant, or computed from constants and static shapes. */
  constantValue(value: string): Tensor | undefined;
  /** A value name that is not taken, from a hint. */
  fresh(hint: string): string;
  finish(): Graph;
}

/** A graph under construction: the builder's state, shared with the rewriter, which starts from names and facts of its own. */
export interface Draft {
  readonly name: string;
  readonly inputs: string[];
  readonly outputs: string[];
  readonly constants: Map<string, Tensor>;
  readonly nodes: Node[];
  readonly facts: Facts;
  /** Every name that may not be given again. */
  readonly taken: Set<string>;
}

export const emptyDraft = (name: string): Draft => ({
  name,
  inputs: [],
  outputs: [],
  constants: new Map(),
  nodes: [],
  facts: noFacts(),
  taken: new Set(),
});

/** A builder of an empty graph. Its methods throw ModelError (`model-invalid`, `shape-mismatch`, `onnx-unsupported`). */
export const graphBuilder = (name: string, ops: OpTable): GraphBuilder => builderOn(emptyDraft(name), ops);

/** A builder that goes on from a draft. */
export function builderOn(draft: Draft, ops: OpTable): GraphBuilder {
  const { facts } = draft;
  const nextName = freshNames(draft.taken);
  /** Names given out by fresh() that nothing has used yet. */
  const promised = new Set<string>();
  const fresh = (hint: string): string => {
    const name = nextName(hint);
    promised.add(name);
    return name;
  };

  const define = (name: string, what: string): string => {
    if (name === '') throw new ModelError('model-invalid', `${what} of graph "${draft.name}" has an empty name`);
    if (!promised.delete(name) && draft.taken.has(name)) {
      throw new ModelError(
        'model-invalid',
        `${what} "${name}" of graph "${draft.name}": a value with this name exists already`,
        {
          hint: 'every value is defined once; leave the name out to get a fresh one',
        },
      );
    }
    draft.taken.add(name);
    return name;
  };
  const known = (value: string): ValueType => {
    const type = facts.types.get(value);
    if (!type) throw new ModelError('model-invalid', `graph "${draft.name}" has no value "${value}"`);
    return type;
  };

  return {
    input(name, dtype, shape) {
      define(name, 'input');
      draft.inputs.push(name);
      facts.types.set(name, { dtype, shape });
      return name;
    },
    constant(value, name) {
      const given = name === undefined ? nextName('constant') : define(name, 'constant');
      draft.constants.set(given, value);
      addConstant(facts, given, value);
      return given;
    },
    node(opName, inputs, options = {}) {
      const loc = options.loc ?? [`${opName}#${draft.nodes.length}`];
      const raw: Node = {
        op: opName,
        inputs: withoutTrailingAbsent(inputs),
        outputs: options.outputs ?? [''],
        attrs: options.attrs ?? {},
        loc,
      };
      const op = operatorOf(raw, ops);
      const attrs = op.completeAttrs(raw.attrs, (message, hint) => {
        throw new ModelError('model-invalid', `${nodeLabel(raw)}: ${message}`, hint === undefined ? {} : { hint });
      });
      const outputs = options.outputs
        ? options.outputs.map((name) => (name === '' ? '' : define(name, `output of ${nodeLabel(raw)}`)))
        : [nextName(op.name)];
      const node: Node = { ...raw, attrs, outputs };
      try {
        inferNode(node, op, facts);
      } catch (error) {
        for (const name of outputs) draft.taken.delete(name);
        throw error;
      }
      draft.nodes.push(node);
      return outputs;
    },
    output(value) {
      known(value);
      if (draft.outputs.includes(value)) {
        throw new ModelError('model-invalid', `value "${value}" is an output of graph "${draft.name}" already`);
      }
      draft.outputs.push(value);
    },
    type: known,
    constantValue(value) {
      known(value);
      return facts.constants.get(value);
    },
    fresh,
    finish: () => ({
      name: draft.name,
      inputs: [...draft.inputs],
      outputs: [...draft.outputs],
      values: new Map(facts.types),
      constants: new Map(draft.constants),
      nodes: [...draft.nodes],
    }),
  };
}

/** Gives out names that are not in `taken` and adds them to it: the hint itself, then hint_1, hint_2, … */
export function freshNames(taken: Set<string>): (hint: string) => string {
  const last = new Map<string, number>();
  return (hint) => {
    let count = last.get(hint) ?? 0;
    let name = count === 0 && hint !== '' ? hint : `${hint}_${count}`;
    while (taken.has(name)) name = `${hint}_${++count}`;
    last.set(hint, count);
    taken.add(name);
    return name;
  };
}

/** `['x', '', '']` means `['x']`; one form, so that equal nodes compare equal. */
function withoutTrailingAbsent(inputs: readonly string[]): readonly string[] {
  let count = inputs.length;
  while (count > 0 && inputs[count - 1] === '') count--;
  return inputs.slice(0, count);
}
