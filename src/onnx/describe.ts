/**
 * What an ONNX file says of itself, for `hotrod inspect`: read from the protobuf alone, so it works for models that use operators
 * that Hotrod does not have, and without their external data.
 */
import { DTYPES } from '../core/dtype.ts';
import { elements } from '../core/shape.ts';
import { dtypeOfCode, nameOfCode } from './dtypes.ts';
import type { NodeProto, TensorProto, ValueInfoProto } from './onnx_pb.ts';
import { canonicalDomain, opKey } from './opsets.ts';
import { parseModel } from './parse-model.ts';

export interface OnnxDescription {
  readonly kind: 'onnx';
  readonly name: string;
  /** Version of the file format. */
  readonly irVersion: number;
  readonly producer: string;
  /** `ai.onnx` is the default domain. */
  readonly opsets: Readonly<Record<string, number>>;
  readonly inputs: readonly DescribedValue[];
  readonly outputs: readonly DescribedValue[];
  /** Nodes an operator, most frequent first; those of functions and subgraphs count once each. */
  readonly operators: readonly { readonly op: string; readonly count: number }[];
  readonly nodes: number;
  readonly functions: number;
  readonly parameters: number;
  readonly parameterBytes: number;
  /** Files beside the model that hold tensors. */
  readonly externalFiles: readonly string[];
}

export interface DescribedValue {
  readonly name: string;
  /** ONNX's name of the element type, or of what it is instead of a tensor. */
  readonly dtype: string;
  /** A dim is a number, a name, or `?`; undefined where the model gives no shape. */
  readonly shape: readonly (number | string)[] | undefined;
}

/** Throws ModelError `onnx-parse`. */
export function describeOnnx(bytes: Uint8Array): OnnxDescription {
  const model = parseModel(bytes);
  const { graph } = model;
  const initialized = new Set(graph.initializer.map((t) => t.name));
  const counts = new Map<string, number>();
  countOperators([...graph.node, ...model.functions.flatMap((f) => f.node)], counts);
  return {
    kind: 'onnx',
    name: graph.name,
    irVersion: Number(model.irVersion),
    producer: `${model.producerName} ${model.producerVersion}`.trim(),
    opsets: Object.fromEntries(
      model.opsetImport.map((o) => [canonicalDomain(o.domain) || 'ai.onnx', Number(o.version)]),
    ),
    inputs: graph.input.filter((i) => !initialized.has(i.name)).map(describeValue),
    outputs: graph.output.map(describeValue),
    operators: [...counts]
      .map(([op, count]) => ({ op, count }))
      .sort((a, b) => b.count - a.count || (a.op < b.op ? -1 : 1)),
    nodes: graph.node.length,
    functions: model.functions.length,
    parameters: graph.initializer.reduce((sum, t) => sum + parametersOf(t), 0),
    parameterBytes: graph.initializer.reduce((sum, t) => sum + parametersOf(t) * bytesPerElement(t), 0),
    externalFiles: [
      ...new Set(
        graph.initializer.flatMap((t) => t.externalData.flatMap((e) => (e.key === 'location' ? e.value : []))),
      ),
    ].sort(),
  };
}

function countOperators(nodes: readonly NodeProto[], counts: Map<string, number>): void {
  for (const node of nodes) {
    const op = opKey(node.domain, node.opType);
    counts.set(op, (counts.get(op) ?? 0) + 1);
    for (const { g } of node.attribute) if (g) countOperators(g.node, counts);
  }
}

function describeValue({ name, type }: ValueInfoProto): DescribedValue {
  if (type?.value.case !== 'tensorType') {
    return { name, dtype: type?.value.case?.replace('Type', '') ?? 'unknown', shape: undefined };
  }
  const { elemType, shape } = type.value.value;
  const dims = shape?.dim.map(({ value }) => {
    if (value.case === 'dimValue') return Number(value.value);
    return value.case === 'dimParam' && value.value !== '' ? value.value : '?';
  });
  return { name, dtype: dtypeOfCode(elemType) ?? nameOfCode(elemType), shape: dims };
}

const parametersOf = (t: TensorProto): number => elements(t.dims.map(Number));
/** Types that Hotrod does not have count as a byte an element. */
const bytesPerElement = (t: TensorProto): number => {
  const dtype = dtypeOfCode(t.dataType);
  return dtype === undefined ? 1 : DTYPES[dtype].bytes;
};
