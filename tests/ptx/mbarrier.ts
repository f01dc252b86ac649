/**
 * Barriers in shared memory (mbarrier) of the interpreter: phases that end when so many have arrived, by themselves or by copies that land.
 *
 * A copy of cp.async lands as late as it may: when the phase it arrives at has all others. Who waits for a phase has seen what those that
 * arrived at it did before.
 */
import type { Clock, SharedMemory } from './memory.ts';
import { PtxError } from './parse.ts';

interface Barrier {
  readonly count: number;
  pending: number;
  /** Phases that have ended. */
  phase: number;
  /** What those that have arrived at the present phase did before; and of the phase that ended last. */
  arriving: Clock;
  seen: Clock;
  /** Copies that have not landed. */
  landings: (() => void)[];
}

export class Barriers {
  readonly #shared: SharedMemory;
  readonly #byAddress = new Map<number, Barrier>();

  constructor(shared: SharedMemory) {
    this.#shared = shared;
  }

  init(address: number, count: number, thread: number): void {
    const at = this.#shared.write(address, 8, thread);
    if (count < 1) throw new PtxError(`mbarrier of ${count} arrivals`);
    const none = (): Clock => new Int32Array(this.#shared.clocks.length);
    const barrier = { count, pending: count, phase: 0, arriving: none(), seen: none(), landings: [] };
    this.#byAddress.set(at, barrier);
  }

  #at(address: number, thread: number): Barrier {
    const barrier = this.#byAddress.get(this.#shared.read(address, 8, thread));
    if (!barrier) throw new PtxError(`no mbarrier at byte ${address} of shared memory`);
    return barrier;
  }

  /** `land` writes what the thread's copies bring, when it must. */
  arrive(address: number, thread: number, land?: () => void): void {
    const barrier = this.#at(address, thread);
    if (land) barrier.landings.push(land);
    this.#shared.release(thread >> 5, barrier.arriving);
    barrier.pending--;
    if (barrier.pending > 0) return;
    for (const landing of barrier.landings) landing();
    barrier.landings = [];
    barrier.seen.set(barrier.arriving);
    barrier.pending = barrier.count;
    barrier.phase++;
  }

  /** Whether the phase of that parity has ended. */
  isOver(address: number, parity: number, thread: number): boolean {
    const barrier = this.#at(address, thread);
    if (barrier.phase % 2 === (parity & 1)) return false;
    this.#shared.acquire(thread >> 5, barrier.seen);
    return true;
  }
}
