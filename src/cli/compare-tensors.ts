/**
 * The verdict on one tensor against its baseline: all metrics, and whether it passes the rule that the user chose.
 */
import { ModelError } from '../core/errors.ts';
import { shapesEqual } from '../core/shape.ts';
import { type Tensor, toNumbers } from '../core/tensor.ts';
import { allClose, compareElements, METRIC_NAMES, type MetricName, type Metrics, rootMeanSquare } from './metrics.ts';
import { formatType } from './table.ts';

/** What makes an output pass: one metric against a threshold, or every element within a tolerance. */
export interface PassRule {
  readonly atol?: number;
  readonly rtol?: number;
  readonly metric?: MetricName;
  readonly threshold?: number;
}

export interface OutputRow extends Metrics {
  readonly name: string;
  readonly passed: boolean;
}

/** Without `--atol`, `--rtol` or `--metric`: relative to the element, and to the rms of the baseline's output. */
const DEFAULT_TOLERANCE = 1e-3;

/** The row of one output. Throws ModelError `shape-mismatch` where the baseline has another shape or lacks the output. */
export function compareTensors(name: string, got: Tensor, want: Tensor | undefined, rule: PassRule): OutputRow {
  if (want === undefined || !shapesEqual(got.shape, want.shape)) {
    const other = want === undefined ? 'does not have it' : `has ${formatType(want)}`;
    throw new ModelError('shape-mismatch', `output "${name}" is ${formatType(got)}, the baseline ${other}`);
  }
  const [a, b] = [toNumbers(got), toNumbers(want)];
  const rowLength = got.shape.findLast((dim) => dim > 1) ?? 1;
  const metrics = compareElements(a, b, rowLength);
  return { name, ...metrics, passed: passes(metrics, a, b, rule) };
}

function passes(metrics: Metrics, got: ArrayLike<number>, want: ArrayLike<number>, rule: PassRule): boolean {
  if (rule.metric !== undefined && rule.threshold !== undefined) {
    const { field, largerIsBetter } = METRIC_NAMES[rule.metric];
    return largerIsBetter ? metrics[field] >= rule.threshold : metrics[field] <= rule.threshold;
  }
  const atol = rule.atol ?? DEFAULT_TOLERANCE * rootMeanSquare(want);
  return allClose(got, want, atol, rule.rtol ?? DEFAULT_TOLERANCE);
}
