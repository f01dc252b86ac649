/**
 * What the graph room must know of an operator to infer types and to evaluate; the operator table (ops/) implements it.
 * Kept apart so that graph/ needs no operator and ops/ may use graph/.
 */
import type { Dim, Shape } from '../core/shape.ts';
import type { Tensor, TensorType, ValueType } from '../core/tensor.ts';
import type { Attrs } from './ir.ts';

export interface InferContext<A = Attrs> {
  readonly attrs: A;
  /** Types of the inputs; undefined where an optional input is absent. */
  readonly inputs: readonly (ValueType | undefined)[];
  /** How many outputs the node has. */
  readonly outputCount: number;
  /** The type of input i; throws a ModelError naming the node where it is absent. */
  input(i: number): ValueType;
  /** The value of input i where it is known before running; undefined otherwise. */
  constant(i: number): Tensor | undefined;
  /** The elements of a small integer input as dims, symbolic ones too (a Shape's result); undefined where unknown. */
  dims(i: number): Shape | undefined;
  /** A fresh symbolic dim for a size that only running tells; `atMost` is what it cannot exceed, where that is known. */
  freshDim(hint: string, atMost?: Dim): Dim;
  /** Throws a ModelError that starts with the node's label and names its inputs' types. */
  fail(message: string, hint?: string): never;
}

export interface OpSemantics {
  readonly name: string;
  /** Types of the outputs. Throws through ctx.fail where inputs do not fit. */
  infer(ctx: InferContext): readonly ValueType[];
  /** The elements of output 0 as dims where they can be told without running (Shape, and arithmetic on its result). */
  inferDims?(ctx: InferContext): Shape | undefined;
  /** The definition: float arithmetic in float64, rounded once on output. */
  eval(inputs: readonly (Tensor | undefined)[], attrs: Attrs, outputs: readonly TensorType[]): Tensor[];
  /** Fills defaults and checks types and ranges of attributes; the message lists what is wrong. */
  completeAttrs(raw: Attrs, fail: (message: string, hint?: string) => never): Attrs;
  /** impure: a different result at each call, or an effect; never evaluated ahead of running. */
  readonly traits?: { readonly impure?: boolean };
  readonly minInputs: number;
  readonly maxInputs: number;
  /** How many outputs at most; infer returns as many as the node has. */
  readonly maxOutputs: number;
}

export type OpTable = ReadonlyMap<string, OpSemantics>;
