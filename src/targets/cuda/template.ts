/**
 * A template of target cuda: what every template is, and how its kernels are written and launched.
 */
import type { Kernel } from '../../loop/ir.ts';
import type { Params, Template } from '../target.ts';
import type { Chip } from './program.ts';
import { type PtxEntry, PtxKernel } from './ptx.ts';

/** One kernel to be written: what is computed, by which tactic, where. */
export interface KernelSite {
  readonly kernel: Kernel;
  readonly params: Params;
  readonly chip: Chip;
  /** For each buffer of the kernel a power of two that divides its address at every use, up to 64. */
  readonly alignments: readonly number[];
  /** Launches may overlap the one before (griddepcontrol): true from sm_90 on, unless it was turned off. */
  readonly programmatic: boolean;
  /** Names the entry; templates with several launches put a suffix to it. */
  readonly name: string;
}

export type KernelArg =
  /** Index into the kernel's buffers. */
  | { readonly kind: 'buffer'; readonly index: number }
  /** From the start of the step's scratch: memory that is zero before, and zero again after the step's last launch. */
  | { readonly kind: 'scratch'; readonly byteOffset: number }
  | { readonly kind: 'u32'; readonly value: number };

/** Launches run in order, each after all before it. */
export interface KernelLaunch {
  readonly code: PtxEntry;
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  /** Dynamic shared memory. */
  readonly sharedBytes?: number;
  readonly cluster?: readonly [number, number, number];
  /** Its blocks stay on their multiprocessors and hand registers to each other: it shares its launch with no other. */
  readonly alone?: boolean;
  /** Much of what it does does not wait for the launch before: its weights are copied ahead. */
  readonly isAhead?: boolean;
  /** One a parameter of `code`, in order. */
  readonly args: readonly KernelArg[];
}

export interface EmittedKernel {
  /** None where the kernel has no points. */
  readonly launches: readonly KernelLaunch[];
  readonly scratchBytes: number;
}

export interface CudaTemplate extends Template {
  /** Pure: the same site, the same code. */
  emit(site: KernelSite): EmittedKernel;
}

/** All buffers of a kernel as arguments, in order. */
export const bufferArgs = (kernel: Kernel): readonly KernelArg[] =>
  kernel.buffers.map((_, index) => ({ kind: 'buffer', index }));

/**
 * A kernel whose parameters are the buffers, in order. Every kernel must begin with this, before it reads what another wrote:
 * where launches may overlap it waits for the one before. When it lets the next one go is the program's affair (release.ts).
 */
export function beginKernel(
  site: KernelSite,
  maxThreads: number,
  { suffix = '', minBlocks }: { readonly suffix?: string; readonly minBlocks?: number } = {},
) {
  const code = new PtxKernel(site.name + suffix, site.chip.computeCapability, {
    maxThreads,
    ...(minBlocks !== undefined && { minBlocks }),
  });
  const buffers = site.kernel.buffers.map(() => code.pointer());
  if (site.programmatic) code.do('griddepcontrol.wait');
  return { code, buffers };
}
