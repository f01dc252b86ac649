/**
 * What native code needs of the operating system: pages of memory that may become executable, threads that start at an address.
 *
 * One row an operating system. Pages are writable or executable, never both. Threads run native code from their first instruction
 * to their last and never enter JavaScript.
 */
import { type Ffi, loadFfi, type NativeFunction } from './ffi.ts';
import { nodeModule } from './node-module.ts';

export interface NativeSystem {
  readonly ffi: Ffi;
  /** Fresh pages, all zero, readable and writable; `bytes` is rounded up to whole pages. Throws Error where refused. */
  mapPages(bytes: number): number;
  /** From now on the pages may be executed and no longer written. Throws Error where refused. */
  makeExecutable(address: number, bytes: number): void;
  unmapPages(address: number, bytes: number): void;
  /** Copies bytes to an address. */
  write(address: number, bytes: Uint8Array): void;
  /** A hint that memory is large and used all at once. */
  adviseHugePages(address: number, bytes: number): void;
  /** Starts a thread that calls the code at `entry` with one argument; its handle. Throws Error where refused. */
  startThread(entry: number, argument: number): number;
  /** Returns when the thread has. */
  joinThread(handle: number): void;
}

interface NodeOs {
  platform(): string;
}

let opening: Promise<NativeSystem | string> | undefined;

/** The system, or the reason why native code cannot run here. Asked once. */
export function openNativeSystem(): Promise<NativeSystem | string> {
  opening ??= openSystem();
  return opening;
}

async function openSystem(): Promise<NativeSystem | string> {
  const platform = nodeModule<NodeOs>('node:os')?.platform();
  if (platform === undefined) return 'native code runs in Node only';
  if (platform !== 'linux') return `native code is not made for ${platform} yet`;
  const ffi = await loadFfi();
  if (typeof ffi === 'string') return ffi;
  try {
    return linux(ffi);
  } catch (cause) {
    return `the C library is not as expected: ${cause instanceof Error ? cause.message : cause}`;
  }
}

/** Constants of Linux's mman.h and madvise.h. */
const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_PRIVATE = 0x02;
const MAP_ANONYMOUS = 0x20;
const MADV_HUGEPAGE = 14;
const PAGE_BYTES = 4096;

function linux(ffi: Ffi): NativeSystem {
  const mmap = ffi.symbol(null, 'mmap', 'intptr', ['intptr', 'intptr', 'int', 'int', 'int', 'intptr']);
  const mprotect = ffi.symbol(null, 'mprotect', 'int', ['intptr', 'intptr', 'int']);
  const munmap = ffi.symbol(null, 'munmap', 'int', ['intptr', 'intptr']);
  const madvise = ffi.symbol(null, 'madvise', 'int', ['intptr', 'intptr', 'int']);
  const memcpy = ffi.symbol(null, 'memcpy', 'intptr', ['intptr', 'void *', 'intptr']);
  const create = ffi.symbol(null, 'pthread_create', 'int', ['void *', 'intptr', 'intptr', 'intptr']);
  const join = ffi.symbol(null, 'pthread_join', 'int', ['intptr', 'intptr']);
  return {
    ffi,
    mapPages: (bytes) => {
      const address = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (address === -1) throw new Error(`the system refused ${bytes} bytes`);
      return address;
    },
    makeExecutable: (address, bytes) => check('executable memory', mprotect(address, bytes, PROT_READ | PROT_EXEC)),
    unmapPages: (address, bytes) => check('to unmap memory', munmap(address, bytes)),
    write: (address, bytes) => {
      if (bytes.length > 0) memcpy(address, bytes, bytes.length);
    },
    adviseHugePages: (address, bytes) => {
      const first = Math.ceil(address / PAGE_BYTES) * PAGE_BYTES;
      const last = Math.floor((address + bytes) / PAGE_BYTES) * PAGE_BYTES;
      if (last > first) madvise(first, last - first, MADV_HUGEPAGE);
    },
    startThread: (entry, argument) => startPosixThread(create, entry, argument),
    joinThread: (handle) => check('to join a thread', join(handle, 0)),
  };
}

function startPosixThread(create: NativeFunction, entry: number, argument: number): number {
  const handle = new BigUint64Array(1);
  check('a thread', create(handle, 0, entry, argument));
  return Number(handle[0]);
}

function check(what: string, status: number): void {
  if (status !== 0) throw new Error(`the system refused ${what} (status ${status})`);
}
