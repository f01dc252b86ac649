/** What a panel says of a constant: range, mean, spread and a histogram, over the finite elements in float64. */
import { type Tensor, toNumbers } from '../core/tensor.ts';

export interface WeightSummary {
  readonly elements: number;
  /** Of the finite elements; 0 where there are none. */
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  readonly std: number;
  readonly zeros: number;
  /** NaN and infinities. */
  readonly nonFinite: number;
  /** Elements in each of `BINS` equal parts of [min, max]; empty where all are equal. */
  readonly histogram: readonly number[];
}

export const BINS = 32;

export function summarizeWeight(tensor: Tensor): WeightSummary {
  const values = toNumbers(tensor);
  let [min, max, sum, zeros, finite] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, 0, 0];
  for (let i = 0; i < values.length; i++) {
    const x = values[i];
    if (!Number.isFinite(x)) continue;
    finite++;
    sum += x;
    if (x === 0) zeros++;
    if (x < min) min = x;
    if (x > max) max = x;
  }
  const base = { elements: values.length, zeros, nonFinite: values.length - finite };
  if (finite === 0) return { ...base, min: 0, max: 0, mean: 0, std: 0, histogram: [] };
  const mean = sum / finite;
  const histogram = new Array<number>(min < max ? BINS : 0).fill(0);
  const scale = BINS / (max - min);
  let squares = 0;
  for (let i = 0; i < values.length; i++) {
    const x = values[i];
    if (!Number.isFinite(x)) continue;
    squares += (x - mean) ** 2;
    if (histogram.length > 0) histogram[Math.min(BINS - 1, Math.floor((x - min) * scale))]++;
  }
  return { ...base, min, max, mean, std: Math.sqrt(squares / finite), histogram };
}
