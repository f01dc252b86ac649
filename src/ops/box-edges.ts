/**
 * Edges of boxes inside a kernel: [y1, x1, y2, x2] with any diagonal, or [x centre, y centre, width, height], and how much two overlap.
 */
import { add, cast, constant, div, index, local, max, min, mul, sub } from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import type { KernelContext } from './op.ts';
import { assign } from './rows.ts';

export type BoxContext = KernelContext<{ readonly center_point_box: boolean }>;

/** Locals that hold the edges of one box. */
export interface BoxEdges {
  readonly top: Expr;
  readonly left: Expr;
  readonly bottom: Expr;
  readonly right: Expr;
  /** Loads the edges of a box of a batch. */
  setHeight(batch: Expr, box: Expr): readonly Stmt[];
  setWidth(batch: Expr, box: Expr): readonly Stmt[];
}

/** Whether edges are float32 as they are. */
export const edgesAreFloat32 = (ctx: BoxContext): boolean =>
  !ctx.attrs.center_point_box && ctx.input(0).dtype !== 'f64';

/** The lower and the upper edge of a box in one direction, 0 is down, 1 is right: as given, or f64 where computed from the centre. */
export function edgesAlong(ctx: BoxContext, direction: 0 | 1, batch: Expr, box: Expr): readonly [Expr, Expr] {
  const centred = ctx.attrs.center_point_box;
  const dtype = centred ? 'f64' : ctx.input(0).dtype;
  const number = (i: number): Expr => cast(dtype, ctx.load(0, [batch, box, index(i)]));
  if (!centred) {
    const [a, b] = [number(direction), number(direction + 2)];
    return [min(a, b), max(a, b)];
  }
  const half = mul(number(3 - direction), constant('f64', 0.5));
  const centre = number(1 - direction);
  return [sub(centre, half), add(centre, half)];
}

export function boxEdges(ctx: BoxContext, hint: string): BoxEdges {
  const dtype = ctx.attrs.center_point_box ? 'f64' : ctx.input(0).dtype;
  const names = ['Top', 'Left', 'Bottom', 'Right'].map((edge) => ctx.fresh(`${hint}${edge}`));
  const [top, left, bottom, right] = names.map((name) => local(name, dtype));
  const set = (direction: 0 | 1, batch: Expr, box: Expr): readonly Stmt[] =>
    edgesAlong(ctx, direction, batch, box).map((edge, i) => assign(names[direction + 2 * i], edge));
  return {
    top,
    left,
    bottom,
    right,
    setHeight: (batch, box) => set(0, batch, box),
    setWidth: (batch, box) => set(1, batch, box),
  };
}

/** Intersection over union of two boxes that meet. */
export function overlapOf(p: BoxEdges, q: BoxEdges): Expr {
  const wide = (x: Expr): Expr => cast('f64', x);
  const span = (from: Expr, to: Expr): Expr => sub(wide(to), wide(from));
  const area = (b: BoxEdges): Expr => mul(span(b.top, b.bottom), span(b.left, b.right));
  const height = span(max(p.top, q.top), min(p.bottom, q.bottom));
  const both = mul(height, span(max(p.left, q.left), min(p.right, q.right)));
  return div(both, sub(add(area(p), area(q)), both));
}
