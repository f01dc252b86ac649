/** How latencies spread, drawn with characters: a row for a range, a bar for how many fell into it. */
import { formatNumber } from './table.ts';

const ROWS = 10;
const WIDTH = 48;
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/**
 * Rows from the least to the 99th percentile; what took longer is counted in a row of its own, so that one hiccup does not flatten the
 * rest. Undefined where there is nothing to see: fewer than ten measurements, or all alike.
 */
export function histogramText(samples: readonly number[]): string | undefined {
  if (samples.length < 10) return undefined;
  const sorted = Float64Array.from(samples).sort();
  const [least, most] = [sorted[0], sorted[Math.ceil(0.99 * sorted.length) - 1]];
  if (!(most > least)) return undefined;
  const counts = new Array<number>(ROWS).fill(0);
  let beyond = 0;
  for (const ms of sorted) {
    if (ms > most) beyond++;
    else counts[Math.min(ROWS - 1, Math.floor((ROWS * (ms - least)) / (most - least)))]++;
  }
  const largest = Math.max(...counts, beyond);
  const edge = (i: number) => `${formatNumber(least + ((most - least) * i) / ROWS)} ms`;
  const rows = counts.map((count, i): [string, number] => [edge(i), count]);
  if (beyond > 0) rows.push([`> ${edge(ROWS)}`, beyond]);
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, count]) => `${label.padStart(width)}  ${bar(count / largest)} ${count}`).join('\n');
}

function bar(share: number): string {
  const eighths = Math.round(share * WIDTH * 8);
  return '█'.repeat(eighths >> 3) + EIGHTHS[eighths & 7];
}
