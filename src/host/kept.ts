/**
 * What was made once and can be found again, in the user's own cache: entries under a digest of their origin, the text that says all that
 * decides what they hold. So what is found is what would be made, and what anything has changed in is not found.
 */
import { SOURCES } from '../core/sources.ts';
import { type CacheFolder, openUserCache } from './cache-folder.ts';
import { keyOf, readSealed, seal } from './sealed.ts';
import { sha256 } from './sha256.ts';

export interface Kept<T> {
  read(origin: string): Promise<T | undefined>;
  write(origin: string, value: T): Promise<void>;
}

/** An entry says its origin again, for a file under a wrong name: `decode` gives undefined where it is of another, or no entry. */
export interface KeptForm<T> {
  encode(value: T, origin: string): Uint8Array;
  decode(bytes: Uint8Array, origin: string): T | undefined;
}

/** Of more than `maxBytes` in the folder the oldest are dropped. */
export function keptIn<T>(folder: CacheFolder, maxBytes: number, { encode, decode }: KeptForm<T>): Kept<T> {
  const nameOf = async (origin: string): Promise<string> => keyOf(await sha256(new TextEncoder().encode(origin)));
  return {
    read: async (origin) => {
      const name = await nameOf(origin);
      const bytes = await readSealed(folder, name);
      const value = bytes && decode(bytes, origin);
      if (bytes && !value) folder.remove(name);
      return value;
    },
    write: async (origin, value) => {
      folder.write(await nameOf(origin), await seal(encode(value, origin)));
      folder.trim(maxBytes);
    },
  };
}

/**
 * What `make` makes of this user's cache folder of that name, the first time it is asked for. Undefined where there is no such place, none
 * is wanted, or it is not known which Hotrod this is.
 */
export function ofThisUser<T>(name: string, make: (folder: CacheFolder, sources: string) => T): () => T | undefined {
  let made: T | undefined | null = null;
  return () => {
    if (made === null) {
      const folder = SOURCES === undefined ? undefined : openUserCache(name);
      made = folder && make(folder, SOURCES as string);
    }
    return made;
  };
}
