/**
 * When a launch lets the blocks of the next one onto the GPU (griddepcontrol.launch_dependents, sm_90 and newer), which then do what
 * does not depend on it and wait for its end: weights are on their way into shared memory, places are found, instructions are fetched.
 *
 * - `begin`: right behind its own wait. All of its blocks have begun by then, so none is kept out by those that wait, and the launch
 *   before it is done, so no more than two are ever on the GPU.
 * - `end`: with each block's last instruction. What waits costs a kernel that memory bounds more than it brings.
 *
 * What a multiprocessor's first-level cache holds is forgotten when a kernel's blocks begin there, not when their wait ends. A line read
 * between the two is one that the launch before reads; it must not be one that it writes, from another multiprocessor. So a launch that
 * reads beside what it writes lets go at its end. Loads of which the compiler may think that nobody writes what they read are not used.
 */
import type { PtxEntry } from './ptx.ts';
import type { KernelLaunch } from './template.ts';

export type Release = 'begin' | 'end';

const SHARED_BYTES_PER_MULTIPROCESSOR = 227 * 1024;
/** What a block takes beside what it asks for, about. */
const SHARED_BYTES_BESIDE = 2048;
/** Threads that a multiprocessor has registers for, if each takes 64. */
const THREADS_PER_MULTIPROCESSOR = 1024;

/** `readsBeside`: what the launch reads and what it writes lie in one range. */
export function releaseOf(
  launch: KernelLaunch,
  next: KernelLaunch,
  { readsBeside, multiprocessors }: { readonly readsBeside: boolean; readonly multiprocessors: number },
): Release {
  const isEarly = launch.isAhead && next.isAhead && !readsBeside;
  const [a, b] = [launch, next].map(({ grid, block, sharedBytes = 0 }) => {
    const blocks = Math.ceil((grid[0] * grid[1]) / multiprocessors);
    return { shared: blocks * (sharedBytes + SHARED_BYTES_BESIDE), threads: blocks * block[0] };
  });
  const fit =
    a.shared + b.shared <= SHARED_BYTES_PER_MULTIPROCESSOR && a.threads + b.threads <= THREADS_PER_MULTIPROCESSOR;
  return isEarly && fit ? 'begin' : 'end';
}

const LET_GO = '  griddepcontrol.launch_dependents;\n';

export const releasingName = (name: string, when: Release): string => `${name}_${when === 'begin' ? 'b' : 'e'}`;

/** The entry as one that lets go; it waits for the launch before it. */
export function withRelease(entry: PtxEntry, when: Release): PtxEntry {
  const name = releasingName(entry.name, when);
  const text = entry.text().replaceAll(entry.name, name).replaceAll('ld.global.nc.', 'ld.global.');
  const whole =
    when === 'begin'
      ? text.replaceAll(/^ *griddepcontrol\.wait;\n/gm, (wait) => wait + LET_GO)
      : text.replaceAll(/^ *ret;\n/gm, (ret) => LET_GO + ret);
  return { name, exact: entry.exact, dynamicShared: entry.dynamicShared, text: () => whole };
}
