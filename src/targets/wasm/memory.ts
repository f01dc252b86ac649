/**
 * The memory of one engine and who has which part of it: control block, weights, and an arena a context.
 *
 *     0      64        128 ...            (aligned to 64)
 *     unused | control | counters | weights | guard | arena 0 | guard | arena 1 | guard ...
 *
 * Arenas are all of one size: a freed one goes to the next context. Guards let vector loads read past the end of a buffer.
 */
import { alignUp } from '../../core/bytes.ts';
import { ModelError } from '../../core/errors.ts';
import { BUFFER_ALIGNMENT } from '../../engine/engine.ts';
import { CONTROL_ADDRESS, CONTROL_BYTES, MAX_PAGES } from './control.ts';

const PAGE_BYTES = 65536;
const GUARD_BYTES = 64;
const COUNTERS_ADDRESS = CONTROL_ADDRESS + CONTROL_BYTES;
/** Tried in turn: hosts with little address space refuse to reserve 4 GiB for a shared memory. */
const SHARED_LIMITS = [MAX_PAGES, MAX_PAGES / 4, MAX_PAGES / 16];

export class EngineMemory {
  readonly weightsAddress: number;
  readonly shared: boolean;
  readonly #arenaBytes: number;
  readonly #free: number[] = [];
  #memory: WebAssembly.Memory | undefined;
  /** Where the next new arena would start. */
  #end: number;

  /** Copies the weights in. `counterBytes` is a multiple of 64. Throws ModelError `out-of-memory`. */
  constructor(weights: Uint8Array, arenaBytes: number, counterBytes: number, shared: boolean) {
    this.weightsAddress = COUNTERS_ADDRESS + counterBytes;
    this.shared = shared;
    this.#arenaBytes = alignUp(arenaBytes, BUFFER_ALIGNMENT) + GUARD_BYTES;
    this.#end = alignUp(this.weightsAddress + weights.byteLength + GUARD_BYTES, BUFFER_ALIGNMENT);
    this.#memory = allocate(this.#end + this.#arenaBytes, shared);
    new Uint8Array(this.#memory.buffer).set(weights, this.weightsAddress);
  }

  get memory(): WebAssembly.Memory {
    if (!this.#memory) throw new ModelError('disposed', 'the engine was disposed');
    return this.#memory;
  }

  get buffer(): ArrayBufferLike {
    return this.memory.buffer;
  }

  /** The control block's words. */
  words(): Int32Array {
    return new Int32Array(this.buffer, CONTROL_ADDRESS, CONTROL_BYTES / 4);
  }

  /** Of all threads. */
  counters(): Int32Array {
    return new Int32Array(this.buffer, COUNTERS_ADDRESS, (this.weightsAddress - COUNTERS_ADDRESS) / 4);
  }

  bytes(): number {
    return this.buffer.byteLength;
  }

  /** Address of an arena, all zero and its pages already in place. Throws ModelError `out-of-memory`. */
  takeArena(): number {
    const address = this.#free.pop() ?? this.#newArena();
    new Uint8Array(this.buffer, address, this.#arenaBytes).fill(0);
    return address;
  }

  returnArena(address: number): void {
    this.#free.push(address);
  }

  release(): void {
    this.#memory = undefined;
  }

  #newArena(): number {
    const address = this.#end;
    const missing = Math.ceil((address + this.#arenaBytes - this.bytes()) / PAGE_BYTES);
    if (missing > 0) {
      try {
        this.memory.grow(missing);
      } catch (cause) {
        throw outOfMemory(this.#arenaBytes, cause);
      }
    }
    this.#end += this.#arenaBytes;
    return address;
  }
}

function allocate(bytes: number, shared: boolean): WebAssembly.Memory {
  const initial = Math.ceil(bytes / PAGE_BYTES);
  if (initial > MAX_PAGES) throw outOfMemory(bytes);
  let refusal: unknown;
  for (const maximum of shared ? SHARED_LIMITS : [MAX_PAGES]) {
    if (maximum < initial) continue;
    try {
      return new WebAssembly.Memory(shared ? { initial, maximum, shared } : { initial });
    } catch (cause) {
      refusal = cause;
    }
  }
  throw outOfMemory(bytes, refusal);
}

function outOfMemory(bytes: number, cause?: unknown): ModelError {
  const mib = Math.ceil(bytes / 2 ** 20);
  return new ModelError('out-of-memory', `the host refused ${mib} MiB more of WebAssembly memory`, {
    hint: 'one engine with all its contexts has at most 4 GiB; dispose of contexts that are not in use, or use smaller shapes',
    cause,
  });
}
