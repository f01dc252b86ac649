/**
 * Evaluation: runs a graph node by node on tensors, each operator by its definition. The oracle that everything else is compared with.
 *
 * Values are freed after their last use. Sizes that only running tells are inferred at the node, from the tensors that came in.
 * What must hold: every tensor has the type that inference gave, or inference and eval of that operator disagree (a Bug).
 */
import { Bug, ModelError } from '../core/errors.ts';
import { isStatic, shapesEqual } from '../core/shape.ts';
import { printType, type Tensor, type TensorType, type ValueType } from '../core/tensor.ts';
import { bindShapes } from './bind.ts';
import { addConstant, inferNode, noFacts, operatorOf, requireOperators } from './infer.ts';
import { type Graph, type Node, nodeLabel } from './ir.ts';
import { nodeUses } from './rewrite.ts';
import type { OpSemantics, OpTable } from './semantics.ts';

export interface EvalOptions {
  /** Told of every value as it is computed; the tensor must not be changed. */
  readonly onValue?: (name: string, value: Tensor, node: Node) => void;
}

/**
 * The outputs of the graph, by name. Open input sizes are bound to the shapes of the tensors given.
 * Throws ModelError `input-missing`, `input-unknown`, `input-mismatch`, `shape-mismatch`, `onnx-unsupported`.
 */
export function evalGraph(
  graph: Graph,
  ops: OpTable,
  inputs: ReadonlyMap<string, Tensor>,
  options: EvalOptions = {},
): Map<string, Tensor> {
  requireOperators(graph, ops);
  checkInputs(graph, inputs);
  const bound = isBound(graph) ? graph : bindToInputs(graph, ops, inputs);
  const lastUse = lastUses(bound);
  const values = new Map<string, Tensor>(bound.constants);
  for (const name of bound.inputs) values.set(name, inputs.get(name) as Tensor);

  for (const [index, node] of bound.nodes.entries()) {
    const op = operatorOf(node, ops);
    const args = node.inputs.map((name) => (name === '' ? undefined : computed(name, values, node)));
    const types = outputTypes(node, op, bound, args);
    const results = op.eval(args, node.attrs, types);
    for (const [i, name] of node.outputs.entries()) {
      if (name === '') continue;
      checkResult(node, i, results[i], types[i]);
      options.onValue?.(name, results[i], node);
      if (lastUse.has(name)) values.set(name, results[i]);
    }
    for (const name of nodeUses(node)) if (lastUse.get(name) === index) values.delete(name);
  }
  return new Map(bound.outputs.map((name) => [name, computed(name, values)]));
}

function checkInputs(graph: Graph, inputs: ReadonlyMap<string, Tensor>): void {
  for (const name of inputs.keys()) {
    if (graph.inputs.includes(name)) continue;
    throw new ModelError('input-unknown', `"${name}" is not an input of the model`, {
      hint: `inputs: ${graph.inputs.map((input) => `"${input}"`).join(', ')}`,
    });
  }
  for (const name of graph.inputs) {
    const type = graph.values.get(name) as ValueType;
    const value = inputs.get(name);
    if (!value) throw new ModelError('input-missing', `input "${name}" ${printType(type)} is not given`);
    const fits =
      value.dtype === type.dtype &&
      value.shape.length === type.shape.length &&
      type.shape.every((dim, i) => typeof dim !== 'number' || dim === value.shape[i]);
    if (!fits) {
      throw new ModelError(
        'input-mismatch',
        `input "${name}" is ${printType(value)}, the model takes ${printType(type)}`,
      );
    }
  }
}

const isBound = (graph: Graph): boolean =>
  graph.inputs.every((name) => isStatic((graph.values.get(name) as ValueType).shape));

function bindToInputs(graph: Graph, ops: OpTable, inputs: ReadonlyMap<string, Tensor>): Graph {
  const shapes = Object.fromEntries([...inputs].map(([name, value]) => [name, value.shape]));
  return bindShapes(graph, ops, shapes, () => {});
}

/** The index of the last node that reads a value; no end for graph outputs. A value without readers is absent. */
function lastUses(graph: Graph): Map<string, number> {
  const last = new Map<string, number>();
  for (const [index, node] of graph.nodes.entries()) for (const name of nodeUses(node)) last.set(name, index);
  for (const name of graph.outputs) last.set(name, Number.POSITIVE_INFINITY);
  return last;
}

function computed(name: string, values: ReadonlyMap<string, Tensor>, reader?: Node): Tensor {
  const value = values.get(name);
  if (value) return value;
  throw new Bug(
    'eval-order',
    `value "${name}" is not computed before ${reader ? nodeLabel(reader) : 'the end of the graph'}`,
  );
}

/** The inferred types of the outputs; where they are open, inferred again from the tensors that came in. */
function outputTypes(
  node: Node,
  op: OpSemantics,
  graph: Graph,
  args: readonly (Tensor | undefined)[],
): readonly TensorType[] {
  const inferred = node.outputs.map((name) => graph.values.get(name));
  if (inferred.every(isTensorType)) return inferred;
  const facts = noFacts();
  for (const [i, name] of node.inputs.entries()) {
    const value = args[i];
    if (value) addConstant(facts, name, value);
  }
  const types = inferNode(node, op, facts);
  if (types.every(isTensorType)) return types;
  throw new Bug('eval-open', `infer of ${nodeLabel(node)} leaves ${types.map(printType).join(', ')} open at run time`);
}

const isTensorType = (type: ValueType | undefined): type is TensorType => type !== undefined && isStatic(type.shape);

function checkResult(node: Node, i: number, value: Tensor | undefined, type: TensorType): void {
  if (value && value.dtype === type.dtype && shapesEqual(value.shape, type.shape)) return;
  throw new Bug(
    'eval-type',
    `eval of ${nodeLabel(node)} gave ${value ? printType(value) : 'nothing'} for output ${i}, inferred was ${printType(type)}`,
  );
}
