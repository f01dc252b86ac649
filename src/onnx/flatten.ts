/**
 * A block's nodes as one flat list: calls of local functions are replaced by the function's nodes, dead nodes are left out.
 *
 * A function's values are renamed so that every call has its own (`call/name`); its attribute parameters are replaced by the call's
 * attributes or the function's defaults. Each node keeps the operator set it was written for: a function declares its own.
 * Functions: https://onnx.ai/onnx/repo-docs/IR.html#functions
 */
import { ModelError } from '../core/errors.ts';
import type { Loc } from '../graph/ir.ts';
import { type Block, type IsNeeded, LOOP, neededValues, outputsOf, subgraph } from './live.ts';
import type { AttributeProto, FunctionProto, NodeProto, OperatorSetIdProto } from './onnx_pb.ts';
import { canonicalDomain, opKey } from './opsets.ts';
import type { ParsedModel } from './parse-model.ts';

/** A node of the model before its attributes are read. '' stands for an absent input or output; none at the end. */
export interface SourceNode {
  /** Key in the operator table. */
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: readonly AttributeProto[];
  /** Values that the node's subgraphs read from the blocks around them. */
  readonly captures: readonly string[];
  /** Version of the node's operator set; 0 where its surroundings use the default set without declaring it. */
  readonly opset: number;
  readonly loc: Loc;
  /** Where the node stands: its subgraphs are read in the same surroundings. */
  readonly call: Call;
}

/** Surroundings of a block: how its names and attributes are to be read. */
export interface Call {
  readonly opsets: Opsets;
  readonly rename: (value: string) => string;
  /** Undefined for the graph itself. */
  readonly caller: string | undefined;
  readonly bind: (attr: AttributeProto) => AttributeProto | undefined;
  /** Keys of the functions being inlined, outermost first. */
  readonly stack: readonly string[];
}

/** What holds for the whole model. */
export interface ModelContext {
  readonly functions: ReadonlyMap<string, FunctionProto>;
  /** A node whose operator is known stays as it is, even where a function of that name exists. */
  readonly isKnown: (op: string) => boolean;
  readonly isNeeded: IsNeeded;
  /** A value name that nothing else has. */
  readonly unused: (hint: string) => string;
  /** Counts a node, a call or a constant that reading makes. Throws ModelError `model-invalid` where there are too many. */
  readonly spend: () => void;
}

/** Functions that call functions, and loops, can stand for exponentially many nodes. */
const MOST_NODES = 100_000;

/** Key of the node metadata that keeps a loc of other than one name. */
export const LOC_KEY = 'hotrod.loc';

/** Domain to version. */
export type Opsets = ReadonlyMap<string, number>;
export const opsetsOf = (imports: readonly OperatorSetIdProto[]): Opsets =>
  new Map(imports.map((o) => [canonicalDomain(o.domain), Number(o.version)]));

export const modelContext = (model: ParsedModel, isKnown: (op: string) => boolean): ModelContext => ({
  functions: new Map(model.functions.map((f) => [functionKey(f.domain, f.name, f.overload), f])),
  isKnown,
  isNeeded: neededValues(model),
  unused: unusedNames(model),
  spend: budget(),
});

export const outermostCall = (model: ParsedModel): Call => ({
  opsets: opsetsOf(model.opsetImport),
  rename: (value) => value,
  caller: undefined,
  bind: (attr) => attr,
  stack: [],
});

/** The needed nodes of a block in the model's order. Throws ModelError `model-invalid` where functions call themselves. */
export function flattenBlock(block: Block, call: Call, ctx: ModelContext): SourceNode[] {
  return block.node.flatMap((proto, i) => {
    if (!proto.output.some((name) => ctx.isNeeded(block, name))) return [];
    ctx.spend();
    const node = sourceNode(isControlFlow(proto) ? withoutUnneeded(proto, block, ctx) : proto, i, call);
    const key = functionKey(proto.domain, proto.opType, proto.overload);
    const body = ctx.functions.get(key);
    return body === undefined || ctx.isKnown(node.op) ? [node] : inline(node, body, key, call, ctx);
  });
}

function budget(): () => void {
  let spent = 0;
  return () => {
    if (++spent <= MOST_NODES) return;
    throw new ModelError(
      'model-invalid',
      `the model has over ${MOST_NODES} nodes once functions and loops are written out`,
    );
  };
}

const isControlFlow = (node: NodeProto): boolean => node.opType === 'If' || node.opType === 'Loop';

/** Outputs that nobody needs are made absent, and so is what a loop carries from one iteration to the next only for them. */
function withoutUnneeded(node: NodeProto, block: Block, ctx: ModelContext): NodeProto {
  const output = node.output.map((name) => (ctx.isNeeded(block, name) ? name : ''));
  const body = node.opType === 'Loop' ? subgraph(node, 'body') : undefined;
  if (body === undefined) return { ...node, output };
  const isCarried = (k: number): boolean =>
    k < 0 || output[k] !== '' || ctx.isNeeded(body, body.input[k + LOOP.bodyInputs]?.name ?? '');
  return { ...node, output, input: node.input.map((name, i) => (isCarried(i - LOOP.inputs) ? name : '')) };
}

function inline(node: SourceNode, body: FunctionProto, key: string, call: Call, ctx: ModelContext): SourceNode[] {
  const label = node.loc.join('+');
  if (call.stack.includes(key))
    throw new ModelError('model-invalid', `function ${body.name} calls itself (at "${label}")`);
  const { names, copies } = boundary(node, body);
  const rename = (value: string): string => {
    const name = names.get(value) ?? ctx.unused(`${label}/${value}`);
    names.set(value, name);
    return name;
  };
  const inner: Call = {
    opsets: opsetsOf(body.opsetImport),
    rename,
    caller: label,
    bind: binder(node.attributes, body.attributeProto),
    stack: [...call.stack, key],
  };
  return [...flattenBlock(body, inner, ctx), ...copies.map(([from, to]) => identityNode(rename(from), to, node))];
}

/** A second name for a value. */
export const identityNode = (from: string, to: string, { opset, loc, call }: SourceNode): SourceNode => ({
  op: 'Identity',
  inputs: [from],
  outputs: [to],
  attributes: [],
  captures: [],
  opset: call.opsets.get('') ?? opset,
  loc,
  call,
});

const functionKey = (domain: string, name: string, overload: string): string =>
  `${canonicalDomain(domain)}:${name}:${overload}`;

function sourceNode(proto: NodeProto, index: number, call: Call): SourceNode {
  const renamed = (names: readonly string[]): string[] => names.map((name) => (name === '' ? '' : call.rename(name)));
  return {
    op: opKey(proto.domain, proto.opType),
    inputs: withoutTail(renamed(proto.input)),
    outputs: withoutTail(renamed(proto.output)),
    attributes: proto.attribute.flatMap((attr) => call.bind(attr) ?? []),
    captures: renamed(proto.attribute.flatMap((attr) => (attr.g ? freeNames(attr.g) : []))),
    opset: call.opsets.get(canonicalDomain(proto.domain)) ?? (canonicalDomain(proto.domain) === '' ? 0 : 1),
    loc: locOf(proto, index, call.caller),
    call,
  };
}

/** Names that a block reads and does not define. */
function freeNames(block: Block): string[] {
  const read = new Set(outputsOf(block));
  for (const node of block.node) {
    for (const name of node.input) read.add(name);
    for (const attr of node.attribute) if (attr.g) for (const name of freeNames(attr.g)) read.add(name);
  }
  const defined = new Set(definedNames(block));
  return [...read].filter((name) => name !== '' && !defined.has(name));
}

/** Inputs, initializers and node outputs of a block; not those of the blocks inside it. */
export function definedNames(block: Block): string[] {
  const own = block.input.map((i) => (typeof i === 'string' ? i : i.name));
  const initializers = 'initializer' in block ? block.initializer.map((t) => t.name) : [];
  return [...own, ...initializers, ...block.node.flatMap((node) => node.output)];
}

function locOf(proto: NodeProto, index: number, caller: string | undefined): Loc {
  const kept = proto.metadataProps.find((entry) => entry.key === LOC_KEY)?.value;
  const names = (kept === undefined ? undefined : parseNames(kept)) ?? [proto.name || `${proto.opType}#${index}`];
  return caller === undefined ? names : names.map((name) => `${caller}/${name}`);
}

/** A JSON array of strings; undefined for anything else. */
function parseNames(json: string): readonly string[] | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return Array.isArray(value) && value.every((v) => typeof v === 'string') ? value : undefined;
  } catch {
    return undefined;
  }
}

const withoutTail = (names: readonly string[]): readonly string[] =>
  names.slice(0, names.findLastIndex((name) => name !== '') + 1);

/**
 * Names of the function's inputs and outputs at the call. An output that is also an input, or that was given before, needs a copy
 * of its value under a second name: [name inside, name at the call].
 */
function boundary(node: SourceNode, body: FunctionProto): { names: Map<string, string>; copies: [string, string][] } {
  const names = new Map(body.input.map((name, i) => [name, node.inputs[i] ?? '']));
  const copies: [string, string][] = [];
  for (const [i, inside] of body.output.entries()) {
    const outside = node.outputs[i] ?? '';
    if (outside === '') continue;
    if (names.has(inside)) copies.push([inside, outside]);
    else names.set(inside, outside);
  }
  return { names, copies };
}

/** Puts the value of a function's parameter where an attribute refers to it; undefined where the call leaves it out. */
function binder(
  given: readonly AttributeProto[],
  defaults: readonly AttributeProto[],
): (attr: AttributeProto) => AttributeProto | undefined {
  const values = new Map([...defaults, ...given].map((attr) => [attr.name, attr]));
  return (attr) => {
    if (attr.refAttrName === '') return attr;
    const value = values.get(attr.refAttrName);
    return value && { ...value, name: attr.name };
  };
}

function unusedNames(model: ParsedModel): (hint: string) => string {
  const taken = new Set([...definedNames(model.graph), ...model.graph.node.flatMap((node) => node.input)]);
  return (hint) => {
    let name = hint;
    for (let n = 1; taken.has(name); n++) name = `${hint}_${n}`;
    taken.add(name);
    return name;
  };
}
