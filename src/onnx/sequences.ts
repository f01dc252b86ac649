/**
 * Sequences of tensors, which exporters use to collect sizes in loops. While a model is read a sequence is the list of the names of
 * its elements, and each operator on it is done at once; nothing after the reader knows sequences.
 */
import { ModelError } from '../core/errors.ts';
import { fromNumbers, scalarTensor } from '../core/tensor.ts';
import { nodeLabel } from '../graph/ir.ts';
import type { SourceNode } from './flatten.ts';
import type { Resolve, Resolver } from './resolve.ts';

export const SEQUENCE_OPERATORS: Readonly<Record<string, Resolve>> = {
  SequenceEmpty: (node, to) => to.setSequence(node.outputs[0], []),
  SequenceConstruct: (node, to) => to.setSequence(node.outputs[0], node.inputs),
  SequenceInsert(node, to) {
    const list = sequence(node, to);
    to.setSequence(
      node.outputs[0],
      list.toSpliced(position(node, 2, list.length, list.length, list.length, to), 0, node.inputs[1]),
    );
  },
  SequenceErase(node, to) {
    const list = sequence(node, to);
    to.setSequence(
      node.outputs[0],
      list.toSpliced(position(node, 1, list.length - 1, list.length, list.length - 1, to), 1),
    );
  },
  SequenceAt(node, to) {
    const list = sequence(node, to);
    to.node('Identity', [list[position(node, 1, undefined, list.length, list.length - 1, to)]], node.outputs[0]);
  },
  SequenceLength(node, to) {
    const length = to.constant(scalarTensor('i64', sequence(node, to).length), node.outputs[0]);
    to.node('Identity', [length], node.outputs[0]);
  },
  ConcatFromSequence(node, to) {
    const int = (name: string): number => Number(node.attributes.find((a) => a.name === name)?.i ?? 0n);
    concat(node, sequence(node, to), node.outputs[0], int('axis'), int('new_axis') !== 0, to);
  },
};

/** Adds the values joined along a dim, which is a new one of size 1 each with `isNew`. */
export function concat(
  node: SourceNode,
  values: readonly string[],
  output: string,
  axis: number,
  isNew: boolean,
  to: Resolver,
): void {
  if (values.length === 0) {
    throw new ModelError('onnx-unsupported', `${nodeLabel(node)}: it joins no values, so the result has no type`);
  }
  const axes = isNew ? to.constant(fromNumbers('i64', [1], [axis]), `${output}/axes`) : undefined;
  const rows = axes
    ? values.map((value, i) => to.node('Unsqueeze', [value, axes], to.unused(`${output}/${i}`)))
    : values;
  to.node('Concat', rows, output, { axis });
}

function sequence(node: SourceNode, to: Resolver): readonly string[] {
  const list = to.sequence(node.inputs[0] ?? '');
  if (list) return list;
  throw new ModelError(
    'onnx-unsupported',
    `${nodeLabel(node)}: the sequence "${node.inputs[0]}" is only known when the model runs`,
  );
}

/** An index into `length` elements, counted from the end where negative; at most `last`. `absent` stands for a missing input. */
function position(
  node: SourceNode,
  input: number,
  absent: number | undefined,
  length: number,
  last: number,
  to: Resolver,
): number {
  const name = node.inputs[input] ?? '';
  const value = name === '' ? absent : Number(to.known(name)?.data[0] ?? Number.NaN);
  const at = value !== undefined && value < 0 ? value + length : value;
  if (at !== undefined && at >= 0 && at <= last) return at;
  throw new ModelError(
    'onnx-unsupported',
    `${nodeLabel(node)}: its position is out of range, or only known when the model runs`,
  );
}
