/**
 * Device memory of the interpreter: global buffers with gaps between them, and a block's shared memory that watches its use.
 *
 * Global: an access must lie in one buffer, be aligned to its size, and not write a buffer that is read-only.
 * Shared: reads need bytes that were written; what cp.async has under way may not be touched before its wait; two threads that touch
 * a half-word, one of them writing, must have synchronised between. Warps carry vector clocks that barriers join, so the last is
 * exact for pairs of writes and for reads after writes; of several readers before a write only the latest is remembered.
 */
import { PtxError } from './parse.ts';
import type { Wide } from './values.ts';

const GLOBAL_BASE = 0x7f0000000000;
/** Generic addresses of shared memory. */
export const SHARED_WINDOW = 0x10000000000;
const PAGE = 256;

interface Allocation {
  readonly name: string;
  readonly start: number;
  readonly bytes: number;
  readonly readOnly: boolean;
}

export class GlobalMemory {
  #buffer = new ArrayBuffer(1 << 16);
  #end = PAGE;
  readonly #allocations: Allocation[] = [];
  #owner = new Int32Array(0);
  u8 = new Uint8Array(0);
  i16 = new Uint16Array(0);
  i32 = new Int32Array(0);
  f32 = new Float32Array(0);
  f64 = new Float64Array(0);
  i64 = new BigInt64Array(0);

  constructor() {
    this.#views();
  }

  /** The address of a new buffer with these contents, or so many bytes of 0xff (NaN in every float type). */
  alloc(name: string, contents: ArrayBufferView | number, readOnly = false): number {
    const bytes = typeof contents === 'number' ? contents : contents.byteLength;
    const start = this.#end;
    this.#end = Math.ceil((start + bytes) / PAGE) * PAGE + PAGE;
    if (this.#end > this.#buffer.byteLength) {
      const grown = new ArrayBuffer(2 ** Math.ceil(Math.log2(this.#end)));
      new Uint8Array(grown).set(this.u8);
      this.#buffer = grown;
      this.#views();
    }
    if (typeof contents === 'number') this.u8.fill(255, start, start + bytes);
    else this.u8.set(new Uint8Array(contents.buffer, contents.byteOffset, bytes), start);
    this.#allocations.push({ name, start, bytes, readOnly });
    for (let p = start / PAGE; p * PAGE < start + bytes; p++) this.#owner[p] = this.#allocations.length;
    return GLOBAL_BASE + start;
  }

  /** A view of the bytes that lie at an address. */
  bytesAt(address: number, bytes: number): Uint8Array {
    return this.u8.subarray(address - GLOBAL_BASE, address - GLOBAL_BASE + bytes);
  }

  /** Offset of an access in the views. */
  at(address: Wide, size: number, write: boolean): number {
    const offset = typeof address === 'number' ? address - GLOBAL_BASE : -1;
    const a = this.#allocations[(this.#owner[Math.floor(offset / PAGE)] ?? 0) - 1];
    if (!a || offset + size > a.start + a.bytes) this.#fail(address, offset, size, write);
    if (offset % size !== 0)
      throw new PtxError(`${size}-byte access of ${a.name} at byte ${offset - a.start} is misaligned`);
    if (write && a.readOnly) throw new PtxError(`write to ${a.name}, which is read-only, at byte ${offset - a.start}`);
    return offset;
  }

  #fail(address: Wide, offset: number, size: number, write: boolean): never {
    const where = this.where(offset) ?? `address ${address}`;
    throw new PtxError(`${write ? 'write' : 'read'} of ${size} bytes outside a buffer: ${where}`);
  }

  /** What lies at an offset, or before it. */
  where(offset: number): string | undefined {
    const before = this.#allocations.findLast((a) => a.start <= offset);
    return before && `${before.name} (${before.bytes} bytes) at byte ${offset - before.start}`;
  }

  #views(): void {
    this.u8 = new Uint8Array(this.#buffer);
    this.i16 = new Uint16Array(this.#buffer);
    this.i32 = new Int32Array(this.#buffer);
    this.f32 = new Float32Array(this.#buffer);
    this.f64 = new Float64Array(this.#buffer);
    this.i64 = new BigInt64Array(this.#buffer);
    const owner = new Int32Array(this.#buffer.byteLength / PAGE);
    owner.set(this.#owner);
    this.#owner = owner;
  }
}

/**
 * Who touched which byte of global memory while a grid's blocks run side by side: two blocks that touch a byte, one of them writing, must
 * have synchronised between, by a release and an acquire of one word. Blocks carry vector clocks; of several readers before a write only
 * the latest is remembered, and a block counts as one: what its own threads owe each other is not watched here.
 */
export class GridWatch {
  readonly #clocks: Clock[];
  readonly #released = new Map<number, Clock>();
  readonly #memory: GlobalMemory;
  #writer = new Int32Array(0);
  #writerClock = new Int32Array(0);
  #reader = new Int32Array(0);
  #readerClock = new Int32Array(0);

  constructor(memory: GlobalMemory, blocks: number) {
    this.#memory = memory;
    this.#clocks = Array.from({ length: blocks }, (_, b) => new Int32Array(blocks).fill(0).fill(1, b, b + 1));
    [this.#writer, this.#writerClock, this.#reader, this.#readerClock] = Array.from(
      { length: 4 },
      () => new Int32Array(memory.u8.length),
    );
  }

  /** An ordinary access of a block to bytes from an offset on. */
  touch(block: number, at: number, size: number, write: boolean): void {
    const clock = this.#clocks[block];
    const unknown = (other: number, then: number): boolean => other >= 0 && other !== block && then > clock[other];
    for (let i = at; i < at + size; i++) {
      if (unknown(this.#writer[i] - 1, this.#writerClock[i]))
        this.#fail(block, write ? 'writes' : 'reads', i, this.#writer[i] - 1, 'wrote');
      if (write && unknown(this.#reader[i] - 1, this.#readerClock[i]))
        this.#fail(block, 'writes', i, this.#reader[i] - 1, 'read');
      const [by, when] = write ? [this.#writer, this.#writerClock] : [this.#reader, this.#readerClock];
      by[i] = block + 1;
      when[i] = clock[block];
    }
  }

  /** What the block did is known to who acquires the word later. */
  release(block: number, at: number): void {
    const into = this.#released.get(at) ?? new Int32Array(this.#clocks.length);
    join(into, this.#clocks[block]);
    this.#released.set(at, into);
    this.#clocks[block][block]++;
  }
  acquire(block: number, at: number): void {
    const from = this.#released.get(at);
    if (from) join(this.#clocks[block], from);
  }

  #fail(block: number, does: string, at: number, other: number, did: string): never {
    throw new PtxError(
      `race: block ${block} ${does} ${this.#memory.where(at)}, which block ${other} ${did}, with no barrier between`,
    );
  }
}

/** Writers that are no threads: a copy that is under way, another block. */
const ASYNC = -1;
const FROM_AFAR = -2;

/** What a warp knows of the others' progress: its own entry counts its synchronisations. */
export type Clock = Int32Array;

const join = (into: Clock, from: Clock): void => {
  for (let i = 0; i < into.length; i++) if (from[i] > into[i]) into[i] = from[i];
};

export class SharedMemory {
  readonly u8: Uint8Array;
  readonly i16: Uint16Array;
  readonly i32: Int32Array;
  readonly f32: Float32Array;
  readonly f64: Float64Array;
  readonly i64: BigInt64Array;
  /** By half-word: the thread that wrote last (+1; 0 nobody, -1 an asynchronous copy), and its warp's clock then. */
  readonly #writer: Int32Array;
  readonly #writerClock: Int32Array;
  readonly #reader: Int32Array;
  readonly #readerClock: Int32Array;
  /** Clocks by warp. */
  readonly clocks: Clock[];
  readonly #atomics: Clock;
  readonly bytes: number;

  constructor(bytes: number, warps: number) {
    this.bytes = bytes;
    const rounded = Math.ceil(bytes / 16) * 16;
    const buffer = new ArrayBuffer(rounded);
    this.u8 = new Uint8Array(buffer).fill(0xcd);
    this.i16 = new Uint16Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.f32 = new Float32Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.i64 = new BigInt64Array(buffer);
    this.#writer = new Int32Array(rounded / 2);
    this.#writerClock = new Int32Array(rounded / 2);
    this.#reader = new Int32Array(rounded / 2);
    this.#readerClock = new Int32Array(rounded / 2);
    this.#atomics = new Int32Array(warps);
    this.clocks = Array.from({ length: warps }, (_, w) =>
      new Int32Array(warps).fill(0).map((_c, i) => (i === w ? 1 : 0)),
    );
  }

  /** These warps have all seen what the others did before. */
  synchronise(warps: readonly number[]): void {
    const all = new Int32Array(this.clocks.length);
    for (const w of warps) join(all, this.clocks[w]);
    for (const w of warps) {
      this.clocks[w].set(all);
      this.clocks[w][w]++;
    }
  }

  /** What a warp did is known to who acquires the clock later. */
  release(warp: number, into: Clock): void {
    join(into, this.clocks[warp]);
    this.clocks[warp][warp]++;
  }
  acquire(warp: number, from: Clock): void {
    join(this.clocks[warp], from);
  }

  #check(address: Wide, size: number, kind: string): number {
    let a = Number(address);
    if (a >= SHARED_WINDOW) a -= SHARED_WINDOW;
    if (a < 0 || a + size > this.bytes)
      throw new PtxError(`${kind} of ${size} bytes outside shared memory at ${a} of ${this.bytes}`);
    if (a % size !== 0) throw new PtxError(`${size}-byte ${kind} of shared memory at byte ${a} is misaligned`);
    return a;
  }

  read(address: Wide, size: number, thread: number): number {
    const a = this.#check(address, size, 'read');
    const warp = thread >> 5;
    const clock = this.clocks[warp];
    for (let h = a >> 1; h < (a + size + 1) >> 1; h++) {
      const writer = this.#writer[h];
      if (writer === 0) throw new PtxError(`read of shared memory at byte ${a} that nobody wrote`);
      if (writer === ASYNC)
        throw new PtxError(`read of shared memory at byte ${a} that cp.async is still writing: a wait is missing`);
      if (
        writer > 0 &&
        writer - 1 !== thread &&
        this.#writerClock[h] >= clock[(writer - 1) >> 5] + ((writer - 1) >> 5 === warp ? 0 : 1)
      ) {
        throw new PtxError(
          `race: shared memory at byte ${a} was written by thread ${writer - 1} with no barrier between`,
        );
      }
      this.#reader[h] = thread + 1;
      this.#readerClock[h] = clock[warp];
    }
    return a;
  }

  /** A read by another block: its order with writes is the cluster's barrier's affair. */
  readFreely(address: Wide, size: number): number {
    const a = this.#check(address, size, 'read');
    for (let h = a >> 1; h < (a + size + 1) >> 1; h++) {
      if (this.#writer[h] === 0 || this.#writer[h] === ASYNC)
        throw new PtxError(`read of another block's shared memory at byte ${a} that nobody wrote`);
    }
    return a;
  }

  /** A write by another block: its order with others is the cluster's barrier's affair. */
  writeFromAfar(address: Wide, size: number): number {
    const a = this.#check(address, size, 'write');
    for (let h = a >> 1; h < (a + size + 1) >> 1; h++) {
      if (this.#writer[h] === ASYNC)
        throw new PtxError(`write of shared memory at byte ${a} that cp.async is still writing`);
      this.#writer[h] = FROM_AFAR;
    }
    return a;
  }

  write(address: Wide, size: number, thread: number): number {
    const a = this.#check(address, size, 'write');
    this.#mark(a, size, thread, size > 1);
    return a;
  }

  /** An atomic: it needs no order, and gives one to what stands around it. */
  atomicAt(address: Wide, size: number, thread: number): number {
    const a = this.#check(address, size, 'atomic');
    this.acquire(thread >> 5, this.#atomics);
    this.#mark(a, size, thread, false);
    this.release(thread >> 5, this.#atomics);
    return a;
  }

  #mark(a: number, size: number, thread: number, checked: boolean): void {
    const warp = thread >> 5;
    const clock = this.clocks[warp];
    for (let h = a >> 1; h < (a + size + 1) >> 1; h++) {
      const writer = this.#writer[h];
      if (writer === ASYNC) throw new PtxError(`write of shared memory at byte ${a} that cp.async is still writing`);
      if (checked) {
        const w = writer - 1;
        if (writer > 0 && w !== thread && this.#writerClock[h] >= clock[w >> 5] + (w >> 5 === warp ? 0 : 1)) {
          throw new PtxError(
            `race: shared memory at byte ${a} was written by thread ${w} too, with no barrier between`,
          );
        }
        const r = this.#reader[h] - 1;
        if (r >= 0 && r !== thread && this.#readerClock[h] >= clock[r >> 5] + (r >> 5 === warp ? 0 : 1)) {
          throw new PtxError(
            `race: shared memory at byte ${a} was read by thread ${r}, with no barrier before this write`,
          );
        }
      }
      this.#writer[h] = thread + 1;
      this.#writerClock[h] = clock[warp];
    }
  }

  /** cp.async: nobody may touch these bytes until `land`. Checked as a write of the thread. */
  begin(address: Wide, size: number, thread: number): number {
    const a = this.write(address, size, thread);
    this.#writer.fill(ASYNC, a >> 1, (a + size) >> 1);
    return a;
  }
  /** `clock`: the warp's own when it let go of the copy. */
  land(a: number, size: number, thread: number, clock = this.clocks[thread >> 5][thread >> 5]): void {
    this.#writer.fill(thread + 1, a >> 1, (a + size) >> 1);
    this.#writerClock.fill(clock, a >> 1, (a + size) >> 1);
  }
}
