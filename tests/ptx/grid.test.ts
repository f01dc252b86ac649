/** Blocks side by side in the interpreter: a barrier of the grid, and what is found where it is missing, weak or never passed. */
import { describe, expect, test } from 'vitest';
import { PtxProgram } from './machine.ts';
import { GlobalMemory } from './memory.ts';

const BLOCKS = 6;
const ROUNDS = 4;

/**
 * Each round a block adds its number to what the block after it wrote in the round before: y[round][block]. `arrive` and `look` are the
 * barrier's two halves, by one thread; `after` follows the load.
 */
const ring = (arrive: string, look: string, after = ''): string => `.version 8.0
.target sm_90
.address_size 64
.visible .entry ring(.param .u64 ring_y, .param .u64 ring_count)
.maxntid 64, 1, 1
{
  .reg .pred %p, %q;
  .reg .b32 %tid, %block, %blocks, %round, %next, %row, %v, %goal, %seen;
  .reg .b64 %y, %count, %at;
  ld.param.u64 %y, [ring_y];
  ld.param.u64 %count, [ring_count];
  mov.u32 %tid, %tid.x;
  mov.u32 %block, %ctaid.x;
  mov.u32 %blocks, %nctaid.x;
  mov.u32 %round, 0;
  mov.u32 %v, 1;
$round:
  mad.lo.u32 %row, %round, %blocks, %block;
  mad.wide.u32 %at, %row, 4, %y;
  setp.ne.u32 %q, %tid, 0;
  @!%q st.global.u32 [%at], %v;
  bar.sync 0;
  @%q bra $after;
  ${arrive}
  add.u32 %goal, %round, 1;
  mul.lo.u32 %goal, %goal, %blocks;
$look:
  ${look}
  setp.lt.u32 %p, %seen, %goal;
  @%p bra $look;
$after:
  bar.sync 0;
  add.u32 %next, %block, 1;
  setp.eq.u32 %p, %next, %blocks;
  @%p mov.u32 %next, 0;
  mad.lo.u32 %row, %round, %blocks, %next;
  mad.wide.u32 %at, %row, 4, %y;
  ld.global.u32 %v, [%at];
  ${after}
  add.u32 %v, %v, %block;
  add.u32 %round, %round, 1;
  setp.lt.u32 %p, %round, ${ROUNDS};
  @%p bra $round;
  ret;
}
`;
const ARRIVE = 'red.release.gpu.global.add.u32 [%count], 1;';
const LOOK = 'ld.acquire.gpu.global.u32 %seen, [%count];';

function run(arrive: string, look: string, { concurrent = true, after = '' } = {}): Int32Array {
  const memory = new GlobalMemory();
  const y = memory.alloc('y', BLOCKS * ROUNDS * 4);
  const count = memory.alloc('count', new Uint8Array(4));
  const grid = [BLOCKS, 1, 1] as const;
  new PtxProgram(ring(arrive, look, after)).run(memory, {
    entry: 'ring',
    grid,
    block: [64, 1, 1],
    sharedBytes: 0,
    args: [y, count],
    concurrent,
  });
  return new Int32Array(memory.bytesAt(y, BLOCKS * ROUNDS * 4).slice().buffer);
}

describe('blocks side by side', () => {
  test('a barrier of the grid', () => {
    const rows: number[][] = [new Array<number>(BLOCKS).fill(1)];
    for (let r = 1; r < ROUNDS; r++) rows.push(rows[r - 1].map((_, b) => rows[r - 1][(b + 1) % BLOCKS] + b));
    expect([...run(ARRIVE, LOOK)]).toEqual(rows.flat());
  });

  test('reading without it, and with halves that order nothing', () => {
    const race = /race: block \d reads y \(96 bytes\) at byte \d+, which block \d wrote, with no barrier between/;
    expect(() => run('', 'mov.u32 %seen, 1000;')).toThrow(race);
    expect(() => run(ARRIVE.replace('release', 'relaxed'), LOOK)).toThrow(race);
    expect(() => run(ARRIVE, LOOK.replace('acquire', 'relaxed'))).toThrow(race);
  });

  test('writing what another block may still be reading', () => {
    const own = 'mad.lo.u32 %row, %round, %blocks, %block; mad.wide.u32 %at, %row, 4, %y; st.global.u32 [%at], %v;';
    expect(() => run(ARRIVE, LOOK, { after: own })).toThrow(
      /race: block \d (reads|writes) y .*, which block \d (wrote|read)/,
    );
  });

  test('one that is never passed, and blocks that are not all there', () => {
    expect(() => run('', LOOK)).toThrow(/nothing moves any more/);
    expect(() => run(ARRIVE, LOOK, { concurrent: false })).toThrow(/nothing moves any more/);
  });
});
