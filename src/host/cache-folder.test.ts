/** The user's cache folder on a real file system. */
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { type CacheFolder, cacheHome, openCacheFolder, openUserCache } from './cache-folder.ts';

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

/** Windows tells no owner, and its folders of a user are closed to others by their access lists. */
const owners = process.platform === 'win32' ? test.skip : test;

owners('what others may write is as if it were not there', () => {
  const cache = open();
  cache.write('a', bytes(5));
  const file = join(cache.folder, 'a');
  for (const mode of [0o620, 0o602, 0o666]) {
    chmodSync(file, mode);
    expect(cache.read('a'), mode.toString(8)).toBeUndefined();
  }
  chmodSync(file, 0o644);
  expect(cache.read('a')).toEqual(bytes(5));
  for (const mode of [0o770, 0o707, 0o1777]) {
    chmodSync(cache.folder, mode);
    expect(cache.read('a'), mode.toString(8)).toBeUndefined();
    cache.write('b', bytes(5));
    cache.trim(0);
    expect(readdirSync(cache.folder)).toEqual(['a']);
  }
  chmodSync(cache.folder, 0o755);
  expect(cache.read('a')).toEqual(bytes(5));
});

owners('links and folders are no files, a link is no folder', () => {
  const cache = open();
  cache.write('a', bytes(5));
  symlinkSync(join(cache.folder, 'a'), join(cache.folder, 'link'));
  mkdirSync(join(cache.folder, 'folder'));
  expect(cache.read('link')).toBeUndefined();
  expect(cache.read('folder')).toBeUndefined();
  const moved = `${cache.folder}-moved`;
  renameSync(cache.folder, moved);
  symlinkSync(moved, cache.folder);
  expect(cache.read('a')).toBeUndefined();
  cache.write('b', bytes(5));
  expect(readdirSync(moved).sort()).toEqual(['a', 'folder', 'link']);
});

/** Only root can give files away. */
const asRoot = process.getuid?.() === 0 ? test : test.skip;

asRoot('what is another user’s is as if it were not there', () => {
  const cache = open();
  cache.write('a', bytes(5));
  chownSync(join(cache.folder, 'a'), 12345, 12345);
  expect(cache.read('a')).toBeUndefined();
  cache.write('a', bytes(3));
  expect(cache.read('a')).toEqual(bytes(3));
  chownSync(cache.folder, 12345, 12345);
  expect(cache.read('a')).toBeUndefined();
  cache.write('a', bytes(4));
  expect(readFileSync(join(cache.folder, 'a'))).toHaveLength(3);
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

test('HOTROD_CACHE=off leaves a user without', () => {
  vi.stubEnv('XDG_CACHE_HOME', root);
  expect(openUserCache('x')?.folder).toBe(join(root, 'hotrod', 'x'));
  vi.stubEnv('HOTROD_CACHE', 'off');
  expect(openUserCache('x')).toBeUndefined();
  vi.unstubAllEnvs();
});

test('XDG_CACHE_HOME is heeded where it is absolute', () => {
  expect(cacheHome('hotrod', { XDG_CACHE_HOME: '/tmp/x' })).toBe(join('/tmp/x', 'hotrod'));
  expect(cacheHome('hotrod', { XDG_CACHE_HOME: 'relative' })).not.toContain('relative');
  expect(cacheHome('hotrod', {})).toMatch(/hotrod/);
});
