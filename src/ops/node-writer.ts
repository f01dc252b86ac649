/**
 * Short calls for expansions: each adds one node to a graph under construction and returns its only output. Sizes are constants, so
 * values must have static shapes where a call asks for dims. A call that would change nothing adds no node.
 */
import type { DType } from '../core/dtype.ts';
import { type StaticShape, shapesEqual, staticShape } from '../core/shape.ts';
import { scalarTensor, type Tensor, type TensorType } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import type { Attrs } from '../graph/ir.ts';
import { i64Vector } from './dims.ts';

export interface NodeWriter {
  /** A node of any operator, and its first output. */
  node(op: string, inputs: readonly string[], attrs?: Attrs): string;
  /** Type of a value. Throws Bug where a dim is open. */
  type(x: string): TensorType;
  /** The value where it is known before running. */
  known(x: string): Tensor | undefined;
  constant(value: Tensor): string;
  scalar(dtype: DType, value: number): string;
  ints(values: readonly number[]): string;
  add(a: string, b: string): string;
  sub(a: string, b: string): string;
  mul(a: string, b: string): string;
  div(a: string, b: string): string;
  matmul(a: string, b: string): string;
  cast(x: string, to: DType): string;
  reshape(x: string, shape: StaticShape): string;
  transpose(x: string, perm: readonly number[]): string;
  /** Elements [start, end) along an axis counted from the front. */
  slice(x: string, axis: number, start: number, end: number): string;
  concat(parts: readonly string[], axis: number): string;
  expand(x: string, shape: StaticShape): string;
}

export function nodeWriter(b: GraphBuilder): NodeWriter {
  const node = (op: string, inputs: readonly string[], attrs: Attrs = {}): string => b.node(op, inputs, { attrs })[0];
  const binary = (op: string) => (x: string, y: string) => node(op, [x, y]);
  const type = (x: string): TensorType => {
    const { dtype, shape } = b.type(x);
    return { dtype, shape: staticShape(shape) };
  };
  const ints = (values: readonly number[]): string => b.constant(i64Vector(values));
  return {
    node,
    type,
    known: (x) => b.constantValue(x),
    constant: (value) => b.constant(value),
    scalar: (dtype, value) => b.constant(scalarTensor(dtype, value)),
    ints,
    add: binary('Add'),
    sub: binary('Sub'),
    mul: binary('Mul'),
    div: binary('Div'),
    matmul: binary('MatMul'),
    cast: (x, to) => (b.type(x).dtype === to ? x : node('Cast', [x], { to })),
    reshape: (x, shape) => (shapesEqual(b.type(x).shape, shape) ? x : node('Reshape', [x, ints(shape)])),
    transpose: (x, perm) => (perm.every((d, i) => d === i) ? x : node('Transpose', [x], { perm })),
    slice: (x, axis, start, end) =>
      start === 0 && end === type(x).shape[axis] ? x : node('Slice', [x, ints([start]), ints([end]), ints([axis])]),
    concat: (parts, axis) => (parts.length === 1 ? parts[0] : node('Concat', parts, { axis })),
    expand: (x, shape) => (shapesEqual(b.type(x).shape, shape) ? x : node('Expand', [x, ints(shape)])),
  };
}
