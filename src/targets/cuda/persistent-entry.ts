/**
 * The text of a persistent kernel: blocks that stay on their multiprocessors and go through the steps of a network together.
 *
 *     for each step:
 *       copy the next step's record to shared memory                                       (its first tile, its arguments, what it waits for)
 *       for (tile = own; tile < tiles; tile += blocks)   the step's section                (section.ts)
 *       where there was a tile: add 1 to the step's counter
 *
 * A section waits, once a step, until the counters of the steps before say that all blocks with a tile there are done. What stands above
 * its wait (addresses, copies of weights to shared memory) runs meanwhile. A block without a tile neither waits nor counts.
 *
 * Counters are never reset: run r waits for r times the number of such blocks, and r is how often all blocks have ended, plus one.
 *
 * Order of memory (PTX ISA, "Memory Consistency Model"): what the threads of a block wrote is before bar.sync, that before one thread's
 * red.release; an ld.acquire that sees the sum is before bar.sync, that before the reads of its block. An acquire also empties the
 * multiprocessor's first-level cache, so ordinary loads find what others wrote; ld.global.nc is not among the loads of a section.
 */
import { Bug } from '../../core/errors.ts';
import type { PtxEntry } from './ptx.ts';
import { SECTION_BARRIER, type Section, sectionOf } from './section.ts';

/** An entry and the threads it was launched with. */
export interface SectionEntry {
  readonly code: PtxEntry;
  readonly threads: number;
}

/** Bytes of a record, and where in it things lie: section, width, tiles, first, waits; arguments of 8 bytes; pairs of step and blocks. */
export interface RecordLayout {
  readonly argumentsAt: number;
  readonly waitsAt: number;
  /** A multiple of 16. */
  readonly bytes: number;
}

const HEADER_BYTES = 32;

export function recordLayout(args: number, waits: number): RecordLayout {
  const waitsAt = HEADER_BYTES + 8 * args;
  return { argumentsAt: HEADER_BYTES, waitsAt, bytes: Math.ceil((waitsAt + 8 * waits) / 16) * 16 };
}

/** Counters lie so far apart: each in a line of the second-level cache. The first counts the blocks that have ended, in 64 bits. */
export const COUNTER_BYTES = 128;

/** Looks at a counter, some third of a microsecond each, until a wait is a failure and not a long step: many seconds. */
const MOST_POLLS = 1 << 24;

export interface PersistentCode {
  readonly name: string;
  /** Record.section is an index into it. */
  readonly sections: readonly SectionEntry[];
  readonly layout: RecordLayout;
  readonly steps: number;
  readonly threads: number;
  /** Blocks that a multiprocessor holds; ptxas divides registers by it. */
  readonly resident: number;
}

/** Parameters: the address of the records, that of the counters. The grid has `resident` blocks a multiprocessor. */
export function persistentEntry(code: PersistentCode): PtxEntry {
  const { name } = code;
  if (code.layout.bytes > 16 * code.threads)
    throw new Bug('cuda-persistent', `${name}: a record of ${code.layout.bytes} bytes`);
  const sections = code.sections.map((section, i) => placeSection(code, section, i));
  return {
    name,
    exact: code.sections.some((s) => s.code.exact),
    dynamicShared: code.sections.some((s) => s.code.dynamicShared),
    text: () => entryText(code, sections),
  };
}

const placeSection = ({ name, layout }: PersistentCode, section: SectionEntry, index: number): Section =>
  sectionOf(section.code, {
    prefix: `s${index}_`,
    threads: section.threads,
    end: `$${name}_done`,
    place: { x: '%tile_x', y: '%tile_y', width: '%width' },
    record: '%record',
    argumentsAt: layout.argumentsAt,
    wait: waitText(`$${name}_${index}`, section.threads, layout),
  });

/** Each thread looks at one counter after the other, its own number and every `threads`-th from there. */
const waitText = (label: string, threads: number, { waitsAt }: RecordLayout): string => `  @%waited bra ${label}_go;
  mov.u32 %index, %thread;
${label}_each:
  setp.ge.u32 %test, %index, %waits;
  @%test bra ${label}_all;
  mad.lo.u32 %from, %index, 8, %record;
  ld.shared.v2.u32 {%seen, %goal}, [%from+${waitsAt}];
  mul.lo.u32 %goal, %goal, %run;
  mad.wide.u32 %counter, %seen, ${COUNTER_BYTES}, %state;
  mov.u32 %polls, 0;
${label}_look:
  ld.acquire.gpu.global.u32 %seen, [%counter+${COUNTER_BYTES}];
  sub.s32 %seen, %seen, %goal;
  setp.ge.s32 %test, %seen, 0;
  @%test bra ${label}_next;
  add.u32 %polls, %polls, 1;
  setp.lt.u32 %test, %polls, ${MOST_POLLS};
  @%test bra ${label}_look;
  trap;
${label}_next:
  add.u32 %index, %index, ${threads};
  bra ${label}_each;
${label}_all:
  bar.sync ${SECTION_BARRIER}, ${threads};
  setp.eq.u32 %waited, 0, 0;
${label}_go:`;

function entryText(
  { name, layout, steps, threads, resident, ...code }: PersistentCode,
  sections: readonly Section[],
): string {
  const label = (what: string): string => `$${name}_${what}`;
  const nextRecord = `  setp.lt.u32 %test, %thread, ${layout.bytes / 16};
  @%test cp.async.cg.shared.global [%to], [%source], 16;
  cp.async.commit_group;`;
  const bodies = sections.map(({ body }, i) => {
    const some = code.sections[i].threads < threads;
    const others = `  setp.ge.u32 %test, %thread, ${code.sections[i].threads};\n  @%test bra ${label('done')};\n`;
    return `${label(`section${i}`)}:\n${some ? others : ''}${body}`;
  });
  return [
    ...sections.flatMap((s) => s.tables),
    `.visible .entry ${name}(.param .u64 ${name}_table, .param .u64 ${name}_state)`,
    `.maxntid ${threads}, 1, 1`,
    `.minnctapersm ${resident}`,
    '{',
    `  .reg .pred %waited, %test;
  .reg .b32 %thread, %block, %blocks, %run, %step, %record, %both, %to, %section, %width, %tiles, %first, %waits;
  .reg .b32 %tile, %tile_x, %tile_y, %index, %from, %seen, %goal, %polls, %quotient;
  .reg .b64 %table, %state, %source, %counter, %runs, %wide;`,
    ...sections.flatMap((s) => s.registers),
    ...sections.flatMap((s) => s.shared),
    `  .shared .align 16 .b8 ${name}_records[${2 * layout.bytes}];
  mov.u32 %thread, %tid.x;
  mov.u32 %block, %ctaid.x;
  mov.u32 %blocks, %nctaid.x;
  ld.param.u64 %table, [${name}_table];
  ld.param.u64 %state, [${name}_state];
  ld.relaxed.gpu.global.u64 %runs, [%state];
  cvt.u64.u32 %wide, %blocks;
  div.u64 %runs, %runs, %wide;
  cvt.u32.u64 %run, %runs;
  add.u32 %run, %run, 1;
  mov.u32 %step, 0;
  mov.u32 %record, ${name}_records;
  mad.lo.u32 %both, %record, 2, ${layout.bytes};
  mad.lo.u32 %to, %thread, 16, %record;
  mad.wide.u32 %source, %thread, 16, %table;
${nextRecord}
  cp.async.wait_all;
  bar.sync 0;
${label('step')}:
  sub.u32 %to, %both, %record;
  mad.lo.u32 %to, %thread, 16, %to;
  add.u64 %source, %source, ${layout.bytes};
  setp.ge.u32 %test, %step, ${steps - 1};
  @%test bra ${label('here')};
${nextRecord}
${label('here')}:
  ld.shared.v4.u32 {%section, %width, %tiles, %first}, [%record];
  ld.shared.u32 %waits, [%record+16];
  sub.s32 %tile, %block, %first;
  setp.lt.s32 %test, %tile, 0;
  @%test add.s32 %tile, %tile, %blocks;
  setp.ge.s32 %test, %tile, %tiles;
  @%test bra ${label('none')};
  setp.ne.u32 %waited, 0, 0;
${label('tile')}:
  div.u32 %tile_y, %tile, %width;
  mul.lo.u32 %quotient, %tile_y, %width;
  sub.u32 %tile_x, %tile, %quotient;`,
    ...choice(label, 0, sections.length),
    ...bodies,
    `${label('done')}:
  add.s32 %tile, %tile, %blocks;
  setp.ge.s32 %test, %tile, %tiles;
  @%test bra ${label('last')};
  bar.sync 0;
  bra ${label('tile')};
${label('last')}:
  cp.async.wait_all;
  bar.sync 0;
  setp.ne.u32 %test, %thread, 0;
  @%test bra ${label('next')};
  mad.wide.u32 %counter, %step, ${COUNTER_BYTES}, %state;
  red.release.gpu.global.add.u32 [%counter+${COUNTER_BYTES}], 1;
  bra ${label('next')};
${label('none')}:
  cp.async.wait_all;
  bar.sync 0;
${label('next')}:
  sub.u32 %record, %both, %record;
  add.u32 %step, %step, 1;
  setp.lt.u32 %test, %step, ${steps};
  @%test bra ${label('step')};
  setp.ne.u32 %test, %thread, 0;
  @%test bra ${label('end')};
  red.relaxed.gpu.global.add.u64 [%state], 1;
${label('end')}:
  ret;
}
`,
  ].join('\n');
}

/** Branches to the section whose number is in %section, from `from` to before `to`. */
function choice(label: (what: string) => string, from: number, to: number): string[] {
  if (to - from === 1) return [`  bra ${label(`section${from}`)};`];
  const middle = (from + to) >> 1;
  const upper = label(`from${middle}_${to}`);
  return [
    `  setp.ge.u32 %test, %section, ${middle};`,
    `  @%test bra ${upper};`,
    ...choice(label, from, middle),
    `${upper}:`,
    ...choice(label, middle, to),
  ];
}
