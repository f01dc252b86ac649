/**
 * ONNX bytes to Graph.
 *
 * Comes in: a model of opset 7 or newer, or of operators that are read in older forms. Goes out: a graph in topological order, operators in their newest forms, local functions and
 * control flow resolved, dead nodes dropped, initializers and Constant nodes as constants, names kept. Every problem that can be told apart from its consequences is
 * reported at once. Tensors are views on `bytes` (and on external files) where alignment allows: leave those unchanged.
 */
import { ModelError } from '../core/errors.ts';
import { printShape } from '../core/shape.ts';
import type { Tensor, ValueType } from '../core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../graph/build.ts';
import { checkFixedInput } from '../graph/fix-inputs.ts';
import { type Attrs, type AttrValue, type Graph, nodeLabel } from '../graph/ir.ts';
import type { Op, RawNode, UpgradeContext } from '../ops/op.ts';
import { readAttribute } from './attributes.ts';
import { checkModel } from './check.ts';
import { constantOf, isConstantNode } from './constant-node.ts';
import { CONTROL_FLOW } from './control-flow.ts';
import { codeOfDType, dtypeOfCode, nameOfCode } from './dtypes.ts';
import { externalReader, type OpenExternal } from './external-data.ts';
import {
  type Call,
  definedNames,
  flattenBlock,
  type ModelContext,
  modelContext,
  opsetsOf,
  outermostCall,
  type SourceNode,
} from './flatten.ts';
import { readInput } from './inputs.ts';
import { type Block, inputsOf } from './live.ts';
import type { GraphProto, TensorProto, ValueInfoProto } from './onnx_pb.ts';
import { NEWEST_OPSET, OLDEST_OPSET } from './opsets.ts';
import { inOrder } from './order.ts';
import { type ParsedModel, parseModel } from './parse-model.ts';
import { attempt, type Problem, throwProblems } from './problems.ts';
import type { Resolve, Resolver } from './resolve.ts';
import { SEQUENCE_OPERATORS } from './sequences.ts';
import { readTensor } from './tensors.ts';

export interface ReadOptions {
  readonly ops: ReadonlyMap<string, Op>;
  /** Opens a file of weights beside the model; locations are relative and stay inside the model's folder. */
  readonly openExternal?: OpenExternal;
  /** Name of the graph; the model's own where not given. */
  readonly name?: string;
  /** Inputs that become constants, by name: known while the model is read, so they may decide control flow. */
  readonly constants?: Readonly<Record<string, Tensor>>;
  readonly onWarning?: (message: string) => void;
}

/** Nodes that a message names for one missing operator; the error's details name all. */
const NODES_SHOWN = 4;

interface Reading {
  readonly options: ReadOptions;
  readonly builder: GraphBuilder;
  readonly context: ModelContext;
  readonly tensor: (proto: TensorProto, label: string) => Tensor;
  readonly problems: Problem[];
  /** Operators that are missing, with the labels of their nodes. */
  readonly missing: Map<string, string[]>;
  /** Values that a reported problem leaves without a type; what depends on them is skipped in silence. */
  readonly lost: Set<string>;
  /** Names of the elements of values that are sequences. */
  readonly sequences: Map<string, readonly string[]>;
}

/** Throws ModelError: `onnx-parse`, `onnx-unsupported`, `onnx-external-data`, `model-invalid`, `shape-mismatch`, `shape-unknown`. */
export function readOnnx(bytes: Uint8Array, options: ReadOptions): Graph {
  const model = parseModel(bytes);
  checkOpsets(model, options);
  const external = externalReader(options.openExternal);
  const r: Reading = {
    options,
    builder: graphBuilder(options.name ?? (model.graph.name || 'graph'), options.ops),
    context: modelContext(model, (op) => options.ops.has(op)),
    tensor: (proto, label) => readTensor(proto, label, external),
    problems: [],
    missing: new Map(),
    lost: new Set(),
    sequences: new Map(),
  };
  addInputs(r, model.graph);
  addInitializers(r, model.graph, (name) => name);
  addNodes(r, model.graph, outermostCall(model));
  addOutputs(r, model.graph);
  throwProblems([...checkModel(model, (op) => options.ops.has(op)), ...missingOperators(r.missing), ...r.problems]);
  return withoutDead(r.builder.finish());
}

/** The default operator set of the model, and of each function that declares one of its own. */
function checkOpsets(model: ParsedModel, options: ReadOptions): void {
  // Before IR version 3 there was one set only, and no way to declare it.
  if (model.opsetImport.length === 0) checkOpset(1, options);
  for (const { opsetImport } of [model, ...model.functions]) {
    const opset = opsetsOf(opsetImport).get('');
    if (opset !== undefined) checkOpset(opset, options);
  }
}

function checkOpset(opset: number, options: ReadOptions): void {
  if (!(opset >= OLDEST_OPSET)) {
    throw new ModelError('onnx-unsupported', `the model is of opset ${opset}, Hotrod reads ${OLDEST_OPSET} and newer`, {
      hint: 'convert it with onnx.version_converter, or export it again',
    });
  }
  if (opset > NEWEST_OPSET) {
    options.onWarning?.(`the model is of opset ${opset}, newer than ${NEWEST_OPSET}: its operators may have changed`);
  }
}

/** An initializer with the name of an input is its value: files before IR version 4 list all weights as inputs too. */
function addInputs(r: Reading, graph: GraphProto): void {
  const initialized = new Set(graph.initializer.map((t) => t.name));
  const inputs = graph.input.filter((info) => !initialized.has(info.name));
  const { constants = {} } = r.options;
  const types = new Map<string, ValueType>();
  for (const info of inputs) {
    attemptValue(r, info.name, () => {
      const type = readInput(info);
      types.set(info.name, type);
      if (Object.hasOwn(constants, info.name)) return;
      r.builder.input(info.name, type.dtype, type.shape);
    });
  }
  for (const [name, value] of Object.entries(constants)) {
    attemptValue(r, name, () => {
      if (!r.lost.has(name)) checkFixedInput(name, value, types);
      r.builder.constant(value, name);
    });
  }
}

function addInitializers(r: Reading, graph: GraphProto, rename: (name: string) => string): void {
  const needed = graph.initializer.filter((t) => r.context.isNeeded(graph, t.name));
  for (const proto of needed) {
    const name = rename(proto.name);
    attemptValue(r, name, () => {
      r.builder.constant(r.tensor(proto, `initializer "${name}"`), name);
    });
  }
  for (const { values } of graph.sparseInitializer) {
    const name = values?.name ?? '';
    attemptValue(r, rename(name), () => {
      throw new ModelError('onnx-unsupported', `initializer "${name}" is sparse`);
    });
  }
}

function attemptValue(r: Reading, name: string, work: () => void): void {
  if (!attempt(r.problems, work)) r.lost.add(name);
}

function addNodes(r: Reading, block: Block, call: Call): void {
  for (const node of inOrder(flattenBlock(block, call, r.context))) {
    if (!isReadable(r, node) || !attempt(r.problems, () => readNode(r, node))) loseOutputs(r, node.outputs);
  }
}

function loseOutputs(r: Reading, outputs: readonly string[]): void {
  for (const name of outputs) r.lost.add(name);
}

/** False where a reported problem, a missing operator or a lost input, says why the node cannot be read. */
function isReadable(r: Reading, node: SourceNode): boolean {
  const op = r.options.ops.get(node.op);
  if (isConstantNode(node) || resolveOf(r, node) || (op && node.opset >= op.onnx.since)) {
    return !node.inputs.some((name) => r.lost.has(name));
  }
  const title = op ? `${node.op} (it exists since opset ${op.onnx.since}, the model has ${node.opset})` : node.op;
  r.missing.set(title, [...(r.missing.get(title) ?? []), `"${node.loc.join('+')}"`]);
  return false;
}

/** One problem an operator. */
function missingOperators(missing: ReadonlyMap<string, readonly string[]>): Problem[] {
  return [...missing].map(([title, nodes]) => {
    const more = nodes.length > NODES_SHOWN ? ` and ${nodes.length - NODES_SHOWN} more` : '';
    const message = (shown: readonly string[]): string =>
      `operator ${title} is not supported (${nodes.length === 1 ? 'node' : 'nodes'} ${shown.join(', ')}`;
    return {
      code: 'onnx-unsupported',
      message: `${message(nodes.slice(0, NODES_SHOWN))}${more})`,
      detail: `${message(nodes)})`,
      hint: 'a custom operator can be given in the option `ops`',
    };
  });
}

function readNode(r: Reading, node: SourceNode): void {
  const op = r.options.ops.get(node.op);
  const resolve = resolveOf(r, node);
  if (isConstantNode(node)) r.builder.constant(constantOf(node, r.tensor), node.outputs[0]);
  else if (resolve) resolve(node, resolver(r, node));
  else if (op) addOperator(r, node, op);
}

const RESOLVED: ReadonlyMap<string, Resolve> = new Map(Object.entries({ ...CONTROL_FLOW, ...SEQUENCE_OPERATORS }));

function resolveOf(r: Reading, node: SourceNode): Resolve | undefined {
  const elements = node.op === 'Identity' ? r.sequences.get(node.inputs[0]) : undefined;
  return elements ? ({ outputs }, to) => to.setSequence(outputs[0], elements) : RESOLVED.get(node.op);
}

function resolver(r: Reading, at: SourceNode): Resolver {
  return {
    known: (value) => (r.lost.has(value) || r.sequences.has(value) ? undefined : r.builder.constantValue(value)),
    shape: (value) => (r.lost.has(value) || r.sequences.has(value) ? undefined : r.builder.type(value).shape),
    sequence: (value) => r.sequences.get(value),
    setSequence: (value, elements) => r.sequences.set(value, elements),
    unused: r.context.unused,
    constant(value, hint) {
      r.context.spend();
      return r.builder.constant(value, r.context.unused(hint));
    },
    node(op, inputs, output, attrs = {}) {
      r.context.spend();
      if (inputs.some((name) => r.lost.has(name))) loseOutputs(r, [output]);
      else r.builder.node(op, inputs, { outputs: [output], attrs, loc: at.loc });
      return output;
    },
    addBlock(body, args, label) {
      const names = new Map(inputsOf(body).map((name, i) => [name, args[i] ?? '']));
      const own = new Set(definedNames(body));
      const rename = (value: string): string => {
        if (!own.has(value)) return at.call.rename(value);
        const name = names.get(value) ?? r.context.unused(`${label}/${value}`);
        names.set(value, name);
        return name;
      };
      addInitializers(r, body, rename);
      addNodes(r, body, { ...at.call, rename, caller: label });
      return body.output.map(({ name }) => (r.context.isNeeded(body, name) ? rename(name) : ''));
    },
  };
}

function addOperator(r: Reading, source: SourceNode, op: Op): void {
  const raw: RawNode = {
    inputs: source.inputs,
    outputs: source.outputs,
    attrs: readAttributes(r, source, op),
  };
  const { op: newest = source.op, inputs, outputs, attrs } = op.onnx.upgrade?.(raw, upgradeContext(r, source)) ?? raw;
  r.builder.node(newest, inputs, { attrs, outputs, loc: source.loc });
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
    constant: (value) => r.builder.constant(value, r.context.unused(`${source.outputs[0]}_const`)),
    node: (name, inputs, attrs) =>
      resolver(r, source).node(name, inputs, r.context.unused(`${source.outputs[0]}_${name}`), attrs),
    known: (input) => (input === '' ? undefined : r.builder.constantValue(input)),
    shape: (input) => (input === '' ? undefined : r.builder.type(input).shape),
    rank: (input) => (input === '' ? undefined : r.builder.type(input).shape.length),
    dtype: (input) => (input === '' ? undefined : r.builder.type(input).dtype),
    fail(message, hint) {
      throw new ModelError('model-invalid', `${nodeLabel(source)}: ${message}`, hint === undefined ? {} : { hint });
    },
  };
}

function addOutputs(r: Reading, { output }: GraphProto): void {
  if (output.length === 0) r.problems.push({ code: 'model-invalid', message: 'the graph has no outputs' });
  for (const info of output) {
    if (r.lost.has(info.name)) continue;
    attempt(r.problems, () => {
      r.builder.output(info.name);
      checkOutput(r, info);
    });
  }
}

/** What the model says of an output: its element type must be right; a shape that differs is reported, and inference believed. */
function checkOutput(r: Reading, { name, type }: ValueInfoProto): void {
  if (type?.value.case !== 'tensorType') return;
  const { elemType, shape } = type.value.value;
  const got = r.builder.type(name);
  if (elemType !== 0 && dtypeOfCode(elemType) !== got.dtype) {
    throw new ModelError(
      'model-invalid',
      `output "${name}" is declared as ${nameOfCode(elemType)}, but what computes it gives ${nameOfCode(codeOfDType(got.dtype))}`,
    );
  }
  const stated = shape?.dim.map(({ value }) => (value.case === 'dimValue' ? Number(value.value) : undefined));
  const differs =
    stated &&
    (stated.length !== got.shape.length ||
      stated.some((d, i) => d !== undefined && d >= 0 && typeof got.shape[i] === 'number' && d !== got.shape[i]));
  if (differs)
    r.options.onWarning?.(
      `output "${name}" is declared as [${stated.map((d) => d ?? '?').join()}], but has shape ${printShape(got.shape)}`,
    );
}

/** Resolving control flow leaves behind what only decided it. */
function withoutDead(graph: Graph): Graph {
  const live = new Set([...graph.inputs, ...graph.outputs]);
  const nodes = graph.nodes.toReversed().filter((node) => {
    const isLive = node.outputs.some((name) => live.has(name));
    if (isLive) for (const name of [...node.inputs, ...node.outputs]) live.add(name);
    return isLive;
  });
  return {
    ...graph,
    nodes: nodes.reverse(),
    constants: new Map([...graph.constants].filter(([name]) => live.has(name))),
    values: new Map([...graph.values].filter(([name]) => live.has(name))),
  };
}
