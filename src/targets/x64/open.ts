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
import type { Patience } from './sync.ts';
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
  readonly patience: Patience;
}

/** A hundred microseconds before a thread sleeps, twice the cost of being woken; a few hundred within an inference. */
const PATIENCE: Patience = { spins: 1000, yields: 500 };
/** With more threads than cores who waits is in the way of who works. */
const CROWDED: Patience = { spins: 20, yields: 0 };

export function crewOf(wanted: OpenOptions['threads']): Crew {
  const cores = coreCount();
  const threads = wanted === 'auto' ? cores : Math.max(1, Math.floor(wanted));
  return { threads, patience: threads > cores ? CROWDED : PATIENCE };
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
