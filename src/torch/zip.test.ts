/** The ZIP directory: 64-bit sizes, comments, and what is not as it says. */
import { expect, test } from 'vitest';
import { ModelError } from '../core/errors.ts';
import { openZip } from './zip.ts';

type Field = readonly [value: number, bytes: number];
const words = (...fields: readonly Field[]): number[] =>
  fields.flatMap(([value, bytes]) => Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) % 256));
const text = (value: string): number[] => [...new TextEncoder().encode(value)];

const NAME = 'a/b';
const DATA = [1, 2, 3, 4, 5];
const ELSEWHERE = 0xffffffff;

interface Change {
  /** Sizes and places as ZIP64 has them. */
  readonly wide?: boolean;
  readonly comment?: string;
  readonly flags?: number;
  readonly method?: number;
  readonly directoryBytes?: number;
  readonly storedBytes?: number;
  readonly headerAt?: number;
  readonly entries?: number;
}

function archive(change: Change = {}): Uint8Array {
  const { wide = false, comment = '', flags = 0, method = 0, entries = 1 } = change;
  const size = change.storedBytes ?? DATA.length;
  const local = [
    ...words([0x04034b50, 4], [20, 2], [flags, 2], [method, 2], [0, 8], [size, 4], [size, 4], [NAME.length, 2], [4, 2]),
    ...text(NAME),
    9,
    9,
    9,
    9,
    ...DATA,
  ];
  const place = change.headerAt ?? 0;
  // Fields in their order, behind an extra field of another kind.
  const extra = wide ? [...words([0x7777, 2], [2, 2], [0, 2], [1, 2], [24, 2], [size, 8], [size, 8], [place, 8])] : [];
  const small = (value: number): Field => [wide ? ELSEWHERE : value, 4];
  const entry = [
    ...words(
      [0x02014b50, 4],
      [20, 2],
      [20, 2],
      [flags, 2],
      [method, 2],
      [0, 8],
      small(size),
      small(size),
      [NAME.length, 2],
      [extra.length, 2],
      [0, 2],
      [0, 8],
      small(place),
    ),
    ...text(NAME),
    ...extra,
  ];
  const directory = Array.from({ length: entries }, () => entry).flat();
  const at = local.length;
  const end64 = at + directory.length;
  const locator = wide
    ? words(
        [0x06064b50, 4],
        [44, 8],
        [45, 2],
        [45, 2],
        [0, 8],
        [entries, 8],
        [entries, 8],
        [directory.length, 8],
        [at, 8],
        [0x07064b50, 4],
        [0, 4],
        [end64, 8],
        [1, 4],
      )
    : [];
  const end = words(
    [0x06054b50, 4],
    [0, 4],
    [wide ? 0xffff : entries, 2],
    [wide ? 0xffff : entries, 2],
    [directory.length, 4],
    small(at),
    [comment.length, 2],
  );
  return Uint8Array.from([...local, ...directory, ...locator, ...end, ...text(comment)]);
}

const read = (bytes: Uint8Array): Uint8Array | undefined => openZip(bytes).read(NAME);

test.each<readonly [string, Change]>([
  ['of 32 bits', {}],
  ['of 64 bits', { wide: true }],
  ['with a comment that looks like an end', { comment: 'PK\u0005\u0006' }],
])('an archive %s is read where it lies', (_, change) => {
  const bytes = archive(change);
  const found = read(bytes);
  expect([...(found ?? [])]).toEqual(DATA);
  expect(found?.buffer).toBe(bytes.buffer);
  expect(openZip(bytes).names).toEqual([NAME]);
  expect(openZip(bytes).read('other')).toBeUndefined();
});

test.each<readonly [string, Change, RegExp]>([
  ['that is encrypted', { flags: 1 }, /encrypted/],
  ['packed in another way', { method: 14 }, /method 14/],
  ['that has an entry twice', { entries: 2 }, /there twice/],
  ['whose entry is longer than it', { storedBytes: 5000 }, /lies at/],
  ['whose entry is elsewhere', { headerAt: 3 }, /not where/],
  ['whose entry is beyond it, in 64 bits', { wide: true, headerAt: 2 ** 50 }, /not where/],
])('an archive %s is an error', (_, change, message) => {
  expect(() => read(archive(change))).toThrow(message);
  expect(() => read(archive(change))).toThrow(ModelError);
});

test('every cut is an error', () => {
  for (const change of [{}, { wide: true }]) {
    const whole = archive(change);
    for (let length = 0; length < whole.length; length++) {
      expect(() => read(whole.slice(0, length)), `${length} bytes`).toThrow(ModelError);
    }
  }
});
