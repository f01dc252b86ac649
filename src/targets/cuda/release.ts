/**
 * When a launch lets the blocks of the next one onto the GPU (griddepcontrol.launch_dependents, sm_90 and newer), which then do what
 * does not depend on it and wait for its end: weights are on their way into shared memory, places are found, instructions are fetched.
 *
 * - `begin`: right behind its own wait. All of its blocks have begun by then, so none is kept out by those that wait, and the launch
 *   before it is done, so no more than two are ever on the GPU.
 * - `end`: with each block's last instruction. What waits costs a kernel that memory bounds more than it brings; and where blocks get in
 *   as others leave, many may crowd on the multiprocessors that are done first.
 *
 * What a multiprocessor's first-level cache holds is forgotten when a kernel's blocks begin there, not when their wait ends. What it gets
 * between the two is what the launch before reads, in sectors of 32 bytes; none of them may be one that this launch writes elsewhere. So one
 * that reads and writes bytes of a sector does not let go. Loads of which the compiler may think that nobody writes what they read are
 * used neither by who lets go nor by who is let go: it might put one before the wait.
 */
import { alignUp } from '../../core/bytes.ts';
import type { BufferRef } from '../../engine/engine.ts';
import type { Touch } from './independent.ts';
import { overlap } from './independent.ts';
import type { PtxEntry } from './ptx.ts';
import type { KernelLaunch } from './template.ts';

export type Release = 'begin' | 'end';

/** Bytes that a first-level cache gets at once. */
const SECTOR = 32;

/** Shared memory of a multiprocessor, and what a block takes beside what it asks for, about. */
const SHARED_BYTES = 227 * 1024;
const SHARED_BYTES_BESIDE = 2048;
/** More blocks on a multiprocessor than this many times an even share are a crowd. */
const CROWD = 2;

/** `touches`: what the launch reads and writes. Undefined: the next launch's blocks come when all of this one's are gone. */
export function releaseOf(
  launch: KernelLaunch,
  next: KernelLaunch,
  touches: readonly Touch[],
  multiprocessors: number,
): Release | undefined {
  const sharesSectors = touches.some(
    (x) =>
      x.writes && !hasOwnSectors(x) && touches.some((y) => !y.writes && overlap(sectorsOf(x.ref), sectorsOf(y.ref))),
  );
  if (sharesSectors || launch.args.some(({ kind }) => kind === 'scratch')) return undefined;
  return launch.isAhead && next.isAhead && !mayCrowd(launch, next, multiprocessors) ? 'begin' : 'end';
}

/** Whether the next launch's blocks find no place everywhere, and many of them where they find it. */
function mayCrowd(launch: KernelLaunch, next: KernelLaunch, multiprocessors: number): boolean {
  const share = ({ grid }: KernelLaunch): number => Math.ceil((grid[0] * grid[1]) / multiprocessors);
  const bytesOf = ({ sharedBytes = 0 }: KernelLaunch): number => sharedBytes + SHARED_BYTES_BESIDE;
  const together = share(launch) * bytesOf(launch) + share(next) * bytesOf(next);
  return together > SHARED_BYTES && Math.floor(SHARED_BYTES / bytesOf(next)) > CROWD * share(next);
}

/** The whole sectors that a range lies in: parts of a concatenation may begin anywhere. */
function sectorsOf({ space, byteOffset, bytes }: BufferRef): BufferRef {
  const first = byteOffset - (byteOffset % SECTOR);
  return { space, byteOffset: first, bytes: alignUp(byteOffset + bytes, SECTOR) - first };
}

/** Parts of a concatenation that lie interleaved with others: whether each begins and ends with a sector. */
const hasOwnSectors = ({ first, run, period }: Touch): boolean =>
  period > 0 && [first, run, period].every((bytes) => bytes % SECTOR === 0);

const LET_GO = '  griddepcontrol.launch_dependents;\n';

export const releasingName = (name: string, when: Release): string => `${name}_${when === 'begin' ? 'b' : 'e'}`;

export const orderedName = (name: string): string => `${name}_o`;

/** The entry with loads that stay behind its wait. */
export const withOrderedLoads = (entry: PtxEntry): PtxEntry =>
  rewritten(entry, orderedName(entry.name), (text) => text);

/** The entry as one that lets go; it waits for the launch before it. */
export const withRelease = (entry: PtxEntry, when: Release): PtxEntry =>
  rewritten(entry, releasingName(entry.name, when), (text) =>
    when === 'begin'
      ? text.replaceAll(/^ *griddepcontrol\.wait;\n/gm, (wait) => wait + LET_GO)
      : text.replaceAll(/^ *ret;\n/gm, (ret) => LET_GO + ret),
  );

function rewritten(entry: PtxEntry, name: string, change: (text: string) => string): PtxEntry {
  const text = change(entry.text().replaceAll(entry.name, name).replaceAll('ld.global.nc.', 'ld.global.'));
  return { name, exact: entry.exact, dynamicShared: entry.dynamicShared, text: () => text };
}
