/**
 * Constant folding: a node whose elements are known at build time becomes a constant.
 *
 * Known are nodes of which all inputs are constants, by evaluating them, and the sizes that a Shape reads from a value of known
 * shape, by inferDims. Impure operators are never known. What must hold: an engine does not grow out of proportion to its model, so
 * a node is folded only where its result is small or about as large as its inputs, and all results together have a budget;
 * without one, a chain of Expand and Tile in a file of a hundred bytes would fill the memory.
 */
import { elements, isStatic } from '../core/shape.ts';
import { byteLength, type Tensor, type TensorType, type ValueType } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import { tensorOfDims } from '../graph/infer.ts';
import type { Graph, Node } from '../graph/ir.ts';
import { rewriteNodes } from '../graph/rewrite-nodes.ts';
import type { InferContext } from '../graph/semantics.ts';
import type { Op } from '../ops/op.ts';
import type { PassContext } from './pass.ts';
import { unchangedInput } from './remove-no-ops.ts';

/** A result of so many bytes is folded whatever its inputs are. */
const SMALL_BYTES = 1 << 16;
/** Largest result relative to its inputs: unpacking 8-bit weights to f32 just fits. */
const MOST_GROWTH = 4;
const BUDGET_BYTES = 1 << 26;

export function foldConstants(graph: Graph, { ops }: PassContext): Graph {
  let modelBytes = 0;
  for (const value of graph.constants.values()) modelBytes += value.data.byteLength;
  let budget = BUDGET_BYTES + MOST_GROWTH * modelBytes;
  const outputs = new Set(graph.outputs);

  return rewriteNodes(graph, ops, (node, b, contextOf) => {
    const op = ops.get(node.op);
    if (!op || op.traits.impure) return undefined;
    const types = node.outputs.map((name) => graph.values.get(name));
    const ctx = contextOf(node);
    // A copy into a graph output is how a constant output looks when it is folded already.
    if (node.outputs.some((name) => outputs.has(name)) && unchangedInput(op, ctx, types[0]) !== undefined)
      return undefined;
    const fold = knownResults(node, op, types, ctx, b);
    if (!fold || fold.bytes > budget) return undefined;
    budget -= fold.bytes;
    const results = fold.results();
    return node.outputs.map((name, i) => (name === '' ? '' : b.constant(results[i])));
  });
}

interface Fold {
  readonly bytes: number;
  results(): readonly Tensor[];
}

/** How to compute the outputs now; undefined where they are not known or too large. */
function knownResults(
  node: Node,
  op: Op,
  types: readonly (ValueType | undefined)[],
  ctx: InferContext,
  b: GraphBuilder,
): Fold | undefined {
  if (!types.every(isTensorType)) return undefined;
  const bytes = types.reduce((sum, type) => sum + byteLength(type), 0);
  const inputs = node.inputs.map((name) => (name === '' ? undefined : b.constantValue(name)));
  if (node.inputs.every((name, i) => name === '' || inputs[i])) {
    const inputBytes = inputs.reduce((sum, value) => sum + (value?.data.byteLength ?? 0), 0);
    if (bytes > Math.max(SMALL_BYTES, MOST_GROWTH * inputBytes)) return undefined;
    return { bytes, results: () => op.eval(inputs, node.attrs, types) };
  }
  if (node.outputs.length !== 1 || elements(types[0].shape) > SMALL_BYTES / 8) return undefined;
  const dims = op.inferDims?.(ctx);
  const value = dims && tensorOfDims(dims, types[0]);
  return value && { bytes, results: () => [value] };
}

const isTensorType = (type: ValueType | undefined): type is TensorType => type !== undefined && isStatic(type.shape);
