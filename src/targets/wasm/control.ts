/**
 * What the emitted module and the device agree on: the variants of the code, the words of the control block, where it lies.
 *
 * The control block is 32-bit words in the shared memory, all zero before the first inference. Words are read and written with
 * atomics once workers run. Behind it lie counters, zero when an inference begins: of each thread and step, how many tiles of the thread's
 * range have been taken. This file is part of the runtime: it knows no compiler.
 */

/** What a code section may use. */
export interface Variant {
  /** The code section's name in an engine. */
  readonly name: string;
  /** Relaxed SIMD: fused multiply-add, blends. */
  readonly relaxed: boolean;
  /** Atomics and a shared memory; without them `run` is for one thread and there is no `worker`. */
  readonly threads: boolean;
}

/** Best first. */
export const VARIANTS: readonly Variant[] = [
  { name: 'wasm-relaxed-threads', relaxed: true, threads: true },
  { name: 'wasm-relaxed', relaxed: true, threads: false },
  { name: 'wasm-simd128-threads', relaxed: false, threads: true },
  { name: 'wasm-simd128', relaxed: false, threads: false },
];

/** Indices of words in the control block. */
export const CONTROL = {
  /** Changes once an inference; workers wait for it. */
  epoch: 0,
  /** One of STOP. */
  stop: 1,
  /** Address of the weights. */
  weights: 2,
  /** Address of the arena of the context that runs. */
  arena: 3,
  threads: 4,
  /** Threads that have come to the barrier. */
  arrivals: 5,
  /** Changes when the last one has come. */
  generation: 6,
  /** Workers that have done all steps of this inference. */
  finished: 7,
  /** 1 where thread 0 may sleep; a browser forbids it on the page's own thread. */
  mayWait: 8,
  /** Threads asleep, so that nobody is notified in vain. */
  sleepers: 9,
} as const;
export type ControlWord = keyof typeof CONTROL;

/** `end`: workers return. `failed`: a thread trapped; the others trap too instead of waiting for it. */
export const STOP = { run: 0, end: 1, failed: 2 } as const;

/** Byte address of the control block; nothing lies at address 0. */
export const CONTROL_ADDRESS = 64;
export const CONTROL_BYTES = 64;
/** From one thread's counters behind the control block, a word a step, to the next one's. */
export const counterStride = (steps: number): number => Math.ceil((4 * steps) / 64) * 64;
/** Pages of 64 KiB that a module's memory may grow to: all that 32-bit addresses reach. */
export const MAX_PAGES = 65536;
