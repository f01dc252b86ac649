/**
 * The boxes of a class that are kept so far, inside a kernel: does a new one overlap any of them by more than a threshold?
 *
 * Boxes lie in strips by their left edge, so that one is compared with those of the strips only that its own width, and the greatest one
 * there is, reach: where boxes of classes lie apart, as callers that move them apart have it, those are few. Each strip has room for all
 * candidates whose left edge is in it, one strip behind the other:
 *
 *     | strip 0: kept kept kept … free | strip 1: kept … | …           starts[s]: its first place, ends[s]: behind its last kept one
 *
 * A strip is looked at by blocks, a box a lane, from edges that lie side by side as float32: only a block in which one may overlap too much
 * is looked at box by box. Rounding keeps the order of edges, and of left edges that of strips; the overlap of edges that are float32 anyway
 * is wrong in its last places only, far less than SLACK allows, unless areas are too large or too small for float32. Boxes that are no numbers are in strip 0, and meet nobody.
 */
import {
  add,
  axis,
  binary,
  bitcast,
  cast,
  constant,
  div,
  index,
  local,
  max,
  min,
  mul,
  select,
  sub,
  unary,
} from '../loop/expr.ts';
import type { Expr, ReduceOp, Stmt } from '../loop/ir.ts';
import { type BoxContext, boxEdges, edgesAlong, edgesAreFloat32, overlapOf } from './box-edges.ts';
import type { Scratch } from './op.ts';
import { assign } from './rows.ts';

const STRIPS = 64;
/** Kept boxes that are compared in lanes at once. */
const BLOCK = 32;
/** By how much less than the threshold an overlap computed in float32 counts as one that may be above it. */
const SLACK = 1e-5;
/** Between them float32 has all its digits; of other areas it says nothing. */
const [LEAST_AREA, MOST_AREA] = [1e-30, 1e38];

export interface KeptBoxes {
  /** Once, before all: what the threshold (f64) says. */
  prepare(threshold: Expr): readonly Stmt[];
  /** Where the boxes of a batch lie. */
  measure(batch: Expr): readonly Stmt[];
  /** Nothing is kept, and nothing expected. */
  readonly clear: readonly Stmt[];
  /** The box may come to be kept. */
  expect(batch: Expr, box: Expr): readonly Stmt[];
  /** Behind all that are expected. */
  readonly makeRoom: readonly Stmt[];
  /** Sets bool local `free` to whether the box overlaps no kept one too much. */
  compare(batch: Expr, box: Expr, free: string): readonly Stmt[];
  /** Keeps the box that was compared last. */
  keep(box: Expr): readonly Stmt[];
}

export function keptBoxes(ctx: BoxContext): KeptBoxes {
  const [, count] = ctx.input(0).shape;
  const strips = Math.min(STRIPS, count);
  const f32 = (name: string): Expr => local(name, 'f32');
  const i32 = (name: string): Expr => local(name, 'i32');
  const [mayBeApart, almost, limit] = ['mayBeApart', 'almost', 'threshold'].map((hint) => ctx.fresh(hint));
  const [least, perStrip, widest] = ['least', 'perStrip', 'widest'].map((hint) => ctx.fresh(hint));
  const [room, strip, last, from, end, other] = ['room', 'strip', 'last', 'from', 'end', 'other'].map((hint) =>
    ctx.fresh(hint),
  );
  const numbers = ctx.scratch(0, 'strips');
  const part = (n: number): Scratch => {
    const place = (at: Expr): Expr => add(at, index(n * count));
    return { load: (at) => numbers.load(place(at)), store: (at, x) => numbers.store(place(at), x) };
  };
  const [starts, ends, boxes] = [0, 1, 2].map(part);
  const [own, others] = ['own', 'other'].map((hint) => boxEdges(ctx, hint));
  const edges = [own.top, own.left, own.bottom, own.right].map((edge, i) => {
    const hint = ['top', 'left', 'bottom', 'right'][i];
    const name = ctx.fresh(`${hint}Edge`);
    return { set: assign(name, cast('f32', edge)), own: f32(name), kept: ctx.scratch(1, hint) };
  });
  const [ownTop, ownLeft, ownBottom, ownRight] = edges.map((edge) => edge.own);

  const when = (cond: Expr, ...body: Stmt[]): Stmt => ({ kind: 'if', cond, body });
  const step = (name: string, by: Expr): Stmt => assign(name, add(i32(name), by));
  const scan = (hint: string, extent: number, body: (i: Expr) => Stmt[], condition?: (i: Expr) => Expr): Stmt => {
    const name = ctx.fresh(hint);
    const i = axis(name);
    return { kind: 'scan', axis: { name, extent }, ...(condition && { while: condition(i) }), body: body(i) };
  };
  const isApart = local(mayBeApart, 'bool');
  const stripOf = (x: Expr): Expr =>
    min(max(cast('i32', mul(sub(x, f32(least)), f32(perStrip))), index(0)), index(strips - 1));
  const leftOf = (batch: Expr, box: Expr): Expr => cast('f32', edgesAlong(ctx, 1, batch, box)[0]);

  const over = (into: string, op: ReduceOp, value: (box: Expr) => Expr): Stmt => {
    const name = ctx.fresh('i');
    return { kind: 'reduce', local: into, dtype: 'f32', op, axes: [{ name, extent: count }], value: value(axis(name)) };
  };
  const greatest = ctx.fresh('greatest');

  /** Whether the box that is compared may overlap a kept one from `from` on too much. */
  const mayMeet = (into: string): Stmt => {
    const block = Math.min(BLOCK, count);
    const lane = { name: ctx.fresh('lane'), extent: block };
    const at = add(max(min(i32(from), index(count - block)), index(0)), axis(lane.name));
    const [top, left, bottom, right] = edges.map((edge) => bitcast('f32', edge.kept.load(at)));
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
    const union = sub(add(area, ownArea), both);
    const isLittle = [
      binary('lt', both, mul(f32(almost), union)),
      binary('gt', union, constant('f32', LEAST_AREA)),
      binary('lt', union, constant('f32', MOST_AREA)),
    ].reduce((so, one) => binary('and', so, one));
    // Nothing is left out under a condition, so that all of it is done in lanes.
    const exact = edgesAreFloat32(ctx);
    const meets = pairs.map(([a, b]) => binary(exact ? 'gt' : 'ge', a, b));
    const conditions = [binary('lt', at, i32(end)), ...meets, ...(exact ? [unary('not', isLittle)] : [])];
    const all = conditions.reduce((so, one) => binary('and', so, one));
    const value = select(all, index(1), index(0));
    return { kind: 'reduce', local: into, dtype: 'i32', op: 'max', axes: [lane], value };
  };

  /** Most boxes are apart, and seen to be so by one side. */
  const look = (batch: Expr, at: Expr, free: string): Stmt[] => [
    assign(free, isApart),
    assign(other, boxes.load(at)),
    ...others.setHeight(batch, i32(other)),
    when(
      binary('gt', min(own.bottom, others.bottom), max(own.top, others.top)),
      ...others.setWidth(batch, i32(other)),
      when(
        binary('gt', min(own.right, others.right), max(own.left, others.left)),
        assign(free, binary('le', overlapOf(own, others), local(limit, 'f64'))),
      ),
    ),
  ];

  return {
    prepare: (threshold) => [
      assign(limit, threshold),
      assign(mayBeApart, binary('ge', local(limit, 'f64'), constant('f64', 0))),
      assign(almost, cast('f32', mul(local(limit, 'f64'), constant('f64', 1 - SLACK)))),
    ],
    measure: (batch) => [
      over(least, 'min', (box) => leftOf(batch, box)),
      over(greatest, 'max', (box) => leftOf(batch, box)),
      over(widest, 'max', (box) => {
        const [left, right] = edgesAlong(ctx, 1, batch, box).map((edge) => cast('f32', edge));
        return sub(right, left);
      }),
      assign(perStrip, div(constant('f32', STRIPS), sub(f32(greatest), f32(least)))),
    ],
    clear: [scan('s', strips, (s) => [ends.store(s, index(0))])],
    expect: (batch, box) => [
      assign(strip, stripOf(leftOf(batch, box))),
      ends.store(i32(strip), add(ends.load(i32(strip)), index(1))),
    ],
    makeRoom: [
      assign(room, index(0)),
      scan('s', strips, (s) => [
        assign(from, ends.load(s)),
        starts.store(s, i32(room)),
        ends.store(s, i32(room)),
        step(room, i32(from)),
      ]),
    ],
    compare(batch, box, free) {
      const isFree = local(free, 'bool');
      const meets = ctx.fresh('meets');
      const isClose = binary('or', unary('not', isApart), binary('gt', i32(meets), index(0)));
      const isMore = (at: Expr): Expr => binary('and', isFree, binary('lt', at, i32(end)));
      const each = scan(
        'k',
        BLOCK,
        (k) => look(batch, add(i32(from), k), free),
        (k) => isMore(add(i32(from), k)),
      );
      const blocks = scan(
        'block',
        count,
        () => [mayMeet(meets), when(isClose, each), step(from, index(BLOCK))],
        () => isMore(i32(from)),
      );
      // Left edges of boxes that reach this one, roundings of sides and differences included.
      const reach = add(mul(f32(widest), constant('f32', 1.0001)), mul(unary('abs', ownLeft), constant('f32', 1e-6)));
      return [
        ...own.setHeight(batch, box),
        ...own.setWidth(batch, box),
        ...edges.map((edge) => edge.set),
        assign(free, constant('bool', 1)),
        assign(strip, select(isApart, stripOf(sub(ownLeft, reach)), index(0))),
        assign(last, select(isApart, stripOf(ownRight), index(strips - 1))),
        scan(
          's',
          strips,
          () => [
            assign(from, starts.load(i32(strip))),
            assign(end, ends.load(i32(strip))),
            blocks,
            step(strip, index(1)),
          ],
          () => binary('and', isFree, binary('le', i32(strip), i32(last))),
        ),
      ];
    },
    keep: (box) => [
      assign(strip, stripOf(ownLeft)),
      assign(from, ends.load(i32(strip))),
      ...edges.map((edge) => edge.kept.store(i32(from), bitcast('i32', edge.own))),
      boxes.store(i32(from), box),
      ends.store(i32(strip), add(i32(from), index(1))),
    ],
  };
}
