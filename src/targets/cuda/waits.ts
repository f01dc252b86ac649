/**
 * Which launches must be done before one may begin: those that touch bytes it touches, one of the two writing, without what waiting for
 * those already waits for.
 */
import type { Step } from '../../engine/engine.ts';
import type { Kernel } from '../../loop/ir.ts';
import { independent, touchesOf } from './independent.ts';
import type { CudaLaunch } from './program.ts';

/** For each launch the indices of launches before it. */
export function waitsOf(
  launches: readonly Pick<CudaLaunch, 'step' | 'args'>[],
  steps: readonly Pick<Step, 'kernel' | 'buffers'>[],
  kernels: readonly Kernel[],
): readonly (readonly number[])[] {
  const touches = steps.map((step) => touchesOf(step, kernels[step.kernel]));
  const usesScratch = launches.map(({ args }) => args.some(({ kind }) => kind === 'scratch'));
  const clash = (i: number, j: number): boolean => {
    const [a, b] = [launches[i].step, launches[j].step];
    return a === b || (usesScratch[i] && usesScratch[j]) || !independent(touches[a], touches[b]);
  };
  const known: Set<number>[] = [];
  return launches.map((_, i) => {
    const done = new Set<number>();
    const waits: number[] = [];
    for (let j = i - 1; j >= 0; j--) {
      if (done.has(j) || !clash(j, i)) continue;
      waits.push(j);
      done.add(j);
      for (const k of known[j]) done.add(k);
    }
    known.push(done);
    return waits;
  });
}
