/**
 * A whole file in shared memory, which nothing can take away: native code may read it where it lies, and other threads too.
 *
 * Multiples of 64 in the file are multiples of 64 in memory where the C library's large blocks begin 16 bytes behind a page, as
 * glibc's do; who needs that must look. Behind the file are zeros, so that vectors may be read past its end.
 */
import { nodeModule } from './node-module.ts';

interface NodeStat {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}
interface NodeFs {
  openSync(file: string, flags: 'r'): number;
  fstatSync(descriptor: number, options: { readonly bigint: true }): NodeStat;
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
    const version = versionOf(fs.fstatSync(descriptor, { bigint: true }));
    const { size } = version;
    const bytes = new Uint8Array(new SharedArrayBuffer(BEFORE + size + BEHIND), BEFORE, size);
    versions.set(bytes.buffer, version);
    return bytes.subarray(0, fill(fs, descriptor, bytes));
  });
}

/** `use` of the open file; the memory that it gives is known to be of this version. */
export const withDescriptor = (
  file: string,
  use: (descriptor: number, size: number) => Uint8Array | undefined,
): Uint8Array | undefined =>
  withFile(file, (fs, descriptor) => {
    const version = versionOf(fs.fstatSync(descriptor, { bigint: true }));
    const bytes = use(descriptor, version.size);
    if (bytes) versions.set(bytes.buffer, version);
    return bytes;
  });

/** A file's bytes at one time, as far as the system tells them from those at another. */
export interface FileVersion {
  readonly size: number;
  /** Device, inode, size, and when bytes and entry were changed last, in nanoseconds; nobody but the system's own clock sets the latter. */
  readonly name: string;
  /** The later one of these times, in milliseconds since 1970. */
  readonly changedMs: number;
  /** By how much times of this file system may have to differ to be told apart, with a good margin. */
  readonly stepMs: number;
}

const versions = new WeakMap<ArrayBufferLike, FileVersion>();

/** Of which version of a file these bytes are; undefined where they come from none. */
export const fileVersion = ({ buffer }: Uint8Array): FileVersion | undefined => versions.get(buffer);

/** Linux's clock for files has steps of at most ten milliseconds; FAT's times have steps of two seconds. */
const TICK_NS = 10_000_000n;
const FINE_STEP_MS = 100;
const COARSE_STEP_MS = 3000;

const versionOf = ({ dev, ino, size, mtimeNs, ctimeNs }: NodeStat): FileVersion => ({
  size: Number(size),
  name: [dev, ino, size, mtimeNs, ctimeNs].join(' '),
  changedMs: Number(mtimeNs > ctimeNs ? mtimeNs : ctimeNs) / 1e6,
  stepMs: mtimeNs % TICK_NS === 0n && ctimeNs % TICK_NS === 0n ? COARSE_STEP_MS : FINE_STEP_MS,
});

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
