/**
 * Graphs made ready on this machine's processor while an engine for another target is built: what precision `auto` measures with.
 *
 * The graph is taken as it is, without passes, since these would undo the rounding that is measured.
 */
import type { BuildOptions } from './build-options.ts';
import type { TypedArray } from './core/dtype.ts';
import { randomTensor } from './core/random-tensor.ts';
import type { Tensor, TensorType } from './core/tensor.ts';
import type { Engine } from './engine/engine.ts';
import type { Graph } from './graph/ir.ts';
import type { GraphRunner, Samples } from './precision/keep-wide.ts';
import type { Target } from './targets/target.ts';

const SEED = 0;

/** The samples of the options, or one of seeded random numbers. */
export function samplesOf(graph: Graph, given: BuildOptions['samples']): Samples {
  const types = graph.inputs.map((name) => [name, graph.values.get(name) as TensorType] as const);
  const random = new Map(types.map(([name, type], i) => [name, randomTensor(type, i, SEED)] as const));
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
      for (const [i, { name }] of engine.inputs.entries()) context.inputs[i].set(inputs.get(name)?.data as never);
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
