/**
 * ONNX bytes to Graph.
 *
 * Comes in: a model of opset 7 or newer. Goes out: a graph in topological order, operators in their newest forms, local functions
 * inlined, initializers and Constant nodes as constants, names kept. Every problem that can be told apart from its consequences is
 * reported at once. Tensors are views on `bytes` (and on external files) where alignment allows: leave those unchanged.
 */
import { ModelError } from '../core/errors.ts';
import type { Tensor } from '../core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../graph/build.ts';
import { type Attrs, type AttrValue, type Graph, nodeLabel } from '../graph/ir.ts';
import type { Op, RawNode, UpgradeContext } from '../ops/op.ts';
import { readAttribute } from './attributes.ts';
import { constantOf, isConstantNode } from './constant-node.ts';
import { externalReader, type OpenExternal } from './external-data.ts';
import { flattenNodes, opsetsOf, type SourceNode } from './flatten.ts';
import { readInput } from './inputs.ts';
import type { TensorProto } from './onnx_pb.ts';
import { NEWEST_OPSET, OLDEST_OPSET } from './opsets.ts';
import { inOrder } from './order.ts';
import { type ParsedModel, parseModel } from './parse-model.ts';
import { attempt, type Problem, throwProblems } from './problems.ts';
import { readTensor } from './tensors.ts';

export interface ReadOptions {
  readonly ops: ReadonlyMap<string, Op>;
  /** Opens a file of weights beside the model; locations are relative and stay inside the model's folder. */
  readonly openExternal?: OpenExternal;
  /** Name of the graph; the model's own where not given. */
  readonly name?: string;
  readonly onWarning?: (message: string) => void;
}

/** Throws ModelError: `onnx-parse`, `onnx-unsupported`, `onnx-external-data`, `model-invalid`, `shape-mismatch`, `shape-unknown`. */
export function readOnnx(bytes: Uint8Array, options: ReadOptions): Graph {
  return graphOfModel(parseModel(bytes), options);
}

interface Reading {
  readonly model: ParsedModel;
  readonly options: ReadOptions;
  readonly builder: GraphBuilder;
  readonly problems: Problem[];
  readonly tensor: (proto: TensorProto, label: string) => Tensor;
  /** Values that a reported problem leaves without a type; what depends on them is skipped in silence. */
  readonly lost: Set<string>;
  /** A value name that the model does not use. */
  readonly unused: (hint: string) => string;
}

export function graphOfModel(model: ParsedModel, options: ReadOptions): Graph {
  checkOpset(model, options);
  const nodes = inOrder(flattenNodes(model, (op) => options.ops.has(op)));
  const external = externalReader(options.openExternal);
  const r: Reading = {
    model,
    options,
    builder: graphBuilder(options.name ?? (model.graph.name || 'graph'), options.ops),
    problems: missingOperators(nodes, options.ops),
    tensor: (proto, label) => readTensor(proto, label, external),
    lost: new Set(),
    unused: unusedNames(model, nodes),
  };
  addInputsAndInitializers(r);
  for (const node of nodes) addNode(r, node);
  addOutputs(r);
  throwProblems(r.problems);
  return r.builder.finish();
}

function checkOpset(model: ParsedModel, options: ReadOptions): void {
  const opset = opsetsOf(model.opsetImport).get('');
  if (opset === undefined) return;
  if (!(opset >= OLDEST_OPSET)) {
    throw new ModelError('onnx-unsupported', `the model is of opset ${opset}, Hotrod reads ${OLDEST_OPSET} and newer`, {
      hint: 'convert it with onnx.version_converter, or export it again',
    });
  }
  if (opset > NEWEST_OPSET) {
    options.onWarning?.(`the model is of opset ${opset}, newer than ${NEWEST_OPSET}: its operators may have changed`);
  }
}

/** One problem an operator, with the names of its nodes. */
function missingOperators(nodes: readonly SourceNode[], ops: ReadonlyMap<string, Op>): Problem[] {
  const missing = new Map<string, string[]>();
  for (const node of nodes) {
    const op = ops.get(node.op);
    if (isConstantNode(node) || (op && node.opset >= op.onnx.since)) continue;
    const title = op ? `${node.op} (it exists since opset ${op.onnx.since}, the model has ${node.opset})` : node.op;
    missing.set(title, [...(missing.get(title) ?? []), `"${node.loc.join('+')}"`]);
  }
  return [...missing].map(([title, names]) => ({
    code: 'onnx-unsupported',
    message: `operator ${title} is not supported: ${names.length === 1 ? 'node' : `${names.length} nodes`} ${names.join(', ')}`,
    hint: 'a custom operator can be given in the option `ops`',
  }));
}

function unusedNames(model: ParsedModel, nodes: readonly SourceNode[]): (hint: string) => string {
  const taken = new Set(nodes.flatMap((node) => [...node.inputs, ...node.outputs]));
  for (const { name } of [...model.graph.input, ...model.graph.initializer]) taken.add(name);
  return (hint) => {
    let name = hint;
    for (let n = 1; taken.has(name); n++) name = `${hint}_${n}`;
    taken.add(name);
    return name;
  };
}

/** An initializer with the name of an input is its value: files before IR version 4 list all weights as inputs too. */
function addInputsAndInitializers(r: Reading): void {
  const { graph } = r.model;
  const initialized = new Set(graph.initializer.map((t) => t.name));
  for (const info of graph.input) {
    if (initialized.has(info.name)) continue;
    attemptValue(r, info.name, () => {
      const { dtype, shape } = readInput(info);
      r.builder.input(info.name, dtype, shape);
    });
  }
  for (const proto of graph.initializer) {
    attemptValue(r, proto.name, () => {
      r.builder.constant(r.tensor(proto, `initializer "${proto.name}"`), proto.name);
    });
  }
  for (const { values } of graph.sparseInitializer) {
    attemptValue(r, values?.name ?? '', () => {
      throw new ModelError('onnx-unsupported', `initializer "${values?.name ?? ''}" is sparse`);
    });
  }
}

function attemptValue(r: Reading, name: string, work: () => void): void {
  if (!attempt(r.problems, work)) r.lost.add(name);
}

function addNode(r: Reading, source: SourceNode): void {
  if (!isReadable(r, source) || !attempt(r.problems, () => readNode(r, source))) {
    for (const name of source.outputs) r.lost.add(name);
  }
}

/** False where a reported problem, a missing operator or a lost input, already says why the node cannot be read. */
function isReadable(r: Reading, source: SourceNode): boolean {
  const op = r.options.ops.get(source.op);
  return (
    (isConstantNode(source) || (op !== undefined && source.opset >= op.onnx.since)) &&
    !source.inputs.some((name) => r.lost.has(name))
  );
}

function readNode(r: Reading, source: SourceNode): void {
  const op = r.options.ops.get(source.op);
  if (isConstantNode(source)) r.builder.constant(constantOf(source, r.tensor), source.outputs[0]);
  else if (op) addOperator(r, source, op);
}

function addOperator(r: Reading, source: SourceNode, op: Op): void {
  const raw: RawNode = {
    inputs: source.inputs,
    outputs: source.outputs,
    attrs: readAttributes(r, source, op),
  };
  const { inputs, outputs, attrs } = op.onnx.upgrade?.(raw, upgradeContext(r, source)) ?? raw;
  r.builder.node(source.op, inputs, { attrs, outputs, loc: source.loc });
}

function readAttributes(r: Reading, source: SourceNode, op: Op): Attrs {
  const entries = source.attributes.map((attr): [string, AttrValue] => {
    const spec = Object.hasOwn(op.attrSpecs, attr.name) ? op.attrSpecs[attr.name] : undefined;
    return [attr.name, readAttribute(attr, spec, nodeLabel(source), r.tensor)];
  });
  // fromEntries makes own properties of any name, `__proto__` too.
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

function upgradeContext(r: Reading, source: SourceNode): UpgradeContext {
  return {
    opset: source.opset,
    constant: (value) => r.builder.constant(value, r.unused(`${source.outputs[0]}_const`)),
    rank: (input) => (input === '' ? undefined : r.builder.type(input).shape.length),
    dtype: (input) => (input === '' ? undefined : r.builder.type(input).dtype),
    fail(message, hint) {
      throw new ModelError('model-invalid', `${nodeLabel(source)}: ${message}`, hint === undefined ? {} : { hint });
    },
  };
}

function addOutputs(r: Reading): void {
  const { output } = r.model.graph;
  if (output.length === 0) r.problems.push({ code: 'model-invalid', message: 'the graph has no outputs' });
  for (const { name } of output) if (!r.lost.has(name)) attempt(r.problems, () => r.builder.output(name));
}
