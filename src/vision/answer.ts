/**
 * From a network's output to an answer: softmax and the k most likely classes.
 */

export interface RankedClass {
  readonly index: number;
  readonly confidence: number;
}

/** exp(x − max) / Σ exp(x − max): no overflow, however large the logits. */
export function softmax(logits: ArrayLike<number>): Float64Array {
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < logits.length; i++) max = Math.max(max, logits[i]);
  const out = new Float64Array(logits.length);
  let sum = 0;
  for (let i = 0; i < logits.length; i++) {
    out[i] = Math.exp(logits[i] - max);
    sum += out[i];
  }
  for (let i = 0; i < out.length; i++) out[i] /= sum;
  return out;
}

/** A sum this near to one is a distribution: a float16 softmax over 1000 classes errs by up to about 1e-2. */
const SUM_TOLERANCE = 0.02;

/** True where the values already are probabilities of exclusive classes: none negative, summing to one. */
export function isDistribution(values: ArrayLike<number>): boolean {
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    if (!(values[i] >= 0)) return false;
    sum += values[i];
  }
  return Math.abs(sum - 1) <= SUM_TOLERANCE;
}

/** Confidences of an output: itself where it is a distribution already, else its softmax. */
export const confidences = (output: ArrayLike<number>): ArrayLike<number> =>
  isDistribution(output) ? output : softmax(output);

/** The `k` largest, largest first; of equal ones the lower index comes first. NaN ranks last. */
export function topK(values: ArrayLike<number>, k: number): readonly RankedClass[] {
  const key = (i: number) => (Number.isNaN(values[i]) ? Number.NEGATIVE_INFINITY : values[i]);
  return Array.from({ length: values.length }, (_, i) => i)
    .sort((a, b) => key(b) - key(a) || a - b)
    .slice(0, k)
    .map((index) => ({ index, confidence: values[index] }));
}
