import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { fileInPieces } from './file-pieces.ts';

const folder = mkdtempSync(join(tmpdir(), 'pieces-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('reads the pieces asked for, each into memory of its own', () => {
  const file = join(folder, 'a');
  writeFileSync(
    file,
    Uint8Array.from({ length: 100 }, (_, i) => i),
  );
  const { bytes, read } = fileInPieces(file);
  expect(bytes).toBe(100);
  expect([...read(10, 3)]).toEqual([10, 11, 12]);
  expect(read(99, 1).buffer.byteLength).toBe(1);
  expect(read(100, 0)).toHaveLength(0);
});

it('throws for a file that is missing, and for one that got shorter', () => {
  expect(() => fileInPieces(join(folder, 'none'))).toThrow(/ENOENT/);
  const file = join(folder, 'b');
  writeFileSync(file, new Uint8Array(100));
  const { read } = fileInPieces(file);
  truncateSync(file, 50);
  expect(() => read(40, 20)).toThrow(/ends at 50, before 60/);
});

it('reads beyond 4 GiB', () => {
  const file = join(folder, 'sparse');
  writeFileSync(file, '');
  truncateSync(file, 5 * 2 ** 30);
  const { bytes, read } = fileInPieces(file);
  expect(bytes).toBe(5 * 2 ** 30);
  expect([...read(bytes - 2, 2)]).toEqual([0, 0]);
});
