import { InvalidArgumentError } from 'commander';
import { expect, test } from 'vitest';
import {
  parseBytes,
  parseCount,
  parseEffort,
  parseInputFile,
  parseNumbers,
  parseShapes,
  parseSize,
  parseThreads,
} from './options.ts';

test('shapes', () => {
  expect(parseShapes('in:1x3x224x224')).toEqual({ in: [1, 3, 224, 224] });
  expect(parseShapes('a:0:1x2,b:3')).toEqual({ 'a:0': [1, 2], b: [3] });
  expect(parseShapes('b:2', { a: [1] })).toEqual({ a: [1], b: [2] });
});
test('inputs', () => {
  expect([...parseInputFile('x=a=b.npy')]).toEqual([['x', 'a=b.npy']]);
});
test('sizes in bytes', () => {
  expect(['512', '4MiB', '1.5KiB', '2GB'].map(parseBytes)).toEqual([512, 4 * 2 ** 20, 1536, 2e9]);
});
test('numbers', () => {
  expect(parseNumbers('0.5,-1,2')).toEqual([0.5, -1, 2]);
  expect([parseThreads('auto'), parseThreads('3')]).toEqual(['auto', 3]);
  expect([parseSize('224'), parseSize('336x224')]).toEqual([{ side: 224 }, { width: 336, height: 224 }]);
});

test.each([
  [parseShapes, ['', 'in', 'in:', ':1x2', 'in:1x', 'in:1,x', 'in:-1x3', 'in:1.5']],
  [parseInputFile, ['x', 'x=', '=a.npy']],
  [parseBytes, ['', 'MiB', '-1', '4 apples', '1TiB']],
  [parseCount, ['0', '-1', '1.5', 'one', '', '99999999999']],
  [parseThreads, ['0', 'many']],
  [parseEffort, ['6', '-1', '']],
  [parseNumbers, ['', 'a', '1,b']],
  [parseSize, ['0', '224x', 'x', '-5', '1x2x3']],
] as const)('%o refuses', (parse, texts) => {
  for (const text of texts) expect(() => parse(text), text).toThrow(InvalidArgumentError);
});
