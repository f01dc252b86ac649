/**
 * A target as a runner of graphs: builds an engine with the verifier on, opens it on one thread, runs it once.
 */

import { build } from '../src/build.ts';
import type { BuildOptions } from '../src/build-options.ts';
import type { TypedArray } from '../src/core/dtype.ts';
import type { Tensor } from '../src/core/tensor.ts';
import type { TargetName } from '../src/engine/engine.ts';
import type { Graph } from '../src/graph/ir.ts';
import { chooseTarget } from '../src/targets/all.ts';

/** The model's outputs by name, in its order. Inputs that `options` fixes at build time are left out of `inputs`. */
export async function runModelOn(
  name: TargetName,
  model: Uint8Array | Graph,
  inputs: ReadonlyMap<string, Tensor>,
  options: BuildOptions = {},
): Promise<Map<string, Tensor>> {
  const target = await chooseTarget(name);
  const { engine } = await build(model, { target: name, verify: true, ...options });
  const opened = await target.device.open(engine, { threads: 1, onWarning: () => {} });
  try {
    const context = opened.createContext();
    for (const [i, input] of engine.inputs.entries()) context.inputs[i].set(inputs.get(input.name)!.data as never);
    context.execute();
    return new Map(
      engine.outputs.map((output, i) => {
        const { dtype, shape } = output;
        return [output.name, { dtype, shape, data: context.outputs[i].slice() as TypedArray }];
      }),
    );
  } finally {
    opened.dispose();
  }
}

export const runOnTarget =
  (name: TargetName) =>
  (graph: Graph, inputs: ReadonlyMap<string, Tensor>): Promise<Map<string, Tensor>> =>
    runModelOn(name, graph, inputs);
