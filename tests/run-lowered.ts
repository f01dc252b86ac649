/**
 * Runs a lowered graph by evaluating its kernels over one arena laid out by the memory plan: the oracle for everything between
 * lowering and emitted code. The arena is poisoned first, so that a read of memory that nothing wrote shows.
 */
import { DTYPES, type TypedArray } from '../src/core/dtype.ts';
import { elements } from '../src/core/shape.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { evalKernel } from '../src/loop/eval.ts';
import type { LoweredGraph } from '../src/lower/lower.ts';
import { planMemory } from '../src/lower/plan.ts';
import { type Storage, span } from '../src/lower/storage.ts';

export function runLowered(graph: LoweredGraph, inputs: ReadonlyMap<string, Tensor>): Map<string, TypedArray> {
  const plan = planMemory(graph, { inPlace: true });
  const arena = new Uint8Array(plan.arenaBytes).fill(0xff);
  const view = (storage: Storage): TypedArray => {
    const { block } = storage;
    const constant = graph.constants.get(block);
    if (constant) return constant.data.subarray(storage.offset);
    const { array, bytes } = DTYPES[block.dtype];
    return new array(arena.buffer, (plan.byteOffset.get(block) as number) + storage.offset * bytes, span(storage));
  };
  for (const { name, storage } of graph.inputs)
    (view(storage) as Float32Array).set((inputs.get(name) as Tensor).data as Float32Array);
  for (const step of graph.steps) {
    evalKernel(step.kernel, new Map(step.kernel.buffers.map((b, i) => [b.name, view(step.operands[i].storage)])));
  }
  return new Map(graph.outputs.map(({ name, storage }) => [name, view(storage).slice(0, elements(storage.shape))]));
}
