import { expect, test } from 'vitest';
import { formatBytes, formatNumber, textTable } from './table.ts';

test('numbers', () => {
  const texts = [0, 1, 4.5678, 0.012345, 123.456, 1.5e-7, 2e9, Number.POSITIVE_INFINITY].map(formatNumber);
  expect(texts).toEqual(['0', '1.00', '4.57', '0.0123', '123', '1.5e-7', '2.0e+9', 'Infinity']);
});
test('bytes', () => {
  expect([0, 1023, 1024, 5 * 2 ** 20, 3 * 2 ** 40].map(formatBytes)).toEqual([
    '0 B',
    '1023 B',
    '1.0 KiB',
    '5.0 MiB',
    '3072.0 GiB',
  ]);
});
test('columns of numbers are set to the right', () => {
  expect(
    textTable(
      ['name', 'ms'],
      [
        ['a', '1.5'],
        ['long', '12'],
      ],
    ),
  ).toBe('name   ms\na     1.5\nlong   12');
});
