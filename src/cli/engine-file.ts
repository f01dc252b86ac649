/**
 * Engine files with Node's own SHA-256, several times as fast as the portable one: an engine is mostly weights, and all of it is hashed.
 */
import type { Engine } from '../engine/engine.ts';
import { parseEngine, serializeEngine } from '../engine/format.ts';
import { writeFileAtomically } from '../host/files.ts';
import { sha256, sha256Now } from '../host/sha256.ts';

/** Writes the engine and returns the size of the file in bytes. Throws ModelError `file-write`. */
export function writeEngineFile(file: string, engine: Engine): number {
  const bytes = serializeEngine(engine, { sha256: sha256Now });
  writeFileAtomically(file, bytes);
  return bytes.byteLength;
}

/** Throws what `parseEngine` throws. */
export const engineOfBytes = (bytes: Uint8Array): Promise<Engine> => parseEngine(bytes, { sha256 });
