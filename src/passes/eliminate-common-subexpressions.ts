/**
 * Common subexpressions: of nodes that compute the same from the same inputs, and of equal constants, the first stands for all.
 *
 * Nodes compare by operator, attributes, output types and inputs, in any order where the operator is commutative. Impure nodes never
 * match. One walk in topological order finds all, since inputs are renamed to their representatives before a node is compared.
 */
import { bytesEqual } from '../core/bytes.ts';
import { sym } from '../core/shape.ts';
import { printType, type Tensor, tensorBytes } from '../core/tensor.ts';
import type { Graph, Node } from '../graph/ir.ts';
import { printAttr } from '../graph/print.ts';
import { editGraph, mergeLocs, renameInputs } from '../graph/rewrite.ts';
import type { Op } from '../ops/op.ts';
import type { PassContext } from './pass.ts';

export const eliminateCommonSubexpressions = (graph: Graph, { ops }: PassContext): Graph => mergeNodes(graph, ops);

/** The same outside of the pipeline; types of what read a merged node may have to be inferred again where sizes are open. */
export function mergeNodes(graph: Graph, ops: ReadonlyMap<string, Op>): Graph {
  const uses = equalConstants(graph);
  const firsts = new Map<string, Node>();
  const edits = new Map<Node, readonly Node[]>();
  const isOutput = (node: Node): boolean => node.outputs.some((name) => graph.outputs.includes(name));
  for (const node of graph.nodes) {
    const op = ops.get(node.op);
    if (!op || op.traits.impure) continue;
    const key = expressionKey(renameInputs(node, uses), op, graph);
    const first = firsts.get(key);
    if (!first) {
      firsts.set(key, node);
      continue;
    }
    // Of two graph outputs, one would have to be copied from the other.
    if (isOutput(first) && isOutput(node)) continue;
    const kept = edits.get(first)?.[0] ?? first;
    edits.set(first, [{ ...kept, loc: mergeLocs(kept.loc, node.loc) }]);
    edits.set(node, []);
    for (const [i, name] of node.outputs.entries()) if (name !== '') uses.set(name, first.outputs[i]);
  }
  return uses.size === 0 ? graph : editGraph(graph, { nodes: edits, uses });
}

/** A text that nodes have in common if and only if their outputs are equal. */
function expressionKey(node: Node, op: Op, graph: Graph): string {
  const inputs = op.traits.commutative ? node.inputs.toSorted() : node.inputs;
  const attrs = Object.keys(node.attrs)
    .sort()
    .map((key) => [key, printAttr(node.attrs[key])]);
  // An absent output must not stand for a present one; present ones differ in type where attributes leave it open.
  const outputs = node.outputs.map((name) => {
    const type = graph.values.get(name);
    // A size that only running tells is named after its value: by its name it would differ from itself.
    return type
      ? printType({ ...type, shape: type.shape.map((dim) => (typeof dim === 'number' ? dim : sym('?'))) })
      : '';
  });
  return JSON.stringify([node.op, inputs, attrs, outputs]);
}

/** Constants to the first that equals them to the bit. */
function equalConstants(graph: Graph): Map<string, string> {
  const uses = new Map<string, string>();
  const buckets = new Map<string, { readonly name: string; readonly value: Tensor }[]>();
  for (const [name, value] of graph.constants) {
    if (graph.outputs.includes(name)) continue;
    // A few elements tell most constants apart; the rest are compared in full.
    const key = `${printType(value)} ${value.data.subarray(0, 8).join()}`;
    const bucket = buckets.get(key) ?? [];
    buckets.set(key, bucket);
    const equal = bucket.find((other) => bytesEqual(tensorBytes(other.value), tensorBytes(value)));
    if (equal) uses.set(name, equal.name);
    else bucket.push({ name, value });
  }
  return uses;
}
