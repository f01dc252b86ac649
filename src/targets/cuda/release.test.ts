import { describe, expect, test } from 'vitest';
import { assemble, ptxasIsPresent } from '../../../tests/ptx/ptxas.ts';
import { moduleText, type PtxEntry, PtxKernel } from './ptx.ts';
import { releaseOf, withOrderedLoads, withRelease } from './release.ts';
import type { KernelLaunch } from './template.ts';

/** y[i] = x[i] for the first 40 threads of a block. */
function copyKernel(): PtxEntry {
  const k = new PtxKernel('copy', 90, { maxThreads: 64 });
  const [x, y] = [k.pointer(), k.pointer()];
  k.do('griddepcontrol.wait');
  const i = k.special('tid.x');
  k.if(k.op('setp.ge.u32', i, 40), () => k.exit());
  const at = k.op('mul.wide.u32', i, 4);
  k.store('global', 'f32', k.at(k.op('add.s64', at, y)), k.load('global.nc', 'f32', k.at(k.op('add.s64', at, x))));
  return k;
}

describe('the entry', () => {
  const entry = copyKernel();
  const linesOf = (when: 'begin' | 'end'): string[] =>
    withRelease(entry, when)
      .text()
      .split('\n')
      .map((line) => line.trim());
  const LET_GO = 'griddepcontrol.launch_dependents;';

  test('lets go behind its wait, once', () => {
    const lines = linesOf('begin');
    expect(lines.filter((line) => line === LET_GO)).toHaveLength(1);
    expect(lines[lines.indexOf(LET_GO) - 1]).toBe('griddepcontrol.wait;');
  });

  test('or at each of its ends', () => {
    const lines = linesOf('end');
    const ends = lines.flatMap((line, i) => (line === 'ret;' ? [i] : []));
    expect(ends).toHaveLength(2);
    for (const i of ends) expect(lines[i - 1]).toBe(LET_GO);
    expect(lines.filter((line) => line === LET_GO)).toHaveLength(2);
  });

  test('reads by no load of what nobody writes, under a name of its own', () => {
    expect(entry.text()).toContain('ld.global.nc.');
    const others = [...(['begin', 'end'] as const).map((when) => withRelease(entry, when)), withOrderedLoads(entry)];
    for (const { text } of others) expect(text()).not.toContain('.nc.');
    expect(new Set([entry, ...others].map(({ name }) => name)).size).toBe(4);
    if (ptxasIsPresent()) expect(assemble(moduleText(90, [entry, ...others]), 'sm_90')).toBe('');
  });
});

describe('the time', () => {
  const launch = (more: Partial<KernelLaunch> = {}): KernelLaunch => ({
    code: copyKernel(),
    grid: [64, 1, 1],
    block: [128, 1, 1],
    isAhead: true,
    args: [],
    ...more,
  });
  const touch = (
    writes: boolean,
    byteOffset: number,
    bytes: number,
    runs = { first: byteOffset, period: 0, run: bytes },
  ) => ({
    ref: { space: 'arena' as const, byteOffset, bytes },
    writes,
    ...runs,
  });
  const apart = [touch(false, 0, 640), touch(true, 640, 640)];

  test('is early where both have something to do ahead', () => {
    expect(releaseOf(launch(), launch(), apart)).toBe('begin');
    expect(releaseOf(launch(), launch({ isAhead: false }), apart)).toBe('end');
    expect(releaseOf(launch({ isAhead: false }), launch(), apart)).toBe('end');
  });

  test('is none where sectors that are read may be written', () => {
    const reads = touch(false, 0, 640);
    const writing = (first: number, run: number) => [reads, touch(true, 0, 640, { first, period: 128, run })];
    expect(releaseOf(launch(), launch(), [reads, touch(true, 0, 640)])).toBeUndefined();
    expect(releaseOf(launch(), launch(), writing(64, 64))).toBe('begin');
    expect(releaseOf(launch(), launch(), writing(96, 32))).toBe('begin');
    expect(releaseOf(launch(), launch(), writing(80, 48))).toBeUndefined();
    expect(releaseOf(launch(), launch(), writing(64, 48))).toBeUndefined();
    // Neighbours that have a sector in common, and not a byte.
    expect(releaseOf(launch(), launch(), [touch(false, 0, 40), touch(true, 40, 40)])).toBeUndefined();
    expect(releaseOf(launch(), launch(), [touch(true, 0, 40), touch(false, 40, 40)])).toBeUndefined();
    expect(releaseOf(launch(), launch(), [touch(true, 0, 40), touch(false, 64, 40)])).toBe('begin');
    expect(releaseOf(launch({ args: [{ kind: 'scratch', byteOffset: 0 }] }), launch(), apart)).toBeUndefined();
  });
});
