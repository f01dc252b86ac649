/**
 * ONNX's own backend tests (Debian's package libonnx-testdata) on every target.
 *
 * Inputs that decide sizes are fixed at build time, as a user of the compiler would do it; the others are given at run time.
 */
import { describe, it } from 'vitest';
import { isStatic } from '../src/core/shape.ts';
import type { Tensor } from '../src/core/tensor.ts';
import type { TargetName } from '../src/engine/engine.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Graph } from '../src/graph/ir.ts';
import { readOnnx } from '../src/onnx/read.ts';
import { OPS } from '../src/ops/all.ts';
import { cudaDevice } from '../src/targets/cuda/device.ts';
import { x64Device } from '../src/targets/x64/device.ts';
import { conformanceCases, hasConformanceData } from './conformance-cases.ts';
import { GAPS } from './conformance-gaps.ts';
import { type ConformanceRunner, conformanceSuite } from './conformance-suite.ts';
import { gpuHere } from './cuda/gpu-here.ts';
import { runModelOn } from './engine-runner.ts';

/** Engines have outputs of known sizes; the definition itself is evaluated where only running tells them. */
const reference: ConformanceRunner = {
  name: 'reference',
  async run(model, constants, inputs) {
    const graph = readOnnx(model, { ops: OPS, constants });
    return hasOpenOutput(graph)
      ? [...evalGraph(graph, OPS, inputs).values()]
      : runNamed(await runModelOn('reference', graph, inputs));
  },
  gaps: GAPS,
};

const compiled = (name: TargetName): ConformanceRunner => ({
  name,
  run: async (model, constants, inputs) => runNamed(await runModelOn(name, model, inputs, { constants })),
  gaps: GAPS,
});

const runNamed = (outputs: ReadonlyMap<string, Tensor>): readonly Tensor[] => [...outputs.values()];

const hasOpenOutput = (graph: Graph): boolean =>
  graph.inputs.every((name) => isStatic(graph.values.get(name)?.shape ?? [])) &&
  graph.outputs.some((name) => !isStatic(graph.values.get(name)?.shape ?? []));

if (hasConformanceData()) {
  const cases = conformanceCases();
  for (const runner of [reference, compiled('wasm')]) conformanceSuite(runner, cases);
  for (const device of [x64Device, cudaDevice]) {
    const { target, available, reason } = await device.probe();
    if (available && target === 'cuda') gpuHere();
    if (available) conformanceSuite(compiled(target), cases);
    else it.skip(`${target}: ${reason}`);
  }
} else {
  describe('ONNX backend tests', () => {
    it.skip('libonnx-testdata is not installed (apt-get install libonnx-testdata)', () => {});
  });
}
