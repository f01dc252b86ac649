/**
 * Which launches must be done before one may begin: those that touch bytes it touches, one of the two writing, without what waiting for
 * those already waits for.
 */
import type { BufferRef, Step } from '../../engine/engine.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { CudaLaunch } from './program.ts';

interface Touch {
  readonly ref: BufferRef;
  readonly writes: boolean;
}

/** For each launch the indices of launches before it. */
export function waitsOf(
  launches: readonly Pick<CudaLaunch, 'step' | 'args'>[],
  steps: readonly Pick<Step, 'kernel' | 'buffers'>[],
  kernels: readonly Kernel[],
): readonly (readonly number[])[] {
  const touches = steps.map(({ kernel, buffers }): Touch[] =>
    kernels[kernel].buffers.map(({ role }, i) => ({ ref: buffers[i], writes: role === 'out' })),
  );
  const usesScratch = launches.map(({ args }) => args.some(({ kind }) => kind === 'scratch'));
  const clash = (i: number, j: number): boolean => {
    const [a, b] = [launches[i].step, launches[j].step];
    return a === b || (usesScratch[i] && usesScratch[j]) || conflict(touches[a], touches[b]);
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

const conflict = (a: readonly Touch[], b: readonly Touch[]): boolean =>
  a.some((x) => b.some((y) => (x.writes || y.writes) && overlap(x.ref, y.ref)));

const overlap = (x: BufferRef, y: BufferRef): boolean =>
  x.space === y.space && x.byteOffset < y.byteOffset + y.bytes && y.byteOffset < x.byteOffset + x.bytes;
