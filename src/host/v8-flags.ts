/**
 * Flags of V8 that are set for a while, in Node. They are the process's: who sets one puts it back before anything else can run on the
 * thread.
 */
import { nodeModule } from './node-module.ts';
import { coreCount } from './processor.ts';

interface NodeV8 {
  setFlagsFromString(flags: string): void;
}
interface NodeProcess {
  readonly execArgv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** False where there is no V8 that takes flags: browsers, Bun. */
export function setV8Flags(flags: readonly string[]): boolean {
  const v8 = nodeModule<NodeV8>('node:v8');
  try {
    for (const flag of flags) v8?.setFlagsFromString(flag);
    return v8 !== undefined;
  } catch {
    return false;
  }
}

/** With so many cores the optimising compiler is in nobody's way. */
const ENOUGH_CORES = 4;

/**
 * A runner for work of a few tenths of a second that a process mostly does once. V8 would optimise its functions on other threads, taking
 * more processor time than the work and giving up the code before it has earned that back; on a machine of few cores the work waits for
 * it. So the first time, there, the work runs without that compiler. It must not wait for anything.
 */
export function firstTimeUnoptimized(cores = coreCount): <T>(work: () => T) => T {
  let isFirst = true;
  return (work) => {
    const isApart = isFirst && cores() < ENOUGH_CORES && !userDecides() && setV8Flags(['--no-opt']);
    isFirst = false;
    try {
      return work();
    } finally {
      if (isApart) setV8Flags(['--opt']);
    }
  };
}

/** Whether the process was started with an opinion of its own on what is optimised. */
function userDecides(): boolean {
  const process = nodeModule<NodeProcess>('node:process');
  const flags = [...(process?.execArgv ?? []), process?.env.NODE_OPTIONS ?? ''].join(' ');
  return /opt\b|turbofan|jitless|max-lazy/.test(flags);
}
