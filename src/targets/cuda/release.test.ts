import { describe, expect, test } from 'vitest';
import { assemble, ptxasIsPresent } from '../../../tests/ptx/ptxas.ts';
import type { Touch } from './independent.ts';
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

  const timeOf = (a: Partial<KernelLaunch>, b: Partial<KernelLaunch>, touches: readonly Touch[] = apart) =>
    releaseOf(launch(a), launch(b), touches, 132);

  test('is early where both have something to do ahead', () => {
    expect(timeOf({}, {})).toBe('begin');
    expect(timeOf({}, { isAhead: false })).toBe('end');
    expect(timeOf({ isAhead: false }, {})).toBe('end');
  });

  test('is late where the next blocks would crowd on the multiprocessors that are done first', () => {
    const blocks = (count: number, kibibytes: number): Partial<KernelLaunch> => ({
      grid: [count, 1, 1],
      sharedBytes: kibibytes * 1024,
    });
    expect(timeOf(blocks(202, 96), blocks(100, 48))).toBe('end');
    expect(timeOf(blocks(100, 96), blocks(100, 48))).toBe('begin');
    expect(timeOf(blocks(202, 96), blocks(202, 96))).toBe('begin');
    expect(timeOf(blocks(202, 96), blocks(300, 48))).toBe('begin');
  });

  test('is none where sectors that are read may be written', () => {
    const reads = touch(false, 0, 640);
    const writing = (first: number, run: number) => [reads, touch(true, 0, 640, { first, period: 128, run })];
    expect(timeOf({}, {}, [reads, touch(true, 0, 640)])).toBeUndefined();
    expect(timeOf({}, {}, writing(64, 64))).toBe('begin');
    expect(timeOf({}, {}, writing(96, 32))).toBe('begin');
    expect(timeOf({}, {}, writing(80, 48))).toBeUndefined();
    expect(timeOf({}, {}, writing(64, 48))).toBeUndefined();
    // Neighbours that have a sector in common, and not a byte.
    expect(timeOf({}, {}, [touch(false, 0, 40), touch(true, 40, 40)])).toBeUndefined();
    expect(timeOf({}, {}, [touch(true, 0, 40), touch(false, 40, 40)])).toBeUndefined();
    expect(timeOf({}, {}, [touch(true, 0, 40), touch(false, 64, 40)])).toBe('begin');
    expect(timeOf({ args: [{ kind: 'scratch', byteOffset: 0 }] }, {})).toBeUndefined();
  });
});
