/**
 * Entries of the user's cache that show damage: they begin with the digest of the rest. It tells damage, not intent: that nobody else wrote
 * an entry is for the folder to see to (`cache-folder.ts`).
 */
import { hex } from '../core/bytes.ts';
import type { CacheFolder } from './cache-folder.ts';
import { sha256 } from './sha256.ts';

const DIGEST_BYTES = 32;

/** A digest as a key: 128 bits of it, so that names of files and sections stay short. */
export const keyOf = (digest: Uint8Array): string => hex(digest.subarray(0, 16));

export async function seal(bytes: Uint8Array): Promise<Uint8Array> {
  const out = new Uint8Array(DIGEST_BYTES + bytes.length);
  out.set(await sha256(bytes));
  out.set(bytes, DIGEST_BYTES);
  return out;
}

/** What was sealed; undefined where it is damaged. */
export async function unseal(entry: Uint8Array): Promise<Uint8Array | undefined> {
  const bytes = entry.subarray(DIGEST_BYTES);
  const digest = await sha256(bytes);
  return entry.length > DIGEST_BYTES && digest.every((b, i) => b === entry[i]) ? bytes : undefined;
}

/** What is sealed under the key. A damaged entry is removed. */
export async function readSealed(folder: CacheFolder, key: string): Promise<Uint8Array | undefined> {
  const entry = folder.read(key);
  const bytes = entry && (await unseal(entry));
  if (entry && !bytes) folder.remove(key);
  return bytes;
}
