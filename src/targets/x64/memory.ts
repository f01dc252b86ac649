/**
 * Memory that JavaScript and native code share: weights, and an arena a context.
 *
 * It belongs to JavaScript, so a view of it can never outlive it; a SharedArrayBuffer or a mapped file, because those cannot be detached
 * or moved to another thread while native code has their address. Guards behind let vector loads read past the end of a buffer.
 */
import { ModelError } from '../../core/errors.ts';
import { staysInPlace } from '../../host/mapped-file.ts';
import type { NativeSystem } from '../../host/native-types.ts';

const ALIGNMENT = 64;
const GUARD_BYTES = 64;

export interface NativeBlock {
  readonly bytes: Uint8Array;
  /** Of the first byte; valid as long as `bytes` is referenced. A multiple of 64. */
  readonly address: number;
}

/** Zeros, all pages in place. Throws ModelError `out-of-memory`. */
export function allocateBlock(system: NativeSystem, bytes: number): NativeBlock {
  const buffer = allocate(bytes + GUARD_BYTES + ALIGNMENT);
  const start = system.ffi.addressOf(new Uint8Array(buffer));
  system.adviseHugePages(start, buffer.byteLength);
  const offset = -start & (ALIGNMENT - 1);
  return { bytes: viewOf(buffer, offset, bytes).fill(0), address: start + offset };
}

/** The weights where they are, if nothing can take them away and they are aligned with a guard behind; else a copy. */
export function weightBlock(system: NativeSystem, weights: Uint8Array): NativeBlock {
  if (staysInPlace(weights)) {
    const address = system.ffi.addressOf(weights);
    const hasGuard = weights.byteOffset + weights.byteLength + GUARD_BYTES <= weights.buffer.byteLength;
    if (address % ALIGNMENT === 0 && hasGuard) return { bytes: weights, address };
  }
  const block = allocateBlock(system, weights.byteLength);
  block.bytes.set(weights);
  return block;
}

function allocate(bytes: number): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(bytes);
  } catch (cause) {
    throw refused(bytes, cause);
  }
}

/** A host's typed arrays may be shorter than its buffers. */
function viewOf(buffer: SharedArrayBuffer, offset: number, bytes: number): Uint8Array<SharedArrayBuffer> {
  try {
    return new Uint8Array(buffer, offset, bytes);
  } catch (cause) {
    throw refused(bytes, cause);
  }
}

const refused = (bytes: number, cause: unknown): ModelError =>
  new ModelError('out-of-memory', `the host refused ${Math.ceil(bytes / 2 ** 20)} MiB more of memory`, {
    hint: 'dispose of contexts that are not in use, or use smaller shapes',
    cause,
  });
