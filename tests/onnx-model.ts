/**
 * Small ONNX models made field by field, of any opset and with any attributes: what a test needs that the writer rightly never writes.
 */
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import type { Tensor, ValueType } from '../src/core/tensor.ts';
import { writeValueInfo } from '../src/onnx/inputs.ts';
import {
  type AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProtoSchema,
} from '../src/onnx/onnx_pb.ts';
import { writeTensor } from '../src/onnx/tensors.ts';

/** An attribute by the field that holds it. */
export type RawAttribute =
  | { readonly f: number }
  | { readonly i: number }
  | { readonly s: string }
  | { readonly ints: readonly number[] }
  | { readonly floats: readonly number[] };

export interface RawModelNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attrs?: Readonly<Record<string, RawAttribute>>;
}

export interface RawModel {
  readonly opset: number;
  readonly nodes: readonly RawModelNode[];
  readonly inputs: ReadonlyMap<string, ValueType>;
  readonly outputs: ReadonlyMap<string, ValueType | undefined>;
  readonly initializers: ReadonlyMap<string, Tensor>;
}

/** AttributeProto.type. */
function rawAttribute(name: string, value: RawAttribute): MessageInitShape<typeof AttributeProtoSchema> {
  if ('f' in value) return { name, type: 1, f: value.f };
  if ('i' in value) return { name, type: 2, i: BigInt(value.i) };
  if ('s' in value) return { name, type: 3, s: new TextEncoder().encode(value.s) };
  if ('ints' in value) return { name, type: 7, ints: value.ints.map(BigInt) };
  return { name, type: 6, floats: [...value.floats] };
}

function node(n: RawModelNode, i: number): MessageInitShape<typeof NodeProtoSchema> {
  const attribute = Object.entries(n.attrs ?? {}).map(([name, value]) => rawAttribute(name, value));
  return { opType: n.op, name: `node${i}`, input: [...n.inputs], output: [...n.outputs], attribute };
}

/** The bytes of the model. An output without a type is written without one. */
export function modelBytes(model: RawModel): Uint8Array {
  const graph = create(GraphProtoSchema, {
    name: 'test',
    node: model.nodes.map(node),
    input: [...model.inputs].map(([name, type]) => writeValueInfo(name, type)),
    output: [...model.outputs].map(([name, type]) => (type ? writeValueInfo(name, type) : { name })),
    initializer: [...model.initializers].map(([name, value]) => writeTensor(value, name)),
  });
  const opsetImport = [{ domain: '', version: BigInt(model.opset) }];
  // IR version 4 is the oldest in which initializers need not be inputs too.
  const irVersion = model.opset < 21 ? 4n : 10n;
  return toBinary(ModelProtoSchema, create(ModelProtoSchema, { irVersion, graph, opsetImport }));
}
