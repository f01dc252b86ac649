/**
 * Operators that are resolved while the model is read (control flow, sequences), so that nothing after the reader knows them: a node
 * of theirs stands for other nodes, which depend on what is known by then. This is what resolving may ask of the reader.
 */
import type { Shape } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Attrs } from '../graph/ir.ts';
import type { SourceNode } from './flatten.ts';
import type { GraphProto } from './onnx_pb.ts';

export interface Resolver {
  /** Elements of a value known while reading. */
  known(value: string): Tensor | undefined;
  /** The shape of a value where it has one by now. */
  shape(value: string): Shape | undefined;
  /** The names of the elements, where the value is a sequence. */
  sequence(value: string): readonly string[] | undefined;
  setSequence(value: string, elements: readonly string[]): void;
  /** A value name that nothing else has. */
  unused(hint: string): string;
  /** Adds a constant under a fresh name, which it returns. */
  constant(value: Tensor, hint: string): string;
  /** Adds a node with one output, and returns its name. */
  node(op: string, inputs: readonly string[], output: string, attrs?: Attrs): string;
  /** Adds a subgraph's nodes with `args` as its inputs; names of its outputs, '' for those that nobody needs. */
  addBlock(body: GraphProto, args: readonly string[], label: string): readonly string[];
}

/** Adds what `node` stands for. Throws ModelError `onnx-unsupported` where that depends on what only running tells. */
export type Resolve = (node: SourceNode, to: Resolver) => void;
