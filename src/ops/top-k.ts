/**
 * TopK: the k largest or smallest elements along an axis, best first, and where they stand. Of equal ones the first comes first; NaN
 * counts as larger than any number.
 *
 * The kernel selects: each pick is the best of the elements that come after the pick before it in the order (value, position). That is
 * n·k comparisons a row and no memory beside the outputs; k is small where networks use it.
 */
import { isFloat } from '../core/dtype.ts';
import type { StaticShape } from '../core/shape.ts';
import { type Tensor, zeros } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { axis, binary, cast, constant, index, like, local, max, min, unary } from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import { isCounted, storeCount } from './counted.ts';
import { attrToInput, checkAxis, dimsInput, i64Vector } from './dims.ts';
import { type AttrsOf, bool, defineOp, int, type KernelContext, type KernelSpec, type Op, type OpCase } from './op.ts';
import { toFloat64 } from './product.ts';
import { assign, dimOffsets, otherDims } from './rows.ts';

const ATTRS = { axis: int(-1), largest: bool(true), sorted: bool(true) } as const;
type TopKAttrs = AttrsOf<typeof ATTRS>;

const along = (attrs: TopKAttrs, shape: StaticShape): number =>
  attrs.axis < 0 ? attrs.axis + shape.length : attrs.axis;

function inferTopK(ctx: InferContext<TopKAttrs>) {
  const { dtype, shape } = ctx.input(0);
  const dim = checkAxis(ctx, ctx.attrs.axis, shape.length);
  const size = shape[dim];
  const known = dimsInput(ctx, 1)?.[0];
  if (typeof known === 'number' && known < 0) ctx.fail(`k is ${known}`);
  if (typeof known === 'number' && typeof size === 'number' && known > size)
    ctx.fail(`k is ${known}, axis ${dim} has ${size}`);
  const picked = shape.with(dim, known ?? ctx.freshDim('k', size));
  return [
    { dtype, shape: picked },
    { dtype: 'i64' as const, shape: picked },
  ].slice(0, ctx.outputCount);
}

/** Positions within a row, best first. */
function order(values: Float64Array, row: number, steps: Int32Array, largest: boolean): Int32Array {
  const positions = Int32Array.from(steps, (_, i) => i);
  const sign = largest ? -1 : 1;
  const at = (i: number) => values[row + steps[i]];
  const compare = (a: number, b: number): number => {
    if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
    return a < b ? -1 : a > b ? 1 : 0;
  };
  return positions.sort((i, j) => sign * compare(at(i), at(j)) || i - j);
}

function evalTopK(x: Tensor, attrs: TopKAttrs, shape: StaticShape): readonly [Tensor, Tensor] {
  const dim = along(attrs, x.shape);
  const values = toFloat64(x);
  const [steps, outSteps] = [dimOffsets(x.shape, [dim]), dimOffsets(shape, [dim])];
  const others = otherDims(x.shape.length, [dim]);
  const outRows = dimOffsets(shape, others);
  const [picked, positions] = [zeros(x.dtype, shape), zeros('i64', shape)];
  dimOffsets(x.shape, others).forEach((row, r) => {
    const best = order(values, row, steps, attrs.largest);
    outSteps.forEach((step, t) => {
      picked.data[outRows[r] + step] = x.data[row + steps[best[t]]] as never;
      positions.data[outRows[r] + step] = BigInt(best[t]) as never;
    });
  });
  return [picked, positions];
}

/** a stands before b whatever their positions. */
function beats(a: Expr, b: Expr, largest: boolean): Expr {
  const better = binary(largest ? 'gt' : 'lt', a, b);
  if (!isFloat(a.dtype)) return better;
  const [first, second] = largest ? [a, b] : [b, a];
  const nanFirst = binary('and', unary('isnan', first), unary('not', unary('isnan', second)));
  return binary('or', better, nanFirst);
}

function buildTopK(ctx: KernelContext<TopKAttrs>): KernelSpec {
  const { dtype, shape } = ctx.input(0);
  const { largest } = ctx.attrs;
  const dim = along(ctx.attrs, shape);
  const wanted = ctx.outputs.findIndex((out) => out !== undefined);
  const { axes, coords } = ctx.outputAxes(wanted, otherDims(shape.length, [dim]));
  const [t, i] = [ctx.fresh('t'), ctx.fresh('n')];
  const names = ['last', 'best', 'lastValue', 'bestValue', 'value'].map((hint) => ctx.fresh(hint));
  const [last, best] = names.slice(0, 2).map((name) => local(name, 'i32'));
  const [lastValue, bestValue, value] = names.slice(2).map((name) => local(name, dtype));
  const here = axis(i);
  const tied = unary('not', binary('or', beats(lastValue, value, largest), beats(value, lastValue, largest)));
  const isAfterLast = binary('or', beats(lastValue, value, largest), binary('and', tied, binary('gt', here, last)));
  const isLeft = binary('or', binary('lt', last, index(0)), isAfterLast);
  const isBetter = binary('or', binary('lt', best, index(0)), beats(value, bestValue, largest));
  const none: Stmt[] = [assign(names[1], index(-1)), assign(names[3], constant(dtype, 0))];
  const search: Stmt = {
    kind: 'scan',
    axis: { name: i, extent: shape[dim] },
    body: [
      assign(names[4], ctx.load(0, coords.with(dim, here))),
      {
        kind: 'if',
        cond: binary('and', isLeft, isBetter),
        body: [assign(names[1], here), assign(names[3], value)],
      },
    ],
  };
  const at = coords.with(dim, axis(t));
  const results = [bestValue, cast('i64', best)];
  const stores = results.flatMap((result, o) => (ctx.outputs[o] ? [ctx.store(o, at, result)] : []));
  const pick: Stmt[] = [...none, search, ...stores, assign(names[0], best), assign(names[2], bestValue)];
  const isOpen = isCounted(ctx);
  const given = isOpen ? ctx.load(1, [index(0)]) : index(0);
  const k = cast('i32', min(max(given, like(given, 0)), like(given, shape[dim])));
  const picks: Stmt = {
    kind: 'scan',
    axis: { name: t, extent: isOpen ? shape[dim] : ctx.outputs[wanted].shape[dim] },
    body: isOpen ? [{ kind: 'if', cond: binary('lt', axis(t), k), body: pick }] : pick,
  };
  const start = [assign(names[0], index(-1)), assign(names[2], constant(dtype, 0))];
  const form = { kind: 'routine', name: 'top-k' } as const;
  if (!isOpen) return { form, axes, body: [...start, picks] };
  // One point says how many there are, so it does all rows.
  const rows = axes.reduceRight<readonly Stmt[]>((body, axis) => [{ kind: 'for', axis, body }], [...start, picks]);
  return { form, axes: [], body: [...rows, ...storeCount(ctx, 0, k)] };
}

const topKCase = (name: string, shape: number[], k: number, attrs: OpCase['attrs'] = {}): OpCase => ({
  name,
  attrs,
  inputs: [{ dtype: 'f32', shape }, { constant: i64Vector([k]) }],
  outputs: 2,
});

const topK = defineOp({
  name: 'TopK',
  onnx: {
    since: 1,
    // Opset 1 has k as an attribute, opset 10 as an input; opset 11 can ask for the smallest.
    upgrade: (node, ctx) => attrToInput(node, ctx, 'k', 1),
  },
  attrs: ATTRS,
  inputs: [2, 2],
  outputs: 2,
  infer: inferTopK,
  eval: ([x], attrs, outputs) => evalTopK(x!, attrs, outputs[0].shape).slice(0, outputs.length),
  lower: { kind: 'kernel', layout: 'row-major', streams: [], counts: true, build: buildTopK },
  cases: [
    topKCase('last axis', [3, 11], 4),
    topKCase('all of them', [2, 7], 7),
    topKCase('first axis, smallest', [9, 2], 3, { axis: 0, largest: false }),
    topKCase('middle axis', [2, 5, 3], 1, { axis: 1 }),
    topKCase('none', [2, 5], 0),
    {
      name: 'ties',
      inputs: [{ dtype: 'i64', shape: [4, 13], range: [0, 3] }, { constant: i64Vector([6]) }],
      outputs: 2,
    },
    {
      name: 'i32, smallest',
      attrs: { largest: false },
      inputs: [{ dtype: 'i32', shape: [17] }, { constant: i64Vector([5]) }],
      outputs: 2,
    },
    { name: 'f64', inputs: [{ dtype: 'f64', shape: [17] }, { constant: i64Vector([5]) }], outputs: 2 },
  ],
});

export const TOP_K_OPS: readonly Op[] = [topK];
