/**
 * An engine to machine code for this machine and a number of threads. Brings the CPU templates and the assembler with it, so the device
 * imports it when there is something to compile.
 *
 * A fault in native code ends the process and cannot be caught: targets/admit.ts therefore lets through only what cannot leave its memory.
 */
import type { Engine, Tactic } from '../../engine/engine.ts';
import { contextBytes } from '../../engine/scratch.ts';
import type { Kernel } from '../../loop/ir.ts';
import { admitEngine } from '../admit.ts';
import { emitKernel, grainOf } from '../cpu/emit.ts';
import type { EmitKernel } from '../cpu/functions.ts';
import { CPU_TEMPLATES } from '../cpu/templates.ts';
import type { Program } from '../target.ts';
import type { X64Machine } from './machine.ts';
import type { CompiledEngine, Crew } from './open.ts';
import { emitProgram } from './program.ts';

/** Throws as `admitEngine`. */
export function compileEngine(engine: Engine, machine: X64Machine, crew: Crew): CompiledEngine {
  const warnings: string[] = [];
  const program = admitEngine(engine, CPU_TEMPLATES, machine.features, (message) => warnings.push(message));
  return { ...compileProgram(program, machine, crew, emitKernel, grainOf), warnings };
}

/** A program that was found safe, its kernels written by `emit`. */
export function compileProgram(
  program: Program,
  { system }: X64Machine,
  { threads, patience }: Crew,
  emit: EmitKernel,
  grainOf: (kernel: Kernel, tactic: Tactic) => number = () => 1,
): CompiledEngine {
  const code = emitProgram(program, { threads, patience, calls: system.calls, grainOf }, emit);
  return { code, contextBytes: contextBytes(program, threads), warnings: [] };
}
