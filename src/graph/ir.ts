/**
 * The graph IR: what to compute, on whole tensors.
 *
 * A graph is in single assignment: every value is a graph input, a constant or the output of exactly one node, and is named once.
 * Nodes are in topological order. Value names are the identity of values; a name from the ONNX model is kept where its value is.
 * Operators and their attributes are those of the newest ONNX opset (older forms are upgraded on the way in), so a graph can
 * always be written back. Records are readonly: a pass returns a new graph that shares what it did not touch.
 */
import type { Tensor, ValueType } from '../core/tensor.ts';

export type AttrValue = number | string | boolean | readonly number[] | readonly string[] | Tensor | Graph | undefined;
export type Attrs = Readonly<Record<string, AttrValue>>;

/** Where a node came from: the ONNX nodes' names (or `Op#index` where unnamed). Passes that merge nodes concatenate. */
export type Loc = readonly string[];

export interface Node {
  /** Key in the operator table: the ONNX name, or `domain.Name` outside the default domain. */
  readonly op: string;
  /** Value names; '' stands for an optional input that is absent. */
  readonly inputs: readonly string[];
  /** Value names; '' stands for an optional output that nobody wants. */
  readonly outputs: readonly string[];
  /** Complete: defaults are filled in when a node is made. */
  readonly attrs: Attrs;
  readonly loc: Loc;
}

export interface Graph {
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Type of every value: inputs, constants and node outputs alike. */
  readonly values: ReadonlyMap<string, ValueType>;
  readonly constants: ReadonlyMap<string, Tensor>;
  readonly nodes: readonly Node[];
}

/** How a node is named in messages: `Conv "/stem/conv"`. */
export const nodeLabel = (node: Pick<Node, 'op' | 'loc'>): string => `${node.op} "${node.loc.join('+')}"`;
