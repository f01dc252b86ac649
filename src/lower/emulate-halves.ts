/**
 * A lowered graph whose values are f16 or bf16, for a machine that has no halves: f32 kernels that compute the same numbers, with the
 * roundings that a machine with halves makes. So what a precision costs is measured wherever a build runs.
 */
import { fromNumbers, type Tensor, toNumbers } from '../core/tensor.ts';
import { emulateHalves, isHalf } from '../loop/halves.ts';
import type { Kernel } from '../loop/ir.ts';
import { simplifyKernel } from '../loop/simplify.ts';
import type { LoweredGraph } from './lower.ts';
import type { Block, Storage } from './storage.ts';

/** Steps that shared a kernel still do. Inputs and outputs that are halves become f32, too. */
export function withoutHalves(graph: LoweredGraph): LoweredGraph {
  const kernels = new Map<Kernel, Kernel>();
  const blocks = new Map<Block, Block>();
  const block = (b: Block): Block => {
    const known = blocks.get(b) ?? (isHalf(b.dtype) ? { ...b, dtype: 'f32' } : b);
    blocks.set(b, known);
    return known;
  };
  const moved = <T extends { readonly storage: Storage }>(place: T): T => ({
    ...place,
    storage: { ...place.storage, block: block(place.storage.block) },
  });
  return {
    ...graph,
    steps: graph.steps.map((step) => {
      const kernel = kernels.get(step.kernel) ?? simplifyKernel(emulateHalves(step.kernel));
      kernels.set(step.kernel, kernel);
      return { ...step, kernel, operands: step.operands.map(moved) };
    }),
    inputs: graph.inputs.map(moved),
    outputs: graph.outputs.map(moved),
    constants: new Map([...graph.constants].map(([b, value]) => [block(b), widened(value)])),
  };
}

const widened = (value: Tensor): Tensor =>
  isHalf(value.dtype) ? fromNumbers('f32', value.shape, toNumbers(value)) : value;
