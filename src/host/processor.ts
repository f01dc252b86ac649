/**
 * How many cores this machine gives the program, and what its processor is called.
 */
import { nodeModule } from './node-module.ts';

interface NodeOs {
  arch(): string;
  platform(): string;
  availableParallelism(): number;
  cpus(): readonly { readonly model: string }[];
}

/** Cores that may run at once, at least 1: what the scheduler allows in Node, what the browser tells elsewhere. */
export function coreCount(): number {
  const os = nodeModule<NodeOs>('node:os');
  return Math.max(1, os?.availableParallelism() ?? globalThis.navigator?.hardwareConcurrency ?? 1);
}

/** For people. */
export function processorName(): string {
  const model = nodeModule<NodeOs>('node:os')?.cpus()[0]?.model.trim();
  return model || globalThis.navigator?.userAgent || 'unknown processor';
}

/** The instruction set that native code here is made of, by Node's name (`x64`, `arm64`); undefined in browsers. */
export const processorKind = (): string | undefined => nodeModule<NodeOs>('node:os')?.arch();

/** The operating system by Node's name (`linux`, `win32`, `darwin`); undefined in browsers. */
export const platformName = (): string | undefined => nodeModule<NodeOs>('node:os')?.platform();
