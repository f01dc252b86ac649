import { expect, test } from 'vitest';
import { ModelError } from '../core/errors.ts';
import { parseLabels } from './labels.ts';

test.each([
  ['a\nb\nc\n', ['a', 'b', 'c']],
  ['a\r\nb', ['a', 'b']],
  ['', []],
  ['["a", "b"]', ['a', 'b']],
  ['{"0": "a", "2": "c"}', ['a', 'class 1', 'c']],
  ['{"0": ["n01", "a"], "1": ["n02", "b"]}', ['a', 'b']],
  ['[{"char": "∞", "names": ["infinity"]}, {"label": "b"}]', ['infinity', 'b']],
  ['[sic] and so on\n[second]', ['[sic] and so on', '[second]']],
])('%j', (text, names) => {
  expect(parseLabels(text, 'labels.txt')).toEqual(names);
});

test.each(['[1, 2]', '{"a": "b"}', '{"-1": "b"}'])('%s names no classes', (text) => {
  expect(() => parseLabels(text, 'labels.json')).toThrow(ModelError);
});
