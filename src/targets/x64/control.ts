/**
 * What the emitted program keeps between threads: the control block, one a open engine, all zero at first. Only emitted code touches it.
 *
 * A word that threads wait for stands at the start of a cache line of its own, the number of threads asleep on it right behind:
 *
 *     0 epoch | 64 generation | 128 finished | 192 arrivals | 256 stop, weights, arena | 320 counters of shared steps (share.ts)
 */

/** Byte offsets in the control block. */
export const CONTROL = {
  /** Changes once an inference; workers wait for it. */
  epoch: 0,
  /** Changes when all threads have come to the barrier. */
  generation: 64,
  /** Workers that have done all steps of this inference; thread 0 waits for it. */
  finished: 128,
  /** Threads that have come to the barrier. */
  arrivals: 192,
  /** Not 0: workers return. */
  stop: 256,
  /** Addresses for this inference. */
  weights: 264,
  arena: 272,
  counters: 320,
} as const;

/** From a word to the number of threads that sleep on it. */
export const SLEEPERS = 4;
