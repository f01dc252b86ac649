/**
 * Type inference: one node at a time for the builder, a whole graph for everyone else.
 *
 * Comes in: a node, its operator, and the facts known of the values before it. Goes out: the types of its outputs, and more facts:
 * elements that are known before running. Those are found by evaluating small nodes whose inputs are all known, and by inferDims
 * for sizes that are still symbolic; so the Shape → Gather → Concat → Reshape chains that exporters write need no special case.
 * What must hold: a fact is true in every run. Impure operators therefore never become facts.
 */
import { isBigInt, isFloat } from '../core/dtype.ts';
import { Bug, ModelError } from '../core/errors.ts';
import { type Dim, elements, isStatic, type Shape, sym } from '../core/shape.ts';
import { fromNumbers, printType, type Tensor, type TensorType, toNumbers, type ValueType } from '../core/tensor.ts';
import { type Graph, type Node, nodeLabel } from './ir.ts';
import type { InferContext, OpSemantics, OpTable } from './semantics.ts';

/** Values with more elements are data, not sizes: they are left to fold-constants. */
const SMALL_OUTPUT_ELEMENTS = 1024;
const SMALL_INPUT_ELEMENTS = 1 << 16;
/** No tensor has more dims than this, so no longer list of integers is a shape. */
const MAX_DIMS = 64;

/** What is known of the values so far. Grows as nodes are inferred. */
export interface Facts {
  readonly types: Map<string, ValueType>;
  /** Elements known before running: constants, and what small nodes compute from them. */
  readonly constants: Map<string, Tensor>;
  /** Elements of small integer values as dims, where some of them are symbolic. */
  readonly dims: Map<string, Shape>;
}

export const noFacts = (): Facts => ({ types: new Map(), constants: new Map(), dims: new Map() });

/** The facts before the first node: types of inputs and constants, elements of constants. */
export function initialFacts(graph: Graph): Facts {
  const facts = noFacts();
  for (const name of graph.inputs) {
    const type = graph.values.get(name);
    if (!type) throw new Bug('graph-input-type', `input "${name}" of graph "${graph.name}" has no type`);
    facts.types.set(name, type);
  }
  for (const [name, value] of graph.constants) addConstant(facts, name, value);
  return facts;
}

/** What an inferred graph tells without inferring again: all types, and the elements of constants. */
export const factsOf = (graph: Graph): Facts => ({
  types: new Map(graph.values),
  constants: new Map(graph.constants),
  dims: new Map(),
});

export function addConstant(facts: Facts, name: string, value: Tensor): void {
  facts.types.set(name, { dtype: value.dtype, shape: value.shape });
  facts.constants.set(name, value);
}

/** The operator of a node. Throws ModelError `onnx-unsupported`. */
export function operatorOf(node: Node, ops: OpTable): OpSemantics {
  const op = ops.get(node.op);
  if (op) return op;
  throw new ModelError('onnx-unsupported', `${nodeLabel(node)}: operator ${node.op} is not supported`, {
    hint: 'add it with defineOp and pass it in the option `ops`',
  });
}

/** Throws one ModelError `onnx-unsupported` that lists every node whose operator is missing. */
export function requireOperators(graph: Graph, ops: OpTable): void {
  const missing = graph.nodes.filter((node) => !ops.has(node.op));
  if (missing.length === 0) return;
  const names = [...new Set(missing.map((node) => node.op))].sort();
  throw new ModelError(
    'onnx-unsupported',
    `graph "${graph.name}" uses ${names.length === 1 ? 'an operator' : 'operators'} that Hotrod does not have: ${names.join(', ')}`,
    {
      hint: 'add what is missing with defineOp and pass it in the option `ops`',
      details: missing.map(nodeLabel),
    },
  );
}

/**
 * Infers the outputs of a node and adds what it learns to `facts`. Returns one type an output, absent outputs included.
 * Throws ModelError where the node breaks a rule of its operator or its inputs do not fit.
 */
export function inferNode(node: Node, op: OpSemantics, facts: Facts): readonly ValueType[] {
  checkArity(node, op, facts);
  const ctx = inferContext(node, facts);
  const types = op.infer(ctx);
  if (types.length !== node.outputs.length) {
    throw new Bug(
      'infer-outputs',
      `infer of ${nodeLabel(node)} gave ${types.length} types for ${node.outputs.length} outputs`,
    );
  }
  for (const [i, name] of node.outputs.entries()) if (name !== '') facts.types.set(name, types[i]);
  learnElements(node, op, types, facts, ctx);
  return types;
}

/** The graph with the types of all node outputs inferred again from its inputs and constants. Throws ModelError. */
export const inferGraph = (graph: Graph, ops: OpTable): Graph => ({
  ...graph,
  values: inferredFacts(graph, ops).types,
});

/** All that inference finds out from the graph's inputs and constants. Throws ModelError. */
export function inferredFacts(graph: Graph, ops: OpTable): Facts {
  requireOperators(graph, ops);
  const facts = initialFacts(graph);
  for (const node of graph.nodes) inferNode(node, operatorOf(node, ops), facts);
  return facts;
}

function checkArity(node: Node, op: OpSemantics, facts: Facts): void {
  const invalid = (message: string, hint?: string): never => {
    throw new ModelError('model-invalid', `${nodeLabel(node)}: ${message}`, hint === undefined ? {} : { hint });
  };
  const count = node.inputs.length;
  if (count < op.minInputs || count > op.maxInputs) {
    invalid(`has ${count} inputs, ${op.name} takes ${range(op.minInputs, op.maxInputs)}`);
  }
  if (node.outputs.length < 1 || node.outputs.length > op.maxOutputs) {
    invalid(`has ${node.outputs.length} outputs, ${op.name} gives ${range(1, op.maxOutputs)}`);
  }
  for (const name of node.inputs) {
    if (name === '' || facts.types.has(name)) continue;
    invalid(
      `input "${name}" is not a value known here`,
      'it must be a graph input, an initializer or the output of an earlier node',
    );
  }
}

const range = (least: number, most: number): string =>
  least === most ? String(least) : most === Number.POSITIVE_INFINITY ? `${least} or more` : `${least} to ${most}`;

/** What an operator may ask while its node is inferred. Asking has no effect on `facts`. */
export function inferContext(node: Node, facts: Facts): InferContext {
  let fresh = 0;
  const fail = (message: string, hint?: string): never => {
    const inputs = node.inputs.map((name) => describeInput(name, facts)).join(', ');
    throw new ModelError(
      'shape-mismatch',
      `${nodeLabel(node)}: ${message} (inputs: ${inputs || 'none'})`,
      hint === undefined ? {} : { hint },
    );
  };
  return {
    attrs: node.attrs,
    inputs: node.inputs.map((name) => facts.types.get(name)),
    outputCount: node.outputs.length,
    input: (i) => facts.types.get(node.inputs[i] ?? '') ?? fail(`input ${i} is missing`),
    constant: (i) => facts.constants.get(node.inputs[i] ?? ''),
    dims: (i) => dimsOf(node.inputs[i] ?? '', facts),
    // Named after the value, not after a counter: the name survives when other nodes come and go.
    freshDim: (hint): Dim => {
      fresh++;
      const owner = node.outputs.find((name) => name !== '') ?? nodeLabel(node);
      return sym(`${hint}(${owner}${fresh === 1 ? '' : `, ${fresh}`})`);
    },
    fail,
  };
}

function describeInput(name: string, facts: Facts): string {
  if (name === '') return 'absent';
  const type = facts.types.get(name);
  return `"${name}" ${type ? printType(type) : 'unknown'}${facts.constants.has(name) ? ' constant' : ''}`;
}

function dimsOf(name: string, facts: Facts): Shape | undefined {
  const known = facts.dims.get(name);
  if (known) return known;
  const value = facts.constants.get(name);
  if (!value || isFloat(value.dtype) || value.data.length > MAX_DIMS || value.shape.length > 1) return undefined;
  return Array.from(toNumbers(value));
}

/** Records the elements of the outputs where they can be told now. */
function learnElements(
  node: Node,
  op: OpSemantics,
  types: readonly ValueType[],
  facts: Facts,
  ctx: InferContext,
): void {
  if (op.traits?.impure) return;
  if (types.every(isSmall) && node.inputs.every((name) => name === '' || isSmallConstant(name, facts))) {
    const inputs = node.inputs.map((name) => facts.constants.get(name));
    const values = op.eval(inputs, node.attrs, types as readonly TensorType[]);
    for (const [i, name] of node.outputs.entries()) if (name !== '') facts.constants.set(name, values[i]);
    return;
  }
  const dims = op.inferDims?.(ctx);
  if (!dims || node.outputs[0] === '') return;
  facts.dims.set(node.outputs[0], dims);
  const value = tensorOfDims(dims, types[0]);
  if (value) facts.constants.set(node.outputs[0], value);
}

/** The integer tensor of a type whose elements are these dims; undefined where some are symbolic, or cannot be held exactly. */
export function tensorOfDims(dims: Shape, { dtype, shape }: ValueType): Tensor | undefined {
  if (!isStatic(dims) || !isStatic(shape) || elements(shape) !== dims.length) return undefined;
  if (!(isBigInt(dtype) || dtype === 'i32') || !dims.every(Number.isSafeInteger)) return undefined;
  return fromNumbers(dtype, shape, dims);
}

const isSmall = (type: ValueType): boolean => isStatic(type.shape) && elements(type.shape) <= SMALL_OUTPUT_ELEMENTS;

function isSmallConstant(name: string, facts: Facts): boolean {
  const value = facts.constants.get(name);
  return value !== undefined && value.data.length <= SMALL_INPUT_ELEMENTS;
}
