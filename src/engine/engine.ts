/**
 * The engine: what a build leaves behind, and all that running needs. Plain data; engine/format.ts turns it into bytes and back.
 *
 * Steps run in order, each one kernel over buffers; the buffers lie in two spaces, weights (read-only, shared by all contexts) and
 * arena (one a context). Kernels stay in loop IR so that code can be emitted again; `code` holds what a sandbox may run as it is.
 */
import type { DType } from '../core/dtype.ts';
import type { Dim, StaticShape } from '../core/shape.ts';
import type { Kernel } from '../loop/ir.ts';

/** What a network is computed in; `auto` is fp16 with the layers in fp32 that need it, however long it takes to find them. */
export type Precision = 'fp32' | 'tf32' | 'fp16' | 'bf16' | 'int8' | 'auto';
export type TargetName = 'reference' | 'wasm' | 'x64' | 'cuda' | 'webgpu';

/** Whole tensors start at multiples of so many bytes: a cache line, and the widest vector. */
export const BUFFER_ALIGNMENT = 64;

export interface BufferRef {
  readonly space: 'arena' | 'weights';
  /** From the start of the space; a multiple of 64 for whole tensors. */
  readonly byteOffset: number;
  readonly bytes: number;
}

/** A network input or output: what the caller passes, and where it lies (row-major, same dtype) while the engine runs. */
export interface Binding {
  readonly name: string;
  readonly dtype: DType;
  /** With open sizes the largest shape: the place in the buffer, row-major, that a smaller one takes a corner of. */
  readonly shape: StaticShape;
  /** For each dim that is open the word of the table of sizes that tells it; null where the dim is as in `shape`. */
  readonly words?: readonly (number | null)[];
  readonly buffer: BufferRef;
}

/**
 * The table of sizes: i32 words in the arena that kernels read as axes' limits, each a formula over named sizes. Words made of sizes of
 * the inputs alone are filled before a run; steps store the others.
 */
export interface EngineSizes {
  readonly buffer: BufferRef;
  readonly formulas: readonly Dim[];
  /** Sizes that the data decide, and what each cannot exceed, made of sizes of inputs and of those before it. */
  readonly data: readonly { readonly name: string; readonly atMost: Dim }[];
}

/** Shapes that the inputs may have together: from `min` to `max`, tuned for `opt`. */
export interface Profile {
  readonly inputs: readonly {
    readonly name: string;
    readonly min: StaticShape;
    readonly opt: StaticShape;
    readonly max: StaticShape;
  }[];
  /** Open sizes are multiples of this. */
  readonly step: number;
}

/** One way to run a kernel: a template and its parameters. `generated` is the one that every kernel has. */
export interface Tactic {
  readonly template: string;
  readonly params: Readonly<Record<string, number>>;
  readonly predictedNs: number;
}

/** `[batch][ceil(n / width)][k][width]`, the tail of n filled with zeros: panels for a vector micro-kernel. */
export interface PanelsPacking {
  readonly kind: 'panels';
  readonly width: number;
  readonly batch: number;
  readonly k: number;
  readonly n: number;
  /** Elements of zeros that follow: what rows outside a padded operand read. */
  readonly zeros: number;
}

/** Loops over a weight as it lies, outermost first; strides are in elements. */
export interface PackedAxis {
  readonly extent: number;
  readonly stride: number;
}

export interface RowsPacking {
  /** A row of `pitch` elements for each point of `rows`, in order: the elements along `k`, then zeros. */
  readonly kind: 'rows';
  readonly rows: readonly PackedAxis[];
  readonly k: readonly PackedAxis[];
  /** Where the first element lies. */
  readonly offset: number;
  readonly pitch: number;
  /** Whether elements (f32) are rounded to tf32. */
  readonly tf32: boolean;
}

const points = (axes: readonly PackedAxis[]): number => axes.reduce((n, a) => n * a.extent, 1);

/**
 * Windows of 3×3 transformed to points, for Winograd's F(tile×tile, 3×3): `[ceil(n / width)][point][k][width]`, the tail of n filled with
 * zeros. k are input channels, n output channels. In each direction there are as many points as inputs that `tile` windows cover which
 * lie `step` apart, 1 or 2.
 */
export interface WinogradPacking {
  readonly kind: 'winograd';
  readonly tile: number;
  readonly step: number;
  readonly width: number;
  readonly k: number;
  readonly n: number;
}

/**
 * Of convolutions in groups of `per` channels, 4 or 8: `[n / width][tap][lane of 4][turn of per / 4][width]`. Of channel c of a vector there is
 * what the lane's input of c's four adds to the output that has c's place in the four `turn` further (xor) in the group.
 */
export interface GroupsPacking {
  readonly kind: 'groups';
  readonly width: number;
  readonly per: number;
  readonly taps: number;
  /** Channels of all groups, a multiple of width. */
  readonly n: number;
}

/**
 * i8 elements for dot products of `step` of them: `[batch][ceil(n / width)] ([width] i32 starts, [outer][ceil(run / step)][step / part][width][part])`,
 * the tail of n filled with zeros. The last group of a run ends where the run does: what groups before it have is 0 in it. part is 4 of
 * step 4 and 2 of step 8. Starts are there where the other operand is signed and the machine takes it unsigned, 128 more: they make
 * up for it.
 */
export interface BytesPacking {
  readonly kind: 'bytes';
  readonly width: number;
  readonly batch: number;
  readonly outer: number;
  readonly run: number;
  readonly n: number;
  readonly step: number;
  readonly starts: boolean;
  /** Bytes of zeros that follow. */
  readonly zeros: number;
}

/** i8 elements as words of 32 bits, of which the upper half is 0: `[ceil(n / width)][k][width]`, the tail of n filled with zeros. */
export interface WordsPacking {
  readonly kind: 'words';
  readonly width: number;
  readonly k: number;
  readonly n: number;
}

/** Of a panel. */
export const packedPanelBytes = ({ width, outer, run, step, starts }: BytesPacking): number =>
  (starts ? 4 * width : 0) + outer * Math.ceil(run / step) * step * width;

/** How a weight's elements are arranged; absent: row-major. */
export type Packing = PanelsPacking | WinogradPacking | RowsPacking | BytesPacking | WordsPacking | GroupsPacking;

/** Elements that a packed weight takes. */
export function packedElements(p: Packing): number {
  const panels = (width: number, k: number, n: number): number => Math.ceil(n / width) * k * width;
  switch (p.kind) {
    case 'panels':
      return p.batch * panels(p.width, p.k, p.n) + p.zeros;
    case 'winograd':
      return (p.step * (p.tile - 1) + 3) ** 2 * panels(p.width, p.k, p.n);
    case 'groups':
      return p.n * p.taps * p.per;
    case 'rows':
      return points(p.rows) * p.pitch;
    case 'bytes':
      return p.batch * Math.ceil(p.n / p.width) * packedPanelBytes(p) + p.zeros;
    case 'words':
      return 4 * panels(p.width, p.k, p.n);
    default:
      return p satisfies never;
  }
}

export interface Weight {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: StaticShape;
  readonly byteOffset: number;
  readonly bytes: number;
  readonly packing?: Packing;
}

export interface Step {
  /** Index into `kernels`; steps with the same loops share one kernel. */
  readonly kernel: number;
  readonly tactic: Tactic;
  /** One for each of the kernel's buffers, in order. */
  readonly buffers: readonly BufferRef[];
  /** Names of the values that the buffers hold, in order. */
  readonly values: readonly string[];
  /** Logical shapes of those values, in order: for people, nothing runs by them. */
  readonly shapes?: readonly StaticShape[];
  /** The ONNX nodes this step computes. */
  readonly loc: readonly string[];
  /** Units of work the step can be cut into; a thread takes a range of them. */
  readonly tiles: number;
  /** Threads that share the step: 1 where the work is small. Never more than `tiles`. */
  readonly maxThreads: number;
  /** Memory of its own that each of those threads needs meanwhile, in bytes; absent: none. */
  readonly scratchBytes?: number;
  /** True where some earlier step must have finished on all threads first: which tiles of it a thread did is not known. */
  readonly barrier: boolean;
  readonly flops: number;
  /** Bytes read and written at least once. */
  readonly bytesMoved: number;
}

export interface CodeSection {
  /** What the code needs, e.g. `wasm-simd128`, `wasm-relaxed-threads`. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface Engine {
  readonly name: string;
  readonly target: TargetName;
  /** Hotrod's version that built it. */
  readonly builtBy: string;
  /** CPU or GPU features that tactics were chosen for. */
  readonly machine: readonly string[];
  readonly precision: string;
  readonly inputs: readonly Binding[];
  readonly outputs: readonly Binding[];
  readonly kernels: readonly Kernel[];
  readonly steps: readonly Step[];
  readonly weights: readonly Weight[];
  readonly weightBytes: Uint8Array;
  readonly arenaBytes: number;
  /** Where sizes are open: the table, and the profiles, of which a run must fit one. */
  readonly sizes?: EngineSizes;
  readonly profiles?: readonly Profile[];
  readonly code: readonly CodeSection[];
  /** Target reference runs the graph itself: its printed form; its constants are the weights, by name. */
  readonly graph?: string;
}

/** The table of sizes as devices see it: one more array that the caller writes. */
export const sizesBinding = ({ sizes }: Engine): Binding | undefined =>
  sizes && { name: 'sizes', dtype: 'i32', shape: [sizes.formulas.length], buffer: sizes.buffer };
