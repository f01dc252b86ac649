/**
 * The model's nodes as one flat list: calls of local functions are replaced by the function's nodes.
 *
 * A function's values are renamed so that every call has its own (`call/name`); its attribute parameters are replaced by the call's
 * attributes or the function's defaults. Each node keeps the operator set it was written for: a function declares its own.
 * Functions: https://onnx.ai/onnx/repo-docs/IR.html#functions
 */
import { ModelError } from '../core/errors.ts';
import type { Loc } from '../graph/ir.ts';
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
  /** Version of the node's operator set. */
  readonly opset: number;
  readonly loc: Loc;
}

/** Functions that call functions can stand for exponentially many nodes. */
const MOST_NODES = 1_000_000;

/** Key of the node metadata that keeps a loc of other than one name. */
export const LOC_KEY = 'hotrod.loc';

/** Domain to version. */
type Opsets = ReadonlyMap<string, number>;
export const opsetsOf = (imports: readonly OperatorSetIdProto[]): Opsets =>
  new Map(imports.map((o) => [canonicalDomain(o.domain), Number(o.version)]));

interface Call {
  readonly opsets: Opsets;
  readonly rename: (value: string) => string;
  /** Undefined for the graph itself. */
  readonly caller: string | undefined;
  readonly bind: (attr: AttributeProto) => AttributeProto | undefined;
  /** Keys of the functions being inlined, outermost first. */
  readonly stack: readonly string[];
}

/**
 * All nodes in the model's order. A node whose operator `isKnown` stays as it is, even where a function of that name exists.
 * Throws ModelError `model-invalid` where functions call themselves.
 */
export function flattenNodes(model: ParsedModel, isKnown: (op: string) => boolean): SourceNode[] {
  const functions = new Map(model.functions.map((f) => [functionKey(f.domain, f.name, f.overload), f]));
  const taken = new Set(model.graph.node.flatMap((n) => [...n.input, ...n.output]));
  const out: SourceNode[] = [];
  const add = (node: SourceNode): void => {
    if (out.push(node) > MOST_NODES) throw new ModelError('model-invalid', `the model has over ${MOST_NODES} nodes`);
  };

  const walk = (nodes: readonly NodeProto[], call: Call): void => {
    for (const [i, proto] of nodes.entries()) {
      const node = sourceNode(proto, i, call);
      const key = functionKey(proto.domain, proto.opType, proto.overload);
      const body = functions.get(key);
      if (body === undefined || isKnown(node.op)) add(node);
      else inline(node, body, key, call.stack);
    }
  };

  const inline = (node: SourceNode, body: FunctionProto, key: string, stack: readonly string[]): void => {
    const label = node.loc.join('+');
    if (stack.includes(key))
      throw new ModelError('model-invalid', `function ${body.name} calls itself (at "${label}")`);
    const { names, copies } = boundary(node, body);
    const rename = (value: string): string => {
      const given = names.get(value);
      if (given !== undefined) return given;
      const name = unused(`${label}/${value}`, taken);
      names.set(value, name);
      return name;
    };
    walk(body.node, {
      opsets: opsetsOf(body.opsetImport),
      rename,
      caller: label,
      bind: binder(node.attributes, body.attributeProto),
      stack: [...stack, key],
    });
    for (const [from, to] of copies) {
      add({ ...node, op: 'Identity', inputs: [rename(from)], outputs: [to], attributes: [], loc: node.loc });
    }
  };

  walk(model.graph.node, {
    opsets: opsetsOf(model.opsetImport),
    rename: (value) => value,
    caller: undefined,
    bind: (attr) => attr,
    stack: [],
  });
  return out;
}

const functionKey = (domain: string, name: string, overload: string): string =>
  `${canonicalDomain(domain)}:${name}:${overload}`;

function sourceNode(proto: NodeProto, index: number, call: Call): SourceNode {
  return {
    op: opKey(proto.domain, proto.opType),
    inputs: withoutTail(proto.input.map((name) => (name === '' ? '' : call.rename(name)))),
    outputs: withoutTail(proto.output.map((name) => (name === '' ? '' : call.rename(name)))),
    attributes: proto.attribute.flatMap((attr) => call.bind(attr) ?? []),
    opset: call.opsets.get(canonicalDomain(proto.domain)) ?? 1,
    loc: locOf(proto, index, call.caller),
  };
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

function unused(hint: string, taken: Set<string>): string {
  let name = hint;
  for (let n = 1; taken.has(name); n++) name = `${hint}_${n}`;
  taken.add(name);
  return name;
}
