/**
 * Sequences of tensors, which exporters use to collect sizes in loops. While a model is read a sequence is the list of the names of
 * its elements, and each operator on it is done at once; nothing after the reader knows sequences.
 */
import { ModelError } from '../core/errors.ts';
import { normalizeAxis } from '../core/shape.ts';
import { fromNumbers, scalarTensor, toNumbers } from '../core/tensor.ts';
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
  SplitToSequence: (node, to) => to.setSequence(node.outputs[0], split(node, to)),
  ConcatFromSequence(node, to) {
    concat(node, sequence(node, to), node.outputs[0], int(node, 'axis', 0), int(node, 'new_axis', 0) !== 0, to);
  },
};

const int = (node: SourceNode, name: string, otherwise: number): number =>
  Number(node.attributes.find((a) => a.name === name)?.i ?? otherwise);

/** Slices of input 0 along an axis: of the sizes that input 1 lists, of its one size, or single positions where it is absent. */
function split(node: SourceNode, to: Resolver): readonly string[] {
  const [x, sizesName = ''] = node.inputs;
  const shape = to.shape(x);
  const axis = normalizeAxis(int(node, 'axis', 0), shape?.length ?? 0);
  const extent = axis === undefined ? undefined : shape?.[axis];
  const sizes = sizesName === '' ? undefined : to.known(sizesName);
  const listed = sizes?.shape.length === 1 ? Array.from(toNumbers(sizes)) : undefined;
  if (!listed && (typeof extent !== 'number' || (sizesName !== '' && !sizes))) {
    throw new ModelError(
      'onnx-unsupported',
      `${nodeLabel(node)}: its number of parts is only known when the model runs`,
    );
  }
  const size = sizes ? Number(sizes.data[0]) : 1;
  if (!listed && !(size > 0))
    throw new ModelError('model-invalid', `${nodeLabel(node)}: the size of a part is ${size}`);
  const lengths = listed ?? equalParts(extent as number, size);
  const drops = sizesName === '' && int(node, 'keepdims', 1) === 0;
  const vector = (value: number, hint: string) => to.constant(fromNumbers('i64', [1], [value]), hint);
  let start = 0;
  return lengths.map((length, i) => {
    const name = `${node.outputs[0]}/${i}`;
    const bounds = [vector(start, `${name}/start`), vector(start + length, `${name}/end`)];
    start += length;
    const axes = vector(axis ?? 0, `${name}/axes`);
    const part = to.node('Slice', [x, ...bounds, axes], to.unused(name));
    return drops ? to.node('Squeeze', [part, axes], to.unused(`${name}/squeezed`)) : part;
  });
}

/** As many of `size` as fit, and the rest. */
const equalParts = (extent: number, size: number): readonly number[] =>
  Array.from({ length: Math.ceil(extent / size) }, (_, i) => Math.min(size, extent - i * size));

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
