/**
 * Slice: along each named axis the positions start, start + step, … before end, counted from the end where negative and clamped.
 *
 * Slice-1 has starts, ends and axes as attributes. INT64 extremes mean "as far as it goes". A symbolic dim is taken to be at
 * least 1, which gives x[1:], x[:-1] and x[-1:] known dims; what remains unclear is a fresh one.
 */
import {
  addDims,
  type Dim,
  dimsEqual,
  maxDims,
  minDims,
  rowMajorStrides,
  type StaticShape,
  subDims,
} from '../core/shape.ts';
import { fromNumbers, type Tensor, tensor } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { add, index, mul } from '../loop/expr.ts';
import { attrToInput, checkAxes, dimsInput, i64Vector, intsInput, intsOf, vectorLength } from './dims.ts';
import { defineOp, type OpCase } from './op.ts';
import { knownInts } from './position.ts';
import { identityTables, offsets, readSeparable } from './separable.ts';

interface Cut {
  readonly axis: number;
  readonly start: number;
  readonly end: number;
  readonly step: number;
}

/** Beyond this no size goes: a start or end as large as that means the end of the axis. */
const FAR = 2 ** 31 - 1;
const clamp = (x: number, low: number, high: number): number => Math.min(Math.max(x, low), high);

/** First position and number of positions of a cut through a dim. */
function extentOf(dim: number, { start, end, step }: Cut): { readonly first: number; readonly count: number } {
  const [low, high] = step > 0 ? [0, dim] : [-1, dim - 1];
  const first = clamp(start < 0 ? start + dim : start, Math.max(low, 0), high);
  const stop = clamp(end < 0 ? end + dim : end, low, high);
  return { first, count: Math.max(0, Math.ceil((stop - first) / step)) };
}

/** The size of a cut through a symbolic dim of at least 1; undefined where it skips some. */
function symbolicCount(dim: Dim, { start, end, step }: Cut): Dim | undefined {
  if (step === -1 && (start === -1 || start >= FAR) && end <= -FAR) return dim;
  if (step !== 1) return undefined;
  const edge = (at: number): Dim => {
    if (at >= FAR) return dim;
    if (at <= -FAR) return 0;
    if (at === 0 || at === 1) return at;
    if (at > 1) return minDims(dim, at);
    return at === -1 ? addDims(dim, -1) : maxDims(addDims(dim, at), 0);
  };
  const [first, stop] = [edge(start), edge(end)];
  if (first === 0) return stop;
  const count = subDims(stop, first);
  if (typeof count === 'number') return Math.max(count, 0);
  return dimsEqual(addDims(count, 1), dim) ? count : maxDims(count, 0);
}

/** The cuts from starts, ends, axes and steps; axes not yet counted from the front. */
const cuts = (
  starts: readonly number[],
  ends: readonly number[],
  axes: readonly number[] | undefined,
  steps: readonly number[] | undefined,
  rank: number,
): readonly Cut[] =>
  starts.map((start, i) => {
    const axis = axes?.[i] ?? i;
    return { axis: axis < 0 ? axis + rank : axis, start, end: ends[i], step: steps?.[i] ?? 1 };
  });

/** Axes that are cut, checked; and the cuts where starts, ends and steps are known. */
function inferCuts(ctx: InferContext<unknown>): { axes: readonly number[]; known: readonly Cut[] | undefined } {
  const rank = ctx.input(0).shape.length;
  const length = vectorLength(ctx, 1);
  if (vectorLength(ctx, 2) !== length) ctx.fail('starts and ends must have one length');
  const given = ctx.inputs[3] ? (intsInput(ctx, 3) ?? ctx.fail('the axes must be known before running')) : undefined;
  const axes = checkAxes(ctx, given ?? Array.from({ length }, (_, i) => i), rank);
  const [starts, ends, steps] = [intsInput(ctx, 1), intsInput(ctx, 2), intsInput(ctx, 4)];
  if (steps?.includes(0)) ctx.fail('a step is 0');
  for (const list of [axes, steps]) {
    if (list && list.length !== length) ctx.fail(`${list.length} axes or steps are given for ${length} starts`);
  }
  if (!starts || !ends || (ctx.inputs[4] && !steps)) return { axes, known: undefined };
  return { axes, known: cuts(starts, ends, axes, steps, rank) };
}

const parameters = (...lists: readonly (readonly number[] | undefined)[]) =>
  lists.map((values) => values && { constant: i64Vector(values) });

const sliceCase = (name: string, shape: StaticShape, ...lists: readonly (readonly number[] | undefined)[]): OpCase => ({
  name,
  inputs: [{ dtype: 'f32', shape }, ...parameters(...lists)],
});
const extreme = (...values: bigint[]): Tensor => tensor('i64', [values.length], BigInt64Array.from(values));
const [LEAST, MOST] = [-(2n ** 63n), 2n ** 63n - 1n];

const slice = defineOp({
  name: 'Slice',
  onnx: {
    since: 1,
    upgrade: (node, ctx) => ['starts', 'ends', 'axes'].reduce((n, attr, i) => attrToInput(n, ctx, attr, i + 1), node),
  },
  attrs: {},
  inputs: [3, 5],
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    const { axes, known } = inferCuts(ctx);
    const out = [...shape];
    for (const axis of axes) {
      const cut = known?.find((c) => c.axis === axis);
      const dim = shape[axis];
      const count = cut && (typeof dim === 'number' ? extentOf(dim, cut).count : symbolicCount(dim, cut));
      out[axis] = count ?? ctx.freshDim('slice');
    }
    return [{ dtype, shape: out }];
  },
  inferDims(ctx) {
    const dims = dimsInput(ctx, 0);
    const { known } = inferCuts(ctx);
    if (!dims || !known || ctx.input(0).shape.length !== 1) return undefined;
    return known.reduce((list, cut) => {
      const { first, count } = extentOf(list.length, cut);
      return Array.from({ length: count }, (_, i) => list[first + i * cut.step]);
    }, dims);
  },
  eval([x, starts, ends, axes, steps], _, [out]) {
    const tables = identityTables(x!.shape);
    const strides = rowMajorStrides(x!.shape);
    const ints = (t: Tensor | undefined) => t && intsOf(t);
    for (const cut of cuts(intsOf(starts!), intsOf(ends!), ints(axes), ints(steps), tables.length)) {
      const { first, count } = extentOf(x!.shape[cut.axis], cut);
      tables[cut.axis] = offsets(count, strides[cut.axis], (c) => first + c * cut.step);
    }
    return [readSeparable(x!, tables, out)];
  },
  // All positions of each axis are taken; a step of -1 takes them in reverse.
  identity: (ctx) => (!ctx.inputs[4] || intsInput(ctx, 4)?.every((step) => step > 0) ? 0 : undefined),
  lower: {
    kind: 'index',
    read(ctx, _, coords) {
      const { shape } = ctx.input(0);
      const from = [...coords];
      const [starts, ends] = [knownInts(ctx, 1)!, knownInts(ctx, 2)!];
      for (const cut of cuts(starts, ends, knownInts(ctx, 3), knownInts(ctx, 4), shape.length)) {
        const { first } = extentOf(shape[cut.axis], cut);
        from[cut.axis] = add(mul(coords[cut.axis], index(cut.step)), index(first));
      }
      return ctx.load(0, from);
    },
  },
  cases: [
    sliceCase('leading axes', [5, 7], [1, 2], [4, 6]),
    sliceCase('axes', [3, 5, 7], [1, -3], [1000, -1], [-1, 1]),
    sliceCase('steps', [11, 13], [1, 12], [9, 0], [0, 1], [3, -2]),
    sliceCase('reversed', [7, 3], [-1], [-1000], [0], [-1]),
    sliceCase('nothing', [5], [3], [3]),
    sliceCase('of nothing', [0, 3], [0], [5]),
    sliceCase('start beyond', [5], [9], [20]),
    sliceCase('without axes', [4, 5], [1, 0], [3, 5], undefined, [1, 2]),
    {
      name: 'i64 extremes',
      inputs: [
        { dtype: 'f32', shape: [6, 7] },
        { constant: extreme(1n, MOST) },
        { constant: extreme(MOST, LEAST) },
        { constant: extreme(0n, 1n) },
        { constant: extreme(1n, -1n) },
      ],
    },
    {
      name: 'i32 parameters, f16',
      inputs: [
        { dtype: 'f16', shape: [9] },
        { constant: fromNumbers('i32', [1], [2]) },
        { constant: fromNumbers('i32', [1], [-1]) },
      ],
    },
    { name: 'i64', inputs: [{ dtype: 'i64', shape: [4] }, ...parameters([1], [3])] },
  ],
});

export const SLICE_OPS = [slice];
