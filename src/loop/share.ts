/**
 * Gives a name to every subexpression that a statement uses more than once, so that text and machines compute it once.
 * Expressions are built as DAGs by object identity; without lets their printed form could grow exponentially.
 *
 * A subexpression is named only if it is reached at least once outside any select's branches: a load in a branch may be out of range
 * when the branch is not taken. i32 index arithmetic is left to the emitter, which hoists it out of loops.
 */
import * as e from './expr.ts';
import { children, mapChildren } from './expr.ts';
import type { Expr, Stmt } from './ir.ts';

const worthNaming = (x: Expr): boolean => children(x).length > 0 && x.dtype !== 'i32';

/** The statements before which `stmt`'s shared subexpressions are lets, ending with stmt itself. `fresh` makes local names. */
export function shareSubexpressions(stmt: Stmt, fresh: (hint: string) => string): Stmt[] {
  if (stmt.kind !== 'store' && stmt.kind !== 'let') return [stmt];
  const uses = new Map<Expr, number>();
  const certain = new Set<Expr>();
  const visit = (x: Expr, sure: boolean): void => {
    uses.set(x, (uses.get(x) ?? 0) + 1);
    const known = sure ? certain.has(x) : uses.get(x) !== 1;
    if (sure) certain.add(x);
    if (known) return;
    children(x).forEach((child, i) => {
      visit(child, sure && !(x.kind === 'select' && i > 0));
    });
  };
  visit(stmt.value, true);

  const lets: Stmt[] = [];
  const done = new Map<Expr, Expr>();
  const rebuild = (x: Expr): Expr => {
    const ready = done.get(x);
    if (ready) return ready;
    let out = mapChildren(x, rebuild);
    if ((uses.get(x) ?? 0) > 1 && certain.has(x) && worthNaming(x)) {
      const local = fresh('t');
      lets.push({ kind: 'let', local, dtype: x.dtype, value: out });
      out = e.local(local, x.dtype);
    }
    done.set(x, out);
    return out;
  };
  const value = rebuild(stmt.value);
  return [...lets, { ...stmt, value }];
}
