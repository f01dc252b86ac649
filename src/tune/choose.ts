/**
 * Which tactic runs a kernel: of all candidates over all templates of the target the one of least time, predicted by the templates'
 * cost models or, with more effort, measured here. tune/ compares tactics; it sees kernels and templates, never an operator or a
 * machine instruction. Ties break by template name, then parameters.
 */
import { Bug } from '../core/errors.ts';
import type { Tactic } from '../engine/engine.ts';
import type { Kernel } from '../loop/ir.ts';
import type { KernelFacts, Params, Target, Template } from '../targets/target.ts';
import { type Measurement, measuredBytes, measureTactics } from './measure.ts';
import { printParams } from './params.ts';
import { factsKey, type TimingCache, timingKey } from './timing-cache.ts';

/** A kernel with what is known of the place where it runs. */
export interface TuningTask {
  readonly kernel: Kernel;
  readonly facts: KernelFacts;
  /** The kernel at its usual sizes, where it is for more than one: what tactics are compared on. */
  readonly usual?: Kernel;
}

/** How hard to look: how many of the best predicted tactics are measured, and for how long each kernel. */
const EFFORTS = [
  { measured: 1, budgetMs: 0 },
  { measured: 1, budgetMs: 0 },
  { measured: 2, budgetMs: 5 },
  { measured: 4, budgetMs: 10 },
  { measured: 8, budgetMs: 20 },
  { measured: Number.POSITIVE_INFINITY, budgetMs: 60 },
] as const;

export interface TuneOptions {
  readonly effort: number;
  /** Names the machine in the cache. */
  readonly machine: string;
  /** Measured times that are known; gets those that are measured now. */
  readonly cache: TimingCache;
  /** Asked between kernels: throws where the build is to stop. */
  readonly checkpoint: () => Promise<void>;
}

/** Measurements that share an engine take no more memory together. */
const SHARED_BYTES = 2 ** 29;

/**
 * One tactic a task: the best predicted up to effort 1, above it the best measured of the best predicted. Equal tasks (the same
 * kernel record, the same facts) are decided once. A tactic's predictedNs is the measured time where there is one.
 */
export async function chooseTactics(
  tasks: readonly TuningTask[],
  target: Target,
  options: TuneOptions,
): Promise<Tactic[]> {
  const features = target.features();
  const byKernel = new Map<Kernel, Map<string, Decision>>();
  const decisions = tasks.map((task) => {
    const byFacts = byKernel.get(task.kernel) ?? new Map<string, Decision>();
    byKernel.set(task.kernel, byFacts);
    const key = factsKey(task.facts);
    const decision = byFacts.get(key) ?? openDecision(task, target, features, options);
    byFacts.set(key, decision);
    return decision;
  });
  await measureUnknown([...new Set(decisions)], target, options);
  const chosen = new Map<Decision, Tactic>();
  for (const decision of decisions) if (!chosen.has(decision)) chosen.set(decision, best(decision, options.cache));
  return decisions.map((decision) => chosen.get(decision) as Tactic);
}

/** A task and the tactics that may still be chosen for it, best predicted first. */
interface Decision {
  readonly task: TuningTask;
  readonly tactics: readonly Tactic[];
  /** Of each tactic in the timing cache. */
  readonly keys: readonly string[];
}

function openDecision(
  task: TuningTask,
  target: Target,
  features: readonly string[],
  { effort, machine }: TuneOptions,
): Decision {
  const tactics = candidates(task, target, features).slice(0, EFFORTS[effort].measured);
  if (tactics.length === 0)
    throw new Bug('tune-none', `no template of target ${target.name} can run kernel ${task.kernel.name}`);
  const seen = { ...task, kernel: task.usual ?? task.kernel };
  return { task: seen, tactics, keys: tactics.map((tactic) => timingKey(machine, seen, tactic)) };
}

/** Puts into the cache the times of all tactics that it lacks and that have a rival. */
async function measureUnknown(decisions: readonly Decision[], target: Target, options: TuneOptions): Promise<void> {
  const { cache } = options;
  const wanted = decisions.flatMap(({ task, tactics, keys }) => {
    const unknown = tactics.filter((_, i) => tactics.length > 1 && cache.get(keys[i]) === undefined);
    return unknown.length > 0 ? [{ task, tactics: unknown, keys: unknown.map((t) => keys[tactics.indexOf(t)]) }] : [];
  });
  for (const group of grouped(wanted, target)) {
    await options.checkpoint();
    const times = await measureTactics(group, target, EFFORTS[options.effort].budgetMs);
    for (const [m, { keys }] of group.entries())
      for (const [i, key] of keys.entries()) cache.set(key, Math.round(times[m][i]));
  }
}

/** Those that share an engine: neighbours, where the target's code takes long to compile; else each alone. */
function grouped<M extends Measurement>(measurements: readonly M[], target: Target): readonly (readonly M[])[] {
  if (!target.compile) return measurements.map((measurement) => [measurement]);
  const groups: M[][] = [];
  let room = 0;
  for (const measurement of measurements) {
    const bytes = measuredBytes(measurement);
    if (bytes > room || groups[groups.length - 1][0].task.facts.tf32 !== measurement.task.facts.tf32) {
      groups.push([]);
      room = SHARED_BYTES;
    }
    groups[groups.length - 1].push(measurement);
    room -= bytes;
  }
  return groups;
}

function best({ tactics, keys }: Decision, cache: TimingCache): Tactic {
  if (tactics.length === 1) return tactics[0];
  const timed = tactics.map((tactic, i) => ({ ...tactic, predictedNs: cache.get(keys[i]) as number }));
  return timed.reduce((a, b) => (b.predictedNs < a.predictedNs ? b : a));
}

/** All tactics that are legal for a task, best first. */
export function candidates(
  { kernel, facts, usual = kernel }: TuningTask,
  target: Target,
  features: readonly string[],
): Tactic[] {
  // What runs the kernel at all its sizes, as good as at the usual ones.
  const rowsOf = (t: Template): readonly Params[] => {
    const rows = t.candidates(kernel, facts, features);
    if (usual === kernel || rows.length === 0) return rows;
    const texts = new Set(t.candidates(usual, facts, features).map(printParams));
    return rows.filter((params) => texts.has(printParams(params)));
  };
  return (target.templates ?? [])
    .filter((t) => t.form === 'any' || t.form === kernel.form.kind)
    .flatMap((t) => rowsOf(t).map((params) => ({ template: t.name, params, predictedNs: t.predictNs(usual, params) })))
    .sort(
      (a, b) =>
        a.predictedNs - b.predictedNs ||
        compare(a.template, b.template) ||
        compare(printParams(a.params), printParams(b.params)),
    );
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
