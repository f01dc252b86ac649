/**
 * Threads that compute one point together: how many, which of them a thread is, and how their partial results meet.
 *
 * - row: the threads are neighbours; up to 32 meet by shuffles, more through shared memory, a block a team.
 * - column: the points of a block are neighbours (`width` of them) and a team stands across, so that what lies next to each other
 *   in memory along the points is read by neighbouring threads; they meet in shared memory.
 *
 * A team may reach over the blocks of a cluster, which then read each other's shared memory (sm_90).
 * Every thread of a block takes part in every meeting, so none may leave early: `valid` tells whether its point exists.
 */
import type { DType } from '../../core/dtype.ts';
import type { ReduceOp } from '../../loop/ir.ts';
import { divideBy } from './divide.ts';
import type { PtxKernel, Reg } from './ptx.ts';
import { registerOf } from './registers.ts';
import { scalarBinary } from './scalar-ops.ts';

export interface Team {
  readonly threads: number;
  /** What a thread takes at once: neighbouring iterations, or neighbouring points. */
  readonly lanes: number;
  readonly across: 'iterations' | 'points';
  readonly rank: Reg;
  /** A predicate; absent where every point exists. */
  readonly valid: Reg | undefined;
  /** The one thread that stores: rank 0 of a point that exists. */
  readonly first: Reg;
  /** Op over the team's values, each for itself, for all of its threads. To be called where all threads of the block are. */
  combine(xs: readonly Reg[], op: ReduceOp, dtype: DType): Reg[];
  /** Where statements read what others stored: what the team did before is done, and seen by all of it. */
  order?(): void;
  /** To be called once, after all else. */
  finish(): void;
}

interface TeamPlace {
  readonly threads: number;
  readonly lanes: number;
  /** Which of the threads of its block that share the team; `rank` counts through all blocks. */
  readonly local: Reg;
  readonly rank: Reg;
  readonly valid: Reg | undefined;
  /** Blocks of a cluster that share each team; 1 where a block has teams of its own. */
  readonly blocks: number;
  /** Of a row of one warp: statements read what others stored. */
  readonly ordered?: true;
}

const first = (k: PtxKernel, { rank, valid }: TeamPlace): Reg => {
  const zero = k.op('setp.eq.u32', rank, 0);
  return valid ? k.op('and.pred', zero, valid) : zero;
};

export function rowTeam(k: PtxKernel, place: TeamPlace): Team {
  const { threads, local, blocks } = place;
  const inBlock = threads / blocks;
  const within = Math.min(inBlock, 32);
  const warps = inBlock / within;
  const shared = warps > 1 ? alternating(k, warps) : undefined;
  const meeting = blocks > 1 ? new Meeting(k, blocks, 1) : undefined;
  const inOneBlock = (x: Reg, op: ReduceOp, dtype: DType): Reg => {
    const inWarp = butterfly(k, x, 1, within, op, dtype);
    if (!shared) return inWarp;
    const slot = shared(dtype);
    const lane = k.op('and.b32', local, 31);
    k.if(k.op('setp.eq.u32', lane, 0), () => put(k, slot(k.op('shr.u32', local, 5)), inWarp));
    k.do('bar.sync', 0);
    return butterfly(k, get(k, slot(k.op('and.b32', lane, warps - 1)), dtype), 1, warps, op, dtype);
  };
  const combine = (xs: readonly Reg[], op: ReduceOp, dtype: DType): Reg[] => {
    const own = xs.map((x) => inOneBlock(x, op, dtype));
    return meeting ? meeting.combine(own, k.op('mov.u32', 0), k.op('setp.eq.u32', local, 0), op, dtype) : own;
  };
  const order = place.ordered && (() => k.do('bar.warp.sync', ALL_LANES));
  const finish = (): void => meeting?.finish();
  return { ...place, across: 'iterations', first: first(k, place), combine, ...(order && { order }), finish };
}

/** Partial results of a column that every thread may add up for itself. */
const FEW_ROWS = 2;

/** `width` columns, a power of two, lie next to each other in a warp. */
export function columnTeam(k: PtxKernel, place: TeamPlace, width: number, column: Reg): Team {
  const { threads, local, blocks, lanes } = place;
  const rowsInWarp = Math.max(1, 32 / width);
  const rows = threads / blocks / rowsInWarp;
  const inBlock = threads / blocks;
  const shared = alternating(k, (rows + 1) * width * lanes);
  const meeting = blocks > 1 ? new Meeting(k, blocks, width) : undefined;
  const combine = (xs: readonly Reg[], op: ReduceOp, dtype: DType): Reg[] => {
    const slot = shared(dtype);
    const at = (row: Reg | number, i: number): Reg => {
      const plane = k.op('add.s32', column, i * (rows + 1) * width);
      return slot(
        typeof row === 'number' ? k.op('add.s32', plane, row * width) : k.op('mad.lo.s32', row, width, plane),
      );
    };
    const inWarp = xs.map((x) => butterfly(k, x, width, rowsInWarp, op, dtype));
    const leads = k.op('setp.lt.u32', k.op('and.b32', k.special('tid.x'), 31), Math.min(width, 32));
    k.if(leads, () => {
      for (const [i, x] of inWarp.entries()) put(k, at(divideBy(k, local, rowsInWarp), i), x);
    });
    k.do('bar.sync', 0);
    const joined = (place: (row: number) => Reg): Reg =>
      Array.from({ length: rows }, (_, row) => get(k, place(row), dtype)).reduce((a, b) =>
        scalarBinary(k, op, dtype, a, b),
      );
    let own: Reg[];
    if (rows <= FEW_ROWS || inBlock < xs.length) own = xs.map((_, i) => joined((row) => at(row, i)));
    else {
      // Each value by one thread: if all threads added up all rows, shared memory would be busy for longer than all else takes.
      k.if(k.op('setp.lt.u32', local, xs.length), () => {
        const plane = k.op('mad.lo.s32', local, (rows + 1) * width, column);
        const place = (row: number): Reg => slot(k.op('add.s32', plane, row * width));
        put(k, place(rows), joined(place));
      });
      k.do('bar.sync', 0);
      own = xs.map((_, i) => get(k, at(rows, i), dtype));
    }
    return meeting ? meeting.combine(own, column, k.op('setp.eq.u32', local, 0), op, dtype) : own;
  };
  return { ...place, across: 'points', first: first(k, place), combine, finish: () => meeting?.finish() };
}

/** The blocks of a cluster exchange values a column, in slots that are written once: each meeting has its own. */
class Meeting {
  readonly #k: PtxKernel;
  readonly #blocks: number;
  readonly #width: number;

  constructor(k: PtxKernel, blocks: number, width: number) {
    this.#k = k;
    this.#blocks = blocks;
    this.#width = width;
  }

  /** Op over the blocks' values of a column. `writes` holds in one thread a column, which have equal values. */
  combine(xs: readonly Reg[], column: Reg, writes: Reg, op: ReduceOp, dtype: DType): Reg[] {
    const k = this.#k;
    const bytes = this.#width * SLOT_BYTES;
    const slot = k.op('mad.lo.s32', column, SLOT_BYTES, k.shared(xs.length * bytes));
    k.if(writes, () => {
      for (const [i, x] of xs.entries()) put(k, slot, x, i * bytes);
    });
    this.#await();
    const places = Array.from({ length: this.#blocks }, (_, block) => k.op('mapa.shared::cluster.u32', slot, block));
    return xs.map((_, i) =>
      places
        .map((place) => get(k, place, dtype, 'shared::cluster', i * bytes))
        .reduce((a, b) => scalarBinary(k, op, dtype, a, b)),
    );
  }

  /** No block may end while another reads its shared memory. */
  finish(): void {
    this.#await();
  }

  #await(): void {
    this.#k.do('barrier.cluster.arrive.aligned');
    this.#k.do('barrier.cluster.wait.aligned');
  }
}

const SLOT_BYTES = 8;
const ALL_LANES = 0xffffffff;

/**
 * Shared slots for one meeting after the other, in two halves by turns: who writes for the next meeting cannot meet readers of this one,
 * and those of the one before have passed a barrier since.
 */
function alternating(k: PtxKernel, slots: number): (dtype: DType) => (i: Reg) => Reg {
  const base = k.shared(2 * slots * SLOT_BYTES);
  let turn = 0;
  return (dtype) => {
    const half = k.op('add.s32', base, (turn++ % 2) * slots * SLOT_BYTES);
    // Neighbours in neighbouring banks.
    const bytes = WIDE.has(registerOf(dtype)) ? SLOT_BYTES : SLOT_BYTES / 2;
    return (i) => k.op('mad.lo.s32', i, bytes, half);
  };
}

const WIDE: ReadonlySet<string> = new Set(['b64', 'f64']);

function put(k: PtxKernel, at: Reg, x: Reg, byteOffset = 0): void {
  const reg = x.type === 'pred' ? k.op('selp.b32', 1, 0, x) : x;
  k.store('shared', memoryType(reg), k.at(at, byteOffset), [reg]);
}

function get(k: PtxKernel, at: Reg, dtype: DType, kind = 'shared', byteOffset = 0): Reg {
  const type = registerOf(dtype);
  const address = k.at(at, byteOffset);
  if (type === 'pred') return k.op('setp.ne.u32', k.load(kind, 'b32', address)[0], 0);
  return k.load(kind, type === 'b16' ? 'b32' : type, address)[0];
}

const memoryType = ({ type }: Reg): 'b32' | 'f32' | 'b64' | 'f64' => (type === 'pred' || type === 'b16' ? 'b32' : type);

/** Op over `count` lanes (a power of two) that are `apart` from each other, for all lanes. */
function butterfly(k: PtxKernel, x: Reg, apart: number, count: number, op: ReduceOp, dtype: DType): Reg {
  let value = x;
  for (let mask = count / 2; mask >= 1; mask /= 2)
    value = scalarBinary(k, op, dtype, value, shuffle(k, value, mask * apart));
  return value;
}

/** The register of the lane whose number differs in the bits of `mask`. */
function shuffle(k: PtxKernel, x: Reg, mask: number): Reg {
  const word = (bits: Reg): Reg => k.op('shfl.sync.bfly.b32', bits, mask, 31, ALL_LANES);
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
