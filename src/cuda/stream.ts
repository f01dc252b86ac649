/**
 * Streams and events: work that runs in order beside other streams and the processor, and marks in it.
 *
 * A copy or launch returns at once, with the work in the queue; host memory of a copy must stay as it is until the work is done, unless
 * it is not pinned: then the driver copies before it returns.
 */
import type { Context } from './context.ts';
import type { DeviceBuffer } from './memory.ts';

/** Runs beside the legacy stream 0, not in turn with it. */
const NON_BLOCKING = 1;
const DISABLE_TIMING = 2;
/** Under capture: the event is a node of the graph, not an edge. */
const RECORD_EXTERNAL = 1;

export class Stream {
  readonly context: Context;
  readonly handle: number;
  readonly #free: () => void;

  constructor(context: Context) {
    this.context = context;
    const handle = context.enter().handle('cuStreamCreate', 'make a stream', NON_BLOCKING);
    this.handle = handle;
    this.#free = context.own(this, (driver) => void driver.status('cuStreamDestroy_v2', handle));
  }

  /** Returns when all work of the stream is done. Throws ModelError `device-lost` where a kernel faulted. */
  synchronize(): void {
    this.context.call('cuStreamSynchronize', 'finish the work of a stream', this.handle);
  }

  /** True where all work of the stream is done. */
  isReady(): boolean {
    return this.context.enter().isReady('cuStreamQuery', 'ask whether a stream is done', this.handle);
  }

  /** Work put in from now on starts after the event. */
  waitFor(event: Event): void {
    this.context.call('cuStreamWaitEvent', 'wait for an event', this.handle, event.handle, 0);
  }

  /** Copies the whole array to the buffer, from `byteOffset` on. */
  upload(to: DeviceBuffer, from: ArrayBufferView, byteOffset = 0): void {
    checkRange(to, byteOffset, from.byteLength);
    this.copyToDevice(to.address + byteOffset, from);
  }

  /** Fills the whole array from the buffer, from `byteOffset` on. */
  download(to: ArrayBufferView, from: DeviceBuffer, byteOffset = 0): void {
    checkRange(from, byteOffset, to.byteLength);
    this.copyToHost(to, from.address + byteOffset);
  }

  copyToDevice(address: number, from: ArrayBufferView): void {
    if (from.byteLength === 0) return;
    this.context.call('cuMemcpyHtoDAsync_v2', 'copy to the GPU', address, from, from.byteLength, this.handle);
  }

  copyToHost(to: ArrayBufferView, address: number): void {
    if (to.byteLength === 0) return;
    this.context.call('cuMemcpyDtoHAsync_v2', 'copy from the GPU', to, address, to.byteLength, this.handle);
  }

  /** Copies between any two places that the GPU reaches: its memory, and pinned memory of the host. */
  copy(to: number, from: number, bytes: number): void {
    if (bytes > 0) this.context.call('cuMemcpyAsync', 'copy memory', to, from, bytes, this.handle);
  }

  /** Sets each byte of the range. */
  fill(address: number, value: number, bytes: number): void {
    if (bytes > 0) this.context.call('cuMemsetD8Async', 'fill memory', address, value, bytes, this.handle);
  }

  dispose(): void {
    this.#free();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}

function checkRange(buffer: DeviceBuffer, byteOffset: number, bytes: number): void {
  if (byteOffset >= 0 && byteOffset + bytes <= buffer.byteLength) return;
  throw new RangeError(`bytes ${byteOffset} to ${byteOffset + bytes} lie outside a buffer of ${buffer.byteLength}`);
}

export class Event {
  readonly context: Context;
  readonly handle: number;
  readonly #free: () => void;

  /** `timed: false` makes it cheaper, for order only. */
  constructor(context: Context, options: { readonly timed?: boolean } = {}) {
    this.context = context;
    const flags = options.timed === false ? DISABLE_TIMING : 0;
    const handle = context.enter().handle('cuEventCreate', 'make an event', flags);
    this.handle = handle;
    this.#free = context.own(this, (driver) => void driver.status('cuEventDestroy_v2', handle));
  }

  /** Happens when the work that is in the stream now is done. */
  record(stream: Stream): void {
    this.context.call('cuEventRecord', 'record an event', this.handle, stream.handle);
  }

  /** As `record`, in a stream that is being captured: the graph records the event each time it runs. */
  recordInGraph(stream: Stream): void {
    this.context.call('cuEventRecordWithFlags', 'record an event', this.handle, stream.handle, RECORD_EXTERNAL);
  }

  synchronize(): void {
    this.context.call('cuEventSynchronize', 'wait for an event', this.handle);
  }

  isReady(): boolean {
    return this.context.enter().isReady('cuEventQuery', 'ask whether an event has happened', this.handle);
  }

  /** Nanoseconds from an earlier event to this one, both in the past; the GPU's clock has a resolution of about 500. */
  nsSince(earlier: Event): number {
    const ms = new Float32Array(1);
    this.context.call('cuEventElapsedTime', 'read the time between events', ms, earlier.handle, this.handle);
    return ms[0] * 1e6;
  }

  dispose(): void {
    this.#free();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
