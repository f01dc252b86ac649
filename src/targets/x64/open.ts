/**
 * An engine's code, made a moment ago or kept from before, to an engine that is open: starts its threads, makes contexts.
 */
import { ModelError } from '../../core/errors.ts';
import type { OpenEngine, OpenOptions } from '../../engine/device.ts';
import type { Engine } from '../../engine/engine.ts';
import { coreCount } from '../../host/processor.ts';
import { createContext } from './context.ts';
import type { X64Machine } from './machine.ts';
import { allocateBlock, weightBlock } from './memory.ts';
import type { ProgramCode } from './program.ts';
import { startTeam } from './team.ts';

/** What opening an engine takes beside the engine. */
export interface CompiledEngine {
  readonly code: ProgramCode;
  /** Arena and scratch of a context. */
  readonly contextBytes: number;
  /** What makes the engine run slower than it could. */
  readonly warnings: readonly string[];
}

/** Whom the code of a program is made for. */
export interface Crew {
  readonly threads: number;
  /** Looks that a waiting thread takes before it sleeps. */
  readonly spins: number;
}

/** About 20 microseconds of looking before a thread sleeps: near the cost of being woken, so that a busy machine loses little by it. */
const SPINS = 1000;
/** With more threads than cores who waits is in the way of who works. */
const CROWDED_SPINS = 20;

export function crewOf(wanted: OpenOptions['threads']): Crew {
  const cores = coreCount();
  const threads = wanted === 'auto' ? cores : Math.max(1, Math.floor(wanted));
  return { threads, spins: threads > cores ? CROWDED_SPINS : SPINS };
}

/** Resources of engines that were never disposed of are freed when nobody has the engine any more. */
const forgotten = new FinalizationRegistry<() => void>((free) => free());

/** Throws ModelError `target-unavailable` or `out-of-memory`. */
export function openCompiled(
  engine: Engine,
  { code, contextBytes }: CompiledEngine,
  { threads }: Crew,
  { system, features }: X64Machine,
): OpenEngine {
  const weights = weightBlock(system, engine.weightBytes);
  const team = startTeam(system, code);
  const contexts = new Set<{ dispose(): void }>();
  const token = {};
  let disposed = false;
  const open: OpenEngine = {
    threads,
    features,
    memoryBytes: () => (disposed ? 0 : team.bytes + weights.bytes.byteLength + contexts.size * contextBytes),
    createContext: () => {
      if (disposed) throw new ModelError('disposed', `engine "${engine.name}" was disposed`);
      const arena = allocateBlock(system, contextBytes);
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
