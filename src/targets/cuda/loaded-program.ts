/**
 * A program on a GPU: its kernels loaded, its weights in memory, launches ready to be bound to the memory of a context.
 */
import type { Context } from '../../cuda/context.ts';
import { type KernelArgument, Launch } from '../../cuda/launch.ts';
import { DeviceBuffer } from '../../cuda/memory.ts';
import { type CudaFunction, Module } from '../../cuda/module.ts';
import { Stream } from '../../cuda/stream.ts';
import type { BufferRef, Engine } from '../../engine/engine.ts';
import { type DirectIo, type DirectUse, directIo, NO_DIRECT_IO } from './direct-io.ts';
import type { CudaArg, CudaProgram } from './program.ts';

/** What a kernel may use without asking. */
const SHARED_BYTES = 48 * 1024;

/** Where things lie on the GPU for one context. */
export interface Memory {
  readonly arena: number;
  readonly scratch: number;
}

/** A buffer of a step that does not lie where the engine has it. */
export interface Elsewhere {
  readonly use: DirectUse;
  readonly address: number;
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
  /** Inputs and outputs that kernels may use where they lie on the host, if it is pinned there. */
  readonly direct: DirectIo;
  readonly #functions: readonly CudaFunction[];

  /** Throws ModelError `out-of-memory`, `device-code`, `device-lost` or `driver-error`. */
  constructor(gpu: Context, engine: Engine, program: CudaProgram, cubins: readonly Uint8Array[]) {
    this.gpu = gpu;
    this.engine = engine;
    this.program = program;
    const modules = cubins.map((image) => new Module(gpu, image));
    this.#functions = loadFunctions(program, modules);
    this.direct = gpu.device.attributes.hostAddresses === 1 ? simpleIo(engine, program) : NO_DIRECT_IO;
    this.weights = new DeviceBuffer(gpu, engine.weightBytes.byteLength);
    const stream = new Stream(gpu);
    stream.upload(this.weights, engine.weightBytes);
    stream.synchronize();
    stream.dispose();
  }

  addressOf({ space, byteOffset }: BufferRef, { arena }: Memory): number {
    return (space === 'weights' ? this.weights.address : arena) + byteOffset;
  }

  /**
   * `overlap` lets a kernel be readied while the one before it ends, where the program allows it. `elsewhere` are buffers of steps that
   * lie at an address of their own.
   */
  launches(memory: Memory, overlap: boolean, elsewhere: readonly Elsewhere[] = []): readonly StepLaunch[] {
    return this.program.launches.map(({ step, grid, block, sharedBytes, cluster, args }, i) => {
      const moved = elsewhere.filter(({ use }) => use.step === step);
      const options = { grid, block, sharedBytes, programmatic: overlap && this.program.programmatic };
      return {
        step,
        launch: new Launch(
          this.#functions[i],
          { ...options, ...(cluster && { cluster }) },
          args.map((arg) => this.#argument(arg, memory, moved)),
        ),
      };
    });
  }

  #argument(arg: CudaArg, memory: Memory, moved: readonly Elsewhere[]): KernelArgument {
    switch (arg.kind) {
      case 'buffer': {
        const { space, byteOffset } = arg.ref;
        const other = moved.find(({ use }) => use.ref.space === space && use.ref.byteOffset === byteOffset);
        return { address: other?.address ?? this.addressOf(arg.ref, memory) };
      }
      case 'scratch':
        return { address: memory.scratch + arg.byteOffset };
      case 'u32':
        return { type: 'u32', value: arg.value };
      default:
        return arg satisfies never;
    }
  }
}

/** An output only where its step is one launch that keeps nothing aside: others may come back to what they wrote. */
function simpleIo(engine: Engine, { launches }: CudaProgram): DirectIo {
  const { inputs, outputs } = directIo(engine);
  const isSimple = (use: DirectUse): boolean => {
    const own = launches.filter(({ step }) => step === use.step);
    return own.length === 1 && own[0].args.every(({ kind }) => kind !== 'scratch');
  };
  return { inputs, outputs: outputs.map((use) => (use && isSimple(use) ? use : undefined)) };
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
