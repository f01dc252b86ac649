/** Linux: memory by mmap, threads by pthread, both of the C library that the process has loaded. */
import type { Ffi, NativeFunction } from './ffi.ts';
import type { NativeSystem } from './native-types.ts';

/** Constants of Linux's mman.h and madvise.h. */
const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MADV_HUGEPAGE = 14;
const PAGE_BYTES = 4096;

export function linux(ffi: Ffi): NativeSystem {
  const mmap = ffi.symbol(null, 'mmap', 'intptr', ['intptr', 'intptr', 'int', 'int', 'int', 'intptr']);
  const mprotect = ffi.symbol(null, 'mprotect', 'int', ['intptr', 'intptr', 'int']);
  const munmap = ffi.symbol(null, 'munmap', 'int', ['intptr', 'intptr']);
  const madvise = ffi.symbol(null, 'madvise', 'int', ['intptr', 'intptr', 'int']);
  const memcpy = ffi.symbol(null, 'memcpy', 'intptr', ['intptr', 'void *', 'intptr']);
  const create = ffi.symbol(null, 'pthread_create', 'int', ['void *', 'intptr', 'intptr', 'intptr']);
  const join = ffi.symbol(null, 'pthread_join', 'int', ['intptr', 'intptr']);
  const mapPages = (bytes: number): number => {
    const address = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address === -1) throw new Error(`the system refused ${bytes} bytes`);
    return address;
  };
  return {
    ffi,
    calls: { convention: 'systemv' },
    mapPages,
    makeExecutable: (address, bytes) => check('executable memory', mprotect(address, bytes, PROT_READ | PROT_EXEC)),
    unmapPages: (address, bytes) => check('to unmap memory', munmap(address, bytes)),
    mapFile: (descriptor, bytes, behind) => {
      // The last page of a file ends in zeros; behind it there may be nothing, so that pages of zeros are there first.
      const address = mapPages(bytes + behind);
      const at = mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, descriptor, 0);
      if (at === address) return address;
      munmap(address, bytes + behind);
      throw new Error('the system refused to map a file');
    },
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
