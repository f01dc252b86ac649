/**
 * Parts of ONNX models in few words, for tests of forms that no writer of ours makes: nodes as text, subgraphs, functions, any opset.
 */
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  type AttributeProtoSchema,
  type GraphProtoSchema,
  ModelProtoSchema,
  type NodeProtoSchema,
  type TensorProtoSchema,
  type ValueInfoProtoSchema,
} from '../src/onnx/onnx_pb.ts';

type NodeInit = MessageInitShape<typeof NodeProtoSchema>;
export type GraphInit = MessageInitShape<typeof GraphProtoSchema>;
export type AttrInit = MessageInitShape<typeof AttributeProtoSchema>;
export type ModelInit = MessageInitShape<typeof ModelProtoSchema>;
type TensorInit = MessageInitShape<typeof TensorProtoSchema>;

/** A node from `Op: a b -> c`. */
export function node(
  text: string,
  attribute: AttrInit[] = [],
  more: { domain?: string; name?: string } = {},
): NodeInit {
  const [, opType, inputs, outputs] = /^(\S+):(.*)->(.*)$/.exec(text)!;
  const names = (list: string): string[] =>
    list
      .trim()
      .split(/\s+/)
      .filter(Boolean)
      .map((n) => (n === '_' ? '' : n));
  return { opType, input: names(inputs), output: names(outputs), attribute, ...more };
}
export const int = (name: string, value: number): AttrInit => ({ name, type: 2, i: BigInt(value) });
export const graphAttr = (name: string, g: GraphInit): AttrInit => ({ name, type: 5, g });
export const f32 = (
  name: string,
  ...dims: (number | string | undefined)[]
): MessageInitShape<typeof ValueInfoProtoSchema> => ({
  name,
  type: {
    value: {
      case: 'tensorType',
      value: {
        elemType: 1,
        shape: {
          dim: dims.map((d) => {
            if (d === undefined) return {};
            return {
              value:
                typeof d === 'number'
                  ? { case: 'dimValue' as const, value: BigInt(d) }
                  : { case: 'dimParam' as const, value: d },
            };
          }),
        },
      },
    },
  },
});
export const i64 = (name: string, values: number[], dims = [values.length]): TensorInit => ({
  name,
  dims: dims.map(BigInt),
  dataType: 7,
  int64Data: values.map(BigInt),
});
export const bool = (name: string, value: boolean): TensorInit => ({ name, dataType: 9, int32Data: [value ? 1 : 0] });
export const output = (...names: string[]): { name: string }[] => names.map((name) => ({ name }));

/** The model's bytes. */
export const protoBytes = (graph: GraphInit, more: Partial<ModelInit> = {}, opset = 21): Uint8Array =>
  toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 10n,
      opsetImport: [{ version: BigInt(opset) }],
      graph,
      ...more,
    } as ModelInit),
  );
