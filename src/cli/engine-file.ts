/**
 * Engine files with Node's own SHA-256, several times as fast as the portable one: an engine is mostly weights, and all of it is hashed.
 */
import { createHash } from 'node:crypto';
import type { Engine } from '../engine/engine.ts';
import { parseEngine, serializeEngine } from '../engine/format.ts';
import { writeFileAtomically } from '../host/files.ts';

const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();

/** Writes the engine and returns the size of the file in bytes. Throws ModelError `file-write`. */
export function writeEngineFile(file: string, engine: Engine): number {
  const bytes = serializeEngine(engine, { sha256 });
  writeFileAtomically(file, bytes);
  return bytes.byteLength;
}

/** Throws what `parseEngine` throws. */
export const engineOfBytes = (bytes: Uint8Array): Promise<Engine> =>
  parseEngine(bytes, { sha256: async (part) => sha256(part) });
