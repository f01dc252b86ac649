/**
 * Memory: of the GPU, and of the host with its pages pinned, which the GPU copies from and to without the processor.
 */
import { ModelError } from '../core/errors.ts';
import type { Context } from './context.ts';

/** Page locking is by whole pages; two buffers must not share one. */
const PAGE_BYTES = 4096;

export class DeviceBuffer {
  readonly context: Context;
  readonly byteLength: number;
  /** On the GPU; a multiple of 256. 0 where the buffer is empty. */
  readonly address: number;
  readonly #free: () => void;

  /** What is in it is not known. Throws ModelError `out-of-memory` or `device-lost`. */
  constructor(context: Context, byteLength: number) {
    this.context = context;
    this.byteLength = byteLength;
    const what = `allocate ${printBytes(byteLength)} on GPU ${context.device.ordinal}`;
    const address = byteLength === 0 ? 0 : context.enter().handle('cuMemAlloc_v2', what, byteLength);
    this.address = address;
    // The driver waits for work that may still use the memory.
    this.#free = context.own(this, (driver) => {
      if (address !== 0) driver.status('cuMemFree_v2', address);
    });
  }

  dispose(): void {
    this.#free();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Host memory that copies run to and from at full speed, behind the processor's back.
 *
 * It belongs to JavaScript (a SharedArrayBuffer, which cannot be moved or detached) and is pinned as long as the buffer is not disposed
 * of, so views of it can never outlive it. Where the system refuses to pin, `isPinned` is false: copies work, at the speed of pageable memory.
 */
export class PinnedBuffer {
  readonly context: Context;
  /** Begins at a page. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  /** Of the first byte, valid as long as `bytes` is referenced. */
  readonly address: number;
  readonly isPinned: boolean;
  readonly #free: () => void;

  /** Zeros. Throws ModelError `out-of-memory` or `device-lost`. */
  constructor(context: Context, byteLength: number) {
    this.context = context;
    const wholePages = Math.ceil(byteLength / PAGE_BYTES) * PAGE_BYTES;
    const memory = allocate(wholePages + PAGE_BYTES);
    const start = context.driver.library.memory.addressOf(new Uint8Array(memory));
    const offset = -start & (PAGE_BYTES - 1);
    this.bytes = new Uint8Array(memory, offset, byteLength);
    this.address = start + offset;
    const pages = new Uint8Array(memory, offset, wholePages);
    this.isPinned = byteLength > 0 && context.enter().status('cuMemHostRegister_v2', pages, wholePages, 0) === 0;
    const isPinned = this.isPinned;
    // `pages` also keeps the memory alive until it is unpinned.
    this.#free = context.own(this, (driver) => {
      driver.status('cuCtxSynchronize');
      if (isPinned) driver.status('cuMemHostUnregister', pages);
    });
  }

  get byteLength(): number {
    return this.bytes.byteLength;
  }

  /** Unpins the memory; views of it stay valid. Calling twice is harmless. */
  dispose(): void {
    this.#free();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}

function allocate(bytes: number): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(bytes);
  } catch (cause) {
    throw new ModelError('out-of-memory', `the host refused ${printBytes(bytes)} of memory`, { cause });
  }
}

const printBytes = (bytes: number): string => (bytes < 2 ** 20 ? `${bytes} B` : `${(bytes / 2 ** 20).toFixed(1)} MiB`);
