/**
 * Sample values of sizes that the data decide, beside those of inputs (graph/profiles.ts).
 *
 * They are spread over their whole range, evenly by order of magnitude: such a size may be anything from nothing to its largest, and the
 * smaller of it and a constant (the k of a TopK) shows only where it is on both sides of the constant. In one sample all are small and in
 * one all are as large as they get, so that the same shows of their sums; in the others each size has its own order of small and large,
 * so that no two go up and down together.
 */
import { bindDim } from '../core/shape.ts';
import type { Sizes } from '../graph/profiles.ts';
import type { DataSize } from './data-sizes.ts';

/** Samples where some sizes are the data's: their formulas have more unknowns together than those of inputs. */
export const DATA_SAMPLES = 9;
/** The least that memory is laid out for, so that there is room for as many different samples. */
const LEAST_ROOM = DATA_SAMPLES + 3;

/** The sizes with those that the data decide, each at `share` of what it cannot exceed. */
export function withDataSizes(sizes: Sizes, data: readonly DataSize[], share: number): Map<string, number> {
  const all = new Map(sizes);
  for (const { name, atMost } of data) all.set(name, Math.max(0, Number(bindDim(atMost, all))));
  // Bounds are made of bounds; the shares are taken of what came out.
  for (const { name } of data) all.set(name, Math.ceil((all.get(name) as number) * share));
  return all;
}

/** The largest sizes, with a little more room where they are very small; none where there is never anything. */
export function mostWithData(most: Sizes, data: readonly DataSize[]): Map<string, number> {
  const all = new Map(most);
  for (const { name, atMost } of data) {
    const bound = Number(bindDim(atMost, all));
    all.set(name, bound > 0 ? Math.max(LEAST_ROOM, bound) : 0);
  }
  return all;
}

/** Puts a value for each size into each sample. `spread`: over the whole range; else over its upper half. */
export function addDataSamples(
  samples: readonly Map<string, number>[],
  data: readonly DataSize[],
  most: Sizes,
  spread: boolean,
): void {
  const random = generator();
  for (const { name } of data) {
    const largest = (most.get(name) as number) - 1;
    if (largest < 0) {
      for (const sample of samples) sample.set(name, 0);
      continue;
    }
    const least = spread ? 2 : Math.max(2, Math.ceil(largest / 2));
    const places = [0, 1, ...between(samples.length - 2, random)];
    const own = new Set<number>();
    samples.forEach((sample, i) => {
      const place = places[i];
      const wanted = spread ? least * (largest / least) ** place : least + (largest - least) * place;
      const value = freeNear(Math.round(wanted), least, largest, (v) => own.has(v) || isTaken(sample, v));
      own.add(value);
      sample.set(name, value);
    });
  }
}

/** In one sample no two sizes are equal by chance. */
function isTaken(sample: ReadonlyMap<string, number>, value: number): boolean {
  for (const other of sample.values()) if (other === value) return true;
  return false;
}

/** The nearest number in the range that is not refused; the number itself where all are. */
function freeNear(value: number, least: number, most: number, refused: (v: number) => boolean): number {
  for (let by = 0; by <= most - least; by++)
    for (const near of [value + by, value - by]) if (near >= least && near <= most && !refused(near)) return near;
  return Math.min(Math.max(value, least), most);
}

/** So many places in [0, 1), one in each of as many equal parts, in any order. */
function between(count: number, random: () => number): number[] {
  const out = Array.from({ length: count }, (_, i) => (i + random()) / count);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}

/** Numbers in [0, 1) that are the same in every build: mulberry32. */
function generator(): () => number {
  let state = 0x9e3779b9;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
