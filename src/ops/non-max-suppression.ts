/**
 * NonMaxSuppression: of the boxes of each class, best score first, those that overlap no better one by more than a threshold.
 *
 * The result is a list of (batch, class, box), whose length the data decide (counted.ts). Boxes are [y1, x1, y2, x2], any diagonal, or
 * [x centre, y centre, width, height].
 *
 * The kernel makes a heap of the boxes of a class and takes them best first. What is taken leaves a place free behind the heap, where
 * those that are kept stand: each box is compared with them until one suppresses it. Most boxes are free of a whole block of kept ones. That is seen in lanes, from edges that lie side by side as float32:
 * only a block in which one may overlap too much is looked at box by box. Rounding keeps the order of edges; the overlap of edges that
 * are float32 anyway is wrong in its last places only, far less than SLACK allows.
 */
import { type Dim, minDims } from '../core/shape.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import {
  add,
  axis,
  binary,
  bitcast,
  cast,
  constant,
  div,
  index,
  like,
  local,
  max,
  min,
  mul,
  select,
  sub,
  unary,
} from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import { storeCount } from './counted.ts';
import { product } from './dims.ts';
import { heapIn } from './heap.ts';
import { bool, defineOp, type KernelContext, type KernelSpec, type Op, type OpCase } from './op.ts';
import { toFloat64 } from './product.ts';
import { assign } from './rows.ts';

interface Box {
  readonly top: number;
  readonly left: number;
  readonly bottom: number;
  readonly right: number;
}

function boxOf([a, b, c, d]: Float64Array, centred: boolean): Box {
  if (centred) return { left: a - c / 2, top: b - d / 2, right: a + c / 2, bottom: b + d / 2 };
  return { top: Math.min(a, c), left: Math.min(b, d), bottom: Math.max(a, c), right: Math.max(b, d) };
}

/** Intersection over union. */
function overlap(p: Box, q: Box): number {
  const height = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
  const width = Math.min(p.right, q.right) - Math.max(p.left, q.left);
  if (height <= 0 || width <= 0) return 0;
  const area = (b: Box) => (b.bottom - b.top) * (b.right - b.left);
  return (height * width) / (area(p) + area(q) - height * width);
}

const scalarOf = (t: Tensor | undefined, otherwise: number): number => (t ? toFloat64(t)[0] : otherwise);

/** Rows (batch, class, box), flat. */
function suppress(inputs: readonly (Tensor | undefined)[], centred: boolean): number[] {
  const [boxes, scores, most, iou, score] = inputs;
  const [batches, count] = boxes!.shape;
  const classes = scores!.shape[1];
  const [corners, values] = [toFloat64(boxes!), toFloat64(scores!)];
  const limit = scalarOf(most, 0);
  const threshold = scalarOf(iou, 0);
  const least = scalarOf(score, Number.NEGATIVE_INFINITY);
  const rows: number[] = [];
  for (let n = 0; n < batches; n++) {
    const all = Array.from({ length: count }, (_, i) =>
      boxOf(corners.subarray(4 * (n * count + i), 4 * (n * count + i) + 4), centred),
    );
    for (let c = 0; c < classes; c++) {
      const own = values.subarray((n * classes + c) * count, (n * classes + c + 1) * count);
      const order = Array.from({ length: count }, (_, i) => i).filter((i) => own[i] > least);
      order.sort((i, j) => own[j] - own[i] || i - j);
      const kept: number[] = [];
      for (const i of order) {
        if (kept.length >= limit) break;
        if (kept.every((k) => overlap(all[i], all[k]) <= threshold)) kept.push(i);
      }
      for (const i of kept) rows.push(n, c, i);
    }
  }
  return rows;
}

/** All boxes of each class, or as many as may be selected. */
function mostRows(ctx: InferContext<unknown>): Dim {
  const [batches, count] = ctx.input(0).shape;
  const most = ctx.inputs[2] ? ctx.constant(2) : fromNumbers('i64', [1], [0]);
  const limit = Math.min(Math.max(scalarOf(most, FAR), 0), FAR);
  const each = most && limit < FAR ? minDims(count, limit) : count;
  return product([batches, ctx.input(1).shape[1], each]);
}

/** More boxes than there can be. */
const FAR = 2 ** 31 - 1;
/** Kept boxes that are compared in lanes at once. */
const BLOCK = 64;
/** By how much less than the threshold an overlap computed in float32 counts as one that may be above it. */
const SLACK = 1e-5;

function buildNms(ctx: KernelContext<{ readonly center_point_box: boolean }>): KernelSpec {
  const [batches, count] = ctx.input(0).shape;
  const classes = ctx.input(1).shape[1];
  const heapArray = ctx.scratch(1, 'heap');
  const [n, c] = ['batch', 'class'].map((hint) => ctx.fresh(hint));
  const names = ['total', 'size', 'kept', 'box', 'other', 'from'].map((hint) => ctx.fresh(hint));
  const [total, size, kept, box] = names.map((name) => local(name, 'i32'));
  const [isFree, mayBeApart, almost] = ['isFree', 'mayBeApart', 'almost'].map((hint) => ctx.fresh(hint));
  const score = (at: Expr): Expr => ctx.load(1, [axis(n), axis(c), at]);
  const heap = heapIn(ctx, heapArray, (a, b, into) => {
    const [p, q] = [score(a), score(b)];
    const isFirst = binary('and', binary('eq', p, q), binary('lt', a, b));
    return [assign(into, binary('or', binary('gt', p, q), isFirst))];
  });
  const scan = (
    hint: string,
    extent: number,
    body: (i: Expr) => readonly Stmt[],
    condition?: (i: Expr) => Expr,
  ): Stmt => {
    const i = ctx.fresh(hint);
    return {
      kind: 'scan',
      axis: { name: i, extent },
      ...(condition && { while: condition(axis(i)) }),
      body: body(axis(i)),
    };
  };
  const when = (cond: Expr, ...body: Stmt[]): Stmt => ({ kind: 'if', cond, body });
  const step = (name: string, by: number): Stmt => assign(name, add(local(name, 'i32'), index(by)));
  const scalar = (i: number): Expr =>
    ctx.load(
      i,
      ctx.input(i).shape.map(() => index(0)),
    );
  const given = ctx.inputs[2] ? scalar(2) : constant('i64', 0n);
  const limit = cast('i32', min(max(given, like(given, 0)), like(given, FAR)));
  const threshold = ctx.inputs[3] ? cast('f64', scalar(3)) : constant('f64', 0);

  const gather = scan('i', count, (i) => {
    const add = [heapArray.store(size, i), step(names[1], 1)];
    return ctx.inputs[4] ? [when(binary('gt', score(i), scalar(4)), ...add)] : add;
  });
  const place = (k: Expr): Expr => heapArray.load(sub(index(count - 1), k));
  const [own, others] = ['own', 'other'].map((hint) => boxLocals(ctx, hint));
  // Most boxes are apart, and seen to be so by one side.
  const look = (k: Expr): Stmt[] => [
    assign(isFree, local(mayBeApart, 'bool')),
    assign(names[4], place(k)),
    ...others.setHeight(axis(n), local(names[4], 'i32')),
    when(
      binary('gt', min(own.bottom, others.bottom), max(own.top, others.top)),
      ...others.setWidth(axis(n), local(names[4], 'i32')),
      when(
        binary('gt', min(own.right, others.right), max(own.left, others.left)),
        assign(isFree, binary('le', overlapOf(own, others), threshold)),
      ),
    ),
  ];
  const free = local(isFree, 'bool');
  const edges = [own.top, own.left, own.bottom, own.right].map((edge, i) => {
    const hint = ['top', 'left', 'bottom', 'right'][i];
    const name = ctx.fresh(`${hint}Edge`);
    return { set: assign(name, cast('f32', edge)), own: local(name, 'f32'), kept: ctx.scratch(1, hint) };
  });
  const block = Math.min(BLOCK, count);
  const edgesAreExact = !ctx.attrs.center_point_box && ctx.input(0).dtype !== 'f64';
  /** Whether the box may meet one of the kept ones from `from` on, or a few before. */
  const mayMeet = (from: Expr, into: string): Stmt => {
    const lane = { name: ctx.fresh('lane'), extent: block };
    const at = add(max(min(from, index(count - block)), index(0)), axis(lane.name));
    const [top, left, bottom, right] = edges.map((edge) => bitcast('f32', edge.kept.load(at)));
    const [ownTop, ownLeft, ownBottom, ownRight] = edges.map((edge) => edge.own);
    const pairs = [
      [bottom, ownTop],
      [ownBottom, top],
      [right, ownLeft],
      [ownRight, left],
    ] as const;
    const less = (a: Expr, b: Expr): Expr => select(binary('lt', a, b), a, b);
    const greater = (a: Expr, b: Expr): Expr => select(binary('gt', a, b), a, b);
    const height = sub(less(bottom, ownBottom), greater(top, ownTop));
    const both = mul(height, sub(less(right, ownRight), greater(left, ownLeft)));
    const area = mul(sub(bottom, top), sub(right, left));
    const ownArea = mul(sub(ownBottom, ownTop), sub(ownRight, ownLeft));
    const isLittle = binary('lt', both, mul(local(almost, 'f32'), sub(add(area, ownArea), both)));
    // Nothing is left out under a condition, so that all of it is done in lanes.
    const meets = pairs.map(([a, b]) => binary(edgesAreExact ? 'gt' : 'ge', a, b));
    const conditions = [binary('lt', at, kept), ...meets, ...(edgesAreExact ? [unary('not', isLittle)] : [])];
    const value = select(
      conditions.reduce((all, one) => binary('and', all, one)),
      index(1),
      index(0),
    );
    return { kind: 'reduce', local: into, dtype: 'i32', op: 'max', axes: [lane], value };
  };
  const lookAtBlock = (from: Expr): Stmt[] => {
    const meets = ctx.fresh('meets');
    const isClose = binary('or', unary('not', local(mayBeApart, 'bool')), binary('gt', local(meets, 'i32'), index(0)));
    const stillFree = (k: Expr) => binary('and', free, binary('lt', add(from, k), kept));
    const each = scan('k', BLOCK, (k) => look(add(from, k)), stillFree);
    return [mayMeet(from, meets), when(isClose, each)];
  };
  const blocks = scan(
    'block',
    count,
    () => [...lookAtBlock(local(names[5], 'i32')), step(names[5], BLOCK)],
    () => binary('and', free, binary('lt', local(names[5], 'i32'), kept)),
  );
  const keep = [
    heapArray.store(sub(index(count - 1), kept), box),
    ...edges.map((edge) => edge.kept.store(kept, bitcast('i32', edge.own))),
    ...[axis(n), axis(c), box].map((value, d) => ctx.store(0, [total, index(d)], cast('i64', value))),
    step(names[2], 1),
    step(names[0], 1),
  ];
  const take = scan(
    'i',
    count,
    () => [
      assign(names[3], heapArray.load(index(0))),
      step(names[1], -1),
      heapArray.store(index(0), heapArray.load(size)),
      when(binary('gt', size, index(0)), ...heap.sink(size)),
      ...own.setHeight(axis(n), box),
      ...own.setWidth(axis(n), box),
      ...edges.map((edge) => edge.set),
      assign(isFree, constant('bool', 1)),
      assign(names[5], index(0)),
      blocks,
      when(free, ...keep),
    ],
    () => binary('and', binary('gt', size, index(0)), binary('lt', kept, limit)),
  );
  const start = [names[1], names[2]].map((name) => assign(name, index(0)));
  const each: Stmt[] = [...start, gather, ...heap.build(size, count), take];
  const rows: Stmt = {
    kind: 'scan',
    axis: { name: n, extent: batches },
    body: [{ kind: 'scan', axis: { name: c, extent: classes }, body: each }],
  };
  const apart = assign(mayBeApart, binary('ge', threshold, constant('f64', 0)));
  const nearly = assign(almost, cast('f32', mul(threshold, constant('f64', 1 - SLACK))));
  const body = [
    apart,
    nearly,
    assign(names[0], index(0)),
    assign(names[3], index(0)),
    rows,
    ...storeCount(ctx, 0, total),
  ];
  return { form: { kind: 'routine', name: 'nms' }, axes: [], body };
}

interface BoxLocals {
  readonly top: Expr;
  readonly left: Expr;
  readonly bottom: Expr;
  readonly right: Expr;
  /** Loads the edges of a box of a batch. */
  setHeight(batch: Expr, box: Expr): readonly Stmt[];
  setWidth(batch: Expr, box: Expr): readonly Stmt[];
}

/** The edges of a box: as they are given, or f64 where they are computed from its centre. */
function boxLocals(ctx: KernelContext<{ readonly center_point_box: boolean }>, hint: string): BoxLocals {
  const centred = ctx.attrs.center_point_box;
  const dtype = centred ? 'f64' : ctx.input(0).dtype;
  const names = ['Top', 'Left', 'Bottom', 'Right'].map((edge) => ctx.fresh(`${hint}${edge}`));
  const [top, left, bottom, right] = names.map((name) => local(name, dtype));
  const half = (x: Expr): Expr => mul(x, constant('f64', 0.5));
  /** The lower and the upper edge in one direction: 0 is down, 1 is right. */
  const edges = (direction: 0 | 1, batch: Expr, box: Expr): readonly [Expr, Expr] => {
    const number = (i: number): Expr => cast(dtype, ctx.load(0, [batch, box, index(i)]));
    if (!centred) {
      const [a, b] = [number(direction), number(direction + 2)];
      return [min(a, b), max(a, b)];
    }
    const [centre, size] = [number(1 - direction), number(3 - direction)];
    return [sub(centre, half(size)), add(centre, half(size))];
  };
  const set = (direction: 0 | 1, batch: Expr, box: Expr): readonly Stmt[] =>
    edges(direction, batch, box).map((edge, i) => assign(names[direction + 2 * i], edge));
  return {
    top,
    left,
    bottom,
    right,
    setHeight: (batch, box) => set(0, batch, box),
    setWidth: (batch, box) => set(1, batch, box),
  };
}

/** Intersection over union of two boxes in locals that meet. */
function overlapOf(p: BoxLocals, q: BoxLocals): Expr {
  const wide = (x: Expr): Expr => cast('f64', x);
  const span = (from: Expr, to: Expr): Expr => sub(wide(to), wide(from));
  const area = (b: BoxLocals): Expr => mul(span(b.top, b.bottom), span(b.left, b.right));
  const height = span(max(p.top, q.top), min(p.bottom, q.bottom));
  const both = mul(height, span(max(p.left, q.left), min(p.right, q.right)));
  return div(both, sub(add(area(p), area(q)), both));
}

const nms = (name: string, parameters: readonly number[], attrs: OpCase['attrs'] = {}): OpCase => {
  const [most, ...thresholds] = parameters;
  const coords = [0, 0, 1, 1, 0, 0.1, 1, 1.1, 0, -0.1, 1, 0.9, 0, 10, 1, 11, 0, 10.1, 1, 11.1, 0, 100, 1, 101];
  const scores = [0.9, 0.75, 0.6, 0.95, 0.5, 0.3];
  return {
    name,
    attrs,
    inputs: [
      { constant: fromNumbers('f32', [1, 6, 4], coords) },
      { constant: fromNumbers('f32', [1, 2, 6], [...scores, ...scores.toReversed()]) },
      { constant: fromNumbers('i64', [1], [most]) },
      ...thresholds.map((value) => ({ constant: fromNumbers('f32', [1], [value]) })),
    ],
  };
};

const nonMaxSuppression = defineOp({
  name: 'NonMaxSuppression',
  onnx: { since: 10 },
  attrs: { center_point_box: bool(false) },
  inputs: [2, 5],
  traits: { exactInputs: 'all' },
  infer(ctx) {
    const [boxes, scores] = [ctx.input(0), ctx.input(1)];
    if (boxes.shape.length !== 3 || scores.shape.length !== 3) ctx.fail('boxes and scores must have rank 3');
    const known = ctx.inputs.map((_, i) => ctx.constant(i));
    const isKnown = ctx.inputs.every((type, i) => !type || known[i]);
    const count = isKnown
      ? suppress(known, ctx.attrs.center_point_box).length / 3
      : ctx.freshDim('boxes', mostRows(ctx));
    return [{ dtype: 'i64', shape: [count, 3] }];
  },
  eval: (inputs, { center_point_box }, [out]) => [fromNumbers('i64', out.shape, suppress(inputs, center_point_box))],
  lower: { kind: 'kernel', layout: 'row-major', streams: [], rereads: true, counts: true, build: buildNms },
  cases: [
    nms('by overlap', [3, 0.5, 0]),
    nms('by score', [3, 0.5, 0.4]),
    nms('two at most', [2, 0.5]),
    nms('none', [0]),
    nms('centres', [3, 0.5, 0], { center_point_box: true }),
  ],
});

export const NON_MAX_SUPPRESSION_OPS: readonly Op[] = [nonMaxSuppression];
