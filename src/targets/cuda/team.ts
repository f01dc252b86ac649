/**
 * Threads that compute one point together: how many, which of them a thread is, and how their partial results meet.
 *
 * - row: the threads are neighbours; up to 32 meet by shuffles, more through shared memory, a block a team.
 * - column: the points of a block are neighbours (`width` of them) and a team stands across, so that what lies next to each other
 *   in memory along the points is read by neighbouring threads; they meet in shared memory.
 *
 * Every thread of a block takes part in every meeting, so none may leave early: `valid` tells whether its point exists.
 */
import type { DType } from '../../core/dtype.ts';
import type { ReduceOp } from '../../loop/ir.ts';
import type { PtxKernel, Reg } from './ptx.ts';
import { registerOf } from './registers.ts';
import { scalarBinary } from './scalar-ops.ts';

export interface Team {
  readonly threads: number;
  /** Neighbouring iterations that a thread takes at once. */
  readonly lanes: number;
  readonly rank: Reg;
  /** A predicate; absent where every point exists. */
  readonly valid: Reg | undefined;
  /** The one thread that stores: rank 0 of a point that exists. */
  readonly first: Reg;
  /** Op over the team's values, for all of its threads. To be called where all threads of the block are. */
  combine(x: Reg, op: ReduceOp, dtype: DType): Reg;
}

interface TeamPlace {
  readonly threads: number;
  readonly lanes: number;
  readonly rank: Reg;
  readonly valid: Reg | undefined;
}

const first = (k: PtxKernel, { rank, valid }: TeamPlace): Reg => {
  const zero = k.op('setp.eq.u32', rank, 0);
  return valid ? k.op('and.pred', zero, valid) : zero;
};

export function rowTeam(k: PtxKernel, place: TeamPlace): Team {
  const { threads, rank } = place;
  const within = Math.min(threads, 32);
  const warps = threads / within;
  const shared = warps > 1 ? alternating(k, warps) : undefined;
  const combine = (x: Reg, op: ReduceOp, dtype: DType): Reg => {
    const inWarp = butterfly(k, x, within, op, dtype);
    if (!shared) return inWarp;
    const slot = shared();
    const lane = k.op('and.b32', rank, 31);
    k.if(k.op('setp.eq.u32', lane, 0), () => put(k, slot(k.op('shr.u32', rank, 5)), inWarp));
    k.do('bar.sync', 0);
    return butterfly(k, get(k, slot(k.op('and.b32', lane, warps - 1)), dtype), warps, op, dtype);
  };
  return { ...place, first: first(k, place), combine };
}

export function columnTeam(k: PtxKernel, place: TeamPlace, width: number, column: Reg): Team {
  const { threads, rank } = place;
  const shared = alternating(k, threads * width);
  const combine = (x: Reg, op: ReduceOp, dtype: DType): Reg => {
    const slot = shared();
    put(k, slot(k.op('mad.lo.s32', rank, width, column)), x);
    k.do('bar.sync', 0);
    const parts = Array.from({ length: threads }, (_, i) => get(k, slot(k.op('add.s32', column, i * width)), dtype));
    return parts.reduce((a, b) => scalarBinary(k, op, dtype, a, b));
  };
  return { ...place, first: first(k, place), combine };
}

const SLOT_BYTES = 8;

/**
 * Shared slots for one meeting after the other, in two halves by turns: who writes for the next meeting cannot meet readers of this one,
 * and those of the one before have passed a barrier since.
 */
function alternating(k: PtxKernel, slots: number): () => (i: Reg) => Reg {
  const base = k.shared(2 * slots * SLOT_BYTES);
  let turn = 0;
  return () => {
    const half = k.op('add.s32', base, (turn++ % 2) * slots * SLOT_BYTES);
    return (i) => k.op('mad.lo.s32', i, SLOT_BYTES, half);
  };
}

function put(k: PtxKernel, at: Reg, x: Reg): void {
  const reg = x.type === 'pred' ? k.op('selp.b32', 1, 0, x) : x;
  k.store('shared', memoryType(reg), k.at(at), [reg]);
}

function get(k: PtxKernel, at: Reg, dtype: DType): Reg {
  const type = registerOf(dtype);
  if (type === 'pred') return k.op('setp.ne.u32', k.load('shared', 'b32', k.at(at))[0], 0);
  return k.load('shared', type === 'b16' ? 'b32' : type, k.at(at))[0];
}

const memoryType = ({ type }: Reg): 'b32' | 'f32' | 'b64' | 'f64' => (type === 'pred' || type === 'b16' ? 'b32' : type);

/** Op over groups of `width` neighbouring lanes (a power of two), for all lanes. */
function butterfly(k: PtxKernel, x: Reg, width: number, op: ReduceOp, dtype: DType): Reg {
  let value = x;
  for (let mask = width / 2; mask >= 1; mask /= 2) value = scalarBinary(k, op, dtype, value, shuffle(k, value, mask));
  return value;
}

/** The register of the lane whose number differs in the bits of `mask`. */
function shuffle(k: PtxKernel, x: Reg, mask: number): Reg {
  const word = (bits: Reg): Reg => k.op('shfl.sync.bfly.b32', bits, mask, 31, 0xffffffff);
  switch (x.type) {
    case 'pred':
      return k.op('setp.ne.u32', word(k.op('selp.b32', 1, 0, x)), 0);
    case 'f32':
      return k.op('mov.b32#toF32', word(k.op('mov.b32#ofF32', x)));
    case 'f64':
      return k.op('mov.b64#toF64', shuffle(k, k.op('mov.b64#ofF64', x), mask));
    case 'b64':
      return k.op('mov.b64#pack', k.ops('mov.b64#unpack', x).map(word));
    default:
      return word(x);
  }
}
