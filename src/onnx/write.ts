/**
 * Graph to ONNX bytes: the inverse of read.ts. Operators in a graph have their newest forms, so nothing is converted, but for older
 * opsets that are asked for (older-opsets.ts).
 *
 * Value names and the order of nodes, inputs and constants are kept; a node is named by its loc. Attributes that have the operator's
 * default are left out. The same graph gives the same bytes.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { alignUp } from '../core/bytes.ts';
import { ModelError } from '../core/errors.ts';
import { byteLength, type Tensor } from '../core/tensor.ts';
import { VERSION } from '../core/version.ts';
import { freshNames } from '../graph/build.ts';
import { type Graph, type Node, nodeLabel } from '../graph/ir.ts';
import { ints, type Op } from '../ops/op.ts';
import { writeAttribute } from './attributes.ts';
import { checkLocation } from './external-data.ts';
import { LOC_KEY } from './flatten.ts';
import { writeValueInfo } from './inputs.ts';
import { expandNewer, OLDEST_EXPRESSIBLE_OPSET, olderForm } from './older-opsets.ts';
import { type ModelProto, ModelProtoSchema, type NodeProto, NodeProtoSchema } from './onnx_pb.ts';
import { IR_VERSION, NEWEST_OPSET, OLDEST_WRITABLE_OPSET } from './opsets.ts';
import { type PlaceExternal, writeTensor } from './tensors.ts';

export interface WriteOptions {
  readonly ops: ReadonlyMap<string, Op>;
  /**
   * Version of the default operator set to declare, not below OLDEST_EXPRESSIBLE_OPSET. Where not given the oldest, from
   * OLDEST_WRITABLE_OPSET on, that has what the graph needs: more tools read it.
   */
  readonly opset?: number;
  readonly externalData?: ExternalDataOptions;
}

/** Constants of at least `thresholdBytes` go to a file beside the model. */
export interface ExternalDataOptions {
  /** Name of that file, relative to the model. */
  readonly location: string;
  readonly thresholdBytes: number;
  /** Called with the file's content, piece by piece from its start. */
  readonly append: (bytes: Uint8Array) => void;
}

/** Tensors in an external file start at multiples of a page, so that they can be mapped. */
const PAGE_BYTES = 4096;
/** A protobuf message cannot be larger than this. */
const MOST_BYTES = 2 ** 31 - 1;

/** Throws ModelError `onnx-unsupported`, or `option-invalid` for an opset out of range, or too old for an operator. */
export function writeOnnx(graph: Graph, options: WriteOptions): Uint8Array {
  const opset = options.opset ?? neededOpset(graph, options.ops);
  if (!(opset >= OLDEST_EXPRESSIBLE_OPSET && opset <= NEWEST_OPSET)) {
    throw new ModelError(
      'option-invalid',
      `opset ${opset}: ${OLDEST_EXPRESSIBLE_OPSET} to ${NEWEST_OPSET} can be written`,
    );
  }
  checkSize(graph, options);
  const expressible = opset < OLDEST_WRITABLE_OPSET ? expandNewer(graph, options.ops, opset) : graph;
  return toBinary(ModelProtoSchema, modelOf(expressible, opset, options));
}

function modelOf(graph: Graph, opset: number, options: WriteOptions): ModelProto {
  const { externalData } = options;
  const place = externalData && externalPlacer(externalData);
  const isExternal = (tensor: Tensor): boolean =>
    externalData !== undefined && byteLength(tensor) >= externalData.thresholdBytes;
  const info = (name: string) => writeValueInfo(name, graph.values.get(name)!);
  const unused = freshNames(new Set());
  const node = graph.nodes.map((each) => {
    const joined = each.loc.join('+');
    // Names of nodes are optional, but onnxruntime wants those that are there to differ.
    const name = joined === '' ? '' : unused(joined);
    return writeNode(each, name, operatorOf(graph, each, options.ops, opset), opset, graph.constants);
  });
  // What an older form has as an attribute is no input there.
  const read = new Set([...node.flatMap(({ input }) => input), ...graph.outputs]);
  const constants = [...graph.constants].filter(([name]) => opset >= OLDEST_WRITABLE_OPSET || read.has(name));
  return create(ModelProtoSchema, {
    irVersion: BigInt(irVersion(opset)),
    producerName: 'hotrod',
    producerVersion: VERSION,
    opsetImport: opsetImport(graph, opset, options.ops),
    graph: {
      name: graph.name,
      input: graph.inputs.map(info),
      output: graph.outputs.map(info),
      initializer: constants.map(([name, tensor]) => writeTensor(tensor, name, isExternal(tensor) ? place : undefined)),
      node,
    },
  });
}

const neededOpset = (graph: Graph, ops: ReadonlyMap<string, Op>): number =>
  graph.nodes.reduce((opset, node) => Math.max(opset, sinceOf(graph, node, ops.get(node.op))), OLDEST_WRITABLE_OPSET);

/** The oldest version of the default operator set that has the node as it stands; 0 for another domain's. */
function sinceOf(graph: Graph, node: Node, op: Op | undefined): number {
  if (op === undefined || op.onnx.domain) return 0;
  const dtypes = node.inputs.map((name) => graph.values.get(name)?.dtype);
  return op.onnx.formSince?.(node.attrs, dtypes) ?? op.onnx.since;
}

function operatorOf(graph: Graph, node: Node, ops: ReadonlyMap<string, Op>, opset: number): Op {
  const op = ops.get(node.op);
  if (op === undefined) throw new ModelError('onnx-unsupported', `${nodeLabel(node)}: there is no such operator`);
  const since = sinceOf(graph, node, op);
  if (since > opset) {
    const what = since > op.onnx.since ? 'has the form that it has here' : 'exists';
    throw new ModelError('option-invalid', `${nodeLabel(node)} ${what} since opset ${since}, not in ${opset}`);
  }
  return op;
}

/** The default domain first, others by name at the newest version that an operator here needs. */
function opsetImport(graph: Graph, opset: number, ops: ReadonlyMap<string, Op>): { domain: string; version: bigint }[] {
  const versions = new Map<string, number>();
  for (const { op } of graph.nodes) {
    const { domain = '', since = 1 } = ops.get(op)?.onnx ?? {};
    if (domain !== '') versions.set(domain, Math.max(versions.get(domain) ?? 1, since));
  }
  const others = [...versions].sort(([a], [b]) => (a < b ? -1 : 1));
  return [['', opset] as const, ...others].map(([domain, version]) => ({ domain, version: BigInt(version) }));
}

function writeNode(node: Node, name: string, op: Op, opset: number, constants: ReadonlyMap<string, Tensor>): NodeProto {
  const isOlder = opset < OLDEST_WRITABLE_OPSET && !op.onnx.domain;
  const { inputs, attrs, olderInts } = isOlder ? olderForm(node, opset, constants) : { ...node, olderInts: {} };
  const attribute = [
    ...Object.entries(attrs).flatMap(([name, value]) => writeAttribute(name, value, op.attrSpecs[name]) ?? []),
    ...Object.entries(olderInts).flatMap(([name, value]) => writeAttribute(name, value, ints.required) ?? []),
  ];
  return create(NodeProtoSchema, {
    opType: op.name,
    domain: op.onnx.domain ?? '',
    name,
    input: [...inputs],
    output: [...node.outputs],
    attribute,
    // What the name does not tell is kept beside it, which files of older sets have no place for.
    metadataProps:
      (node.loc.length === 1 && node.loc[0] === name) || opset < OLDEST_WRITABLE_OPSET
        ? []
        : [{ key: LOC_KEY, value: JSON.stringify(node.loc) }],
  });
}

/** The file format's version that an operator set came with. */
function irVersion(opset: number): number {
  if (opset >= OLDEST_WRITABLE_OPSET) return IR_VERSION;
  return opset >= 19 ? 9 : 8;
}

function externalPlacer({ location, append }: ExternalDataOptions): PlaceExternal {
  checkLocation(location, 'the model to write');
  let end = 0;
  return (bytes) => {
    const offset = alignUp(end, PAGE_BYTES);
    if (offset > end) append(new Uint8Array(offset - end));
    append(bytes);
    end = offset + bytes.length;
    return new Map([
      ['location', location],
      ['offset', String(offset)],
      ['length', String(bytes.length)],
    ]);
  };
}

function checkSize(graph: Graph, { externalData }: WriteOptions): void {
  const inside = [...graph.constants.values()].filter(
    (t) => !externalData || byteLength(t) < externalData.thresholdBytes,
  );
  const bytes = inside.reduce((sum, tensor) => sum + byteLength(tensor), 0);
  if (bytes <= MOST_BYTES) return;
  throw new ModelError('option-invalid', `${bytes} bytes of constants do not fit into an ONNX file`, {
    hint: 'write them beside it with externalData',
  });
}
