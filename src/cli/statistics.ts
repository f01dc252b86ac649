/** Statistics of measured times: what a latency report states. */

/** Of a sample, in the sample's unit. Percentiles are by nearest rank: pN is the smallest value that N % of the sample do not exceed. */
export interface Statistics {
  readonly min: number;
  readonly mean: number;
  readonly median: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

/** Statistics of at least one number. */
export function statistics(sample: readonly number[]): Statistics {
  const sorted = Float64Array.from(sample).sort();
  const percentile = (p: number) => sorted[Math.max(0, Math.ceil((p / 100) * sorted.length) - 1)];
  const half = sorted.length >> 1;
  return {
    min: sorted[0],
    mean: mean(sample),
    median: sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2,
    p90: percentile(90),
    p95: percentile(95),
    p99: percentile(99),
    max: sorted[sorted.length - 1],
  };
}

/** Standard deviation over mean: how unstable a sample is, without unit. */
export function coefficientOfVariation(sample: readonly number[]): number {
  const average = mean(sample);
  const variance = sample.reduce((sum, x) => sum + (x - average) ** 2, 0) / sample.length;
  return Math.sqrt(variance) / average;
}

const mean = (sample: readonly number[]): number => sample.reduce((sum, x) => sum + x, 0) / sample.length;
