/**
 * Every operator's lowering against its definition, on its generated cases, in three layouts.
 */
import { describe, expect, it } from 'vitest';
import { OPS } from '../src/ops/all.ts';
import { drawCase, evalCase, type Layout, relativeError, runLowering } from './lowering-harness.ts';

/** Kernels are evaluated in float64 and rounded once, as eval is: what is left is the order of sums and one float32 rounding. */
const TOLERANCE = 1e-6;
const LAYOUTS: readonly Layout[] = ['row-major', 'channels-last', 'reversed'];

for (const op of OPS.values()) {
  if (!op.lower || op.lower.kind === 'alias' || op.lower.kind === 'concat') continue;
  describe(op.key, () => {
    it.each(op.cases.map((c) => [c.name, c] as const))('%s', (_, testCase) => {
      const drawn = drawCase(op, testCase);
      const expected = evalCase(drawn);
      for (const [i, { shape, dtype, data }] of expected.entries()) {
        expect({ shape, dtype }).toEqual({ shape: drawn.outputs[i].shape, dtype: drawn.outputs[i].dtype });
        expect(data.length).toBe(shape.reduce((n, d) => n * d, 1));
      }
      for (const layout of LAYOUTS) {
        for (const [i, actual] of runLowering(drawn, layout).entries()) {
          expect(relativeError(actual, expected[i]), `output ${i}, ${layout}`).toBeLessThanOrEqual(TOLERANCE);
        }
      }
    });
  });
}
