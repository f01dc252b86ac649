/**
 * A whole network for a GPU: modules of PTX, and the launches that run them in order over arena, weights and scratch.
 */
import type { BufferRef } from '../../engine/engine.ts';

/** What code depends on of a GPU. */
export interface Chip {
  /** 75, 80, 86, 89, 90 … */
  readonly computeCapability: number;
  readonly multiprocessors: number;
  /** Shared memory that a block may have at most, when it asks for it. */
  readonly sharedBytesPerBlock: number;
}

/** A kernel's argument: an address (u64) in arena, weights or scratch, or a u32. */
export type CudaArg =
  | { readonly kind: 'buffer'; readonly ref: BufferRef }
  | { readonly kind: 'scratch'; readonly byteOffset: number }
  | { readonly kind: 'u32'; readonly value: number };

export interface CudaLaunch {
  /** The step that the launch is a part of. */
  readonly step: number;
  /** Index into `modules`. */
  readonly module: number;
  readonly entry: string;
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  /** Dynamic shared memory. */
  readonly sharedBytes: number;
  readonly cluster?: readonly [number, number, number];
  readonly args: readonly CudaArg[];
}

export interface CudaProgram {
  /** PTX texts. */
  readonly modules: readonly string[];
  readonly launches: readonly CudaLaunch[];
  /** Device memory beside arena and weights, zero when an engine is opened; each launch leaves its part zero again. */
  readonly scratchBytes: number;
}
