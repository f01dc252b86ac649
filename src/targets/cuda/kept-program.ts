/**
 * Programs of engines opened before, in the user's own cache folder: whoever finds one there need neither prove the kernels safe nor emit
 * them, and its cubins lie in the cache under the keys that the program names.
 *
 * The name of an entry is a digest of all that decides the program: the sources of Hotrod, manifest and kernels of the engine, the GPU.
 * So what was found safe once is what is run. An entry says its origin again, for a file under a wrong name.
 */
import { SOURCES } from '../../core/sources.ts';
import { type CacheFolder, openUserCache } from '../../host/cache-folder.ts';
import { keyOf, readSealed, seal } from '../../host/sealed.ts';
import { sha256 } from '../../host/sha256.ts';
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

let user: KeptPrograms | undefined | null = null;

/** This user's; undefined where there is no place for them, none is wanted, or it is not known which Hotrod this is. */
export function userPrograms(): KeptPrograms | undefined {
  if (user === null) {
    const folder = SOURCES === undefined ? undefined : openUserCache('cuda');
    user = folder && keptPrograms(folder, SOURCES as string);
  }
  return user;
}

interface Entry extends KeptProgram {
  readonly origin: string;
}

/** `sources` tells one Hotrod from another. */
export function keptPrograms(folder: CacheFolder, sources: string): KeptPrograms {
  const originOf = (fingerprint: string, { chip, features, driver, device }: CudaMachine): string =>
    JSON.stringify({ sources, fingerprint, chip, features, driver: driver.version, device: device.name });
  return {
    read: async (fingerprint, machine) => {
      const origin = originOf(fingerprint, machine);
      const key = await nameOf(origin);
      const bytes = await readSealed(folder, key);
      const entry = bytes && decode(bytes);
      if (entry?.origin === origin) return { ...entry, direct: withGaps(entry.direct) };
      if (bytes) folder.remove(key);
      return undefined;
    },
    write: async (fingerprint, machine, { program, keys, direct, warnings }) => {
      const origin = originOf(fingerprint, machine);
      const entry: Entry = { origin, program, keys, direct, warnings };
      folder.write(await nameOf(origin), await seal(new TextEncoder().encode(JSON.stringify(entry))));
      folder.trim(MAX_CACHE_BYTES);
    },
  };
}

const nameOf = async (origin: string): Promise<string> => keyOf(await sha256(new TextEncoder().encode(origin)));

function decode(bytes: Uint8Array): Entry | undefined {
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
