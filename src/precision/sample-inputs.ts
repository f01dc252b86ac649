/**
 * Inputs to measure a graph on where the caller gives none: seeded random numbers, integers over all that the graph says is legal.
 *
 * An integer that picks rows of a table (a token of its embedding) is drawn from the whole table: a network that is shown two tokens
 * alone says little of what it loses. All other integers are 0 or 1.
 */
import { randomTensor } from '../core/random-tensor.ts';
import type { Tensor, TensorType } from '../core/tensor.ts';
import type { Graph, Node } from '../graph/ir.ts';
import { producersOf } from '../graph/rewrite.ts';
import type { Op } from '../ops/op.ts';

const SEED = 0;

/** One tensor an input, by name; the shapes are static. */
export function sampleInputs(graph: Graph, ops: ReadonlyMap<string, Op>): ReadonlyMap<string, Tensor> {
  const extents = pickedExtents(graph, ops);
  return new Map(
    graph.inputs.map((name, i) => {
      const type = graph.values.get(name) as TensorType;
      return [name, randomTensor(type, i, SEED, type.dtype === 'bool' ? 2 : extents.get(name))];
    }),
  );
}

/** For values that are positions, the least extent of what they pick from. */
function pickedExtents(graph: Graph, ops: ReadonlyMap<string, Op>): ReadonlyMap<string, number> {
  const producers = producersOf(graph);
  const extents = new Map<string, number>();
  const limit = (value: string, extent: number): void => {
    if (value === '' || graph.constants.has(value)) return;
    if ((extents.get(value) ?? Number.POSITIVE_INFINITY) <= extent) return;
    extents.set(value, extent);
    const producer = producers.get(value);
    if (producer && keepsElements(producer, ops)) for (const input of producer.inputs) limit(input, extent);
  };
  for (const node of graph.nodes) {
    const picks = ops.get(node.op)?.traits.picks;
    if (!picks) continue;
    const { shape } = graph.values.get(node.inputs[picks.data]) as TensorType;
    const extent = shape.at(Number(node.attrs.axis));
    if (extent !== undefined && extent > 0) limit(node.inputs[picks.indices], extent);
  }
  return extents;
}

/** Whether what comes out of the node are elements of its inputs, or the same numbers in another type. */
function keepsElements(node: Node, ops: ReadonlyMap<string, Op>): boolean {
  const op = ops.get(node.op);
  const kind = op?.lower?.kind;
  return kind === 'alias' || kind === 'index' || (op?.identity !== undefined && node.inputs.length === 1);
}
