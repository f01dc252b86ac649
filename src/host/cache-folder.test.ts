/** The user's cache folder on a real file system. */
import { mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { type CacheFolder, cacheHome, openCacheFolder } from './cache-folder.ts';

const root = mkdtempSync(join(tmpdir(), 'hotrod-cache-'));
afterAll(() => rmSync(root, { recursive: true }));
let folders = 0;
const open = (): CacheFolder => openCacheFolder(join(root, `deep/${folders++}`)) as CacheFolder;
const bytes = (n: number, value = 1): Uint8Array => new Uint8Array(n).fill(value);

test('what was written is read, the newest of a key', () => {
  const cache = open();
  expect(cache.read('a')).toBeUndefined();
  cache.write('a', bytes(5));
  cache.write('a', bytes(3, 2));
  expect([...(cache.read('a') as Uint8Array)]).toEqual([2, 2, 2]);
  expect(readdirSync(cache.folder)).toEqual(['a']);
  cache.remove('a');
  cache.remove('a');
  expect(cache.read('a')).toBeUndefined();
});

test('only the user may read it', () => {
  const cache = open();
  cache.write('a', bytes(5));
  if (process.platform !== 'win32') {
    expect(statSync(cache.folder).mode & 0o77).toBe(0);
    expect(statSync(join(cache.folder, 'a')).mode & 0o77).toBe(0);
  }
});

test('beyond the limit what was not used for longest goes', () => {
  const cache = open();
  for (const [i, key] of ['a', 'b', 'c'].entries()) {
    cache.write(key, bytes(80));
    utimesSync(join(cache.folder, key), 1000 + i, 1000 + i);
  }
  cache.read('a');
  cache.write('d', bytes(80));
  cache.trim(250);
  expect(readdirSync(cache.folder).sort()).toEqual(['a', 'c', 'd']);
  cache.write('e', bytes(240));
  cache.trim(250);
  expect(readdirSync(cache.folder)).toEqual(['e']);
});

test('a place that cannot be written is a cache that forgets', () => {
  const file = join(root, 'file');
  writeFileSync(file, '');
  const cache = openCacheFolder(join(file, 'below')) as CacheFolder;
  cache.write('a', bytes(5));
  cache.trim(0);
  expect(cache.read('a')).toBeUndefined();
});

test('XDG_CACHE_HOME is heeded where it is absolute', () => {
  expect(cacheHome('hotrod', { XDG_CACHE_HOME: '/tmp/x' })).toBe(join('/tmp/x', 'hotrod'));
  expect(cacheHome('hotrod', { XDG_CACHE_HOME: 'relative' })).not.toContain('relative');
  expect(cacheHome('hotrod', {})).toMatch(/hotrod/);
});
