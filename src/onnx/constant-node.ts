/**
 * The Constant operator: a tensor spelled as a node. Graphs hold constants apart from nodes, so reading one makes no node.
 */
import { ModelError } from '../core/errors.ts';
import { fromNumbers, scalarTensor, type Tensor } from '../core/tensor.ts';
import { nodeLabel } from '../graph/ir.ts';
import type { SourceNode } from './flatten.ts';
import type { AttributeProto, TensorProto } from './onnx_pb.ts';

export const isConstantNode = (node: SourceNode): boolean => node.op === 'Constant';

type ReadTensor = (proto: TensorProto, label: string) => Tensor;

/** One row a spelling; exactly one of them is present. Undefined where the field of the spelling is empty. */
const SPELLINGS: Readonly<
  Record<string, (attr: AttributeProto, read: ReadTensor, label: string) => Tensor | undefined>
> = {
  value: (attr, read, label) => attr.t && read(attr.t, label),
  value_float: (attr) => (attr.f === undefined ? undefined : scalarTensor('f32', attr.f)),
  value_int: (attr) => (attr.i === undefined ? undefined : scalarTensor('i64', attr.i)),
  value_floats: (attr) => fromNumbers('f32', [attr.floats.length], attr.floats),
  value_ints: (attr) => ({ dtype: 'i64', shape: [attr.ints.length], data: BigInt64Array.from(attr.ints) }),
};

/** Throws ModelError `onnx-unsupported` or `model-invalid`. */
export function constantOf(node: SourceNode, read: ReadTensor): Tensor {
  const label = nodeLabel(node);
  if (node.attributes.length !== 1 || node.outputs.length !== 1) {
    throw new ModelError('model-invalid', `${label} must have one value, it has ${node.attributes.length}`);
  }
  const [attr] = node.attributes;
  const spelling = Object.hasOwn(SPELLINGS, attr.name) ? SPELLINGS[attr.name] : undefined;
  if (spelling === undefined) throw new ModelError('onnx-unsupported', `${label}: a constant given as ${attr.name}`);
  const value = spelling(attr, read, label);
  if (value === undefined) throw new ModelError('model-invalid', `${label}: attribute "${attr.name}" is empty`);
  return value;
}
