/**
 * A network in half precision where no GPU is: read, optimised and narrowed as for target cuda, its kernels computed by this machine's
 * processor with the roundings that they make there.
 */
import { openOnProcessor } from '../src/build.ts';
import type { BuildOptions } from '../src/build-options.ts';
import { samplesOf } from '../src/build-processor.ts';
import type { Tensor } from '../src/core/tensor.ts';
import type { Precision } from '../src/engine/engine.ts';
import { bindShapes } from '../src/graph/bind.ts';
import type { Graph } from '../src/graph/ir.ts';
import { readOnnx } from '../src/onnx/read.ts';
import { OPS } from '../src/ops/all.ts';
import { runPipeline } from '../src/passes/pipeline.ts';
import { assignPrecision } from '../src/precision/assign.ts';
import { cudaTarget } from '../src/targets/cuda/target.ts';

type Options = Pick<BuildOptions, 'shapes' | 'openExternal' | 'samples' | 'onWarning'>;

/** The outputs by name. */
export async function runHalves(
  model: Uint8Array,
  inputs: ReadonlyMap<string, Tensor>,
  precision: Precision,
  options: Options = {},
): Promise<ReadonlyMap<string, Tensor>> {
  const runner = (await openOnProcessor(await narrowedForCuda(model, precision, options), OPS))!;
  try {
    return runner.run(inputs);
  } finally {
    runner.dispose();
  }
}

async function narrowedForCuda(model: Uint8Array, precision: Precision, options: Options): Promise<Graph> {
  const { onWarning = () => {}, openExternal, shapes = {} } = options;
  const read = readOnnx(model, { ops: OPS, onWarning, ...(openExternal && { openExternal }) });
  const context = { ops: OPS, computes: cudaTarget.computes, onWarning };
  const bound = bindShapes(read, OPS, shapes, onWarning);
  const graph = runPipeline(bound, context, { verify: false, stopAfter: '' });
  return assignPrecision(graph, OPS, {
    precision,
    samples: (g) => samplesOf(g, OPS, options.samples),
    open: (g, mostFlops) => openOnProcessor(g, OPS, mostFlops),
    onWarning,
  });
}
