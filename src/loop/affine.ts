/**
 * Affine functions of axes: sum of coef·axis, plus constant. From Exprs, sums, ranges; contract.ts writes them back as Exprs.
 * Normal form: terms sorted by axis name, no zero coefficient.
 */
import type { Affine, Axis, Expr } from './ir.ts';

export const affineConstant = (constant: number): Affine => ({ terms: [], constant });
export const affineAxis = (axis: string, coef = 1, constant = 0): Affine =>
  coef === 0 ? affineConstant(constant) : { terms: [{ axis, coef }], constant };

/** a + scale·b. */
export function addAffine(a: Affine, b: Affine, scale = 1): Affine {
  const coefs = new Map(a.terms.map((t) => [t.axis, t.coef]));
  for (const t of b.terms) coefs.set(t.axis, (coefs.get(t.axis) ?? 0) + scale * t.coef);
  const terms = [...coefs].filter(([, coef]) => coef !== 0).map(([axis, coef]) => ({ axis, coef }));
  terms.sort((x, y) => (x.axis < y.axis ? -1 : 1));
  return { terms, constant: a.constant + scale * b.constant };
}

export const scaleAffine = (a: Affine, scale: number): Affine => addAffine(affineConstant(0), a, scale);

/** The affine function that an i32 Expr is; undefined where it is none. */
export function toAffine(x: Expr): Affine | undefined {
  if (x.kind === 'axis') return affineAxis(x.name);
  if (x.kind === 'const' && x.dtype === 'i32') return affineConstant(Number(x.value));
  if (x.kind !== 'binary' || x.dtype !== 'i32') return undefined;
  const a = toAffine(x.a);
  const b = a && toAffine(x.b);
  if (!a || !b) return undefined;
  if (x.op === 'add') return addAffine(a, b);
  if (x.op === 'sub') return addAffine(a, b, -1);
  if (x.op === 'mul' && b.terms.length === 0) return scaleAffine(a, b.constant);
  if (x.op === 'mul' && a.terms.length === 0) return scaleAffine(b, a.constant);
  return undefined;
}

/** [least, greatest] value over the axes' extents; axes of extent 0 count as extent 1. */
export function affineRange(a: Affine, axes: readonly Axis[]): readonly [number, number] {
  let low = a.constant;
  let high = a.constant;
  for (const t of a.terms) {
    const last = Math.max(0, (axes.find((x) => x.name === t.axis)?.extent ?? 1) - 1);
    if (t.coef > 0) high += t.coef * last;
    else low += t.coef * last;
  }
  return [low, high];
}
