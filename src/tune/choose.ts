/**
 * Which tactic runs a kernel: the candidate of least predicted time over all templates of the target. tune/ compares tactics; it
 * sees kernels and templates, never an operator or a machine instruction. Ties break by template name, then parameters.
 */
import { Bug } from '../core/errors.ts';
import type { Tactic } from '../engine/engine.ts';
import type { Kernel } from '../loop/ir.ts';
import type { KernelFacts, Target } from '../targets/target.ts';

/** A kernel with what is known of the place where it runs. */
export interface TuningTask {
  readonly kernel: Kernel;
  readonly facts: KernelFacts;
}

/** One tactic a task. Equal tasks (the same kernel record, the same facts) are decided once. */
export function chooseTactics(tasks: readonly TuningTask[], target: Target): Tactic[] {
  const features = target.features();
  const decided = new Map<Kernel, Map<string, Tactic>>();
  return tasks.map((task) => {
    const byFacts = decided.get(task.kernel) ?? new Map<string, Tactic>();
    decided.set(task.kernel, byFacts);
    const key = [...task.facts.constant].join();
    const tactic = byFacts.get(key) ?? best(task, target, features);
    byFacts.set(key, tactic);
    return tactic;
  });
}

function best(task: TuningTask, target: Target, features: readonly string[]): Tactic {
  const tactic = candidates(task, target, features)[0];
  if (!tactic) throw new Bug('tune-none', `no template of target ${target.name} can run kernel ${task.kernel.name}`);
  return tactic;
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

/** `mr=3,nr=16`, keys sorted. */
export const printParams = (params: Tactic['params']): string =>
  Object.keys(params)
    .sort()
    .map((k) => `${k}=${params[k]}`)
    .join();

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
