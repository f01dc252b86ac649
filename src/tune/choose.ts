/**
 * Which tactic runs a kernel: the candidate of least predicted time over all templates of the target. tune/ compares tactics; it
 * sees kernels and templates, never an operator or a machine instruction. Ties break by template name, then parameters.
 */
import { Bug } from '../core/errors.ts';
import type { Tactic } from '../engine/engine.ts';
import type { Kernel } from '../loop/ir.ts';
import type { KernelFacts, Template } from '../targets/target.ts';

/** All tactics that are legal for a kernel, best first. */
export function candidates(kernel: Kernel, facts: KernelFacts, templates: readonly Template[], features: readonly string[]): Tactic[] {
  return templates
    .filter((t) => t.form === 'any' || t.form === kernel.form.kind)
    .flatMap((t) =>
      t.candidates(kernel, facts, features).map((params) => ({ template: t.name, params, predictedNs: t.predictNs(kernel, params) })),
    )
    .sort((a, b) => a.predictedNs - b.predictedNs || compare(a.template, b.template) || compare(paramsKey(a.params), paramsKey(b.params)));
}

export function chooseTactic(kernel: Kernel, facts: KernelFacts, templates: readonly Template[], features: readonly string[]): Tactic {
  const best = candidates(kernel, facts, templates, features)[0];
  if (!best) throw new Bug('tune-none', `no template of the target can run kernel ${kernel.name}`);
  return best;
}

/** `mr=3,nr=16`, keys sorted. */
export const paramsKey = (params: Readonly<Record<string, number>>): string =>
  Object.keys(params)
    .sort()
    .map((k) => `${k}=${params[k]}`)
    .join();

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
