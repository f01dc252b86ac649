/**
 * Times of an engine's steps: which layer takes how much of an inference. Measured step by step on one thread, so their sum is
 * more than the latency of a run on several.
 */
import { inspectEngine } from '../engine/inspect.ts';
import type { EngineRunner } from './engine-runner.ts';
import type { MachinePeak } from './machine-peak.ts';

export interface LayerTime {
  /** The ONNX nodes of the step. */
  readonly name: string;
  readonly ms: number;
  readonly percent: number;
  readonly tactic: string;
  /** Arithmetic of the plain algorithm, and bytes that are read and written at least once, a second. */
  readonly gflops: number;
  readonly gbPerSecond: number;
}

/** A layer's time on a machine that does nothing but run into one of its roofs, in percent of its own. Above 100 where caches or a better algorithm help. */
export function percentOfPeak({ gflops, gbPerSecond }: LayerTime, peak: MachinePeak): number {
  return 100 * Math.max(gflops / peak.gflops, gbPerSecond / peak.gbPerSecond);
}

const PROFILED_RUNS = 5;

/** A row a step, in the order they run; the mean of several inferences. */
export function profileLayers(runner: EngineRunner): readonly LayerTime[] {
  const { layers } = inspectEngine(runner.engine);
  const ns = new Float64Array(layers.length);
  for (let i = 0; i < PROFILED_RUNS; i++) {
    for (const [step, row] of runner.profile().entries()) ns[step] += row.ns;
  }
  const total = ns.reduce((sum, x) => sum + x, 0);
  const rate = (amount: number, i: number): number => (ns[i] === 0 ? 0 : (amount * PROFILED_RUNS) / ns[i]);
  return layers.map(({ name, tactic, flops, bytes }, i) => ({
    name,
    ms: ns[i] / PROFILED_RUNS / 1e6,
    percent: total === 0 ? 0 : (100 * ns[i]) / total,
    tactic,
    gflops: rate(flops, i),
    gbPerSecond: rate(bytes, i),
  }));
}
