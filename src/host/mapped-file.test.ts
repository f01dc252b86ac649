import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { mapOrReadFile, staysInPlace } from './mapped-file.ts';
import { sha256, sha256Beside } from './sha256.ts';

const folder = mkdtempSync(join(tmpdir(), 'mapped-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The last ones leave 64 bytes, fewer, or none of a page. */
test.each([0, 1, 100_003, 3 * 4096 - 64, 3 * 4096 - 63, 4096])('a file of %i bytes', async (size) => {
  const file = join(folder, `${size}.bin`);
  const wanted = Uint8Array.from({ length: size }, (_, i) => i * 31);
  writeFileSync(file, wanted);
  const bytes = await mapOrReadFile(file);
  expect(Buffer.compare(bytes, wanted)).toBe(0);
  expect(staysInPlace(bytes)).toBe(true);
  expect(await sha256Beside(bytes)).toEqual(await sha256(wanted));
  const behind = new Uint8Array(bytes.buffer, bytes.byteOffset + size, 64);
  expect([...behind]).toEqual(new Array(64).fill(0));
});

test('what is written stays here, and a file that takes the name leaves the bytes as they are', async () => {
  const [file, other] = ['a.bin', 'b.bin'].map((name) => join(folder, name));
  writeFileSync(file, new Uint8Array(5000).fill(7));
  const bytes = await mapOrReadFile(file);
  bytes[0] = 8;
  expect(readFileSync(file)[0]).toBe(7);
  writeFileSync(other, new Uint8Array(10).fill(9));
  renameSync(other, file);
  expect([bytes[0], bytes[1], bytes[4999]]).toEqual([8, 7, 7]);
});

test('memory of one owner does not stay', () => {
  expect(staysInPlace(new Uint8Array(8))).toBe(false);
});

test('a file that is not there, and a folder', async () => {
  await expect(mapOrReadFile(join(folder, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(mapOrReadFile(folder)).rejects.toMatchObject({ code: 'EISDIR' });
});
