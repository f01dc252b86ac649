/**
 * Unique: the distinct elements of a tensor, or slices along an axis, in order of value or of appearance; how many, the data decide.
 *
 * The kernel orders the slices by a heap, so that equal ones stand side by side; of each run the first one leads. A second walk, in the
 * slices' own order, stores what they say.
 */
import type { DType } from '../core/dtype.ts';
import { elements } from '../core/shape.ts';
import { decodeScalar, fromNumbers, type Tensor } from '../core/tensor.ts';
import { add, axis, binary, cast, index, local, sub, unary } from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import { plainOutputs, storeCount } from './counted.ts';
import { checkAxis, i64Vector, product } from './dims.ts';
import { type Before, heapIn } from './heap.ts';
import { type AttrsOf, bool, defineOp, int, type KernelContext, type KernelSpec, type Op, type OpCase } from './op.ts';
import { assign, dimOffsets, otherDims, pickAlong } from './rows.ts';

const ATTRS = { axis: int.optional, sorted: bool(true) } as const;

interface Slices {
  /** Of each distinct slice: where it first stands, and how often. */
  readonly first: readonly number[];
  readonly counts: readonly number[];
  /** For each slice of the input, its number among the distinct ones. */
  readonly inverse: readonly number[];
}

/** Distinct slices along an axis (elements, where there is none), in order of value or of appearance. */
function distinct(x: Tensor, axis: number | undefined, sorted: boolean): Slices {
  const shape = axis === undefined ? [x.data.length] : x.shape;
  const at = axis === undefined ? 0 : axis < 0 ? axis + shape.length : axis;
  const starts = dimOffsets(shape, [at]);
  const within = dimOffsets(shape, otherDims(shape.length, [at]));
  const value = (slice: number, i: number) => decodeScalar(x.dtype, x.data[starts[slice] + within[i]]);
  const compare = (a: number, b: number): number => {
    for (let i = 0; i < within.length; i++) {
      const [p, q] = [value(a, i), value(b, i)];
      if (p < q) return -1;
      if (p > q) return 1;
    }
    return 0;
  };
  const byValue = Array.from(starts, (_, i) => i).sort((a, b) => compare(a, b) || a - b);
  const groups: number[][] = [];
  for (const slice of byValue) {
    const last = groups.at(-1);
    if (last && compare(last[0], slice) === 0) last.push(slice);
    else groups.push([slice]);
  }
  if (!sorted) groups.sort((a, b) => a[0] - b[0]);
  const inverse = new Array<number>(starts.length);
  groups.forEach((group, g) => {
    for (const slice of group) inverse[slice] = g;
  });
  return { first: groups.map(([slice]) => slice), counts: groups.map((group) => group.length), inverse };
}

function buildUnique(ctx: KernelContext<AttrsOf<typeof ATTRS>>): KernelSpec {
  const { shape } = ctx.input(0);
  const { axis: given, sorted } = ctx.attrs;
  const along = given === undefined ? undefined : given < 0 ? given + shape.length : given;
  const slices = along === undefined ? elements(shape) : shape[along];
  if (elements(shape) === 0) return buildEmpty(ctx, slices);
  const [order, leader, number] = ['order', 'leader', 'number'].map((hint) => ctx.scratch(0, hint));
  const heap = heapIn(ctx, order, compareSlices(ctx, along, 'gt'));
  const names = ['left', 'count', 'lead', 'rank', 'position'].map((hint) => ctx.fresh(hint));
  const [left, count, lead, rank, position] = names.map((name) => local(name, 'i32'));
  const isNew = ctx.fresh('isNew');
  const scan = (hint: string, body: (i: Expr) => readonly Stmt[]): Stmt => {
    const name = ctx.fresh(hint);
    return { kind: 'scan', axis: { name, extent: slices }, body: body(axis(name)) };
  };
  const when = (cond: Expr, ...body: Stmt[]): Stmt => ({ kind: 'if', cond, body });
  const counted = assign(names[1], add(count, index(1)));

  const fill = scan('i', (i) => [order.store(i, i)]);
  // The last of all goes behind the heap, which gets smaller by it.
  const sort = scan('i', (i) => [
    assign(names[0], sub(index(slices - 1), i)),
    assign(names[4], order.load(index(0))),
    order.store(index(0), order.load(left)),
    order.store(left, position),
    when(binary('gt', left, index(0)), ...heap.sink(left)),
  ]);
  const differs = compareSlices(ctx, along, 'lt', false);
  const group = scan('i', (i) => [
    assign(names[4], order.load(i)),
    assign(isNew, binary('eq', i, index(0))),
    when(binary('gt', i, index(0)), ...differs(lead, position, isNew)),
    when(local(isNew, 'bool'), assign(names[2], position), ...(sorted ? [number.store(position, count), counted] : [])),
    leader.store(position, lead),
  ]);
  // The order is not needed any more: its array counts the members.
  const tally = order;
  const outputs = plainOutputs(ctx);
  const store = (o: number, at: readonly Expr[], value: Expr): Stmt[] =>
    o < outputs && ctx.outputs[o] ? [ctx.store(o, at, value)] : [];
  const tell = scan('i', (i) => {
    const leads = binary('eq', lead, i);
    const first = [
      ...(sorted ? [] : [number.store(i, count), counted]),
      assign(names[3], number.load(i)),
      tally.store(rank, index(0)),
      ...(ctx.outputs[0] ? [storeSlice(ctx, along, i, rank)] : []),
      ...store(1, [rank], cast('i64', i)),
    ];
    return [
      assign(names[2], leader.load(i)),
      when(leads, ...first),
      assign(names[3], number.load(lead)),
      tally.store(rank, add(tally.load(rank), index(1))),
      ...store(2, [i], cast('i64', rank)),
      ...store(3, [rank], cast('i64', tally.load(rank))),
    ];
  });
  const start = names.map((name) => assign(name, index(0)));
  const again = sorted ? [] : [assign(names[1], index(0))];
  const body = [fill, ...heap.build(index(slices), slices), ...start, sort, group, ...again, tell];
  return { form: { kind: 'routine', name: 'unique' }, axes: [], body: [...body, ...storeCount(ctx, 0, count)] };
}

/** Slices without elements are all equal. */
function buildEmpty(ctx: KernelContext<unknown>, slices: number): KernelSpec {
  const i = ctx.fresh('i');
  const number = (n: number): Expr => ({ kind: 'const', dtype: 'i64', value: BigInt(n) });
  const store = (o: number, at: Expr, n: number): Stmt[] =>
    slices > 0 && o < plainOutputs(ctx) && ctx.outputs[o] ? [ctx.store(o, [at], number(n))] : [];
  const inverse = store(2, axis(i), 0).map(
    (stmt): Stmt => ({ kind: 'for', axis: { name: i, extent: slices }, body: [stmt] }),
  );
  const wanted = [...store(1, index(0), 0), ...inverse, ...store(3, index(0), slices)];
  const body = [...wanted, ...storeCount(ctx, 0, index(Math.min(1, slices)))];
  return { form: { kind: 'routine', name: 'unique' }, axes: [], body };
}

/** Whether slice a is less (or more) than slice b; of equal ones, unless they count as equal, the one that stands first (or last). */
function compareSlices(
  ctx: KernelContext<unknown>,
  along: number | undefined,
  op: 'lt' | 'gt',
  byPosition = true,
): Before {
  const { dtype, shape } = ctx.input(0);
  const [first, second, decided] = ['a', 'b', 'decided'].map((hint) => ctx.fresh(hint));
  const plain = (x: Expr): Expr => (dtype === 'bool' ? cast('i32', x) : x);
  const compareAt = (into: string, p: readonly Expr[], q: readonly Expr[]): readonly Stmt[] => [
    assign(first, plain(ctx.load(0, p))),
    assign(second, plain(ctx.load(0, q))),
    assign(into, binary(op, local(first, plainType(dtype)), local(second, plainType(dtype)))),
    assign(decided, binary('ne', local(first, plainType(dtype)), local(second, plainType(dtype)))),
  ];
  return (a, b, into) => {
    const open = unary('not', local(decided, 'bool'));
    const tie: readonly Stmt[] = byPosition ? [{ kind: 'if', cond: open, body: [assign(into, binary(op, a, b))] }] : [];
    if (along === undefined) return [...compareAt(into, coordsOf(a, shape), coordsOf(b, shape)), ...tie];
    const names = shape.map((_, d) => (d === along ? '' : ctx.fresh('e')));
    const at = (slice: Expr) => names.map((name, d) => (d === along ? slice : axis(name)));
    const body: Stmt = { kind: 'if', cond: open, body: compareAt(into, at(a), at(b)) };
    const nest = names.reduceRight<Stmt>(
      (inner, name, d) => (name ? { kind: 'scan', axis: { name, extent: shape[d] }, body: [inner] } : inner),
      body,
    );
    const no: Expr = { kind: 'const', dtype: 'bool', value: 0 };
    return [assign(into, no), assign(decided, no), nest, ...tie];
  };
}

const plainType = (dtype: DType): DType => (dtype === 'bool' ? 'i32' : dtype);

/** Coordinates of the element at a row-major position. */
function coordsOf(position: Expr, shape: readonly number[]): Expr[] {
  const coords: Expr[] = [];
  let rest = position;
  for (let d = shape.length - 1; d >= 0; d--) {
    coords.unshift(d === 0 ? rest : binary('mod', rest, index(shape[d])));
    rest = binary('floordiv', rest, index(shape[d]));
  }
  return coords;
}

/** Copies a slice of the input to place `to` of output 0. */
function storeSlice(ctx: KernelContext<unknown>, along: number | undefined, from: Expr, to: Expr): Stmt {
  const { shape } = ctx.input(0);
  if (along === undefined) return ctx.store(0, [to], ctx.load(0, coordsOf(from, shape)));
  const { axes, coords } = ctx.outputAxes(0, otherDims(shape.length, [along]));
  const copy = ctx.store(0, coords.with(along, to), ctx.load(0, coords.with(along, from)));
  return axes.reduceRight<Stmt>((inner, axis) => ({ kind: 'for', axis, body: [inner] }), copy);
}

const known = (name: string, value: Tensor, rest: Partial<OpCase>): OpCase => ({
  name,
  inputs: [{ constant: value }],
  ...rest,
});

const unique = defineOp({
  name: 'Unique',
  onnx: { since: 11 },
  attrs: ATTRS,
  inputs: [1, 1],
  outputs: 4,
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    const axis = ctx.attrs.axis === undefined ? undefined : checkAxis(ctx, ctx.attrs.axis, shape.length);
    const known = ctx.constant(0);
    const slices = axis === undefined ? product(shape) : shape[axis];
    const count = known ? distinct(known, axis, ctx.attrs.sorted).first.length : ctx.freshDim('unique', slices);
    const positions = { dtype: 'i64' as DType, shape: [count] };
    return [
      { dtype, shape: axis === undefined ? [count] : shape.with(axis, count) },
      positions,
      { ...positions, shape: [slices] },
      positions,
    ].slice(0, ctx.outputCount);
  },
  eval([x], { axis, sorted }, outputs) {
    const { first, counts, inverse } = distinct(x!, axis, sorted);
    const shape = axis === undefined ? [x!.data.length] : x!.shape;
    const at = axis === undefined ? 0 : axis < 0 ? axis + shape.length : axis;
    const picked = pickAlong(x!, shape, at, first, outputs[0].shape);
    return [picked, ...[first, inverse, counts].map(i64Vector)].slice(0, outputs.length);
  },
  lower: { kind: 'kernel', layout: 'row-major', streams: [], rereads: true, counts: true, build: buildUnique },
  cases: [
    known('sorted', fromNumbers('f32', [6], [2, 1, 1, 3, 4, 3]), { outputs: 4 }),
    known('in order of appearance', fromNumbers('i64', [6], [2, 1, 1, 3, 4, 3]), {
      outputs: 4,
      attrs: { sorted: false },
    }),
    known('rows', fromNumbers('f32', [3, 3], [1, 0, 0, 1, 0, 0, 2, 3, 4]), { outputs: 4, attrs: { axis: 0 } }),
    known('columns', fromNumbers('f32', [2, 4], [1, 0, 1, 0, 5, 2, 5, 2]), { outputs: 2, attrs: { axis: -1 } }),
  ],
});

export const UNIQUE_OPS: readonly Op[] = [unique];
