/** Native memory and threads, where this machine has them; otherwise a reason. */
import { describe, expect, test } from 'vitest';
import { importKoffi } from './ffi.ts';
import { openNativeSystem } from './native-system.ts';
import type { NativeSystem } from './native-types.ts';
import { processorKind } from './processor.ts';

const system = await openNativeSystem();
const isX64 = processorKind() === 'x64';

test('without the package there is a reason that says what to type', async () => {
  expect(await importKoffi('koffi-that-nobody-installed')).toMatch(/npm i koffi$/);
});

test('a package that is not koffi is a reason too', async () => {
  expect(await importKoffi('node:path')).toMatch(/does not load/);
});

test('there is a system or a reason', () => {
  if (typeof system === 'string') expect(system.length).toBeGreaterThan(10);
  else expect(system.ffi.addressOf(new Uint8Array(128))).toBeGreaterThan(0);
});

/** Where there is no native code, the tests below have nothing to run. */
const native = system as NativeSystem;

describe.skipIf(typeof system === 'string' || !isX64)(
  `native code${typeof system === 'string' ? ` (${system})` : ''}`,
  () => {
    /** mov rax, rdi; add rax, rsi; ret */
    const ADD = new Uint8Array([0x48, 0x89, 0xf8, 0x48, 0x01, 0xf0, 0xc3]);

    test('pages are zero, take code, and run it', () => {
      const address = native.mapPages(5000);
      expect(address % 4096).toBe(0);
      native.write(address, ADD);
      native.makeExecutable(address, 5000);
      const add = native.ffi.functionAt(address, 'intptr', ['intptr', 'intptr']);
      expect(add(2 ** 40 + 1, -7)).toBe(2 ** 40 - 6);
      native.unmapPages(address, 5000);
    });

    test('a request that no system can serve is an error', () => {
      expect(() => native.mapPages(2 ** 52)).toThrow(/refused/);
      expect(() => native.makeExecutable(1, 4096)).toThrow(/refused/);
    });

    test('typed arrays are passed by address, shared ones too', () => {
      // mov rax, [rdi]; ret
      const address = native.mapPages(4096);
      native.write(address, new Uint8Array([0x48, 0x8b, 0x07, 0xc3]));
      native.makeExecutable(address, 4096);
      const read = native.ffi.functionAt(address, 'intptr', ['void *']);
      const readAt = native.ffi.functionAt(address, 'intptr', ['intptr']);
      const shared = new BigInt64Array(new SharedArrayBuffer(64), 16, 2).fill(1234567890123n);
      expect(read(shared)).toBe(1234567890123);
      expect(readAt(native.ffi.addressOf(shared))).toBe(1234567890123);
      native.unmapPages(address, 4096);
    });

    test('threads start at an address with an argument, and end', () => {
      // lock add dword [rdi], 1; ret
      const code = native.mapPages(4096);
      native.write(code, new Uint8Array([0xf0, 0x83, 0x07, 0x01, 0xc3]));
      native.makeExecutable(code, 4096);
      const words = new Int32Array(new SharedArrayBuffer(64));
      const threads = Array.from({ length: 8 }, () => native.startThread(code, native.ffi.addressOf(words)));
      for (const thread of threads) native.joinThread(thread);
      expect(words[0]).toBe(8);
      native.unmapPages(code, 4096);
    });

    test('a hint about memory changes nothing in it', () => {
      const bytes = new Uint8Array(new SharedArrayBuffer(3 * 2 ** 20)).fill(7);
      native.adviseHugePages(native.ffi.addressOf(bytes), bytes.length);
      native.adviseHugePages(native.ffi.addressOf(bytes), 100);
      expect(bytes.every((x) => x === 7)).toBe(true);
    });
  },
);
