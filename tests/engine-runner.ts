/**
 * A target as a runner of graphs: builds an engine with the verifier on, opens it on one thread, runs it once.
 */

import { build } from '../src/build.ts';
import type { BuildOptions } from '../src/build-options.ts';
import type { Tensor } from '../src/core/tensor.ts';
import type { TargetName } from '../src/engine/engine.ts';
import type { Graph } from '../src/graph/ir.ts';
import { loadEngine } from '../src/runtime/load.ts';
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
  const opened = await loadEngine(engine, { devices: [target.device], threads: 1 });
  try {
    const context = opened.createContext();
    const own = Object.fromEntries(engine.inputs.map(({ name }) => [name, context.inputArray(name)]));
    for (const [name, array] of Object.entries(own)) array.set(inputs.get(name)!.data as never);
    const results = context.run(own);
    return new Map(
      engine.outputs.map(({ name, dtype }) => [name, { dtype, shape: context.shapeOf(name), data: results[name] }]),
    );
  } finally {
    opened.dispose();
  }
}

export const runOnTarget =
  (name: TargetName) =>
  (graph: Graph, inputs: ReadonlyMap<string, Tensor>): Promise<Map<string, Tensor>> =>
    runModelOn(name, graph, inputs);
