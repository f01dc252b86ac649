/**
 * Times of the steps of a program: a graph in which events stand between the steps, so that the GPU never waits for the host.
 *
 * An event between two kernels costs about as much as a small kernel. What it costs is measured, by the same bracket around a kernel that
 * does nothing, and taken off; a kernel that does nothing is counted as what it adds to a row of such.
 */
import type { CudaDevice } from '../../cuda/device.ts';
import { Graph } from '../../cuda/graph.ts';
import { Launch } from '../../cuda/launch.ts';
import { Module } from '../../cuda/module.ts';
import { Event, type Stream } from '../../cuda/stream.ts';
import type { Step } from '../../engine/engine.ts';
import type { StepLaunch } from './loaded-program.ts';

const NOTHING = '.version 6.3\n.target sm_75\n.address_size 64\n.visible .entry nothing() { ret; }\n';
const ROW = 16;
const ROUNDS = 5;

/** Nanoseconds that a bracket shows beyond the kernels in it, by GPU: measured once. */
const overheads = new WeakMap<CudaDevice, number>();

/**
 * Adds the nanoseconds of each step to `ns`. The launches are in the order of the steps; steps that share one share its time as their
 * predicted times say.
 */
export function profileSteps(
  stream: Stream,
  launches: readonly StepLaunch[],
  steps: readonly Step[],
  ns: Float64Array,
): void {
  if (launches.length === 0) return;
  const overhead = overheadOf(stream);
  const firsts = launches.filter((l, i) => l.steps[0] !== launches[i - 1]?.steps[0]);
  const brackets = firsts.map((first) =>
    launches.filter((l) => l.steps[0] === first.steps[0]).map(({ launch }) => launch),
  );
  for (const [i, time] of timeBrackets(stream, brackets).entries()) {
    const predicted = firsts[i].steps.map((step) => steps[step].tactic.predictedNs);
    const all = predicted.reduce((sum, one) => sum + one, 0);
    for (const [j, step] of firsts[i].steps.entries())
      ns[step] += Math.max(0, time - overhead) * (all > 0 ? predicted[j] / all : 1 / predicted.length);
  }
}

function overheadOf(stream: Stream): number {
  const { context } = stream;
  const known = overheads.get(context.device);
  if (known !== undefined) return known;
  const module = new Module(context, NOTHING);
  const nothing = new Launch(module.function('nothing'), { grid: [1, 1, 1], block: [32, 1, 1] }, []);
  const row = (n: number): Launch[] => Array.from({ length: n }, () => nothing);
  let [one, many] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (let i = 0; i < ROUNDS; i++) {
    const times = timeBrackets(stream, [row(1), row(1), row(1), row(ROW + 1)]);
    one = Math.min(one, times[1], times[2]);
    many = Math.min(many, times[3]);
  }
  module.dispose();
  const overhead = Math.max(0, one - Math.max(0, many - one) / ROW);
  overheads.set(context.device, overhead);
  return overhead;
}

/** Nanoseconds of each bracket, run once, one after the other. */
function timeBrackets(stream: Stream, brackets: readonly (readonly Launch[])[]): number[] {
  const marks = Array.from({ length: brackets.length + 1 }, () => new Event(stream.context));
  const graph = new Graph(stream, () => {
    marks[0].recordInGraph(stream);
    for (const [i, launches] of brackets.entries()) {
      for (const launch of launches) launch.enqueue(stream);
      marks[i + 1].recordInGraph(stream);
    }
  });
  try {
    graph.launch(stream);
    stream.synchronize();
    return brackets.map((_, i) => marks[i + 1].nsSince(marks[i]));
  } finally {
    graph.dispose();
    for (const mark of marks) mark.dispose();
  }
}
