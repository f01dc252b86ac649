/**
 * Windows: memory by VirtualAlloc, threads by CreateThread, sleep by WaitOnAddress, all of kernel32 and kernelbase.
 *
 * Workers get their stack committed as a whole, because code made here does not touch it page by page as Windows wants it to grow.
 */
import type { Ffi } from './ffi.ts';
import type { NativeSystem } from './native-types.ts';

/** Constants of winnt.h and winbase.h. */
const MEM_COMMIT = 0x1000;
const MEM_RESERVE = 0x2000;
const MEM_RELEASE = 0x8000;
const PAGE_READWRITE = 0x04;
const PAGE_EXECUTE_READ = 0x20;
const CURRENT_PROCESS = -1;
const INFINITE = 0xffffffff;
const STACK_BYTES = 2 ** 20;

export function windows(ffi: Ffi): NativeSystem {
  const alloc = ffi.symbol('kernel32.dll', 'VirtualAlloc', 'intptr', ['intptr', 'intptr', 'uint', 'uint']);
  const protect = ffi.symbol('kernel32.dll', 'VirtualProtect', 'int', ['intptr', 'intptr', 'uint', 'void *']);
  const free = ffi.symbol('kernel32.dll', 'VirtualFree', 'int', ['intptr', 'intptr', 'uint']);
  const flush = ffi.symbol('kernel32.dll', 'FlushInstructionCache', 'int', ['intptr', 'intptr', 'intptr']);
  const move = ffi.symbol('kernel32.dll', 'RtlMoveMemory', 'void', ['intptr', 'void *', 'intptr']);
  const create = ffi.symbol('kernel32.dll', 'CreateThread', 'intptr', [
    ...(['intptr', 'intptr', 'intptr', 'intptr', 'uint', 'intptr'] as const),
  ]);
  const wait = ffi.symbol('kernel32.dll', 'WaitForSingleObject', 'uint', ['intptr', 'uint']);
  const close = ffi.symbol('kernel32.dll', 'CloseHandle', 'int', ['intptr']);
  return {
    ffi,
    calls: { convention: 'windows', ...addressesOfWaiting(ffi) },
    mapPages: (bytes) => {
      const address = alloc(0, bytes, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
      if (address === 0) throw new Error(`the system refused ${bytes} bytes`);
      return address;
    },
    makeExecutable: (address, bytes) => {
      checkTrue('executable memory', protect(address, bytes, PAGE_EXECUTE_READ, new Uint32Array(1)));
      flush(CURRENT_PROCESS, address, bytes);
    },
    unmapPages: (address) => checkTrue('to free memory', free(address, 0, MEM_RELEASE)),
    write: (address, bytes) => {
      if (bytes.length > 0) move(address, bytes, bytes.length);
    },
    // Large pages are a privilege that programs must ask for.
    adviseHugePages: () => {},
    startThread: (entry, argument) => {
      const handle = create(0, STACK_BYTES, entry, argument, 0, 0);
      if (handle === 0) throw new Error('the system refused a thread');
      return handle;
    },
    joinThread: (handle) => {
      if (wait(handle, INFINITE) !== 0) throw new Error('the system refused to join a thread');
      close(handle);
    },
  };
}

function addressesOfWaiting(ffi: Ffi): { readonly waitOnAddress: number; readonly wakeByAddressAll: number } {
  const moduleOf = ffi.symbol('kernel32.dll', 'GetModuleHandleA', 'intptr', ['void *']);
  const addressOf = ffi.symbol('kernel32.dll', 'GetProcAddress', 'intptr', ['intptr', 'void *']);
  const text = (name: string): Uint8Array => new TextEncoder().encode(`${name}\0`);
  const library = moduleOf(text('kernelbase.dll'));
  const find = (name: string): number => {
    const address = library === 0 ? 0 : addressOf(library, text(name));
    if (address === 0) throw new Error(`kernelbase.dll has no ${name}`);
    return address;
  };
  return { waitOnAddress: find('WaitOnAddress'), wakeByAddressAll: find('WakeByAddressAll') };
}

function checkTrue(what: string, result: number): void {
  if (result === 0) throw new Error(`the system refused ${what}`);
}
