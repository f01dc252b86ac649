/**
 * Every operator's lowering against its definition, on its generated cases: in three layouts, and
 * for kernels in other float dtypes.
 */
import { describe, expect, it } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { elements } from '../src/core/shape.ts';
import { OPS } from '../src/ops/all.ts';
import type { Op, OpCase } from '../src/ops/op.ts';
import { drawCase, evalCase, type Layout, relativeError, runLowering } from './lowering-harness.ts';
import { expands } from './op-cases.ts';

/** Kernels are evaluated in float64 and rounded once, as eval is: what is left is the order of sums and one rounding. */
const TOLERANCES: Partial<Record<DType, number>> = { f64: 1e-12, f32: 1e-6, f16: 1e-3, bf16: 1e-2 };
const LAYOUTS: readonly Layout[] = ['row-major', 'channels-last', 'reversed'];

/** The case with its drawn f32 inputs of another dtype. */
const inDType = (c: OpCase, dtype: DType): OpCase => ({
  ...c,
  inputs: c.inputs.map((input) => (input && 'shape' in input && !('data' in input) ? { ...input, dtype } : input)),
});

const isAllF32 = (c: OpCase): boolean =>
  c.inputs.every((input) => input && 'dtype' in input && !('data' in input) && input.dtype === 'f32');

function check(op: Op, testCase: OpCase, layouts: readonly Layout[]): void {
  const drawn = drawCase(op, testCase);
  const expected = evalCase(drawn);
  for (const [i, { shape, dtype, data }] of expected.entries()) {
    expect({ shape, dtype }).toEqual({ shape: drawn.outputs[i].shape, dtype: drawn.outputs[i].dtype });
    expect(data.length).toBe(elements(shape));
  }
  for (const layout of layouts) {
    for (const [i, actual] of runLowering(drawn, layout).entries()) {
      const tolerance = TOLERANCES[expected[i].dtype] ?? 0;
      expect(relativeError(actual, expected[i]), `output ${i}, ${layout}`).toBeLessThanOrEqual(tolerance);
    }
  }
}

for (const op of OPS.values()) {
  if (!op.lower || op.lower.kind === 'alias' || op.lower.kind === 'concat') continue;
  const isKernel = op.lower.kind === 'kernel';
  const cases = op.cases.filter((testCase) => !expands(op, testCase, OPS));
  if (cases.length === 0) continue;
  describe(op.key, () => {
    for (const testCase of cases) {
      it(testCase.name, () => check(op, testCase, LAYOUTS));
      if (isKernel && isAllF32(testCase)) {
        it.each(['f64', 'f16'] as const)(`${testCase.name}, %s`, (dtype) =>
          check(op, inDType(testCase, dtype), ['row-major']),
        );
      }
    }
  });
}
