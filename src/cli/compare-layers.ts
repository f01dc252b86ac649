/**
 * Where an engine and the reference part: the values between layers, compared one by one in the order they are computed.
 *
 * Values inside a kernel never exist in memory, and memory of others is used again. So the model is built once more with every value
 * that a step of the engine stores as an output: what was fused stays fused, and each such value is compared with graph evaluation.
 */
import { build } from '../build.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Engine } from '../engine/engine.ts';
import { bindShapes } from '../graph/bind.ts';
import { evalGraph } from '../graph/eval.ts';
import type { Graph } from '../graph/ir.ts';
import { OPS } from '../ops/all.ts';
import { compareTensors, type OutputRow, type PassRule } from './compare-tensors.ts';
import { readModelGraph } from './compile-model.ts';
import { openEngineRunner } from './engine-runner.ts';
import { timedRun } from './measure.ts';
import type { SourceInput } from './model-input.ts';
import { buildOptionsOf, type ModelFlags } from './model-options.ts';
import type { Terminal } from './terminal.ts';

export interface LayerRow extends OutputRow {
  /** The ONNX nodes that the step computes. */
  readonly nodes: readonly string[];
}

/** A row for each stored value that the model names, in the order of the engine's steps. */
export async function compareLayers(
  model: SourceInput,
  engine: Engine,
  inputs: ReadonlyMap<string, Tensor>,
  flags: ModelFlags & PassRule,
  terminal: Terminal,
): Promise<readonly LayerRow[]> {
  const shapes = Object.fromEntries([...inputs].map(([name, { shape }]) => [name, shape]));
  const graph = bindShapes(readModelGraph(model, terminal, shapes), OPS, shapes, terminal.warn);
  const stored = storedValues(engine, graph);
  const exposed: Graph = { ...graph, outputs: [...new Set([...graph.outputs, ...stored.keys()])] };
  const want = evalGraph(exposed, OPS, inputs);
  const { profiles: _, ...options } = buildOptionsOf(flags);
  const report = await build(exposed, { ...options, shapes, onWarning: terminal.warn });
  const runner = await openEngineRunner(report.engine, flags, terminal);
  try {
    await runner.setInputs(inputs);
    await timedRun(runner);
    const got = runner.outputs();
    return [...stored].map(([name, nodes]) => ({
      ...compareTensors(name, got.get(name) as Tensor, want.get(name), flags),
      nodes,
    }));
  } finally {
    await runner.dispose();
  }
}

/** Values that some step writes and some node of the model computes, with the nodes of that step. */
function storedValues(engine: Engine, graph: Graph): ReadonlyMap<string, readonly string[]> {
  const computed = new Set(graph.nodes.flatMap((node) => node.outputs));
  const stored = new Map<string, readonly string[]>();
  for (const step of engine.steps) {
    const written = engine.kernels[step.kernel].buffers.flatMap((buffer, i) =>
      buffer.role === 'out' ? [step.values[i]] : [],
    );
    for (const value of written) if (computed.has(value)) stored.set(value, step.loc);
  }
  return stored;
}
