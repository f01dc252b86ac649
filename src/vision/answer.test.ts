import fc from 'fast-check';
import { expect, test } from 'vitest';
import { confidences, isDistribution, softmax, topK } from './answer.ts';

test('softmax sums to one and survives large logits', () => {
  expect([...softmax([1000, 1000])]).toEqual([0.5, 0.5]);
  expect([...softmax([0, Math.log(3)])]).toEqual([expect.closeTo(0.25, 12), expect.closeTo(0.75, 12)]);
  fc.assert(
    fc.property(fc.array(fc.double({ min: -1e4, max: 1e4, noNaN: true }), { minLength: 1 }), (logits) => {
      expect(isDistribution(softmax(logits))).toBe(true);
    }),
  );
});

test('confidences applies softmax once only', () => {
  const probabilities = [0.1, 0.7, 0.2];
  expect(confidences(probabilities)).toBe(probabilities);
  expect([...(confidences([1, 2, 3]) as Float64Array)]).toEqual([...softmax([1, 2, 3])]);
});

test('topK: largest first, the lower index first of equals, NaN last', () => {
  const indices = (values: number[], k: number) => topK(values, k).map((c) => c.index);
  expect(indices([1, 3, 3, 2], 3)).toEqual([1, 2, 3]);
  expect(indices([Number.NaN, -5, 0], 5)).toEqual([2, 1, 0]);
  expect(topK([0.25, 0.75], 1)).toEqual([{ index: 1, confidence: 0.75 }]);
});
