/**
 * A whole network for a GPU: modules of PTX, and the launches that run them in order over arena, weights and scratch.
 *
 * Each kernel, tactic and alignment of buffers is one piece of code, however many steps use it. Entries are named by the kernel and a
 * hash of all that decides their text. Modules hold about as much text each, so that they compile in parallel in like times.
 */

import { hex } from '../../core/bytes.ts';
import { sha256 } from '../../core/hash.ts';
import type { BufferRef, Step } from '../../engine/engine.ts';
import { printKernel } from '../../loop/print.ts';
import type { Program } from '../target.ts';
import { touchesOf } from './independent.ts';
import { PREFETCH_CAPABILITY, prefetchArgs, prefetchedWeights, prefetchingName, withPrefetch } from './prefetch.ts';
import { moduleText, type PtxEntry } from './ptx.ts';
import { orderedName, type Release, releaseOf, releasingName, withOrderedLoads, withRelease } from './release.ts';
import { groupSteps, mergeLaunches } from './side-by-side.ts';
import type { EmittedKernel, KernelArg, KernelLaunch } from './template.ts';
import { templateOf } from './templates.ts';

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

interface LaunchShape {
  /** The step that the launch is a part of; of several the first. */
  readonly step: number;
  /** Steps that it does beside that one. */
  readonly beside?: readonly number[];
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  /** Dynamic shared memory. */
  readonly sharedBytes: number;
  readonly cluster?: readonly [number, number, number];
  readonly args: readonly CudaArg[];
}

export interface CudaLaunch extends LaunchShape {
  /** Index into `modules`. */
  readonly module: number;
  readonly entry: string;
}

/** A launch before its code is in a module. */
export interface CodedLaunch extends LaunchShape {
  readonly code: PtxEntry;
}

export interface CudaProgram {
  /** PTX texts. */
  readonly modules: readonly string[];
  /** In order; steps without points have none. */
  readonly launches: readonly CudaLaunch[];
  /** Device memory beside arena and weights, zero when an engine is opened; each step leaves it zero again. */
  readonly scratchBytes: number;
  /** Every kernel waits for the launch before it (griddepcontrol.wait), so launches may be told to overlap. */
  readonly programmatic: boolean;
}

export interface EmitOptions {
  /** False: without griddepcontrol, which chips from sm_90 on have. */
  readonly programmatic?: boolean;
  /** True: every step has launches of its own, so that it can be timed. */
  readonly apart?: boolean;
}

const MODULE_CHARACTERS = 48 * 1024;
/** Alignment that code may make use of, in bytes. */
const MOST_ALIGNED = 64;

/** Pure: the same input gives the same bytes. */
export function emitProgram(program: Program, chip: Chip, options: EmitOptions = {}): CudaProgram {
  const programmatic = chip.computeCapability >= 90 && options.programmatic !== false;
  const emitted = new Map<string, EmittedKernel>();
  const names = new Map<string, string>();
  const pieces = program.steps.map((step) => {
    const key = `${step.kernel} ${tacticKey(step)}`;
    const name = names.get(key) ?? entryName(program, step, chip, programmatic);
    names.set(key, name);
    // By name: an engine may hold the same kernel twice, a module may not.
    const known = emitted.get(name) ?? emitStep(program, step, chip, programmatic, name);
    emitted.set(name, known);
    return known;
  });
  const entries = new Entries(chip);
  const groups = options.apart ? pieces.map((_, i) => [i]) : groupSteps(program.steps, program.kernels, pieces, chip);
  const placed = groups.flatMap((steps, g) =>
    launchesOf(steps, pieces, program).map((launch, i) => {
      // The first launch of steps asks for weights of the next ones.
      const weights = i === 0 ? prefetchedWeights((groups[g + 1] ?? []).map((s) => program.steps[s])) : undefined;
      return { steps, launch, weights };
    }),
  );
  const releases = placed.map(({ steps, launch }, i) => {
    const next = placed[i + 1]?.launch;
    const touches = steps.flatMap((s) => touchesOf(program.steps[s], program.kernels[program.steps[s].kernel]));
    return programmatic && !options.apart && next ? releaseOf(launch, next, touches, chip.multiprocessors) : undefined;
  });
  const launches = placed.map(({ steps, launch, weights }, i) => {
    const { code, more } = entries.place(launch, weights, { lets: releases[i], isLet: releases[i - 1] !== undefined });
    return bindLaunch({ ...launch, code }, program.steps, steps, more);
  });
  const modules = packModules([...new Set(launches.map(({ code }) => code))]);
  return {
    modules: modules.map((kernels) => moduleText(chip.computeCapability, kernels)),
    launches: launches.map(({ code, ...launch }) => ({
      ...launch,
      module: modules.findIndex((kernels) => kernels.includes(code)),
      entry: code.name,
    })),
    scratchBytes: pieces.reduce((n, piece) => Math.max(n, piece.scratchBytes), 0),
    programmatic,
  };
}

/** The launches of steps that share one, or of a step. */
function launchesOf(
  steps: readonly number[],
  pieces: readonly EmittedKernel[],
  program: Program,
): readonly KernelLaunch[] {
  if (steps.length === 1) return pieces[steps[0]].launches;
  const launches = steps.map((i) => pieces[i].launches[0]);
  const names = launches.map(({ code }) => code.name);
  const buffers = steps.map((i) => program.steps[i].buffers.length);
  return [mergeLaunches(`${names[0].slice(0, 36)}_and_${hashText(names.join(' '))}`, launches, buffers)];
}

/** How a launch lets the next one go, and whether the one before let it go. */
interface Order {
  readonly lets: Release | undefined;
  readonly isLet: boolean;
}

/** The entries that launches use: as they were emitted, or letting the next one go, or with a request for its weights. */
class Entries {
  readonly #chip: Chip;
  readonly #byName = new Map<string, PtxEntry>();

  constructor(chip: Chip) {
    this.#chip = chip;
  }

  place(
    { code, grid }: KernelLaunch,
    weights: BufferRef | undefined,
    order: Order,
  ): { readonly code: PtxEntry; readonly more: readonly CudaArg[] } {
    const own = this.#releasing(code, order);
    if (!weights || this.#chip.computeCapability < PREFETCH_CAPABILITY)
      return { code: this.#once(own.name, () => own), more: [] };
    const prefetching = this.#once(prefetchingName(own.name), () => withPrefetch(own));
    return { code: prefetching, more: prefetchArgs(weights, grid[0] * grid[1]) };
  }

  /** As it goes with the launches before and behind it. */
  #releasing(code: PtxEntry, { lets, isLet }: Order): PtxEntry {
    if (lets) return this.#once(releasingName(code.name, lets), () => withRelease(code, lets));
    return isLet ? this.#once(orderedName(code.name), () => withOrderedLoads(code)) : code;
  }

  /** A module has an entry once. */
  #once(name: string, make: () => PtxEntry): PtxEntry {
    const code = this.#byName.get(name) ?? make();
    this.#byName.set(name, code);
    return code;
  }
}

function entryName(program: Program, step: Step, chip: Chip, programmatic: boolean): string {
  const kernel = program.kernels[step.kernel];
  const text = printKernel({ ...kernel, name: '' });
  const identity = `${text} ${tacticKey(step)} ${JSON.stringify(chip)} ${programmatic}`;
  return `${kernel.name.replaceAll(/[^A-Za-z0-9_]/g, '_').slice(0, 48)}_${hashText(identity)}`;
}

function emitStep(program: Program, step: Step, chip: Chip, programmatic: boolean, name: string): EmittedKernel {
  const kernel = program.kernels[step.kernel];
  const { template, params } = step.tactic;
  const alignments = alignmentsOf(step);
  return templateOf(template).emit({ kernel, params, chip, alignments, programmatic, name });
}

/**
 * 128 bits: entries of one name are taken for one, and an engine's author who could find two kernels of one hash would have a kernel run
 * over the buffers of another.
 */
const hashText = (text: string): string => hex(sha256(new TextEncoder().encode(text)).subarray(0, 16));

function tacticKey(step: Step): string {
  const { template, params } = step.tactic;
  const row = Object.keys(params).sort();
  return `${template} ${row.map((p) => `${p}=${params[p]}`).join()} ${alignmentsOf(step).join()}`;
}

/** The largest power of two that divides an offset: spaces begin at multiples of more. */
const alignmentsOf = (step: Step): readonly number[] =>
  step.buffers.map(({ byteOffset }) => {
    let alignment = MOST_ALIGNED;
    while (byteOffset % alignment !== 0) alignment /= 2;
    return alignment;
  });

/** Neighbours together until a module is full. */
function packModules(kernels: readonly PtxEntry[]): PtxEntry[][] {
  const modules: PtxEntry[][] = [];
  let room = 0;
  for (const kernel of kernels) {
    const size = kernel.text().length;
    if (room < size) {
      modules.push([]);
      room = MODULE_CHARACTERS;
    }
    modules[modules.length - 1].push(kernel);
    room -= size;
  }
  return modules;
}

/** `more` are arguments behind those of the launch. */
function bindLaunch(
  launch: KernelLaunch,
  all: readonly Step[],
  [step, ...beside]: readonly number[],
  more: readonly CudaArg[],
): CodedLaunch {
  const { code, grid, block, cluster } = launch;
  const buffers = [step, ...beside].flatMap((i) => all[i].buffers);
  const bind = (arg: KernelArg): CudaArg => (arg.kind === 'buffer' ? { kind: 'buffer', ref: buffers[arg.index] } : arg);
  return {
    step,
    ...(beside.length > 0 && { beside }),
    code,
    grid,
    block,
    sharedBytes: launch.sharedBytes ?? 0,
    ...(cluster && { cluster }),
    args: [...launch.args.map(bind), ...more],
  };
}
