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

/** A program without its texts: what is left to do once they are compiled. */
export type LaunchedProgram = Omit<CudaProgram, 'modules'>;

/** One launch, with addresses. */
export interface StepLaunch {
  /** One, or those that share the launch. */
  readonly steps: readonly number[];
  readonly launch: Launch;
}

export class LoadedProgram {
  readonly gpu: Context;
  readonly engine: Engine;
  readonly program: LaunchedProgram;
  readonly weights: DeviceBuffer;
  /** Inputs and outputs that kernels may use where they lie on the host, if it is pinned there. */
  readonly direct: DirectIo;
  readonly #functions: readonly CudaFunction[];

  /** Throws ModelError `out-of-memory`, `device-code`, `device-lost` or `driver-error`. */
  constructor(
    gpu: Context,
    engine: Engine,
    program: LaunchedProgram,
    cubins: readonly Uint8Array[],
    direct: DirectIo = NO_DIRECT_IO,
  ) {
    this.gpu = gpu;
    this.engine = engine;
    this.program = program;
    const modules = cubins.map((image) => new Module(gpu, image));
    this.#functions = loadFunctions(program, modules);
    this.direct = gpu.device.attributes.hostAddresses === 1 ? direct : NO_DIRECT_IO;
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
    const { programmatic } = this.program;
    return this.program.launches.map(({ step, beside = [], args, module: _, entry: __, ...options }, i) => ({
      steps: [step, ...beside],
      launch: new Launch(
        this.#functions[i],
        { ...options, programmatic: overlap && programmatic },
        args.map((arg): KernelArgument => {
          const value = this.#valueOf(arg, [step, ...beside], memory, elsewhere);
          return arg.kind === 'u32' ? { type: 'u32', value } : { address: value };
        }),
      ),
    }));
  }

  #valueOf(arg: CudaArg, steps: readonly number[], memory: Memory, elsewhere: readonly Elsewhere[]): number {
    switch (arg.kind) {
      case 'buffer': {
        const { space, byteOffset } = arg.ref;
        const other = elsewhere.find(
          ({ use }) => steps.includes(use.step) && use.ref.space === space && use.ref.byteOffset === byteOffset,
        );
        return other?.address ?? this.addressOf(arg.ref, memory);
      }
      case 'scratch':
        return memory.scratch + arg.byteOffset;
      case 'u32':
        return arg.value;
      default:
        return arg satisfies never;
    }
  }
}

/**
 * Inputs and outputs of the program's engine that its kernels may use where they lie. An output only where its step is one launch that keeps nothing aside: others may come back to what they
 * wrote.
 */
export function directIoOf(engine: Engine, { launches }: LaunchedProgram): DirectIo {
  const { inputs, outputs } = directIo(engine);
  const isSimple = (use: DirectUse): boolean => {
    const own = launches.filter(({ step, beside = [] }) => step === use.step || beside.includes(use.step));
    return own.length === 1 && own[0].args.every(({ kind }) => kind !== 'scratch');
  };
  return { inputs, outputs: outputs.map((use) => (use && isSimple(use) ? use : undefined)) };
}

/** One a launch; each kernel is allowed the most shared memory that any of its launches takes. */
function loadFunctions({ launches }: LaunchedProgram, modules: readonly Module[]): CudaFunction[] {
  const loaded = new Map<string, { readonly fn: CudaFunction; sharedBytes: number }>();
  return launches.map(({ module, entry, sharedBytes }) => {
    const key = `${module} ${entry}`;
    const kernel = loaded.get(key) ?? { fn: modules[module].function(entry), sharedBytes: 0 };
    loaded.set(key, kernel);
    if (sharedBytes > kernel.sharedBytes) {
      kernel.fn.setSharedBytes(sharedBytes);
      kernel.sharedBytes = sharedBytes;
    }
    return kernel.fn;
  });
}
