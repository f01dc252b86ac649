/**
 * What a row is summed over and then computed again for each element is computed once and kept in the output meanwhile. In comes a
 * kernel, out one that gives the same values; the rule is about softmax, whose exponentials are most of its work.
 *
 *     reduce s = add over j of f(j);        for j { y[i(j)] = f(j) };
 *     …                               →     reduce s = add over j of y[i(j)];  …
 *     for k { y[i(k)] = g(f(k), s) }        for k { y[i(k)] = g(y[i(k)], s) }
 *
 * f is worth it where it has an operation that becomes many. A thread does whole points, so nobody else sees y in between.
 */
import * as e from '../../loop/expr.ts';
import type { Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import { ExprTable } from './linear.ts';
import { CPU_OPS } from './scalar-ops.ts';
import { boundNames, eachExpr, eachStmt, exprMapper } from './walk.ts';

type Reduce = Extract<Stmt, { kind: 'reduce' }>;
type Store = Extract<Stmt, { kind: 'store' }>;

export function keepRowValues(kernel: Kernel): Kernel {
  const { body } = kernel;
  for (const [i, sum] of body.entries()) {
    if (sum.kind !== 'reduce' || sum.axes.length !== 1 || !isCostly(sum.value)) continue;
    for (let j = i + 1; j < body.length; j++) {
      const loop = body[j];
      const store = loop.kind === 'for' && loop.body.length === 1 ? loop.body[0] : undefined;
      if (loop.kind !== 'for' || store?.kind !== 'store') continue;
      const kept = keep(kernel, sum, loop.axis, store, body.slice(i + 1, j));
      if (kept)
        return {
          ...kernel,
          body: [...body.slice(0, i), ...kept.sum, ...body.slice(i + 1, j), kept.loop, ...body.slice(j + 1)],
        };
    }
  }
  return kernel;
}

/** Whether the value has an operation that the machine does not have: legalizing makes many of it. */
function isCostly(value: Expr): boolean {
  let found = false;
  eachExpr([{ kind: 'let', local: '', dtype: value.dtype, value }], (x) => {
    found ||= x.kind === 'unary' && !CPU_OPS.unary.has(x.op);
  });
  return found;
}

function keep(
  kernel: Kernel,
  sum: Reduce,
  axis: Axis,
  store: Store,
  between: readonly Stmt[],
): { readonly sum: readonly Stmt[]; readonly loop: Stmt } | undefined {
  const [row] = sum.axes;
  const buffer = kernel.buffers.find((b) => b.name === store.buffer);
  if (row.extent !== axis.extent || buffer?.dtype !== sum.value.dtype || !isOnlyStored(kernel, store)) return undefined;
  const table = new ExprTable();
  if (table.info(e.boundOf(row)).id !== table.info(e.boundOf(axis)).id) return undefined;
  if (table.dependsOn(sum.value, boundNames(between)) || !table.info(store.index).free.includes(axis.name))
    return undefined;
  const renamed = (from: Axis, to: Axis) =>
    exprMapper((x) => (x.kind === 'axis' && x.name === from.name ? e.axis(to.name) : x));
  const wanted = table.info(renamed(row, axis)(sum.value)).id;
  const kept = e.load(store.buffer, sum.value.dtype, store.index);
  const value = exprMapper((x) => (table.info(x).id === wanted ? kept : x))(store.value);
  if (value === store.value) return undefined;
  const index = renamed(axis, row)(store.index);
  // What the index reads besides the axis must be known before the sum.
  const names = table.info(index).free;
  if ([...boundNames([sum, ...between])].some((name) => name !== row.name && names.includes(name))) return undefined;
  return {
    sum: [
      { kind: 'for', axis: row, body: [{ ...store, index, value: sum.value }] },
      { ...sum, value: e.load(store.buffer, sum.value.dtype, index) },
    ],
    loop: { kind: 'for', axis, body: [{ ...store, value }] },
  };
}

/** Whether the buffer is written by this statement alone and read by none. */
function isOnlyStored({ body }: Kernel, store: Store): boolean {
  let alone = true;
  eachStmt(body, (s) => {
    if (s.kind === 'store' && s.buffer === store.buffer && s !== store) alone = false;
  });
  eachExpr(body, (x) => {
    if (x.kind === 'load' && x.buffer === store.buffer) alone = false;
  });
  return alone;
}
