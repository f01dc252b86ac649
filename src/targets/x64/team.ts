/**
 * The running program of one open engine: its code in executable memory, its control block, its threads.
 *
 * Thread 0 is whoever calls `run`; the others are native threads that sleep in the program between inferences and touch nothing but
 * code and control block then. `end` waits for them to return before it takes either away.
 */
import { ModelError } from '../../core/errors.ts';
import type { NativeSystem } from '../../host/native-types.ts';
import type { NativeBlock } from './memory.ts';
import type { ProgramCode } from './program.ts';

export interface Team {
  /** Code and control block. */
  readonly bytes: number;
  /** All steps over an arena, on all threads. Allocates nothing. */
  run(weights: NativeBlock, arena: NativeBlock): void;
  /** One step on this thread. */
  step(index: number, weights: NativeBlock, arena: NativeBlock): void;
  /** Ends the threads and frees all; nothing may be called after. */
  end(): void;
}

/** Throws ModelError `out-of-memory` or `target-unavailable`. */
export function startTeam(system: NativeSystem, program: ProgramCode): Team {
  const code = mapCode(system, program.bytes);
  const control = mapOrRefuse(system, program.controlBytes);
  const entry = (offset: number, addresses: number) =>
    system.ffi.functionAt(code + offset, 'void', new Array<'intptr'>(addresses).fill('intptr'));
  const run = entry(program.run, 3);
  const step = entry(program.step, 3);
  const stop = entry(program.stop, 1);
  const threads: number[] = [];
  const end = (): void => {
    stop(control);
    for (const thread of threads) system.joinThread(thread);
    system.unmapPages(code, program.bytes.length);
    system.unmapPages(control, program.controlBytes);
  };
  try {
    for (const worker of program.workers) threads.push(system.startThread(code + worker, control));
  } catch (cause) {
    end();
    throw new ModelError('target-unavailable', `this host does not give ${program.workers.length + 1} threads`, {
      hint: 'open the engine with fewer, or 1',
      cause,
    });
  }
  return {
    bytes: program.bytes.length + program.controlBytes,
    run: (weights, arena) => void run(weights.address, arena.address, control),
    step: (index, weights, arena) => void step(code + program.steps[index], weights.address, arena.address),
    end,
  };
}

/** Code is written first and may be executed after, never both. */
function mapCode(system: NativeSystem, bytes: Uint8Array): number {
  const address = mapOrRefuse(system, bytes.length);
  try {
    system.write(address, bytes);
    system.makeExecutable(address, bytes.length);
    return address;
  } catch (cause) {
    system.unmapPages(address, bytes.length);
    throw new ModelError('target-unavailable', 'this host does not allow executable memory', { cause });
  }
}

function mapOrRefuse(system: NativeSystem, bytes: number): number {
  try {
    return system.mapPages(bytes);
  } catch (cause) {
    throw new ModelError('out-of-memory', `the host refused ${Math.ceil(bytes / 1024)} KiB for code`, { cause });
  }
}
