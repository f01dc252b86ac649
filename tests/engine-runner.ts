/**
 * A target as a runner of graphs: builds an engine with the verifier on, opens it on one thread, runs it once.
 */

import { build } from '../src/build.ts';
import type { TypedArray } from '../src/core/dtype.ts';
import type { Tensor, TensorType } from '../src/core/tensor.ts';
import type { TargetName } from '../src/engine/engine.ts';
import type { Graph } from '../src/graph/ir.ts';
import { chooseTarget } from '../src/targets/all.ts';

export const runOnTarget =
  (name: TargetName) =>
  async (graph: Graph, inputs: ReadonlyMap<string, Tensor>): Promise<Map<string, Tensor>> => {
    const target = await chooseTarget(name);
    const { engine } = await build(graph, { target: name, verify: true });
    const opened = await target.device.open(engine, { threads: 1, onWarning: () => {} });
    try {
      const context = opened.createContext();
      for (const [i, input] of graph.inputs.entries()) context.inputs[i].set(inputs.get(input)!.data as never);
      context.execute();
      return new Map(
        graph.outputs.map((output, i) => {
          const { dtype, shape } = graph.values.get(output) as TensorType;
          return [output, { dtype, shape, data: context.outputs[i].slice() as TypedArray }];
        }),
      );
    } finally {
      opened.dispose();
    }
  };
