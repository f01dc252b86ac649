/**
 * Scratch: memory that each thread has for itself, behind the arena of a context. A step that needs some finds there what an earlier
 * one left, and leaves nothing for a later one.
 *
 *     arena (arenaBytes) | thread 0 | thread 1 | …      (aligned to 64)
 */
import { alignUp } from '../core/bytes.ts';
import { BUFFER_ALIGNMENT, type Engine } from './engine.ts';

export interface ScratchLayout {
  /** Of thread 0's part, from the start of the arena. */
  readonly byteOffset: number;
  /** From one thread's part to the next one's: what the most demanding step asks for. */
  readonly bytesPerThread: number;
}

export function scratchLayout({ arenaBytes, steps }: Pick<Engine, 'arenaBytes' | 'steps'>): ScratchLayout {
  const most = steps.reduce((bytes, step) => Math.max(bytes, step.scratchBytes ?? 0), 0);
  return { byteOffset: alignUp(arenaBytes, BUFFER_ALIGNMENT), bytesPerThread: alignUp(most, BUFFER_ALIGNMENT) };
}

/** Bytes of the arena and what lies behind it. */
export function contextBytes(engine: Pick<Engine, 'arenaBytes' | 'steps'>, threads: number): number {
  const { byteOffset, bytesPerThread } = scratchLayout(engine);
  return bytesPerThread === 0 ? engine.arenaBytes : byteOffset + threads * bytesPerThread;
}
