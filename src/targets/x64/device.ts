/**
 * The device of target x64: emits an engine's kernels as machine code, starts its threads, makes contexts.
 *
 * Machine code is made here at load and never read from a file, so this device brings the CPU templates and the assembler with it;
 * whoever runs WebAssembly only need not import it. A fault in native code ends the process and cannot be caught: targets/admit.ts
 * therefore lets through only what cannot leave its memory.
 */
import { ModelError } from '../../core/errors.ts';
import type { Device, DeviceInfo, OpenEngine, OpenOptions } from '../../engine/device.ts';
import type { Engine, Tactic } from '../../engine/engine.ts';
import { contextBytes } from '../../engine/scratch.ts';
import { openNativeSystem } from '../../host/native-system.ts';
import type { NativeSystem } from '../../host/native-types.ts';
import { coreCount, processorKind, processorName } from '../../host/processor.ts';
import { type ProcessorFeature, readProcessorFeatures } from '../../host/processor-features.ts';
import type { Kernel } from '../../loop/ir.ts';
import { admitEngine } from '../admit.ts';
import { emitKernel, grainOf } from '../cpu/emit.ts';
import type { EmitKernel } from '../cpu/functions.ts';
import { CPU_TEMPLATES } from '../cpu/templates.ts';
import type { Program } from '../target.ts';
import { BASE_FEATURES, WIDE_FEATURES } from './asm.ts';
import { createContext } from './context.ts';
import { allocateBlock, weightBlock } from './memory.ts';
import { emitProgram } from './program.ts';
import { startTeam } from './team.ts';

/** About 20 microseconds of looking before a thread sleeps: near the cost of being woken, so that a busy machine loses little by it. */
const SPINS = 1000;
/** With more threads than cores who waits is in the way of who works. */
const CROWDED_SPINS = 20;

/** A machine that can run native code. */
export interface X64Machine {
  readonly system: NativeSystem;
  readonly features: readonly ProcessorFeature[];
}

let finding: Promise<X64Machine | string> | undefined;
let found: readonly ProcessorFeature[] = [];

/** This machine, or the reason why it cannot run native code. Asked once. */
export function x64Machine(): Promise<X64Machine | string> {
  finding ??= findMachine();
  return finding;
}

/** Empty until the machine was asked for, and where it cannot run native code. */
export const x64Features = (): readonly ProcessorFeature[] => found;

async function findMachine(): Promise<X64Machine | string> {
  const kind = processorKind();
  if (kind !== 'x64') return `the processor is ${kind ?? 'not known'}, not x64`;
  const system = await openNativeSystem();
  if (typeof system === 'string') return system;
  try {
    const features = readProcessorFeatures(system);
    const lacking = BASE_FEATURES.filter((feature) => !features.includes(feature));
    if (lacking.length > 0) return `the processor lacks ${lacking.join(', ')}`;
    const isWide = WIDE_FEATURES.every((feature) => features.includes(feature));
    const more = features.filter((feature) => feature === 'avxvnni' || (isWide && feature === 'avx512vnni'));
    found = [...BASE_FEATURES, ...(isWide ? WIDE_FEATURES : []), ...more];
    return { system, features: found };
  } catch (cause) {
    return cause instanceof Error ? cause.message : String(cause);
  }
}

export const x64Device: Device = {
  target: 'x64',
  probe: async (): Promise<DeviceInfo> => {
    const machine = await x64Machine();
    const name = processorName();
    return typeof machine === 'string'
      ? { target: 'x64', name, available: false, reason: machine, features: [] }
      : { target: 'x64', name, available: true, features: machine.features };
  },
  open: async (engine, options) => {
    if (engine.target !== 'x64')
      throw new ModelError('engine-machine', `engine "${engine.name}" was built for ${engine.target}, not for x64`);
    const machine = await x64Machine();
    if (typeof machine === 'string') throw new ModelError('target-unavailable', machine);
    return openProgram(
      engine,
      admitEngine(engine, CPU_TEMPLATES, machine.features, options.onWarning),
      options,
      machine,
      emitKernel,
      grainOf,
    );
  },
};

/** Resources of engines that were never disposed of are freed when nobody has the engine any more. */
const forgotten = new FinalizationRegistry<() => void>((free) => free());

/** Opens a program that was found safe. Throws ModelError `target-unavailable` or `out-of-memory`. */
export function openProgram(
  engine: Engine,
  program: Program,
  options: OpenOptions,
  { system, features }: X64Machine,
  emit: EmitKernel,
  grainOf: (kernel: Kernel, tactic: Tactic) => number = () => 1,
): OpenEngine {
  const threads = options.threads === 'auto' ? coreCount() : Math.max(1, Math.floor(options.threads));
  const spins = threads > coreCount() ? CROWDED_SPINS : SPINS;
  const bytesOfContext = contextBytes(program, threads);
  const code = emitProgram(program, { threads, spins, calls: system.calls, grainOf }, emit);
  const weights = weightBlock(system, engine.weightBytes);
  const team = startTeam(system, code);
  const contexts = new Set<{ dispose(): void }>();
  const token = {};
  let disposed = false;
  const open: OpenEngine = {
    threads,
    features,
    memoryBytes: () => (disposed ? 0 : team.bytes + weights.bytes.byteLength + contexts.size * bytesOfContext),
    createContext: () => {
      if (disposed) throw new ModelError('disposed', `engine "${engine.name}" was disposed`);
      const arena = allocateBlock(system, bytesOfContext);
      const context = createContext(engine, team, weights, arena, () => contexts.delete(context));
      contexts.add(context);
      return context;
    },
    dispose: () => {
      if (disposed) return;
      disposed = true;
      for (const context of contexts) context.dispose();
      forgotten.unregister(token);
      team.end();
    },
  };
  forgotten.register(team, team.end, token);
  return open;
}
