/** What bench says of copies and compute. */
import { expect, test } from 'vitest';
import { phaseReport, phaseWarnings } from './phases.ts';

const times = (gpu: number, h2d: number, d2h: number, enqueue: number) => {
  const each = (us: number) => Float64Array.from([us, us, 3 * us], (x) => 1000 * x);
  return { gpuNs: each(gpu), h2dNs: each(h2d), d2hNs: each(d2h), enqueueNs: each(enqueue) };
};

test('nanoseconds become statistics in milliseconds', () => {
  const { gpuMs, h2dMs } = phaseReport(times(100, 20, 5, 10));
  expect(gpuMs.median).toBeCloseTo(0.1);
  expect(gpuMs.max).toBeCloseTo(0.3);
  expect(h2dMs.min).toBeCloseTo(0.02);
});

test.each([
  [times(100, 20, 5, 10), []],
  [times(10, 5, 5, 9), [/host bounds throughput.* 90 %/]],
  [times(10, 20, 5, 1), [/copies to the GPU take longer.*200 %/]],
  [times(10, 20, 15, 11), [/host bounds/, /to the GPU/, /from the GPU/]],
])('warnings name what is in the way', (phases, expected) => {
  const warnings = phaseWarnings(phaseReport(phases));
  expect(warnings.length).toBe(expected.length);
  for (const [i, pattern] of expected.entries()) expect(warnings[i]).toMatch(pattern);
});
