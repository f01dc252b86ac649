/**
 * An engine of target reference: the optimised graph itself, printed, with its constants as weights. No kernels, no code.
 */
import { staticShape } from '../../core/shape.ts';
import { byteLength, type Tensor, type TensorType, tensorBytes } from '../../core/tensor.ts';
import type { Binding, Engine, Weight } from '../../engine/engine.ts';
import type { Graph } from '../../graph/ir.ts';
import { printGraph } from '../../graph/print.ts';

const ALIGNMENT = 64;
const alignUp = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

export function graphEngine(graph: Graph, builtBy: string): Engine {
  const weights: Weight[] = [];
  const tensors: Tensor[] = [];
  let bytes = 0;
  for (const [name, tensor] of graph.constants) {
    const size = tensorBytes(tensor).byteLength;
    weights.push({ name, dtype: tensor.dtype, shape: tensor.shape, byteOffset: bytes, bytes: size });
    tensors.push(tensor);
    bytes += alignUp(size);
  }
  const weightBytes = new Uint8Array(bytes);
  weights.forEach((w, i) => {
    weightBytes.set(tensorBytes(tensors[i]), w.byteOffset);
  });

  let arenaBytes = 0;
  const binding = (name: string): Binding => {
    const type: TensorType = {
      dtype: graph.values.get(name)?.dtype ?? 'f32',
      shape: staticShape(graph.values.get(name)?.shape ?? []),
    };
    const buffer = { space: 'arena', byteOffset: arenaBytes, bytes: byteLength(type) } as const;
    arenaBytes += alignUp(buffer.bytes);
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
