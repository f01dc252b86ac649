/**
 * State of a warp and of its block while a grid runs: register files, each lane's place in the code, its asynchronous copies.
 */

import type { RegClass } from './codegen.ts';
import type { Barriers } from './mbarrier.ts';
import { type GlobalMemory, type GridWatch, SHARED_WINDOW, type SharedMemory } from './memory.ts';
import { PtxError } from './parse.ts';
import type { Wide } from './values.ts';

export interface Dim3 {
  readonly x: number;
  readonly y: number;
  readonly z: number;
}

export interface Block {
  readonly ctaid: Dim3;
  readonly nctaid: Dim3;
  readonly ntid: Dim3;
  readonly cluster_ctaid: Dim3;
  readonly cluster_nctaid: Dim3;
  readonly rank: number;
  /** Addresses of the module's variables. */
  readonly variables: readonly number[];
  readonly threads: number;
  readonly shared: SharedMemory;
  readonly barriers: Barriers;
  readonly warps: Warp[];
  /** The blocks of its cluster, by rank. */
  readonly cluster: Block[];
  /** Where blocks run side by side: who touches what, and the block's number. */
  readonly watch: GridWatch | undefined;
  readonly number: number;
}

interface Copy {
  readonly to: number;
  readonly from: number;
  readonly size: number;
  readonly bytes: number;
}

/** Where a lane waits: at a barrier of the block, or nowhere. */
export const RUNNING = 0;
export const WAITING = 1;
export const EXITED = 2;

export class Warp {
  readonly block: Block;
  readonly index: number;
  /** Thread number of lane 0 in its block. */
  readonly base: number;
  readonly lanes: number;
  readonly P: Uint8Array;
  readonly H: Uint16Array;
  readonly I: Int32Array;
  readonly F: Float32Array;
  readonly Q: Wide[];
  readonly D: Float64Array;
  readonly tidx = new Int32Array(32);
  readonly tidy = new Int32Array(32);
  readonly tidz = new Int32Array(32);
  readonly global: GlobalMemory;
  readonly params: LocalMemory;
  readonly local: LocalMemory;
  /** The lane that runs, for messages. */
  lane = 0;
  /** Set by an instruction after which others should get a turn. */
  yields = false;
  /** The line that runs, for messages. */
  atLine = 0;
  /** How often the warp has arrived at the cluster's barrier. */
  clusterArrivals = 0;
  /** Products of wgmma that are under way: those of the open group, and of those that were committed. */
  products: (() => void)[] = [];
  readonly productGroups: (() => void)[][] = [];
  readonly pc = new Int32Array(32);
  readonly exited = new Uint8Array(32);
  live: number;
  /** Waits at a barrier with this id and thread count. */
  barrier: { readonly id: number; readonly count: number } | undefined;
  readonly #open: Copy[][] = Array.from({ length: 32 }, () => []);
  readonly #groups: Copy[][][] = Array.from({ length: 32 }, () => []);
  readonly #localBytes: number;

  constructor(
    block: Block,
    index: number,
    sizes: Readonly<Record<RegClass, number>>,
    global: GlobalMemory,
    params: LocalMemory,
    localBytes: number,
  ) {
    this.block = block;
    this.index = index;
    this.base = index * 32;
    this.lanes = Math.min(32, block.threads - this.base);
    this.live = this.lanes;
    this.global = global;
    this.params = params;
    this.#localBytes = localBytes;
    this.local = new LocalMemory(localBytes * 32);
    this.P = new Uint8Array(sizes.p * 32);
    this.H = new Uint16Array(sizes.h * 32);
    this.I = new Int32Array(sizes.i * 32);
    this.F = new Float32Array(this.I.buffer);
    this.Q = new Array<Wide>(sizes.q * 32).fill(0);
    this.D = new Float64Array(sizes.d * 32);
    const { x, y } = block.ntid;
    for (let l = 0; l < 32; l++) {
      const t = this.base + l;
      this.tidx[l] = t % x;
      this.tidy[l] = Math.floor(t / x) % y;
      this.tidz[l] = Math.floor(t / (x * y));
      if (l >= this.lanes) this.exited[l] = 1;
    }
  }

  localAt(address: Wide, size: number, lane: number): number {
    const a = Number(address);
    if (a < 0 || a + size > this.#localBytes)
      throw new PtxError(`access of ${size} bytes outside local memory at ${a}`);
    if (a % size !== 0) throw new PtxError(`${size}-byte access of local memory at ${a} is misaligned`);
    return lane * this.#localBytes + a;
  }

  spaceOf(address: Wide): GlobalMemory | SharedMemory {
    return isShared(address) ? this.block.shared : this.global;
  }
  /** Offset of an ordinary access in global memory. */
  globalAt(address: Wide, size: number, write: boolean): number {
    const at = this.global.at(address, size, write);
    this.block.watch?.touch(this.block.number, at, size, write);
    return at;
  }
  /** Before a load that acquires what other blocks did before they released the word. */
  acquire(at: number): void {
    this.block.watch?.acquire(this.block.number, at);
  }
  release(at: number): void {
    this.block.watch?.release(this.block.number, at);
  }

  generic(address: Wide, size: number, write: boolean, thread: number): number {
    if (!isShared(address)) return this.globalAt(address, size, write);
    return write ? this.block.shared.write(address, size, thread) : this.block.shared.read(address, size, thread);
  }

  /** The block whose shared memory an address of the cluster's window means, and the address there. */
  remote(address: Wide): SharedMemory {
    const rank = (Number(address) >>> CLUSTER_SHIFT) - 1;
    const block = rank < 0 ? this.block : this.block.cluster[rank];
    if (!block) throw new PtxError(`no block ${rank} in the cluster`);
    return block.shared;
  }
  remoteAt(address: Wide, size: number, write: boolean): number {
    const at = Number(address) & ((1 << CLUSTER_SHIFT) - 1);
    const shared = this.remote(address);
    return write ? shared.writeFromAfar(at, size) : shared.readFreely(at, size);
  }

  activeMask(lanes: Int32Array, n: number): number {
    let mask = 0;
    for (let i = 0; i < n; i++) mask |= 1 << lanes[i];
    return mask;
  }

  copy(lane: number, to: Wide, from: Wide, size: number, bytes: number): void {
    if (bytes < 0 || bytes > size) throw new PtxError(`cp.async of ${size} bytes with a source size of ${bytes}`);
    const at = this.block.shared.begin(to, size, this.base + lane);
    // The source must be aligned and inside as far as it is read.
    if (bytes > 0 && Number(from) % size !== 0)
      throw new PtxError(`cp.async from a source that is not a multiple of ${size} bytes`);
    let source = 0;
    if (bytes > 0) {
      source = this.globalAt(from, bytes === size ? size : 1, false);
      if (bytes !== size) this.globalAt((from as number) + bytes - 1, 1, false);
    }
    this.#open[lane].push({ to: at, from: source, size, bytes });
  }
  /** cp.async.bulk.prefetch: changes nothing, but must be aligned and inside. */
  prefetch(from: Wide, bytes: number): void {
    if (bytes % 16 !== 0 || bytes === 0) throw new PtxError(`bulk prefetch of ${bytes} bytes`);
    this.global.at(from, 16, false);
    this.global.at((from as number) + bytes - 16, 16, false);
  }
  commit(lane: number): void {
    this.#groups[lane].push(this.#open[lane]);
    this.#open[lane] = [];
  }
  wait(lane: number, pending: number): void {
    const groups = this.#groups[lane];
    while (groups.length > pending) for (const copy of groups.shift() as Copy[]) this.#land(copy, lane);
  }
  /** cp.async.mbarrier.arrive.noinc: the lane arrives when all its copies have landed. */
  arriveWithCopies(lane: number, barrier: Wide): void {
    const copies = [...this.#groups[lane].flat(), ...this.#open[lane]];
    this.#groups[lane] = [];
    this.#open[lane] = [];
    const clock = this.block.shared.clocks[this.index][this.index];
    this.block.barriers.arrive(Number(barrier), this.base + lane, () => {
      for (const copy of copies) this.#land(copy, lane, clock);
    });
  }
  #land({ to, from, size, bytes }: Copy, lane: number, clock?: number): void {
    const { shared, watch, number } = this.block;
    watch?.touch(number, from, bytes, false);
    shared.u8.fill(0, to, to + size);
    shared.u8.set(this.global.u8.subarray(from, from + bytes), to);
    shared.land(to, size, this.base + lane, clock);
  }
}

const CLUSTER_SHIFT = 24;
/** What mapa gives. */
export const clusterAddress = (address: Wide, rank: number): number => Number(address) | ((rank + 1) << CLUSTER_SHIFT);

const isShared = (address: Wide): boolean =>
  typeof address === 'number' && address >= SHARED_WINDOW && address < SHARED_WINDOW + 2 ** 24;

/** Memory that needs no watching: parameters, a warp's local variables. */
export class LocalMemory {
  readonly u8: Uint8Array;
  readonly i16: Uint16Array;
  readonly i32: Int32Array;
  readonly f32: Float32Array;
  readonly f64: Float64Array;
  readonly i64: BigInt64Array;
  constructor(bytes: number) {
    const padded = new ArrayBuffer(Math.ceil(bytes / 8) * 8);
    this.u8 = new Uint8Array(padded);
    this.i16 = new Uint16Array(padded);
    this.i32 = new Int32Array(padded);
    this.f32 = new Float32Array(padded);
    this.f64 = new Float64Array(padded);
    this.i64 = new BigInt64Array(padded);
  }
}
