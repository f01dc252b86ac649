/**
 * Where the time of an inference on a GPU goes: copies and compute each by themselves, and warnings in the manner of trtexec.
 */
import type { PhaseTimes } from '../engine/device.ts';
import { type Statistics, statistics } from './statistics.ts';

export interface PhaseReport {
  /** The kernels of an inference, inferences back to back. */
  readonly gpuMs: Statistics;
  readonly h2dMs: Statistics;
  readonly d2hMs: Statistics;
  /** What the host spends on starting the kernels. */
  readonly enqueueMs: Statistics;
}

/** The host is in the way where starting takes more than so much of computing. */
const HOST_BOUND = 0.8;

export function phaseReport({ gpuNs, h2dNs, d2hNs, enqueueNs }: PhaseTimes): PhaseReport {
  const ms = (ns: Float64Array): Statistics => statistics(Array.from(ns, (x) => x / 1e6));
  return { gpuMs: ms(gpuNs), h2dMs: ms(h2dNs), d2hMs: ms(d2hNs), enqueueMs: ms(enqueueNs) };
}

export function phaseWarnings({ gpuMs, h2dMs, d2hMs, enqueueMs }: PhaseReport): readonly string[] {
  const warnings: string[] = [];
  if (enqueueMs.median > HOST_BOUND * gpuMs.median)
    warnings.push(
      `the host bounds throughput: starting the kernels takes ${share(enqueueMs, gpuMs)} of the time they run; use a larger batch, or several streams`,
    );
  for (const [name, phase] of [
    ['to the GPU', h2dMs],
    ['from the GPU', d2hMs],
  ] as const)
    if (phase.median > gpuMs.median)
      warnings.push(
        `copies ${name} take longer than the kernels (${share(phase, gpuMs)} of them); keep data on the GPU, or overlap them by streams`,
      );
  return warnings;
}

const share = (a: Statistics, b: Statistics): string => `${((100 * a.median) / b.median).toFixed(0)} %`;
