/**
 * NonMaxSuppression: of the boxes of each class, best score first, those that overlap no better one by more than a threshold.
 *
 * The result is a list of (batch, class, box), whose length the data decide (counted.ts). Boxes are [y1, x1, y2, x2], any diagonal, or
 * [x centre, y centre, width, height].
 *
 * The kernel makes a heap of the boxes of a class that are good enough and takes them best first; kept-boxes.ts compares each with those
 * that are kept.
 */
import { type Dim, minDims } from '../core/shape.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { add, axis, binary, cast, constant, index, like, local, max, min } from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import type { BoxContext } from './box-edges.ts';
import { storeCount } from './counted.ts';
import { product } from './dims.ts';
import { heapIn } from './heap.ts';
import { keptBoxes } from './kept-boxes.ts';
import { bool, defineOp, type KernelSpec, type Op, type OpCase } from './op.ts';
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
function buildNms(ctx: BoxContext): KernelSpec {
  const [batches, count] = ctx.input(0).shape;
  const classes = ctx.input(1).shape[1];
  const heapArray = ctx.scratch(1, 'heap');
  const [n, c] = ['batch', 'class'].map((hint) => ctx.fresh(hint));
  const names = ['total', 'size', 'kept', 'box'].map((hint) => ctx.fresh(hint));
  const [total, size, kept, box] = names.map((name) => local(name, 'i32'));
  const isFree = ctx.fresh('isFree');
  const others = keptBoxes(ctx);
  const score = (at: Expr): Expr => ctx.load(1, [axis(n), axis(c), at]);
  const heap = heapIn(ctx, heapArray, (a, b, into) => {
    const [p, q] = [score(a), score(b)];
    const isFirst = binary('and', binary('eq', p, q), binary('lt', a, b));
    return [assign(into, binary('or', binary('gt', p, q), isFirst))];
  });
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

  const candidate = ctx.fresh('i');
  const offer = [heapArray.store(size, axis(candidate)), step(names[1], 1), ...others.expect(axis(n), axis(candidate))];
  const gather: Stmt = {
    kind: 'scan',
    axis: { name: candidate, extent: count },
    body: ctx.inputs[4] ? [when(binary('gt', score(axis(candidate)), scalar(4)), ...offer)] : offer,
  };
  const keep = [
    ...others.keep(box),
    ...[axis(n), axis(c), box].map((value, d) => ctx.store(0, [total, index(d)], cast('i64', value))),
    step(names[2], 1),
    step(names[0], 1),
  ];
  const take: Stmt = {
    kind: 'scan',
    axis: { name: ctx.fresh('i'), extent: count },
    while: binary('and', binary('gt', size, index(0)), binary('lt', kept, limit)),
    body: [
      assign(names[3], heapArray.load(index(0))),
      step(names[1], -1),
      heapArray.store(index(0), heapArray.load(size)),
      when(binary('gt', size, index(0)), ...heap.sink(size)),
      ...others.compare(axis(n), box, isFree),
      when(local(isFree, 'bool'), ...keep),
    ],
  };
  const start = [names[1], names[2]].map((name) => assign(name, index(0)));
  const each = [...start, ...others.clear, gather, ...others.makeRoom, ...heap.build(size, count), take];
  const rows: Stmt = {
    kind: 'scan',
    axis: { name: n, extent: batches },
    body: [...others.measure(axis(n)), { kind: 'scan', axis: { name: c, extent: classes }, body: each }],
  };
  const begin = [...others.prepare(threshold), assign(names[0], index(0)), assign(names[3], index(0))];
  return {
    form: { kind: 'routine', name: 'nms' },
    axes: [],
    body: [...begin, rows, ...storeCount(ctx, 0, total)],
  };
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
