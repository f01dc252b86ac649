import { expect, test } from 'vitest';
import { histogramText } from './histogram.ts';

test('a row for each tenth, and one for what took longer than the 99th percentile', () => {
  const samples = [...Array.from({ length: 990 }, (_, i) => 10 + (i % 10)), ...Array(10).fill(500)];
  const rows = (histogramText(samples) as string).split('\n');
  expect(rows).toHaveLength(11);
  const counts = rows.map((row) => Number(/(\d+)$/.exec(row)?.[1]));
  expect(counts.reduce((a, b) => a + b)).toBe(1000);
  expect(counts.at(-1)).toBe(10);
  expect(rows.at(-1)).toMatch(/^> 19.0 ms/);
  expect(rows[0]).toMatch(/10.0 ms {2}█{48} 99$/);
});

test('nothing where there is nothing to see', () => {
  expect(histogramText(Array(50).fill(3))).toBeUndefined();
  expect(histogramText([1, 2, 3])).toBeUndefined();
});
