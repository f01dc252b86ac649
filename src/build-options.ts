/**
 * Options of `build`, its progress events and its report: what TensorRT calls the builder config.
 */
import type { Tensor } from './core/tensor.ts';
import type { Engine, Precision, TargetName } from './engine/engine.ts';
import type { ShapeProfile } from './graph/profiles.ts';
import type { OpenExternal } from './onnx/external-data.ts';
import type { Op } from './ops/op.ts';
import type { TimingCache } from './tune/timing-cache.ts';

export interface BuildOptions {
  /** 'auto' is the fastest target that this machine has. */
  readonly target?: TargetName | 'auto';
  /** The GPU architecture to build for, such as `sm_90`, where it is not the one here (target cuda). Nothing can be measured then. */
  readonly gpuArch?: string;
  /** fp32 where not given. A target refuses what it does not compute in; `auto` on one that has only fp32 is fp32. */
  readonly precision?: Precision;
  /**
   * Typical inputs, by input name, that precision `int8` is calibrated on and `auto` and `fp16` measure on; seeded random ones where not
   * given.
   */
  readonly samples?: readonly Readonly<Record<string, Tensor>>[];
  /** Sizes for inputs, by input name; needed where the model leaves dims open (open dims not named become 1, with a warning). */
  readonly shapes?: Readonly<Record<string, readonly number[]>>;
  /**
   * Sizes left open: for each profile the least, the usual and the largest shape of inputs, by name. An engine takes every shape within
   * a profile, is tuned for the usual shapes of the first, and has memory for the largest of all. Shapes that no profile names are
   * as `shapes` says.
   */
  readonly profiles?: readonly ShapeProfile[];
  /**
   * Inputs fixed at build time, by name: each becomes a constant of the engine and is no input of it any more. For inputs that decide
   * shapes or which operators run (axes, sizes, repeats, a condition), and for weights that a model takes as inputs.
   */
  readonly constants?: Readonly<Record<string, Tensor>>;
  /** 0 and 1: the cost model alone, in milliseconds. From 2 on more and more candidates are measured on this machine. */
  readonly effort?: 0 | 1 | 2 | 3 | 4 | 5;
  /** Times measured by earlier builds; takes those that this build measures. The same times give the same engine. */
  readonly timingCache?: TimingCache;
  /** Architecture of a PyTorch checkpoint; recognised from its keys and shapes where not given. */
  readonly arch?: string;
  /** Bytes the arena may take at most. */
  readonly workspaceBytes?: number;
  /** Threads that the program is planned for; 'auto' is the number of cores. An engine runs with any number. */
  readonly threads?: number | 'auto';
  /**
   * Puts the compiled code for the GPU here into the engine's file, so that it opens at once on others of its kind. It is used only
   * where `load` is told that the file is trusted.
   */
  readonly embedCode?: boolean;
  /** Operators added to, or replacing, the built-in ones. */
  readonly ops?: readonly Op[];
  /** Runs the IR verifiers between all stages. */
  readonly verify?: boolean;
  /** Opens a file of external data by the location that the model names, relative to the model; without it such a model is refused. */
  readonly openExternal?: OpenExternal;
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: BuildProgress) => void;
  readonly onWarning?: (message: string) => void;
}

export interface BuildProgress {
  readonly stage: string;
  /** 0 to 1 over the whole build. */
  readonly fraction: number;
}

export interface BuildReport {
  readonly engine: Engine;
  readonly stages: readonly { readonly name: string; readonly ms: number }[];
  readonly buildMs: number;
  readonly warnings: readonly string[];
}
