/**
 * What native code needs of the operating system: pages of memory that may become executable, threads that start at an address, a way
 * to sleep until a word changes.
 *
 * Pages are writable or executable, never both. Threads run native code from their first instruction to their last and never enter
 * JavaScript.
 */
import type { Ffi } from './ffi.ts';

/**
 * How code made here is called and how it sleeps: by System V's convention and Linux's futex system call, or by Windows' convention
 * and the functions at these addresses.
 */
export type NativeCalls =
  | { readonly convention: 'systemv' }
  | { readonly convention: 'windows'; readonly waitOnAddress: number; readonly wakeByAddressAll: number };

export interface NativeSystem {
  readonly ffi: Ffi;
  readonly calls: NativeCalls;
  /** Fresh pages, all zero, readable and writable; `bytes` is rounded up to whole pages. Throws Error where refused. */
  mapPages(bytes: number): number;
  /** From now on the pages may be executed and no longer written. Throws Error where refused. */
  makeExecutable(address: number, bytes: number): void;
  unmapPages(address: number, bytes: number): void;
  /**
   * A file's bytes where they lie in the system's cache of it, at fresh pages, with at least `behind` zeros behind them; what is written to
   * the pages stays in this process. `unmapPages` takes `bytes + behind`. Absent where the system cannot, Error where it refuses.
   */
  mapFile?(descriptor: number, bytes: number, behind: number): number;
  /** Copies bytes to an address. */
  write(address: number, bytes: Uint8Array): void;
  /** A hint that memory is large and used all at once. */
  adviseHugePages(address: number, bytes: number): void;
  /** Starts a thread that calls the code at `entry` with one argument; its handle. Throws Error where refused. */
  startThread(entry: number, argument: number): number;
  /** Returns when the thread has. */
  joinThread(handle: number): void;
}
