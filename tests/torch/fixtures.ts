/**
 * Files that PyTorch 2.11 wrote, gzipped: see fixtures/README.md for what is in them and how they were made.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

export const fixture = (name: string): Uint8Array =>
  new Uint8Array(gunzipSync(readFileSync(new URL(`fixtures/${name}.gz`, import.meta.url))));
