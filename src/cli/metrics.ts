/**
 * How far an output is from its baseline: one number a metric over all elements, in float64.
 *
 * Equal infinities and NaN against NaN are no error; a NaN or infinity on one side only is an infinite one.
 */

export interface Metrics {
  /** mean |got − want| */
  readonly mae: number;
  /** max |got − want| */
  readonly maxAbs: number;
  /** max |got − want| / |want| over elements that are at least 1e-3 of the baseline's rms: below, a ratio says nothing. */
  readonly maxRel: number;
  /** √ mean (got − want)² */
  readonly rmse: number;
  /** got·want / (|got|·|want|); 1 where both are zero. */
  readonly cosine: number;
  /** True where the largest element is the same in every row of the last axis longer than 1. */
  readonly top1Agrees: boolean;
}

/** Metrics by the names that `--metric` takes, and whether larger is better. */
export const METRIC_NAMES = {
  mae: { field: 'mae', largerIsBetter: false },
  max: { field: 'maxAbs', largerIsBetter: false },
  cosine: { field: 'cosine', largerIsBetter: true },
  rmse: { field: 'rmse', largerIsBetter: false },
} as const satisfies Readonly<Record<string, { field: keyof Metrics; largerIsBetter: boolean }>>;
export type MetricName = keyof typeof METRIC_NAMES;

/** `rowLength` is the number of elements among which the largest is sought; it divides the length. */
export function compareElements(got: ArrayLike<number>, want: ArrayLike<number>, rowLength: number): Metrics {
  const n = want.length;
  const floor = 1e-3 * rootMeanSquare(want);
  let [sumAbs, sumSquares, maxAbs, maxRel, dot, gotSquares, wantSquares] = [0, 0, 0, 0, 0, 0, 0];
  for (let i = 0; i < n; i++) {
    const error = elementError(got[i], want[i]);
    sumAbs += error;
    sumSquares += error * error;
    maxAbs = Math.max(maxAbs, error);
    if (error > 0 && Math.abs(want[i]) >= floor) maxRel = Math.max(maxRel, error / Math.abs(want[i]));
    dot += got[i] * want[i];
    gotSquares += got[i] * got[i];
    wantSquares += want[i] * want[i];
  }
  return {
    mae: n === 0 ? 0 : sumAbs / n,
    maxAbs,
    maxRel,
    rmse: n === 0 ? 0 : Math.sqrt(sumSquares / n),
    cosine: gotSquares === 0 && wantSquares === 0 ? 1 : dot / Math.sqrt(gotSquares * wantSquares),
    top1Agrees: top1Agrees(got, want, rowLength),
  };
}

/** True where every element has |got − want| ≤ atol + rtol·|want|, as numpy.allclose. */
export function allClose(got: ArrayLike<number>, want: ArrayLike<number>, atol: number, rtol: number): boolean {
  for (let i = 0; i < want.length; i++) {
    if (!(elementError(got[i], want[i]) <= atol + rtol * Math.abs(want[i]))) return false;
  }
  return true;
}

/** √ mean x² over the finite elements; 0 where there are none. */
export function rootMeanSquare(values: ArrayLike<number>): number {
  let [sum, count] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) continue;
    sum += values[i] * values[i];
    count++;
  }
  return count === 0 ? 0 : Math.sqrt(sum / count);
}

function elementError(got: number, want: number): number {
  if (Object.is(got, want) || got === want) return 0;
  const error = Math.abs(got - want);
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
}

function top1Agrees(got: ArrayLike<number>, want: ArrayLike<number>, rowLength: number): boolean {
  for (let row = 0; row + rowLength <= want.length && rowLength > 0; row += rowLength) {
    if (largest(got, row, rowLength) !== largest(want, row, rowLength)) return false;
  }
  return true;
}

function largest(values: ArrayLike<number>, start: number, count: number): number {
  let best = start;
  for (let i = start + 1; i < start + count; i++) if (values[i] > values[best]) best = i;
  return best;
}
