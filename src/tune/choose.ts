/**
 * Which tactic runs a kernel: of all candidates over all templates of the target the one of least time, predicted by the templates'
 * cost models or, with more effort, measured here. tune/ compares tactics; it sees kernels and templates, never an operator or a
 * machine instruction. Ties break by template name, then parameters.
 */
import { Bug } from '../core/errors.ts';
import type { Tactic } from '../engine/engine.ts';
import type { Kernel } from '../loop/ir.ts';
import type { KernelFacts, Target } from '../targets/target.ts';
import { measureTactics } from './measure.ts';
import { printParams } from './params.ts';
import { factsKey, type TimingCache, timingKey } from './timing-cache.ts';

/** A kernel with what is known of the place where it runs. */
export interface TuningTask {
  readonly kernel: Kernel;
  readonly facts: KernelFacts;
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
  const decided = new Map<Kernel, Map<string, Tactic>>();
  const chosen: Tactic[] = [];
  for (const task of tasks) {
    const byFacts = decided.get(task.kernel) ?? new Map<string, Tactic>();
    decided.set(task.kernel, byFacts);
    const key = factsKey(task.facts);
    const tactic = byFacts.get(key) ?? (await decide(task, target, features, options));
    byFacts.set(key, tactic);
    chosen.push(tactic);
  }
  return chosen;
}

async function decide(
  task: TuningTask,
  target: Target,
  features: readonly string[],
  options: TuneOptions,
): Promise<Tactic> {
  const { measured, budgetMs } = EFFORTS[options.effort];
  const all = candidates(task, target, features);
  if (all.length === 0)
    throw new Bug('tune-none', `no template of target ${target.name} can run kernel ${task.kernel.name}`);
  const best = all.slice(0, measured);
  if (best.length === 1) return best[0];
  const keys = best.map((tactic) => timingKey(options.machine, task, tactic));
  const unknown = best.filter((_, i) => options.cache.get(keys[i]) === undefined);
  if (unknown.length > 0) {
    await options.checkpoint();
    const times = await measureTactics(task, unknown, target, budgetMs);
    unknown.forEach((tactic, i) => {
      options.cache.set(keys[best.indexOf(tactic)], Math.round(times[i]));
    });
  }
  const timed = best.map((tactic, i) => ({ ...tactic, predictedNs: options.cache.get(keys[i]) as number }));
  return timed.reduce((a, b) => (b.predictedNs < a.predictedNs ? b : a));
}

/** All tactics that are legal for a task, best first. */
export function candidates({ kernel, facts }: TuningTask, target: Target, features: readonly string[]): Tactic[] {
  return (target.templates ?? [])
    .filter((t) => t.form === 'any' || t.form === kernel.form.kind)
    .flatMap((t) =>
      t
        .candidates(kernel, facts, features)
        .map((params) => ({ template: t.name, params, predictedNs: t.predictNs(kernel, params) })),
    )
    .sort(
      (a, b) =>
        a.predictedNs - b.predictedNs ||
        compare(a.template, b.template) ||
        compare(printParams(a.params), printParams(b.params)),
    );
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
