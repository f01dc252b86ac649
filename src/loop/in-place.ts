/**
 * Which out buffer may lie where an in buffer does: what a point reads of the one is what it then writes of the other, and nobody else
 * reads or writes that element.
 *
 * It holds where the only store into the out buffer is one of the body's own statements, its index gives each point an element of its own,
 * and every load from the in buffer has the same index and comes no later than the store. Whoever runs such a kernel on buffers that
 * share must do each point once, by one thread, and load before it stores.
 */
import { affineRange, toAffine } from './affine.ts';
import { children, conditionOf } from './expr.ts';
import type { Affine, Axis, Expr, Kernel, Stmt } from './ir.ts';

export interface SharedPlace {
  /** Names of buffers of one dtype. */
  readonly from: string;
  readonly to: string;
}

/** For each out buffer the in buffers that it may take the place of, in the kernel's order. */
export function sharedPlaces(kernel: Kernel): readonly SharedPlace[] {
  if (kernel.form.kind === 'routine') return [];
  const outs = kernel.buffers.filter(({ role }) => role === 'out');
  return outs.flatMap((out) => {
    const at = onlyStore(kernel.body, out.name);
    const store = kernel.body[at];
    const index = store?.kind === 'store' ? toAffine(store.index) : undefined;
    if (!index || !isInjective(index, kernel.axes)) return [];
    return kernel.buffers
      .filter(
        ({ role, dtype, name }) => role === 'in' && dtype === out.dtype && isReadOnlyAt(kernel.body, name, index, at),
      )
      .map(({ name }) => ({ from: name, to: out.name }));
  });
}

/** Where in the body the only store into the buffer stands; -1 where there is none, or more, or it is inside of another statement. */
function onlyStore(body: readonly Stmt[], buffer: string): number {
  const count = (stmts: readonly Stmt[]): number =>
    stmts.reduce((n, s) => n + ('body' in s ? count(s.body) : s.kind === 'store' && s.buffer === buffer ? 1 : 0), 0);
  return count(body) === 1 ? body.findIndex((s) => s.kind === 'store' && s.buffer === buffer) : -1;
}

/** Whether the affine function has another value at each point of the axes. */
function isInjective(index: Affine, axes: readonly Axis[]): boolean {
  const moving = axes.filter(({ extent }) => extent > 1);
  const terms = index.terms
    .filter(({ axis }) => moving.some(({ name }) => name === axis))
    .toSorted((a, b) => Math.abs(a.coef) - Math.abs(b.coef));
  const names = new Set(axes.map(({ name }) => name));
  if (terms.length !== moving.length || index.terms.some(({ axis }) => !names.has(axis))) return false;
  return terms.every(({ coef }, i) => {
    const [low, high] = affineRange({ terms: terms.slice(0, i), constant: 0 }, axes);
    return Math.abs(coef) > high - low;
  });
}

/** Whether there are loads from the buffer, all at that index, and none behind statement `last`. */
function isReadOnlyAt(body: readonly Stmt[], buffer: string, index: Affine, last: number): boolean {
  const seen = new Map<Expr, boolean>();
  let isRead = false;
  const holds = (x: Expr, late: boolean): boolean => {
    const known = seen.get(x);
    if (known !== undefined && !late) return known;
    const isHere = x.kind === 'load' && x.buffer === buffer;
    isRead ||= isHere;
    const result = !(isHere && (late || !isAt(x.index, index))) && children(x).every((child) => holds(child, late));
    seen.set(x, result);
    return result;
  };
  const stmt = (s: Stmt, late: boolean): boolean => exprsOf(s).every((x) => holds(x, late)) && nested(s, late);
  const nested = (s: Stmt, late: boolean): boolean => !('body' in s) || s.body.every((inner) => stmt(inner, late));
  return body.every((s, i) => stmt(s, i > last)) && isRead;
}

function isAt(x: Expr, index: Affine): boolean {
  const at = toAffine(x);
  return at !== undefined && JSON.stringify(at) === JSON.stringify(index);
}

function exprsOf(s: Stmt): readonly Expr[] {
  switch (s.kind) {
    case 'store':
      return [s.index, s.value];
    case 'let':
      return [s.value];
    case 'if':
      return [s.cond];
    case 'reduce':
      return [s.value, ...limitsOf(s.axes)];
    case 'for':
    case 'scan':
      return [...limitsOf([s.axis]), ...(conditionOf(s) ? [conditionOf(s) as Expr] : [])];
    default:
      return s satisfies never;
  }
}

const limitsOf = (axes: readonly Axis[]): readonly Expr[] => axes.flatMap(({ limit }) => limit ?? []);
