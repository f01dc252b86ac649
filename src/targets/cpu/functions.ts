/**
 * The functions that a program on a CPU consists of: one a kernel and tactic in use, however many steps call it.
 */
import type { Step, Tactic } from '../../engine/engine.ts';
import type { Kernel } from '../../loop/ir.ts';
import type { Program } from '../target.ts';
import type { Asm } from './asm.ts';

/** Writes the code of one kernel for the tiles [begin, end). */
export type EmitKernel = (asm: Asm, kernel: Kernel, tactic: Tactic) => void;

export interface KernelFunction {
  /** For profilers: unique, and the kernel's own where only one tactic runs it. */
  readonly name: string;
  readonly kernel: Kernel;
  readonly tactic: Tactic;
  /** Whether it takes the address of its thread's scratch, behind those of the buffers. */
  readonly takesScratch: boolean;
}

export interface ProgramFunctions {
  readonly functions: readonly KernelFunction[];
  /** For each step an index into functions. */
  readonly steps: readonly number[];
}

/** Each (kernel, tactic) pair in use once, in the order of first use. */
export function programFunctions(program: Program): ProgramFunctions {
  const functions: KernelFunction[] = [];
  const indices = new Map<string, number>();
  const taken = new Map<string, number>();
  const steps = program.steps.map(({ kernel: index, tactic, scratchBytes = 0 }) => {
    const takesScratch = scratchBytes > 0;
    const key = `${index} ${tacticKey(tactic)}${takesScratch ? ' scratch' : ''}`;
    const known = indices.get(key);
    if (known !== undefined) return known;
    const kernel = program.kernels[index];
    indices.set(key, functions.length);
    return functions.push({ name: uniqueName(kernel, tactic, taken), kernel, tactic, takesScratch }) - 1;
  });
  return { functions, steps };
}

const tacticKey = ({ template, params }: Tactic): string =>
  `${template} ${Object.keys(params)
    .sort()
    .map((name) => `${name}=${params[name]}`)
    .join()}`;

/** The kernel's name, its template where one was chosen, a number where that is not unique. */
function uniqueName(kernel: Kernel, tactic: Tactic, taken: Map<string, number>): string {
  const name = tactic.template === 'generated' ? kernel.name : `${kernel.name}.${tactic.template}`;
  const count = (taken.get(name) ?? 0) + 1;
  taken.set(name, count);
  return count === 1 ? name : `${name}.${count}`;
}

/** The tiles of a step that thread `thread` of `threads` does: [T·t/n, T·(t+1)/n) rounded down, n = min(threads, maxThreads). */
export function tileRange(
  { tiles, maxThreads }: Pick<Step, 'tiles' | 'maxThreads'>,
  thread: number,
  threads: number,
): readonly [begin: number, end: number] {
  const sharers = Math.max(1, Math.min(threads, maxThreads));
  if (thread >= sharers) return [tiles, tiles];
  // In doubles tiles · thread is exact: both are far below 2^53 / 2^31.
  const bound = (t: number): number => Math.floor((tiles * t) / sharers);
  return [bound(thread), bound(thread + 1)];
}
