/**
 * Graphs made ready on this machine's processor while an engine for another target is built: what precision `auto` measures with.
 *
 * The graph is taken as it is, without passes, since these would undo the rounding that is measured.
 */
import type { BuildOptions } from './build-options.ts';
import type { DType, TypedArray } from './core/dtype.ts';
import { fromNumbers, type Tensor, toNumbers } from './core/tensor.ts';
import type { Engine } from './engine/engine.ts';
import type { Graph } from './graph/ir.ts';
import type { Op } from './ops/op.ts';
import type { GraphRunner } from './precision/instrument.ts';
import type { Samples } from './precision/keep-wide.ts';
import { sampleInputs } from './precision/sample-inputs.ts';
import type { Target } from './targets/target.ts';

/** The samples of the options, or one of seeded random numbers. */
export function samplesOf(graph: Graph, ops: ReadonlyMap<string, Op>, given: BuildOptions['samples']): Samples {
  const random = sampleInputs(graph, ops);
  if (!given || given.length === 0) return [random];
  return given.map((sample) => new Map([...random, ...Object.entries(sample)]));
}

/** Opens an engine of the graph on a target's device. */
export async function runnerOf(engine: Engine, target: Target): Promise<GraphRunner> {
  const open = await target.device.open(engine, { threads: 'auto', onWarning: () => {} });
  const context = open.createContext();
  return {
    flops: engine.steps.reduce((sum, step) => sum + step.flops, 0),
    run(inputs): ReadonlyMap<string, Tensor> {
      for (const [i, { name, dtype }] of engine.inputs.entries()) {
        const value = inputs.get(name) as Tensor;
        context.inputs[i].set(inDType(value, dtype).data as never);
      }
      context.execute();
      return new Map(
        engine.outputs.map(({ name, dtype, shape }, i) => [
          name,
          { dtype, shape, data: context.outputs[i].slice() as TypedArray },
        ]),
      );
    },
    dispose: () => open.dispose(),
  };
}

/** Halves are f32 where they are emulated. */
const inDType = (value: Tensor, dtype: DType): Tensor =>
  value.dtype === dtype ? value : fromNumbers(dtype, value.shape, toNumbers(value));
