/** The operating system that native code runs on: one row and one file each. */
import { type Ffi, loadFfi } from './ffi.ts';
import { linux } from './native-linux.ts';
import type { NativeSystem } from './native-types.ts';
import { windows } from './native-windows.ts';
import { nodeModule } from './node-module.ts';

interface NodeOs {
  platform(): string;
}

let opening: Promise<NativeSystem | string> | undefined;

/** The system, or the reason why native code cannot run here. Asked once. */
export function openNativeSystem(): Promise<NativeSystem | string> {
  opening ??= openSystem();
  return opening;
}

async function openSystem(): Promise<NativeSystem | string> {
  const platform = nodeModule<NodeOs>('node:os')?.platform();
  if (platform === undefined) return 'native code runs in Node only';
  const open = SYSTEMS[platform];
  if (!open) return `native code is not made for ${platform} yet`;
  const ffi = await loadFfi();
  if (typeof ffi === 'string') return ffi;
  try {
    return open(ffi);
  } catch (cause) {
    return `the system's libraries are not as expected: ${cause instanceof Error ? cause.message : cause}`;
  }
}

/** By Node's names of platforms. */
const SYSTEMS: Readonly<Record<string, (ffi: Ffi) => NativeSystem>> = { linux, win32: windows };
