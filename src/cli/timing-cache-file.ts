/**
 * The file of `--timing-cache`: read before a build if it is there, written back after it with what the build measured.
 */
import { existsSync } from 'node:fs';
import { writeFileAtomically } from '../host/files.ts';
import { TimingCache } from '../tune/timing-cache.ts';
import { readInputFile, withFile } from './files.ts';

/** Throws ModelError `file-missing` or `option-invalid` where the file is there but is no timing cache. */
export function readTimingCache(file: string): TimingCache {
  if (!existsSync(file)) return new TimingCache();
  try {
    return TimingCache.parse(new TextDecoder().decode(readInputFile(file, 'timing cache')));
  } catch (error) {
    throw withFile(file, error);
  }
}

export const writeTimingCache = (file: string, cache: TimingCache): void =>
  writeFileAtomically(file, new TextEncoder().encode(cache.print()));
