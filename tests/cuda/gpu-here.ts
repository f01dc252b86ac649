/**
 * The GPU of this machine for tests, where there is one, and memory on it that shows what was written outside of a buffer.
 *
 * HOTROD_TEST_CUDA=gpu leaves interpreted runs out where a GPU does the same, =interpreted leaves the GPU alone.
 */
import { Context } from '../../src/cuda/context.ts';
import { type KernelArgument, Launch, type LaunchOptions } from '../../src/cuda/launch.ts';
import { DeviceBuffer } from '../../src/cuda/memory.ts';
import type { CudaFunction } from '../../src/cuda/module.ts';
import { Stream } from '../../src/cuda/stream.ts';
import { type CudaMachine, cudaMachine } from '../../src/targets/cuda/machine.ts';

const asked = process.env.HOTROD_TEST_CUDA;
const machine = asked === 'interpreted' ? 'HOTROD_TEST_CUDA=interpreted' : await cudaMachine();

/** The GPU's machine; undefined where there is none. */
export const GPU: CudaMachine | undefined = typeof machine === 'string' ? undefined : machine;
/** Why there is none. */
export const WITHOUT_GPU = typeof machine === 'string' ? machine : undefined;
/** Whether kernels are interpreted. */
export const INTERPRETS = asked !== 'gpu' || GPU === undefined;

export interface GpuHere {
  readonly gpu: Context;
  readonly stream: Stream;
}
let shared: GpuHere | undefined;

/** One context for a whole file of tests: making one takes longer than most of them. As long as it is held, others come at once. */
export function gpuHere(): GpuHere {
  if (!GPU) throw new Error(WITHOUT_GPU);
  if (!shared) {
    const gpu = new Context(GPU.driver, GPU.device);
    shared = { gpu, stream: new Stream(gpu) };
  }
  return shared;
}

/** What a kernel may use of shared memory without asking. */
const SHARED_BYTES = 48 * 1024;

/** Puts one launch of a kernel into the stream. */
export function launchHere(
  { stream }: GpuHere,
  fn: CudaFunction,
  options: LaunchOptions,
  args: readonly KernelArgument[],
): void {
  if ((options.sharedBytes ?? 0) > SHARED_BYTES) fn.setSharedBytes(options.sharedBytes as number);
  new Launch(fn, options, args).enqueue(stream);
}

const GAP_BYTES = 256;
const POISON = 0xff;

export interface GuardedBuffer {
  readonly name: string;
  /** What it begins as. */
  readonly bytes: Uint8Array;
  /** Where it begins, from a multiple of 64. */
  readonly skew?: number;
  readonly isConstant?: boolean;
}

/** Buffers with poison between them, in one allocation: whoever writes into a gap or a constant is found. */
export class GuardedMemory {
  readonly #memory: DeviceBuffer;
  readonly #before: Uint8Array;
  readonly #places: readonly (GuardedBuffer & { readonly at: number })[];
  readonly #here: GpuHere;

  constructor(here: GpuHere, buffers: readonly GuardedBuffer[]) {
    this.#here = here;
    let end = 0;
    this.#places = buffers.map((buffer) => {
      const at = Math.ceil((end + GAP_BYTES) / 64) * 64 + (buffer.skew ?? 0);
      end = at + buffer.bytes.byteLength;
      return { ...buffer, at };
    });
    this.#before = new Uint8Array(end + GAP_BYTES).fill(POISON);
    for (const { at, bytes } of this.#places) this.#before.set(bytes, at);
    this.#memory = new DeviceBuffer(here.gpu, this.#before.byteLength);
    here.stream.upload(this.#memory, this.#before);
  }

  addressOf(i: number): number {
    return this.#memory.address + this.#places[i].at;
  }

  /** What is in the buffers when the stream is done; frees the memory. */
  finish(): readonly Uint8Array[] {
    const { stream } = this.#here;
    const after = new Uint8Array(this.#before.byteLength);
    try {
      stream.download(after, this.#memory);
      stream.synchronize();
    } finally {
      this.#memory.dispose();
    }
    const parts = this.#places.map(({ at, bytes }) => after.slice(at, at + bytes.byteLength));
    // What may have changed is set back; all else is as it was.
    for (const [i, { at, bytes, isConstant }] of this.#places.entries())
      if (isConstant) {
        const wrong = bytes.findIndex((byte, k) => byte !== parts[i][k]);
        if (wrong >= 0) throw new Error(`byte ${wrong} of the constant ${this.#places[i].name} was written`);
      } else after.set(bytes, at);
    const wrong = after.findIndex((byte, k) => byte !== this.#before[k]);
    if (wrong >= 0) {
      const near = this.#places.reduce((best, place) =>
        Math.abs(place.at - wrong) < Math.abs(best.at - wrong) ? place : best,
      );
      throw new Error(
        `a byte outside of every buffer was written, ${wrong - near.at} behind the start of ${near.name}`,
      );
    }
    return parts;
  }
}
