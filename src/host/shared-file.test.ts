import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readHead, readSharedFile } from './shared-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'shared-'));
afterAll(() => rmSync(folder, { recursive: true }));

test.each([0, 1, 63, 100_003])('a file of %i bytes', (size) => {
  const file = join(folder, `${size}.bin`);
  const wanted = Uint8Array.from({ length: size }, (_, i) => i * 31);
  writeFileSync(file, wanted);
  const bytes = readSharedFile(file);
  expect(bytes.buffer).toBeInstanceOf(SharedArrayBuffer);
  expect([...bytes]).toEqual([...wanted]);
  expect(bytes.buffer.byteLength - bytes.byteOffset - bytes.byteLength).toBeGreaterThanOrEqual(64);
  expect([...readHead(file, 8)]).toEqual([...wanted.subarray(0, 8)]);
});

test('a file that is not there, and a folder', () => {
  expect(() => readSharedFile(join(folder, 'none'))).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  expect(() => readSharedFile(folder)).toThrow(expect.objectContaining({ code: 'EISDIR' }));
});
