/**
 * How threads share out the tiles of a step: each begins with a range of its own, the same at every inference, and who has finished
 * helps the next one with what is left of theirs.
 *
 * A range is claimed in chunks by a locked addition to its counter, so a thread that the system slows or stops holds up the others by
 * one chunk. Ranges of one's own keep what a core has read in its caches. Counters are zero when an inference begins:
 *
 *     counters: [thread][step] u32, a thread's at a multiple of 64 bytes
 *
 * Which thread does a tile has no influence on its result.
 */
import type { Step } from '../../engine/engine.ts';
import { CONTROL } from './control.ts';
import { type Encoder, imm, type Label, mem, RAX, RCX, RDI, RDX, RSI, RSP, r32, r64, ripMem, ymm } from './encode.ts';
import { R_CONTROL } from './sync.ts';

/** A chunk takes about this long where tiles are small: a claim costs some 50 ns, and a call of the kernel as much. */
const CHUNK_NS = 4000;
/** Chunks of a range, where tiles allow. */
const CHUNKS = 8;

/** Hold a step's row and its kernel's address for `share`; kernels keep them. */
export const R_SHARE = 14;
export const R_KERNEL = 15;

/** Threads that work on a step. */
export const sharersOf = ({ maxThreads }: Pick<Step, 'maxThreads'>, threads: number): number =>
  Math.max(1, Math.min(threads, maxThreads));

/** Tiles of a chunk, `grain` or more; undefined where so few would be left to share that ranges may as well be fixed. */
export function chunkOf(
  { tiles, tactic }: Pick<Step, 'tiles' | 'tactic'>,
  sharers: number,
  grain: number,
): number | undefined {
  const range = tiles / sharers;
  const least = tactic.predictedNs > 0 ? Math.ceil((CHUNK_NS * tiles) / tactic.predictedNs) : 1;
  const chunk = Math.ceil(Math.max(1, least, Math.floor(range / CHUNKS)) / grain) * grain;
  return sharers > 1 && chunk < range ? chunk : undefined;
}

/** From one thread's counters to the next one's. */
const strideOf = (steps: number): number => Math.ceil((4 * steps) / 64) * 64;

export const counterBytes = (steps: number, threads: number): number => strideOf(steps) * threads;

/** What `share` reads of a step. */
export function shareRow(code: Encoder, step: number, tiles: number, sharers: number, chunk: number): Label {
  const row = [tiles, sharers, chunk, CONTROL.counters + 4 * step];
  return code.constant(`share ${row}`, () => new Uint8Array(Uint32Array.from(row).buffer));
}

/** Where things lie on share's stack, from rsp. What a kernel reads of its caller's frame lies behind. */
const RANGE = { owner: 0, left: 4, end: 8, begin: 12, counter: 16 } as const;
const FRAME_BYTES = 40;
const ROW = { tiles: 0, sharers: 4, chunk: 8, counters: 12 } as const;

/**
 * A subroutine: the share of thread esi in the step at R_SHARE by the kernel at R_KERNEL, whose buffers' addresses begin at the
 * caller's rsp.
 */
export function emitShare(code: Encoder, steps: number): Label {
  const entry = code.newLabel();
  const [range, again, next, first, done] = Array.from({ length: 5 }, () => code.newLabel());
  code.align(16);
  code.bind(entry);
  code.emit('sub_i', r64(RSP), imm(FRAME_BYTES));
  code.emit('mov_mr', mem(RSP, RANGE.owner), r32(RSI));
  code.emit('mov', r32(RAX), mem(R_SHARE, ROW.sharers));
  code.emit('mov_mr', mem(RSP, RANGE.left), r32(RAX));

  code.bind(range);
  emitBound(code, 0, RANGE.begin);
  emitBound(code, 1, RANGE.end);
  code.emit('mov', r32(RAX), mem(RSP, RANGE.owner));
  code.emit('imul_i', r64(RAX), r64(RAX), imm(strideOf(steps)));
  code.emit('mov', r32(RCX), mem(R_SHARE, ROW.counters));
  code.emit('add', r64(RAX), r64(RCX));
  code.emit('add', r64(RAX), r64(R_CONTROL));
  code.emit('mov_mr', mem(RSP, RANGE.counter), r64(RAX));

  code.bind(again);
  code.emit('mov', r32(RAX), mem(R_SHARE, ROW.chunk));
  code.emit('mov', r64(RCX), mem(RSP, RANGE.counter));
  code.emit('lock_xadd', mem(RCX), r32(RAX));
  code.emit('add', r32(RAX), mem(RSP, RANGE.begin));
  code.emit('cmp', r32(RAX), mem(RSP, RANGE.end));
  code.emit('jae', next);
  code.emit('mov', r32(RDI), r32(RAX));
  code.emit('add', r32(RAX), mem(R_SHARE, ROW.chunk));
  code.emit('cmp', r32(RAX), mem(RSP, RANGE.end));
  code.emit('cmova', r32(RAX), mem(RSP, RANGE.end));
  code.emit('mov', r32(RSI), r32(RAX));
  code.emit('lea', r64(RDX), mem(RSP, FRAME_BYTES + 8));
  code.emit('call_m', r64(R_KERNEL));
  code.emit('jmp', again);

  code.bind(next);
  code.emit('sub_i', mem(RSP, RANGE.left), imm(1));
  code.emit('je', done);
  code.emit('mov', r32(RAX), mem(RSP, RANGE.owner));
  code.emit('add_i', r32(RAX), imm(1));
  code.emit('cmp', r32(RAX), mem(R_SHARE, ROW.sharers));
  code.emit('jb', first);
  code.emit('xor', r32(RAX), r32(RAX));
  code.bind(first);
  code.emit('mov_mr', mem(RSP, RANGE.owner), r32(RAX));
  code.emit('jmp', range);

  code.bind(done);
  code.emit('add_i', r64(RSP), imm(FRAME_BYTES));
  code.emit('ret');
  return entry;
}

/** [rsp + into] = ⌊tiles · (owner + plus) / sharers⌋ */
function emitBound(code: Encoder, plus: number, into: number): void {
  code.emit('mov', r32(RAX), mem(RSP, RANGE.owner));
  if (plus !== 0) code.emit('add_i', r32(RAX), imm(plus));
  code.emit('mov', r32(RCX), mem(R_SHARE, ROW.tiles));
  code.emit('imul', r64(RAX), r64(RCX));
  code.emit('mov', r32(RCX), mem(R_SHARE, ROW.sharers));
  code.emit('xor', r32(RDX), r32(RDX));
  code.emit('div', r64(RCX));
  code.emit('mov_mr', mem(RSP, into), r32(RAX));
}

/** All counters zero. */
export function emitClear(code: Encoder, bytes: number): void {
  if (bytes === 0) return;
  const again = code.newLabel();
  code.emit('vxorps', ymm(0), ymm(0), ymm(0));
  code.emit('mov_oi', r32(RAX), imm(bytes));
  code.bind(again);
  for (const at of [-32, -64]) code.emit('vmovups_mr', mem(R_CONTROL, CONTROL.counters + at, RAX), ymm(0));
  code.emit('sub_i', r32(RAX), imm(64));
  code.emit('jne', again);
  code.emit('vzeroupper');
}

/** The row's address to R_SHARE, the kernel's to R_KERNEL, the thread's number to esi, then the call. */
export function callShare(code: Encoder, share: Label, row: Label, kernel: Label, thread: number): void {
  code.emit('lea', r64(R_SHARE), ripMem(row));
  code.emit('lea', r64(R_KERNEL), ripMem(kernel));
  code.emit('mov_oi', r32(RSI), imm(thread));
  code.emit('call', share);
}
