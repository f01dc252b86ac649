/**
 * What a target brings to run time: a device opens an engine and makes contexts. The runtime knows targets only through this.
 */
import type { TypedArray } from '../core/dtype.ts';
import type { Engine, TargetName } from './engine.ts';

export interface DeviceInfo {
  readonly target: TargetName;
  /** For people: the processor, the GPU. */
  readonly name: string;
  readonly available: boolean;
  /** Why it is not available, or runs with less than it could. */
  readonly reason?: string;
  readonly features: readonly string[];
}

export interface OpenOptions {
  /** Threads to use; 'auto' is the number of cores, at least 1. */
  readonly threads: number | 'auto';
  /** The engine's file is the caller's own: machine code in it may be used as it is, instead of being made here again. */
  readonly trusted?: boolean;
  /** False: code compiled before is not looked for in the user's cache, and none is kept there. */
  readonly cache?: boolean;
  /** Each step runs by itself and is timed by itself: steps do not share launches where they otherwise might. */
  readonly apart?: boolean;
  /** Told once of each thing that makes the engine run slower than it could (no shared memory, no relaxed SIMD). */
  readonly onWarning: (message: string) => void;
}

export interface Device {
  readonly target: TargetName;
  probe(): Promise<DeviceInfo>;
  /**
   * Opens an engine by what the device kept when it opened an equal one on this machine, which was found valid then: its kernels are not
   * looked at. Undefined where nothing was kept. Absent where the device keeps nothing of the kind. Throws as `open`.
   */
  recall?(engine: Engine, options: OpenOptions): Promise<OpenEngine | undefined>;
  /** Makes the engine ready at full speed. Throws ModelError `engine-machine`, `target-unavailable` or `out-of-memory`. */
  open(engine: Engine, options: OpenOptions): Promise<OpenEngine>;
}

/** An engine on a device: weights loaded once, any number of contexts. */
export interface OpenEngine {
  readonly threads: number;
  readonly features: readonly string[];
  /** Bytes held: weights, code, every context's arena. */
  memoryBytes(): number;
  createContext(): DeviceContext;
  /** Frees everything, contexts too; ends the threads. Calling twice is harmless. */
  dispose(): void;
}

/** A queue of work that the device runs in order, beside other queues. */
export interface DeviceStream {
  readonly handle: number;
}

/** Memory that a stream reaches: the device's own, or pinned memory of the host. */
export interface DeviceMemory {
  readonly address: number;
  readonly byteLength: number;
}

/** Nanoseconds of inferences, one by one: inputs to the device, all kernels, outputs to the host; and what the host spends on starting the kernels. */
export interface PhaseTimes {
  readonly enqueueNs: Float64Array;
  readonly h2dNs: Float64Array;
  readonly gpuNs: Float64Array;
  readonly d2hNs: Float64Array;
}

export interface DeviceContext {
  /** One array an input, in the engine's order: write the elements here before execute. */
  readonly inputs: readonly TypedArray[];
  /** True where running leaves `inputs` as they are; elsewhere their memory may serve other values. */
  readonly keepsInputs?: boolean;
  /** One array an output: valid after execute, until the next. */
  readonly outputs: readonly TypedArray[];
  /**
   * The words of the table of sizes, where the engine leaves sizes open: write those of inputs' sizes before execute. Afterwards it has
   * those that the data decide.
   */
  readonly sizes?: Int32Array;
  /** Runs the whole engine. No allocation. */
  execute(): void;
  /** Runs the whole engine, timing each step; nanoseconds a step are added to `ns`. Slower than execute. */
  profile(ns: Float64Array): void;
  /**
   * Where the device has streams: puts copies of the inputs, the whole engine and copies of the outputs into one, and returns. In the
   * engine's order; an output may be left out. Memory and stream must live until the work is done.
   */
  enqueue?(stream: DeviceStream, inputs: readonly DeviceMemory[], outputs: readonly (DeviceMemory | undefined)[]): void;
  /** Where the device can tell: the times of so many inferences, back to back, over what the inputs hold now. */
  phases?(count: number): PhaseTimes;
  dispose(): void;
}
