/**
 * Axes of two steps that go over the same memory in different cuts, cut alike: 64 windows of 49 positions on the one side, 8 × 8 windows of
 * 7 × 7 on the other, become 8 · 8 · 7 · 7 on both.
 *
 *     an axis of extent e·f and stride s   is   an outer one of extent e and stride s·f, and an inner one of extent f and stride s
 */
import { addAffine, affineConstant } from '../loop/affine.ts';
import * as e from '../loop/expr.ts';
import type { Affine, Axis, Expr } from '../loop/ir.ts';

/** A part of an axis: axis = Σ piece · times. */
interface Piece {
  readonly name: string;
  readonly extent: number;
  readonly times: number;
}
/** Of each axis wider than 1 its pieces, outermost first. */
export type Pieces = ReadonlyMap<string, readonly Piece[]>;

interface Run {
  readonly axis: string;
  readonly extent: number;
  readonly stride: number;
  readonly times: number;
}

export interface Place {
  readonly axes: readonly Axis[];
  readonly at: Affine;
}

/**
 * The pieces of both places' axes, pieces of the same memory by the same name; undefined where memory is not cut so, some axis stands still
 * or has a limit.
 */
export function refineAxes(left: Place, right: Place): readonly [Pieces, Pieces] | undefined {
  const [a, b] = [runsOf(left), runsOf(right)];
  if (!a || !b) return undefined;
  const found: [Map<string, Piece[]>, Map<string, Piece[]>] = [new Map(), new Map()];
  for (let n = 0; a.length > 0 && b.length > 0; n++) {
    const [x, y] = [a.pop() as Run, b.pop() as Run];
    const extent = Math.min(x.extent, y.extent);
    if (x.stride !== y.stride || x.extent % extent !== 0 || y.extent % extent !== 0) return undefined;
    for (const [i, run, runs] of [
      [0, x, a],
      [1, y, b],
    ] as const) {
      const piece = { name: `piece ${n}`, extent, times: run.times };
      found[i].set(run.axis, [piece, ...(found[i].get(run.axis) ?? [])]);
      const rest = run.extent / extent;
      if (rest > 1) runs.push({ ...run, extent: rest, stride: run.stride * extent, times: run.times * extent });
    }
  }
  return a.length + b.length > 0 ? undefined : found;
}

/** Wide axes, the smallest stride last. */
function runsOf({ axes, at }: Place): Run[] | undefined {
  const runs = axes
    .filter((x) => x.extent !== 1 || x.limit)
    .map(({ name, extent, limit }) => ({
      axis: name,
      extent: limit ? 0 : extent,
      stride: at.terms.find((t) => t.axis === name)?.coef ?? 0,
      times: 1,
    }));
  if (runs.some((r) => r.extent === 0 || r.stride <= 0)) return undefined;
  return runs.sort((x, y) => y.stride - x.stride);
}

/** An axis as the sum of its pieces; undefined where it has none. */
export const pieceExpr = (pieces: Pieces, axis: string): Expr | undefined =>
  pieces.get(axis)?.reduce<Expr>((sum, p) => e.add(sum, e.mul(e.axis(p.name), e.index(p.times))), e.index(0));

/** A linear form with pieces in the place of axes that have some. */
export const pieceAffine = (pieces: Pieces, at: Affine): Affine =>
  at.terms.reduce<Affine>((sum, { axis, coef }) => {
    const parts = pieces.get(axis)?.map((p) => ({ axis: p.name, coef: coef * p.times })) ?? [{ axis, coef }];
    return addAffine(sum, { terms: parts, constant: 0 });
  }, affineConstant(at.constant));
