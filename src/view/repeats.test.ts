import fc from 'fast-check';
import { expect, test } from 'vitest';
import { findRepeats } from './repeats.ts';

test('the repeat that covers most is found, with its shortest pattern', () => {
  expect(findRepeats([...'xabcabcabcy'])).toEqual([{ start: 1, period: 3, times: 3 }]);
  expect(findRepeats([...'abcdabcd'])).toEqual([{ start: 0, period: 4, times: 2 }]);
  expect(findRepeats([...'aaaaaaaaaa'])).toEqual([]);
  expect(findRepeats([...'abcabcXdefdefdef'])).toEqual([
    { start: 0, period: 3, times: 2 },
    { start: 7, period: 3, times: 3 },
  ]);
});

test('what is found repeats, in order, without overlap', () => {
  const sequences = fc.array(fc.constantFrom(...'abc'), { maxLength: 60 });
  fc.assert(
    fc.property(sequences, (sequence) => {
      let end = 0;
      for (const { start, period, times } of findRepeats(sequence)) {
        expect(start).toBeGreaterThanOrEqual(end);
        expect(times).toBeGreaterThanOrEqual(2);
        for (let i = start; i < start + period * (times - 1); i++) expect(sequence[i]).toBe(sequence[i + period]);
        end = start + period * times;
      }
      expect(end).toBeLessThanOrEqual(sequence.length);
    }),
  );
});
