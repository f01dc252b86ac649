/**
 * Machine code of engines opened before, in the user's own cache folder: whoever finds it there need neither prove the kernels safe nor
 * emit them. It is never in an engine file, so a stranger's file brings none along.
 *
 * What decides the code: the sources of Hotrod, manifest and kernels of the engine, the features of the machine, the threads. So what was
 * found safe once is what is run (`host/kept.ts`). An entry is
 *
 *     length of the head, u32 | head: JSON | code
 *
 * Code runs at any address; on Windows it holds those of two functions of
 * the system, which are the same until it starts anew and count as what decides the code.
 */
import { dataView } from '../../core/bytes.ts';
import type { CacheFolder } from '../../host/cache-folder.ts';
import { keptIn, ofThisUser } from '../../host/kept.ts';
import type { X64Machine } from './machine.ts';
import type { CompiledEngine, Crew } from './open.ts';

/** Of all engines of a user together: some hundred large ones. */
const MAX_CACHE_BYTES = 64 * 2 ** 20;
const LENGTH_BYTES = 4;

/** What was kept of engines, by their fingerprints. */
export interface KeptCode {
  read(fingerprint: string, machine: X64Machine, crew: Crew): Promise<CompiledEngine | undefined>;
  write(fingerprint: string, machine: X64Machine, crew: Crew, compiled: CompiledEngine): Promise<void>;
}

/** `sources` tells one Hotrod from another. */
export function keptCode(folder: CacheFolder, sources: string): KeptCode {
  const originOf = (fingerprint: string, { system, features }: X64Machine, crew: Crew): string =>
    JSON.stringify({ sources, fingerprint, features, calls: system.calls, crew });
  const kept = keptIn(folder, MAX_CACHE_BYTES, { encode, decode });
  return {
    read: (fingerprint, machine, crew) => kept.read(originOf(fingerprint, machine, crew)),
    write: (fingerprint, machine, crew, compiled) => kept.write(originOf(fingerprint, machine, crew), compiled),
  };
}

/** This user's. */
export const userCode = ofThisUser('x64', keptCode);

/** All but the code itself. */
interface Head {
  readonly origin: string;
  readonly entries: Omit<CompiledEngine['code'], 'bytes'>;
  readonly contextBytes: number;
  readonly warnings: readonly string[];
}

function encode({ code, contextBytes, warnings }: CompiledEngine, origin: string): Uint8Array {
  const { bytes, ...entries } = code;
  const head: Head = { origin, entries, contextBytes, warnings };
  const text = new TextEncoder().encode(JSON.stringify(head));
  const out = new Uint8Array(LENGTH_BYTES + text.length + bytes.length);
  dataView(out).setUint32(0, text.length, true);
  out.set(text, LENGTH_BYTES);
  out.set(bytes, LENGTH_BYTES + text.length);
  return out;
}

/** Undefined where the entry is of something else. */
function decode(entry: Uint8Array, origin: string): CompiledEngine | undefined {
  if (entry.length < LENGTH_BYTES) return undefined;
  const start = LENGTH_BYTES + dataView(entry).getUint32(0, true);
  const head = headOf(entry.subarray(LENGTH_BYTES, start));
  // Of one origin is only what this `encode` wrote.
  if (head?.origin !== origin) return undefined;
  const { entries, contextBytes, warnings } = head;
  return { code: { ...entries, bytes: entry.subarray(start) }, contextBytes, warnings };
}

function headOf(text: Uint8Array): Head | undefined {
  try {
    return JSON.parse(new TextDecoder().decode(text)) as Head;
  } catch {
    return undefined;
  }
}
