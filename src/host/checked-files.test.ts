/** Which versions of a file need not be hashed again: those that were, and no other. */
import { mkdtempSync, renameSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { type CacheFolder, openCacheFolder } from './cache-folder.ts';
import { checkedFile } from './checked-files.ts';
import { mapOrReadFile } from './mapped-file.ts';
import { fileVersion, readSharedFile } from './shared-file.ts';

const root = mkdtempSync(join(tmpdir(), 'hotrod-checked-'));
afterAll(() => rmSync(root, { recursive: true }));
afterEach(() => void vi.useRealTimers());

const LARGE = 2 ** 22;
const DIGEST = new Uint8Array(32).fill(7);
const OTHER = new Uint8Array(32).fill(8);
let count = 0;
function setUp(bytes = LARGE): { file: string; folder: CacheFolder } {
  const file = join(root, `${count}.bin`);
  writeFileSync(file, new Uint8Array(bytes));
  // Long after the file was written.
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 60_000 });
  return { file, folder: openCacheFolder(join(root, `cache-${count++}`)) as CacheFolder };
}
/** The clock for files goes in steps of up to ten milliseconds. */
const clockStep = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 30));
const known = async (file: string, folder: CacheFolder, digest = DIGEST): Promise<boolean | undefined> =>
  checkedFile(await mapOrReadFile(file), folder)?.isKnown(digest);

test('a version is known by the digest that was noted, mapped or read, and by no other', async () => {
  const { file, folder } = setUp();
  expect(await known(file, folder)).toBe(false);
  await checkedFile(await mapOrReadFile(file), folder)?.note(DIGEST);
  expect(await known(file, folder)).toBe(true);
  expect(await checkedFile(readSharedFile(file), folder)?.isKnown(DIGEST)).toBe(true);
  expect(await known(file, folder, OTHER)).toBe(false);
  // The same name again, or another name for the same file.
  renameSync(file, `${file}-moved`);
  writeFileSync(file, new Uint8Array(LARGE));
  expect(await known(file, folder)).toBe(false);
});

test.each<[string, (file: string) => unknown]>([
  [
    'one byte is written',
    async (file) => {
      const handle = await open(file, 'r+');
      await handle.write(Uint8Array.of(1), 0, 1, 5000);
      await handle.close();
    },
  ],
  ['it is longer', (file) => truncateSync(file, LARGE + 1)],
  [
    'it is replaced',
    (file) => {
      writeFileSync(`${file}.new`, new Uint8Array(LARGE));
      renameSync(`${file}.new`, file);
    },
  ],
  [
    'a byte is written and its time of change set back',
    async (file) => {
      const { atime, mtime } = statSync(file);
      const handle = await open(file, 'r+');
      await handle.write(Uint8Array.of(1), 0, 1, 5000);
      await handle.close();
      utimesSync(file, atime, mtime);
    },
  ],
])('a version is another one when %s', async (_, change) => {
  const { file, folder } = setUp();
  await checkedFile(await mapOrReadFile(file), folder)?.note(DIGEST);
  expect(await known(file, folder)).toBe(true);
  await clockStep();
  await change(file);
  expect(await known(file, folder)).toBe(false);
});

test('what is known is of the version that was opened, though the file has changed since', async () => {
  const { file, folder } = setUp();
  const bytes = await mapOrReadFile(file);
  const before = checkedFile(bytes, folder);
  truncateSync(file, LARGE + 1);
  await before?.note(DIGEST);
  expect(await known(file, folder)).toBe(false);
});

test('a file that was just written, or in the future, is not noted', async () => {
  const { file, folder } = setUp();
  const { changedMs = 0, stepMs = 0 } = fileVersion(readSharedFile(file)) ?? {};
  for (const [ms, isNoted] of [
    [-5000, false],
    [0, false],
    [stepMs - 1, false],
    [stepMs + 1, true],
  ] as const) {
    vi.setSystemTime(Math.ceil(changedMs + ms));
    await checkedFile(await mapOrReadFile(file), folder)?.note(DIGEST);
    expect(await known(file, folder), `${ms} ms after it was written`).toBe(isNoted);
  }
});

test('small files and bytes from elsewhere are hashed always', async () => {
  const { file, folder } = setUp(LARGE - 1);
  expect(checkedFile(await mapOrReadFile(file), folder)).toBeUndefined();
  expect(checkedFile(new Uint8Array(LARGE), folder)).toBeUndefined();
});

test('a damaged note is none', async () => {
  const { file, folder } = setUp();
  await checkedFile(await mapOrReadFile(file), folder)?.note(DIGEST);
  const damaged: CacheFolder = { ...folder, read: (key) => folder.read(key)?.map((b, i) => (i === 40 ? b ^ 1 : b)) };
  expect(await known(file, damaged)).toBe(false);
});
