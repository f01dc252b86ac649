/**
 * How much of its buffers a kernel touches, by counting: for each buffer an upper bound of the elements that it reads or writes.
 *
 * An access touches as many elements as the axes of its index have points together. A contract's operands say more: of each dim as many
 * as the axes reach. Where sizes are open, a kernel at some of them (lower/at-sizes.ts) touches less than the buffers hold.
 */
import { DTYPES } from '../core/dtype.ts';
import { children, conditionOf } from './expr.ts';
import type { Access, Axis, Expr, Kernel, Stmt } from './ir.ts';

/** Axes around a place in the body, by name. */
type Scope = ReadonlyMap<string, number>;

const within = (scope: Scope, axes: readonly Axis[]): Scope =>
  new Map([...scope, ...axes.map((axis) => [axis.name, axis.extent] as const)]);

const footprints = new WeakMap<Kernel, ReadonlyMap<string, number>>();

/** Elements at most, by buffer; buffers that are never used are not in it. */
export function footprint(kernel: Kernel): ReadonlyMap<string, number> {
  const known = footprints.get(kernel);
  if (known) return known;
  const made = count(kernel);
  footprints.set(kernel, made);
  return made;
}

/** Bytes read and written at least once, of all buffers or of those that `counts`. */
export const touchedBytes = (kernel: Kernel, counts: (buffer: string) => boolean = () => true): number =>
  kernel.buffers.reduce(
    (sum, { name, dtype }) => sum + (counts(name) ? (footprint(kernel).get(name) ?? 0) * DTYPES[dtype].bytes : 0),
    0,
  );

function count({ form, buffers, axes, body }: Kernel): Map<string, number> {
  const most = new Map(buffers.map((b) => [b.name, b.elements]));
  const touched = new Map<string, number>();
  const touch = (buffer: string, elements: number): void => {
    touched.set(buffer, Math.min(most.get(buffer) ?? 0, (touched.get(buffer) ?? 0) + elements));
  };
  const points = (index: Expr, scope: Scope): number => {
    const moving = new Set<string>();
    let isPlain = true;
    const visit = (x: Expr): void => {
      if (x.kind === 'axis') moving.add(x.name);
      if (x.kind === 'local' || (x.kind === 'load' && x.index.kind !== 'const')) isPlain = false;
      children(x).forEach(visit);
    };
    visit(index);
    return isPlain ? [...moving].reduce((n, name) => n * (scope.get(name) ?? 1), 1) : Number.POSITIVE_INFINITY;
  };
  const expr = (root: Expr, scope: Scope): void => {
    const seen = new Set<Expr>();
    const visit = (x: Expr): void => {
      if (seen.has(x)) return;
      seen.add(x);
      if (x.kind === 'load') touch(x.buffer, points(x.index, scope));
      children(x).forEach(visit);
    };
    visit(root);
  };
  const statements = (stmts: readonly Stmt[], scope: Scope): void => {
    for (const s of stmts) {
      switch (s.kind) {
        case 'for':
        case 'scan': {
          const inner = within(scope, [s.axis]);
          const condition = conditionOf(s);
          if (condition) expr(condition, inner);
          statements(s.body, inner);
          break;
        }
        case 'if':
          expr(s.cond, scope);
          statements(s.body, scope);
          break;
        case 'let':
          expr(s.value, scope);
          break;
        case 'reduce':
          expr(s.value, within(scope, s.axes));
          break;
        case 'store':
          expr(s.index, scope);
          expr(s.value, scope);
          touch(s.buffer, points(s.index, scope));
          break;
        default:
          s satisfies never;
      }
    }
  };
  if (form.kind === 'contract') {
    const all = within(new Map(), form.axes);
    for (const operand of [form.a, form.b]) touch(operand.buffer, boxOf(operand, all));
    statements(form.epilogue, all);
  } else statements(body, within(new Map(), axes));
  return touched;
}

/** Of each dim as many elements as lie between the least and the largest position. */
const boxOf = ({ dims }: Access, scope: Scope): number =>
  dims.reduce((n, { at, extent }) => {
    const reach = at.terms.reduce((sum, { axis, coef }) => sum + Math.abs(coef) * ((scope.get(axis) ?? 1) - 1), 1);
    return n * Math.min(extent, reach);
  }, 1);
