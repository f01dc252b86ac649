import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ModelError } from '../core/errors.ts';
import { makeFolder, writeFileAtomically } from './files.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hotrod-files-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

test('writes a new file and replaces an old one, leaving nothing else', () => {
  const file = join(folder, 'a.bin');
  for (const text of ['first', 'second, longer', '']) {
    writeFileAtomically(file, new TextEncoder().encode(text));
    expect(readFileSync(file, 'utf8')).toBe(text);
  }
  expect(readdirSync(folder)).toEqual(['a.bin']);
});

test('a failure is a ModelError and leaves nothing behind', () => {
  mkdirSync(join(folder, 'taken'));
  writeFileSync(join(folder, 'taken', 'x'), '');
  for (const file of [join(folder, 'none', 'a.bin'), join(folder, 'taken')]) {
    expect(() => writeFileAtomically(file, new Uint8Array(10))).toThrow(ModelError);
  }
  expect(readdirSync(folder)).toEqual(['taken']);
});

test('a device is written to, not replaced', () => {
  expect(() => writeFileAtomically('/dev/full', new Uint8Array(10))).toThrow(/no space left/);
  writeFileAtomically('/dev/null', new Uint8Array(10));
  expect(readdirSync('/dev')).toContain('null');
});

test('makeFolder makes the folders above and takes what exists', () => {
  makeFolder(join(folder, 'a', 'b'));
  makeFolder(join(folder, 'a', 'b'));
  expect(readdirSync(join(folder, 'a'))).toEqual(['b']);
  writeFileSync(join(folder, 'file'), '');
  expect(() => makeFolder(join(folder, 'file', 'c'))).toThrow(ModelError);
});
