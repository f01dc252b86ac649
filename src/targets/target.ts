/**
 * What a target is to the compiler: what its machine lacks, which templates it has, how it turns a program into code.
 *
 * targets/ turns kernels into something a machine runs; no file here knows an operator. One folder and one line in all.ts a target.
 */
import type { DType, TypedArray } from '../core/dtype.ts';
import type { Device } from '../engine/device.ts';
import type { CodeSection, Engine, Packing, Precision, Step, TargetName } from '../engine/engine.ts';
import type { Form, Kernel } from '../loop/ir.ts';

export type Params = Readonly<Record<string, number>>;

/** What candidates may depend on beside the kernel itself. */
export interface KernelFacts {
  /** Names of the kernel's buffers that hold constants. */
  readonly constant: ReadonlySet<string>;
  /** Products of f32 operands may round these to tf32 (10 bits of mantissa); sums stay f32. */
  readonly tf32?: boolean;
  /** Names of the buffers that do not begin at a multiple of 16 bytes, such as parts of a concatenation. */
  readonly unaligned?: ReadonlySet<string>;
}

/**
 * A parametrised way to write code for kernels of a form. Rows of parameters compete by predicted, then measured, time.
 * `generated` (form 'any') is a template like the others, and applies to every kernel.
 */
export interface Template {
  readonly name: string;
  readonly form: Form['kind'] | 'any';
  /** Legal parameter rows for the kernel on a machine with these features; none where the template does not apply. */
  candidates(kernel: Kernel, facts: KernelFacts, features: readonly string[]): readonly Params[];
  /** Predicted time of one thread doing all tiles, in nanoseconds. */
  predictNs(kernel: Kernel, params: Params): number;
  /** Units of work that threads may split. */
  tiles(kernel: Kernel, params: Params): number;
  /** How a constant operand must be packed for this tactic, by buffer name; absent: row-major. */
  packing?(kernel: Kernel, params: Params): ReadonlyMap<string, Packing>;
  /** Memory of its own that a thread needs while it does tiles of the kernel, in bytes; absent: none. */
  scratchBytes?(kernel: Kernel, params: Params): number;
}

/** A program ready to emit: kernels, and the steps that run them over addressed buffers. */
export interface Program {
  readonly kernels: readonly Kernel[];
  readonly steps: readonly Step[];
  /** Threads' scratch lies behind the arena. */
  readonly arenaBytes: number;
}

export interface Target {
  readonly name: TargetName;
  readonly device: Device;
  /** Dtypes that kernels may compute in; graphs are widened to these (f16 to f32) before lowering. */
  readonly computes: ReadonlySet<DType>;
  /** What a network may be computed in, beside `auto`, which is fp32 where there is no fp16. */
  readonly precisions: ReadonlySet<Precision>;
  /** Whether its engines may leave sizes open: templates and emitters that mind the limits of axes, a device that has the table. */
  readonly takesSizes?: boolean;
  /**
   * Whether a kernel's result may take the place of an operand (`loop/in-place.ts`): every template does each point once, and reads what it
   * reads there before it writes.
   */
  readonly inPlace?: boolean;
  /** Small steps that do not depend on each other run at the same time where they are neighbours. */
  readonly sideBySide?: boolean;
  /** Its kernels multiply words faster than bytes: products of bytes are widened, and those of dequantised bytes left as numbers. */
  readonly widensBytes?: boolean;
  /**
   * Of how many channels side by side products must be for its fast templates, by the precision asked for; absent: of any number.
   */
  channelRun?(precision: Precision): number | undefined;
  /** Absent: the target runs graphs (reference). */
  readonly templates?: readonly Template[];
  /** Rearranges the row-major elements of a kernel's constant buffer as a template's `packing` asked. */
  pack?(data: TypedArray, kernel: Kernel, buffer: string, packing: Packing): TypedArray;
  /** Pure: the same program gives the same bytes. */
  emit?(program: Program): readonly CodeSection[];
  /** CPU features or GPU architecture that tactics may use on this machine. */
  features(): readonly string[];
  /** What this machine is called where its times are kept; absent: by its processor. */
  machineName?(): string;
  /**
   * Compiles what opening the engine here will need, and keeps it where opening looks. The compiled code comes back as sections for the
   * engine's file: `load` uses them where the caller trusts the file. Absent where opening makes its code in no time.
   */
  compile?(engine: Engine): Promise<readonly CodeSection[]>;
  /** The target as it would be on a machine of that architecture: engines can be built for it here. Throws ModelError `option-invalid`. */
  forArchitecture?(name: string): Target;
}
