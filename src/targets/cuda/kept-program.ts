/**
 * Programs of engines opened before, in the user's own cache folder: whoever finds one there need neither prove the kernels safe nor emit
 * them, and its cubins lie in the cache under the keys that the program names.
 *
 * The name of an entry is a digest of all that decides the program: the sources of Hotrod, manifest and kernels of the engine, the GPU.
 * So what was found safe once is what is run. An entry says its origin again, for a file under a wrong name.
 */
import type { CacheFolder } from '../../host/cache-folder.ts';
import { keptIn, ofThisUser } from '../../host/kept.ts';
import type { DirectIo, DirectUse } from './direct-io.ts';
import type { LaunchedProgram } from './loaded-program.ts';
import type { CudaMachine } from './machine.ts';

/** Of all engines of a user together: some hundred. */
const MAX_CACHE_BYTES = 32 * 2 ** 20;

/** What opening an engine takes beside the engine and its cubins. */
export interface KeptProgram {
  readonly program: LaunchedProgram;
  /** Of the cubins, one a module. */
  readonly keys: readonly string[];
  readonly direct: DirectIo;
  /** What makes the engine run slower than it could. */
  readonly warnings: readonly string[];
}

/** What was kept of engines, by their fingerprints. */
export interface KeptPrograms {
  read(fingerprint: string, machine: CudaMachine): Promise<KeptProgram | undefined>;
  write(fingerprint: string, machine: CudaMachine, kept: KeptProgram): Promise<void>;
}

interface Entry extends KeptProgram {
  readonly origin: string;
}

/** `sources` tells one Hotrod from another. */
export function keptPrograms(folder: CacheFolder, sources: string): KeptPrograms {
  const originOf = (fingerprint: string, { chip, features, driver, device }: CudaMachine): string =>
    JSON.stringify({ sources, fingerprint, chip, features, driver: driver.version, device: device.name });
  const kept = keptIn(folder, MAX_CACHE_BYTES, { encode, decode });
  return {
    read: (fingerprint, machine) => kept.read(originOf(fingerprint, machine)),
    write: (fingerprint, machine, program) => kept.write(originOf(fingerprint, machine), program),
  };
}

/** This user's. */
export const userPrograms = ofThisUser('cuda', keptPrograms);

function encode({ program, keys, direct, warnings }: KeptProgram, origin: string): Uint8Array {
  const entry: Entry = { origin, program, keys, direct, warnings };
  return new TextEncoder().encode(JSON.stringify(entry));
}

function decode(bytes: Uint8Array, origin: string): KeptProgram | undefined {
  const entry = parse(bytes);
  return entry?.origin === origin ? { ...entry, direct: withGaps(entry.direct) } : undefined;
}

function parse(bytes: Uint8Array): Entry | undefined {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as Entry;
  } catch {
    return undefined;
  }
}

/** JSON has null where an array has nothing. */
const withGaps = ({ inputs, outputs }: DirectIo): DirectIo => {
  const gaps = (uses: readonly (DirectUse | undefined | null)[]): DirectIo['inputs'] =>
    uses.map((use) => use ?? undefined);
  return { inputs: gaps(inputs), outputs: gaps(outputs) };
};
