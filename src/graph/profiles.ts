/**
 * Shape profiles to sizes: which of a graph's open sizes an engine leaves open, over which range, and at which sample sizes the graph
 * is looked at to find out how things depend on them.
 *
 * Samples lie below the largest size, so that nothing is full by chance; above 1, so that no dim is a broadcast by chance; odd and even;
 * and away from the graph's fixed sizes and from each other, so that no two sizes are equal by chance.
 */
import { ModelError } from '../core/errors.ts';
import { bindDim, type Dim, printShape } from '../core/shape.ts';
import type { ValueType } from '../core/tensor.ts';
import { bindShapes, sizesOf } from './bind.ts';
import type { Graph } from './ir.ts';
import type { OpTable } from './semantics.ts';

/** The least, the usual and the largest shape of one input. */
export interface ShapeRange {
  readonly min: readonly number[];
  readonly opt: readonly number[];
  readonly max: readonly number[];
}
/** By input name; inputs without open dims may be left out. */
export type ShapeProfile = Readonly<Record<string, ShapeRange>>;

export type Sizes = ReadonlyMap<string, number>;

export interface OpenSizes {
  /** Sizes that all profiles fix. */
  readonly fixed: Sizes;
  /** The sizes of each profile at its three corners; all have the names that are left open. */
  readonly corners: readonly { readonly min: Sizes; readonly opt: Sizes; readonly max: Sizes }[];
  /** What memory is laid out for: the largest of each size, or a little more where that is very small. */
  readonly most: Sizes;
  /** Sizes at most this far apart are all that the model takes; 1: any. */
  readonly step: number;
}

const CORNERS = ['min', 'opt', 'max'] as const;
/** Samples where one size is open, and one more for each further: many more than a formula has unknowns. */
const LEAST_SAMPLES = 6;
const samplesFor = (open: number): number => LEAST_SAMPLES + Math.max(0, open - 1);
const PRIMES = [2, 3, 5, 7, 11, 13];

/** Throws ModelError `option-invalid` where a profile is none, `shape-mismatch` where it contradicts the model. */
export function openSizes(
  graph: Graph,
  profiles: readonly ShapeProfile[],
  shapes: Readonly<Record<string, readonly number[]>>,
  onWarning: (message: string) => void,
): OpenSizes {
  const corners = profiles.map((profile, i) => {
    checkProfile(profile, i);
    const at = (which: (typeof CORNERS)[number]) =>
      sizesOf(graph, {
        ...shapes,
        ...Object.fromEntries(Object.entries(profile).map(([name, r]) => [name, r[which]])),
      });
    return { min: at('min'), opt: at('opt'), max: at('max') };
  });
  const names = openNames(graph);
  const all = corners.flatMap((c) => CORNERS.map((which) => c[which]));
  const fixed = new Map<string, number>();
  for (const name of names) {
    const values = new Set(all.map((sizes) => sizes.get(name) ?? 1));
    if (all.some((sizes) => !sizes.has(name))) onWarning(`no profile gives a size for "${name}", using 1`);
    if (values.size === 1) fixed.set(name, [...values][0]);
  }
  const open = (sizes: Sizes): Sizes => new Map([...sizes].filter(([name]) => names.has(name) && !fixed.has(name)));
  const cut = corners.map(({ min, opt, max }) => ({ min: open(min), opt: open(opt), max: open(max) }));
  return { fixed, corners: cut, most: largest(cut, 1), step: 1 };
}

/** The shapes of a single profile that leaves nothing open. */
export function fixedShapes(
  profiles: readonly ShapeProfile[],
): Readonly<Record<string, readonly number[]>> | undefined {
  const [profile, another] = profiles;
  if (!profile || another) return undefined;
  const ranges = Object.entries(profile);
  const isFixed = ranges.every(([, { min, opt, max }]) => min.join() === max.join() && min.join() === opt.join());
  return isFixed ? Object.fromEntries(ranges.map(([name, { opt }]) => [name, opt])) : undefined;
}

/** The same for a model that takes only multiples of what the profiles' sizes have in common. */
export function inSteps(sizes: OpenSizes): OpenSizes {
  const values = sizes.corners.flatMap((c) => CORNERS.flatMap((which) => [...c[which].values()]));
  const step = values.reduce(gcd, 0);
  return { ...sizes, step, most: largest(sizes.corners, step) };
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/** At least so many steps that the samples fit below. */
function largest(corners: OpenSizes['corners'], step: number): Sizes {
  const most = new Map<string, number>();
  for (const { max } of corners)
    for (const [name, size] of max) most.set(name, Math.max(most.get(name) ?? step * (samplesFor(max.size) + 2), size));
  return most;
}

function openNames(graph: Graph): Set<string> {
  const dims = graph.inputs.flatMap((name) => graph.values.get(name)?.shape ?? []);
  return new Set(dims.flatMap((dim) => (typeof dim === 'number' ? [] : dim.terms.map((t) => t.name))));
}

function checkProfile(profile: ShapeProfile, index: number): void {
  for (const [input, range] of Object.entries(profile)) {
    const { min, opt, max } = range;
    const isOrdered =
      min.length === opt.length && opt.length === max.length && min.every((d, i) => d <= opt[i] && opt[i] <= max[i]);
    if (isOrdered && min.every((d) => Number.isInteger(d) && d >= 0)) continue;
    throw new ModelError(
      'option-invalid',
      `profile ${index} says min ${printShape(min)}, opt ${printShape(opt)}, max ${printShape(max)} for input "${input}"`,
      { hint: 'the three have the same rank, and min <= opt <= max in each dim' },
    );
  }
}

/** The graph at these sizes: all types inferred as numbers. Throws what bindShapes throws. */
export function bindAt(graph: Graph, ops: OpTable, { fixed }: OpenSizes, sizes: Sizes): Graph {
  const all = new Map([...fixed, ...sizes]);
  const shapes = Object.fromEntries(
    graph.inputs.map((name) => [
      name,
      (graph.values.get(name) as ValueType).shape.map((dim: Dim) => bindDim(dim, all) as number),
    ]),
  );
  return bindShapes(graph, ops, shapes, () => {});
}

/** The sizes at which samples are taken; at least so many. */
export function sampleSizes({ most, step }: OpenSizes, graph: Graph, least = 0): Map<string, number>[] {
  const taken = new Set<number>();
  for (const { shape } of graph.values.values()) for (const dim of shape) if (typeof dim === 'number') taken.add(dim);
  const count = Math.max(least, samplesFor(most.size));
  const samples: Map<string, number>[] = Array.from({ length: count }, () => new Map());
  for (const [name, size] of most) {
    samples.forEach((sample, i) => {
      const value = sizeNear(size, i / samples.length, i % 2, step, taken);
      sample.set(name, value);
      taken.add(value);
    });
  }
  return samples;
}

/** Below the largest size at a place in its upper half (0 to 1, downward); of the other parity, not taken, with few small factors. */
function sizeNear(most: number, place: number, parity: number, step: number, taken: ReadonlySet<number>): number {
  const least = Math.min(2, (most - 1) / step);
  const count = Math.ceil(most / step) - 1;
  const target = count - place * (count / 2);
  const penalty = (k: number): number =>
    (taken.has(k * step) ? 2 : 0) +
    (k % 2 === parity ? 1 : 0) +
    PRIMES.filter((p) => p < k && k % p === 0).length / 4 +
    (Math.abs(k - target) * 20) / Math.max(count, 10);
  let best = count;
  for (let k = least; k <= count; k++) if (penalty(k) < penalty(best)) best = k;
  return best * step;
}
