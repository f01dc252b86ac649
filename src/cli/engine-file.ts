/**
 * Engine files with Node's own SHA-256, several times as fast as the portable one: an engine is mostly weights, and all of it is hashed.
 */
import { setTimeout } from 'node:timers/promises';
import { ModelError } from '../core/errors.ts';
import type { Engine } from '../engine/engine.ts';
import { parseEngine, serializeEngine } from '../engine/format.ts';
import { openUserCache } from '../host/cache-folder.ts';
import { checkedFile, checkOnce } from '../host/checked-files.ts';
import { writeFileAtomically } from '../host/files.ts';
import { sha256Beside, sha256Now } from '../host/sha256.ts';
import { loadFile } from '../runtime/runtime.ts';

/** Writes the engine and returns the size of the file in bytes. Throws ModelError `file-write`. */
export function writeEngineFile(file: string, engine: Engine): number {
  const bytes = serializeEngine(engine, { sha256: sha256Now });
  writeFileAtomically(file, bytes);
  return bytes.byteLength;
}

/** A version of a file that is younger than a step of its clock is not noted as whole (`host/checked-files.ts`). */
const SETTLED_MS = 120;

/**
 * Loads a file that was just written, so that the user's cache has what the next load will look for: its machine code, and that its weights
 * are whole. It was built all the same where it cannot be loaded now.
 */
export async function loadOnce(file: string, threads: number | 'auto'): Promise<void> {
  if (!openUserCache('x64')) return;
  await setTimeout(SETTLED_MS);
  try {
    (await loadFile(file, { threads })).dispose();
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
  }
}

/** Throws what `parseEngine` throws. */
export async function engineOfBytes(bytes: Uint8Array): Promise<Engine> {
  const file = checkedFile(bytes);
  let weights: Promise<void> | undefined;
  const later = (check: () => Promise<void>, digest: Uint8Array): void => {
    weights = checkOnce(file, digest, check);
    // Parsing may fail first, and then nobody waits for it.
    weights.catch(() => {});
  };
  const engine = await parseEngine(bytes, { sha256: sha256Beside, later });
  await weights;
  return engine;
}
