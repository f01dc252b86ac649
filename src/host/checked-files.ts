/**
 * Large files whose bytes were found whole before, so that reading one again need not hash it again: a note in the user's cache by what the
 * system says of a version of a file, and it says something else of the file when anybody has written to it.
 *
 * The clock for files goes in steps, which may give two versions of one file the same times. So a note is made of a version only that had
 * been as it was for longer than a step before its bytes were looked at.
 */
import { bytesEqual } from '../core/bytes.ts';
import { type CacheFolder, openUserCache } from './cache-folder.ts';
import { keyOf, readSealed, seal } from './sealed.ts';
import { sha256 } from './sha256.ts';
import { fileVersion } from './shared-file.ts';

/** Hashing less takes no longer than looking. */
const WORTH_NOTING_BYTES = 2 ** 22;
/** A note is 64 bytes. */
const MAX_CACHE_BYTES = 2 ** 18;

export interface CheckedFile {
  /** Whether the file of this version was found to have this digest. */
  isKnown(digest: Uint8Array): Promise<boolean>;
  /** The file of this version has this digest. */
  note(digest: Uint8Array): Promise<void>;
}

/** Undefined where the bytes are not those of a large file, or there is no cache. */
export function checkedFile(bytes: Uint8Array, folder = openUserCache('checked')): CheckedFile | undefined {
  const version = fileVersion(bytes);
  if (!version || !folder || version.size < WORTH_NOTING_BYTES) return undefined;
  const { name, changedMs, stepMs } = version;
  const openedMs = Date.now();
  let finding: Promise<string> | undefined;
  const key = (): Promise<string> => {
    finding ??= sha256(new TextEncoder().encode(name)).then(keyOf);
    return finding;
  };
  return {
    isKnown: async (digest) => {
      const noted = await readSealed(folder, await key());
      return noted !== undefined && bytesEqual(noted, digest);
    },
    note: async (digest) => {
      // Times to come are those of a clock that was set back since.
      if (changedMs + stepMs >= openedMs) return;
      await noteIn(folder, await key(), digest);
    },
  };
}

/** Checks what has this digest in a file, unless it was found whole in this version of it. Throws what `check` does. */
export async function checkOnce(
  file: CheckedFile | undefined,
  digest: Uint8Array,
  check: () => Promise<void>,
): Promise<void> {
  if (await file?.isKnown(digest)) return;
  await check();
  await file?.note(digest);
}

async function noteIn(folder: CacheFolder, key: string, digest: Uint8Array): Promise<void> {
  folder.write(key, await seal(digest));
  folder.trim(MAX_CACHE_BYTES);
}
