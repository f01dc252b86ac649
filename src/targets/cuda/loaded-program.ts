/**
 * A program on a GPU: its kernels loaded, its weights in memory, launches ready to be bound to the memory of a context.
 */
import type { Context } from '../../cuda/context.ts';
import { type KernelArgument, Launch } from '../../cuda/launch.ts';
import { DeviceBuffer } from '../../cuda/memory.ts';
import { type CudaFunction, Module } from '../../cuda/module.ts';
import { Stream } from '../../cuda/stream.ts';
import type { BufferRef, Engine } from '../../engine/engine.ts';
import type { CudaArg, CudaProgram } from './program.ts';

/** What a kernel may use without asking. */
const SHARED_BYTES = 48 * 1024;

/** Where things lie on the GPU for one context. */
export interface Memory {
  readonly arena: number;
  readonly scratch: number;
}

/** One launch of a step, with addresses. */
export interface StepLaunch {
  readonly step: number;
  readonly launch: Launch;
}

export class LoadedProgram {
  readonly gpu: Context;
  readonly engine: Engine;
  readonly program: CudaProgram;
  readonly weights: DeviceBuffer;
  readonly #functions: readonly CudaFunction[];

  /** Throws ModelError `out-of-memory`, `device-code`, `device-lost` or `driver-error`. */
  constructor(gpu: Context, engine: Engine, program: CudaProgram, cubins: readonly Uint8Array[]) {
    this.gpu = gpu;
    this.engine = engine;
    this.program = program;
    const modules = cubins.map((image) => new Module(gpu, image));
    this.#functions = loadFunctions(program, modules);
    this.weights = new DeviceBuffer(gpu, engine.weightBytes.byteLength);
    const stream = new Stream(gpu);
    stream.upload(this.weights, engine.weightBytes);
    stream.synchronize();
    stream.dispose();
  }

  addressOf({ space, byteOffset }: BufferRef, { arena }: Memory): number {
    return (space === 'weights' ? this.weights.address : arena) + byteOffset;
  }

  /** `overlap` lets a kernel be readied while the one before it ends. */
  launches(memory: Memory, overlap: boolean): readonly StepLaunch[] {
    return this.program.launches.map(({ step, grid, block, sharedBytes, cluster, args }, i) => ({
      step,
      launch: new Launch(
        this.#functions[i],
        { grid, block, sharedBytes, programmatic: overlap && this.program.programmatic, ...(cluster && { cluster }) },
        args.map((arg) => this.#argument(arg, memory)),
      ),
    }));
  }

  #argument(arg: CudaArg, memory: Memory): KernelArgument {
    switch (arg.kind) {
      case 'buffer':
        return { address: this.addressOf(arg.ref, memory) };
      case 'scratch':
        return { address: memory.scratch + arg.byteOffset };
      case 'u32':
        return { type: 'u32', value: arg.value };
      default:
        return arg satisfies never;
    }
  }
}

/** One a launch; each kernel is allowed the most shared memory that any of its launches takes. */
function loadFunctions({ launches }: CudaProgram, modules: readonly Module[]): CudaFunction[] {
  const loaded = new Map<string, { readonly fn: CudaFunction; sharedBytes: number }>();
  return launches.map(({ module, entry, sharedBytes }) => {
    const key = `${module} ${entry}`;
    const kernel = loaded.get(key) ?? { fn: modules[module].function(entry), sharedBytes: SHARED_BYTES };
    loaded.set(key, kernel);
    if (sharedBytes > kernel.sharedBytes) {
      kernel.fn.setSharedBytes(sharedBytes);
      kernel.sharedBytes = sharedBytes;
    }
    return kernel.fn;
  });
}
