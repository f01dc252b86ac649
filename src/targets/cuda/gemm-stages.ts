/**
 * Blocks that stay on their multiprocessors (sm_90a): four warps that copy what comes next, eight that multiply, and between them stages
 * of shared memory with two barriers each.
 *
 *     full    counts the threads of the producers, whose copies arrive as they land
 *     empty   counts the warps of the consumers
 *
 * Registers go from producers to consumers, whose sums take most of theirs. Everything here is written into one entry.
 */
import type { GemmContext, GemmSite } from './gemm-context.ts';
import type { GemmShape, TileParams } from './gemm-tiles.ts';
import { PtxText } from './ptx-text.ts';

export const PRODUCERS = 128;
export const CONSUMER_WARPS = 8;
export const RESIDENT_THREADS = PRODUCERS + CONSUMER_WARPS * 32;
/** Registers of a thread; 128 times the first and 256 times the second are all that a multiprocessor has. */
const PRODUCER_REGISTERS = 88;
const CONSUMER_REGISTERS = 208;
export const BARRIER_BYTES = 8;

export interface StagePlan {
  readonly stages: number;
  readonly stageBytes: number;
  /** Where the full barriers lie, and behind them the empty ones. */
  readonly barriersAt: number;
}

/** The context of the whole block: barriers ready, `before` written, then the kernel before waited for. `tile` is for who reads it. */
export function beginResident(
  site: GemmSite,
  shape: GemmShape,
  { stages, barriersAt }: StagePlan,
  before: (g: GemmContext) => void = () => undefined,
  tile: TileParams = { bm: 0, bn: 0, wm: CONSUMER_WARPS, wn: 1, wk: 1, wgmma: 1, stages, split: 1 },
): GemmContext {
  const { kernel } = site;
  const params = kernel.buffers.map((_, i) => `p${i}`);
  const w = new PtxText(site.name, params, [`.maxntid ${RESIDENT_THREADS}, 1, 1`, '.minnctapersm 1'], true);
  const pointers = new Map(kernel.buffers.map((b, i) => [b.name, w.op('b64', 'ld.param.u64', `[${w.param(i)}]`)]));
  const tid = w.op('b32', 'mov.u32', '%tid.x');
  const shared = w.sharedStart();
  const started = w.newLabel();
  w.line(`@${w.op('pred', 'setp.ne.u32', tid, 0)} bra ${started}`);
  for (let s = 0; s < stages; s++) {
    const at = barriersAt + s * BARRIER_BYTES;
    w.line(`mbarrier.init.shared.b64 [${shared}+${at}], ${PRODUCERS}`);
    w.line(`mbarrier.init.shared.b64 [${shared}+${at + stages * BARRIER_BYTES}], ${CONSUMER_WARPS}`);
  }
  w.label(started);
  const g: GemmContext = {
    w,
    kernel,
    shape,
    tile,
    programmatic: false,
    threads: PRODUCERS,
    aligned: new Set(kernel.buffers.filter((_, i) => site.alignments[i] >= 16).map((b) => b.name)),
    pointers,
    shared,
    tid,
    lane: w.op('b32', 'and.b32', tid, 31),
    warp: w.op('b32', 'shr.u32', tid, 5),
    rank: '0',
    rowTile: '',
    columnTile: '',
    ends: new Map(),
    batch: new Map(),
    first: 0,
    end: shape.steps,
  };
  before(g);
  w.line('bar.sync 0');
  if (site.programmatic) w.line('griddepcontrol.wait');
  return g;
}

/** Writes what either kind of warp does. */
export function produceAndConsume({ w, tid }: GemmContext, produce: () => void, consume: () => void): void {
  const [consumer, end] = [w.newLabel(), w.newLabel()];
  w.line(`@${w.op('pred', 'setp.ge.u32', tid, PRODUCERS)} bra ${consumer}`);
  w.line(`setmaxnreg.dec.sync.aligned.u32 ${PRODUCER_REGISTERS}`);
  produce();
  w.line('cp.async.wait_all');
  w.line(`bra ${end}`);
  w.label(consumer);
  w.line(`setmaxnreg.inc.sync.aligned.u32 ${CONSUMER_REGISTERS}`);
  consume();
  w.label(end);
}

/** Runs `body` for each of the block's tiles: its number plus multiples of the number of blocks. */
export function eachTileOf({ w }: GemmContext, tiles: number, blocks: number, body: (at: string) => void): void {
  const at = w.reg('b32');
  const next = w.newLabel();
  w.line(`mov.u32 ${at}, %ctaid.x`);
  w.label(next);
  body(at);
  w.line(`add.s32 ${at}, ${at}, ${blocks}`);
  w.line(`@${w.op('pred', 'setp.lt.s32', at, tiles)} bra ${next}`);
}

/** Goes round the stages: the byte offset of the present one, the address of its full barrier, and the parity of its turn. */
export class Stages {
  readonly offset: string;
  readonly barrier: string;
  /** From a full barrier to the empty one. */
  readonly emptyOffset: number;
  readonly #parity: string;
  readonly #w: PtxText;
  readonly #plan: StagePlan;

  constructor({ w, shared }: GemmContext, plan: StagePlan) {
    this.#w = w;
    this.#plan = plan;
    this.emptyOffset = plan.stages * BARRIER_BYTES;
    [this.offset, this.barrier, this.#parity] = w.regs('b32', 3);
    w.line(`mov.b32 ${this.offset}, 0`);
    w.line(`add.s32 ${this.barrier}, ${shared}, ${plan.barriersAt}`);
    w.line(`mov.b32 ${this.#parity}, 0`);
  }

  waitFull(): void {
    this.#wait(0, this.#parity);
  }
  /** A stage that nobody has filled yet is empty: the turn before the first is over. */
  waitEmpty(): void {
    this.#wait(this.emptyOffset, this.#w.op('b32', 'xor.b32', this.#parity, 1));
  }
  /** The producer's thread arrives at the full barrier when its copies have landed. */
  arriveWithCopies(): void {
    this.#w.line(`cp.async.mbarrier.arrive.noinc.shared.b64 [${this.barrier}]`);
  }

  #wait(offset: number, parity: string): void {
    const w = this.#w;
    const [poll, done] = [w.newLabel(), w.newLabel()];
    w.label(poll);
    const over = w.op('pred', 'mbarrier.try_wait.parity.shared.b64', `[${this.barrier}+${offset}]`, parity);
    w.line(`@${over} bra ${done}`);
    w.line(`bra ${poll}`);
    w.label(done);
  }

  advance(): void {
    const w = this.#w;
    const { stages, stageBytes } = this.#plan;
    w.line(`add.s32 ${this.offset}, ${this.offset}, ${stageBytes}`);
    w.line(`add.s32 ${this.barrier}, ${this.barrier}, ${BARRIER_BYTES}`);
    const over = w.op('pred', 'setp.eq.s32', this.offset, stages * stageBytes);
    w.line(`@${over} mov.b32 ${this.offset}, 0`);
    w.line(`@${over} sub.s32 ${this.barrier}, ${this.barrier}, ${stages * BARRIER_BYTES}`);
    w.line(`@${over} xor.b32 ${this.#parity}, ${this.#parity}, 1`);
  }
}

/** Arrives at an empty barrier (a register with its address) where the predicate holds: once a warp. */
export const release = ({ w }: GemmContext, when: string, barrier: string): void => {
  w.line(`@${when} mbarrier.arrive.shared.b64 ${w.reg('b64')}, [${barrier}]`);
};
