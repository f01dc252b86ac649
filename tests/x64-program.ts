/** A program on device x64, its kernels written by whom a test says. */
import type { OpenEngine, OpenOptions } from '../src/engine/device.ts';
import type { Engine } from '../src/engine/engine.ts';
import type { EmitKernel } from '../src/targets/cpu/functions.ts';
import type { Program } from '../src/targets/target.ts';
import { compileProgram } from '../src/targets/x64/compile.ts';
import type { X64Machine } from '../src/targets/x64/machine.ts';
import { crewOf, openCompiled } from '../src/targets/x64/open.ts';

export function openX64Program(
  engine: Engine,
  program: Program,
  { threads }: Pick<OpenOptions, 'threads'>,
  machine: X64Machine,
  emit: EmitKernel,
): OpenEngine {
  const crew = crewOf(threads);
  return openCompiled(engine, compileProgram(program, machine, crew, emit), crew, machine);
}
