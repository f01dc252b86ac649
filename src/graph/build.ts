/**
 * The network-definition API: a graph built layer by layer, as TensorRT's INetworkDefinition is.
 *
 * Each call adds one node, infers its output types at once, and throws at the layer that does not fit. Value names are the handles.
 *
 *     const b = graphBuilder('net', ops);
 *     const x = b.input('x', 'f32', [1, 3, 224, 224]);
 *     const [y] = b.node('Relu', [x]);
 *     b.output(y);
 *     const graph = b.finish();
 */
import type { DType } from '../core/dtype.ts';
import type { Shape } from '../core/shape.ts';
import type { Tensor, ValueType } from '../core/tensor.ts';
import type { Attrs, Graph, Loc } from './ir.ts';

export interface NodeOptions {
  readonly attrs?: Attrs;
  /** ONNX nodes this one stands for; the operator and a number where not given. */
  readonly loc?: Loc;
  /** Names of the outputs; fresh ones where not given. Their number is the number of outputs. */
  readonly outputs?: readonly string[];
}

export interface GraphBuilder {
  input(name: string, dtype: DType, shape: Shape): string;
  constant(value: Tensor, name?: string): string;
  /** Adds a node and returns the names of its outputs. Throws ModelError where the operator or its inputs are wrong. */
  node(op: string, inputs: readonly string[], options?: NodeOptions): readonly string[];
  output(value: string): void;
  type(value: string): ValueType;
  /** The value where it is known at build time: a constant, or computed from constants and static shapes. */
  constantValue(value: string): Tensor | undefined;
  /** A value name that is not taken, from a hint. */
  fresh(hint: string): string;
  finish(): Graph;
}
