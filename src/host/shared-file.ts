/**
 * A whole file in shared memory, which nothing can take away: native code may read it where it lies, and other threads too.
 *
 * Multiples of 64 in the file are multiples of 64 in memory where the C library's large blocks begin 16 bytes behind a page, as
 * glibc's do; who needs that must look. Behind the file are zeros, so that vectors may be read past its end.
 */
import { nodeModule } from './node-module.ts';

interface NodeFs {
  openSync(file: string, flags: 'r'): number;
  fstatSync(descriptor: number): { readonly size: number };
  readSync(descriptor: number, into: Uint8Array, options: { offset: number; length: number }): number;
  closeSync(descriptor: number): void;
}

const BEFORE = 48;
const BEHIND = 64;
/** Node reads less than 2 GiB at once. */
const MOST_AT_ONCE = 2 ** 30;

/** The first bytes of a file, up to `count`. Throws as Node does. */
export function readHead(file: string, count: number): Uint8Array {
  return withFile(file, (fs, descriptor) => {
    const bytes = new Uint8Array(count);
    return bytes.subarray(0, fill(fs, descriptor, bytes));
  });
}

/** Throws as Node does, and Error where the host has no files. */
export function readSharedFile(file: string): Uint8Array<SharedArrayBuffer> {
  return withFile(file, (fs, descriptor) => {
    const { size } = fs.fstatSync(descriptor);
    const bytes = new Uint8Array(new SharedArrayBuffer(BEFORE + size + BEHIND), BEFORE, size);
    return bytes.subarray(0, fill(fs, descriptor, bytes));
  });
}

/** `use` of the open file and its size. */
export const withDescriptor = <T>(file: string, use: (descriptor: number, size: number) => T): T =>
  withFile(file, (fs, descriptor) => use(descriptor, fs.fstatSync(descriptor).size));

function withFile<T>(file: string, read: (fs: NodeFs, descriptor: number) => T): T {
  const fs = nodeModule<NodeFs>('node:fs');
  if (!fs) throw new Error('this host has no files');
  const descriptor = fs.openSync(file, 'r');
  try {
    return read(fs, descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

/** How many bytes there were. */
function fill(fs: NodeFs, descriptor: number, into: Uint8Array): number {
  let at = 0;
  while (at < into.length) {
    const count = fs.readSync(descriptor, into, { offset: at, length: Math.min(MOST_AT_ONCE, into.length - at) });
    if (count === 0) break;
    at += count;
  }
  return at;
}
