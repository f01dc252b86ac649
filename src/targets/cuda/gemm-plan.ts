/**
 * A contract as a tensor-core kernel sees it: an implicit matrix product, rows m by columns n over k, once a batch.
 *
 * Each operand is affine in the axes: an offset, and for a a list of guards (coordinates of a padded window, outside which the element
 * is 0). Axes of extent 1 go; neighbours merge where neither operand's memory nor a guard tells them apart. k is ordered so that its
 * innermost axis is contiguous in a, where one is: weights are packed in that order, so the order is free.
 *
 *     a[Σ coefs·axes + constant]   where every guard 0 <= Σ coefs·axes + constant < extent
 *
 * Axes and guards keep their limits; templates that cannot mind them ask `isLimited`.
 */
import { withoutRole } from '../../loop/contract.ts';
import { index, mul } from '../../loop/expr.ts';
import type { Access, Axis, Contract, Expr, Kernel } from '../../loop/ir.ts';
import { hasLimit, isPoint } from './limits.ts';

/** Σ coefs[axis]·axis + constant; absent axes have coefficient 0. */
export interface Linear {
  readonly coefs: ReadonlyMap<string, number>;
  readonly constant: number;
}
export interface Guard extends Linear {
  readonly extent: number;
  readonly limit?: Expr;
}
export interface GemmOperand extends Linear {
  readonly buffer: string;
  readonly guards: readonly Guard[];
}

export interface GemmPlan {
  readonly batch: readonly Axis[];
  readonly m: readonly Axis[];
  /** One axis, or none. */
  readonly n: readonly Axis[];
  /** Outermost first, in the order of the packing. */
  readonly k: readonly Axis[];
  readonly a: GemmOperand;
  readonly b: GemmOperand;
  readonly form: Contract;
}

/** Whether some size is known at run time only. */
export const isLimited = ({ batch, m, n, k, a, b }: GemmPlan): boolean =>
  hasLimit([...batch, ...m, ...n, ...k]) || [...a.guards, ...b.guards].some((g) => g.limit);

export const extentOf = (axes: readonly Axis[]): number => axes.reduce((n, a) => n * a.extent, 1);
export const coefOf = (x: Linear, axis: string): number => x.coefs.get(axis) ?? 0;

const plans = new WeakMap<Kernel, GemmPlan | null>();

/** Undefined where the kernel is no contract, is empty, has several n axes that do not merge, or a b with padding. */
export function planGemm(kernel: Kernel): GemmPlan | undefined {
  const known = plans.get(kernel);
  if (known !== undefined) return known ?? undefined;
  const plan = kernel.form.kind === 'contract' ? makePlan(kernel.form) : undefined;
  plans.set(kernel, plan ?? null);
  return plan;
}

function makePlan(form: Contract): GemmPlan | undefined {
  if (form.axes.some((a) => a.extent === 0)) return undefined;
  const a = operandOf(form.a, form);
  const b = operandOf(form.b, form);
  if (b.guards.length > 0) return undefined;
  const role = (r: string): Axis[] => form.axes.filter((x) => x.role === r && !isPoint(x)).map(withoutRole);
  const batch = role('batch');
  const m = mergeAxes(role('m'), [a, ...a.guards]);
  const n = mergeAxes(role('n'), [b]);
  const k = orderK(role('k'), a);
  return { batch, m, n, k: mergeAxes(k, [a, b, ...a.guards]), a, b, form };
}

/** Guards that cannot fail are left out. */
function operandOf(access: Access, form: Contract): GemmOperand {
  const coefs = new Map<string, number>();
  let constant = 0;
  const guards: Guard[] = [];
  const extents = new Map(form.axes.map((a) => [a.name, a.extent]));
  const points = new Set(form.axes.filter(isPoint).map((a) => a.name));
  for (const dim of access.dims) {
    constant += dim.at.constant * dim.stride;
    const at = new Map<string, number>();
    for (const t of dim.at.terms) {
      if (points.has(t.axis)) continue;
      at.set(t.axis, (at.get(t.axis) ?? 0) + t.coef);
      coefs.set(t.axis, (coefs.get(t.axis) ?? 0) + t.coef * dim.stride);
    }
    if (!dim.padded) continue;
    let [low, high] = [dim.at.constant, dim.at.constant];
    for (const [axis, coef] of at) {
      const end = coef * ((extents.get(axis) as number) - 1);
      low += Math.min(0, end);
      high += Math.max(0, end);
    }
    const { extent, limit } = dim;
    if (low < 0 || high >= extent || limit)
      guards.push({ coefs: at, constant: dim.at.constant, extent, ...(limit && { limit }) });
  }
  return { buffer: access.buffer, coefs, constant, guards };
}

/** The axis that is contiguous in a comes last; the others keep their order. */
function orderK(k: readonly Axis[], a: GemmOperand): Axis[] {
  const inner = k.filter((x) => coefOf(a, x.name) === 1 && a.guards.every((g) => coefOf(g, x.name) === 0));
  const last = inner.toSorted((x, y) => y.extent - x.extent)[0];
  return last ? [...k.filter((x) => x !== last), last] : [...k];
}

/**
 * Neighbours x, y become one axis y where every linear form has coef(x) = coef(y)·extent(y), and y runs whole: it ends where x does, so
 * many times its extent.
 */
export function mergeAxes(axes: readonly Axis[], forms: readonly Linear[]): readonly Axis[] {
  const merged = [...axes];
  for (let i = 0; i + 1 < merged.length; ) {
    const [x, y] = [merged[i], merged[i + 1]];
    if (!y.limit && forms.every((f) => coefOf(f, x.name) === coefOf(f, y.name) * y.extent)) {
      const limit = x.limit && mul(x.limit, index(y.extent));
      merged.splice(i, 2, { name: y.name, extent: x.extent * y.extent, ...(limit && { limit }) });
      i = Math.max(0, i - 1);
    } else i++;
  }
  return merged;
}
