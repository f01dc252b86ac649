/**
 * Small models for tests of the command line, as files: a two-layer classifier, one that Hotrod cannot read, one with weights beside it.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { sym } from '../src/core/shape.ts';
import { fromNumbers, type Tensor } from '../src/core/tensor.ts';
import { ModelProtoSchema, StringStringEntryProtoSchema } from '../src/onnx/onnx_pb.ts';
import { modelBytes, type RawModelNode } from './onnx-model.ts';

const FEATURES = 12;
const CLASSES = 7;

const weights = (shape: readonly number[]): Tensor =>
  fromNumbers(
    'f32',
    shape,
    Array.from({ length: shape[0] * (shape[1] ?? 1) }, (_, i) => Math.sin(3 * i + 1)),
  );

/** `x` f32[2,12] to `y` f32[2,7]: MatMul, Add, Relu, MatMul, Softmax. */
export const classifierModel = (): Uint8Array => model(NODES);

const NODES: readonly RawModelNode[] = [
  { op: 'MatMul', inputs: ['x', 'w1'], outputs: ['h1'] },
  { op: 'Add', inputs: ['h1', 'b1'], outputs: ['h2'] },
  { op: 'Relu', inputs: ['h2'], outputs: ['h3'] },
  { op: 'MatMul', inputs: ['h3', 'w2'], outputs: ['h4'] },
  { op: 'Softmax', inputs: ['h4'], outputs: ['y'] },
];

/** The classifier with two nodes that no operator is known for: node1 and node3. */
export const unsupportedModel = (): Uint8Array =>
  model(NODES.map((node, i) => (i === 1 ? { ...node, op: 'Frobnicate' } : i === 3 ? { ...node, op: 'Zorp' } : node)));

/** The classifier with w1 in the file `weights.bin` beside it. */
export function externalModel(): { readonly model: Uint8Array; readonly data: Uint8Array } {
  const proto = fromBinary(ModelProtoSchema, classifierModel());
  const tensor = proto.graph?.initializer.find(({ name }) => name === 'w1');
  if (tensor === undefined) throw new Error('the model has no w1');
  const data = tensor.rawData?.slice() ?? new Uint8Array(0);
  tensor.rawData = new Uint8Array(0);
  tensor.dataLocation = 1;
  tensor.externalData = [create(StringStringEntryProtoSchema, { key: 'location', value: 'weights.bin' })];
  return { model: toBinary(ModelProtoSchema, proto), data };
}

function model(nodes: readonly RawModelNode[]): Uint8Array {
  return modelBytes({
    opset: 17,
    nodes,
    inputs: new Map([['x', { dtype: 'f32', shape: [2, FEATURES] }]]),
    outputs: new Map([['y', { dtype: 'f32', shape: [2, CLASSES] }]]),
    initializers: new Map([
      ['w1', weights([FEATURES, 9])],
      ['b1', weights([9])],
      ['w2', weights([9, CLASSES])],
    ]),
  });
}

/** `image` f32[batch,1,height,width], all open but the channel, to `y` f32[batch,1]: the mean of each picture. */
export const imageModel = (): Uint8Array =>
  modelBytes({
    opset: 17,
    nodes: [
      { op: 'GlobalAveragePool', inputs: ['image'], outputs: ['mean'] },
      { op: 'Flatten', inputs: ['mean'], outputs: ['y'] },
    ],
    inputs: new Map([['image', { dtype: 'f32', shape: [sym('batch'), 1, sym('height'), sym('width')] }]]),
    outputs: new Map([['y', { dtype: 'f32', shape: [sym('batch'), 1] }]]),
    initializers: new Map(),
  });
