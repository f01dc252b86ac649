/**
 * Attention as one kernel where that is the better choice: each group of steps that find-attention.ts sees is compared with the attend
 * that could stand in its place, by the same tactics that tune/ would choose for either: predicted up to effort 1, measured above.
 */
import { findAttention, placeAttention } from './lower/find-attention.ts';
import type { LoweredGraph } from './lower/lower.ts';
import type { Target } from './targets/target.ts';
import { chooseTactics, type TuneOptions } from './tune/choose.ts';

/** What a step costs beside its work: threads meet, and what one left in its cache another fetches. */
const STEP_NS = 1500;

/** The graph with the attends that pay. A target without a template for them keeps the steps as they are. */
export async function chooseAttention(graph: LoweredGraph, target: Target, tuning: TuneOptions): Promise<LoweredGraph> {
  const templates = (target.templates ?? []).filter((t) => t.form === 'attend');
  if (templates.length === 0) return graph;
  const features = target.features();
  const found = findAttention(graph).filter(({ step: { kernel, usual = kernel, facts } }) =>
    templates.some((t) => [kernel, usual].every((k) => t.candidates(k, facts, features).length > 0)),
  );
  if (found.length === 0) return graph;
  const tasks = found.flatMap(({ step, parts }) => [step, ...parts.map((i) => graph.steps[i])]);
  const times = (await chooseTactics(tasks, target, tuning)).map((tactic) => tactic.predictedNs + STEP_NS);
  let next = 0;
  const better = found.filter(({ parts }) => {
    const [whole, ...apart] = times.slice(next, next + 1 + parts.length);
    next += 1 + parts.length;
    return whole < apart.reduce((sum, ns) => sum + ns, 0);
  });
  return placeAttention(graph, better);
}
