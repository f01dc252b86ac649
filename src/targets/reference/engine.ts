/**
 * An engine of target reference: the optimised graph itself, printed, with its constants as weights. No kernels, no code.
 */
import { alignUp } from '../../core/bytes.ts';
import { staticShape } from '../../core/shape.ts';
import { byteLength, type Tensor, type TensorType, tensorBytes, type ValueType } from '../../core/tensor.ts';
import { type Binding, BUFFER_ALIGNMENT, type Engine, type Weight } from '../../engine/engine.ts';
import type { Graph } from '../../graph/ir.ts';
import { printGraph } from '../../graph/print.ts';

export function graphEngine(graph: Graph, builtBy: string): Engine {
  const weights: Weight[] = [];
  const tensors: Tensor[] = [];
  let bytes = 0;
  for (const [name, tensor] of graph.constants) {
    const size = tensorBytes(tensor).byteLength;
    weights.push({ name, dtype: tensor.dtype, shape: tensor.shape, byteOffset: bytes, bytes: size });
    tensors.push(tensor);
    bytes += alignUp(size, BUFFER_ALIGNMENT);
  }
  const weightBytes = new Uint8Array(bytes);
  weights.forEach((w, i) => {
    weightBytes.set(tensorBytes(tensors[i]), w.byteOffset);
  });

  let arenaBytes = 0;
  const binding = (name: string): Binding => {
    // A graph types every value that it has.
    const { dtype, shape } = graph.values.get(name) as ValueType;
    const type: TensorType = { dtype, shape: staticShape(shape) };
    const buffer = { space: 'arena', byteOffset: arenaBytes, bytes: byteLength(type) } as const;
    arenaBytes += alignUp(buffer.bytes, BUFFER_ALIGNMENT);
    return { name, ...type, buffer };
  };
  return {
    name: graph.name,
    target: 'reference',
    builtBy,
    machine: [],
    precision: 'fp64',
    inputs: graph.inputs.map(binding),
    outputs: graph.outputs.map(binding),
    kernels: [],
    steps: [],
    weights,
    weightBytes,
    arenaBytes,
    code: [],
    graph: printGraph(graph),
  };
}
