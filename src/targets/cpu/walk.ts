/**
 * Traversal of kernel bodies: rebuild their expressions, visit every statement and expression, list what they assign.
 */
import { children, conditionOf, mapChildren, mapCondition } from '../../loop/expr.ts';
import type { Expr, Stmt } from '../../loop/ir.ts';

export type ExprMap = (x: Expr) => Expr;

/** A function that rebuilds expressions with `f` applied to every node, children first; shared nodes stay shared. */
export function exprMapper(f: ExprMap): ExprMap {
  const done = new Map<Expr, Expr>();
  const go = (x: Expr): Expr => {
    const seen = done.get(x);
    if (seen) return seen;
    const rebuilt = mapChildren(x, go);
    // Folding may leave an operand in the node's place, which is mapped already.
    const out = rebuilt.kind === x.kind ? f(rebuilt) : rebuilt;
    done.set(x, out);
    return out;
  };
  return go;
}

/** The statements with `f` applied to each whole expression in them. */
export function mapStmts(stmts: readonly Stmt[], f: ExprMap): Stmt[] {
  return stmts.map((s): Stmt => {
    switch (s.kind) {
      case 'for':
      case 'scan':
        return { ...mapCondition(s, f), body: mapStmts(s.body, f) };
      case 'if':
        return { ...s, cond: f(s.cond), body: mapStmts(s.body, f) };
      case 'reduce':
      case 'let':
        return { ...s, value: f(s.value) };
      case 'store':
        return { ...s, index: f(s.index), value: f(s.value) };
      default:
        return s satisfies never;
    }
  });
}

/** Calls `visit` with every statement, outer ones before the ones inside. */
export function eachStmt(stmts: readonly Stmt[], visit: (s: Stmt) => void): void {
  for (const s of stmts) {
    visit(s);
    if (s.kind === 'for' || s.kind === 'scan' || s.kind === 'if') eachStmt(s.body, visit);
  }
}

/** The whole expressions that stand directly in a statement. */
export function exprsOf(s: Stmt): readonly Expr[] {
  switch (s.kind) {
    case 'for':
    case 'scan': {
      const condition = conditionOf(s);
      return condition ? [condition] : [];
    }
    case 'if':
      return [s.cond];
    case 'reduce':
    case 'let':
      return [s.value];
    case 'store':
      return [s.index, s.value];
    default:
      return s satisfies never;
  }
}

/** Calls `visit` once with every node of every expression of the statements. */
export function eachExpr(stmts: readonly Stmt[], visit: (x: Expr) => void): void {
  const seen = new Set<Expr>();
  const go = (x: Expr): void => {
    if (seen.has(x)) return;
    seen.add(x);
    visit(x);
    children(x).forEach(go);
  };
  eachStmt(stmts, (s) => {
    exprsOf(s).forEach(go);
  });
}

/** Axes, locals and buffer contents are three name spaces; these prefixes tell them apart in a set of names. */
export const localKey = (name: string): string => `%${name}`;
export const bufferKey = (name: string): string => `@${name}`;

/** Names whose value the statements change: loop axes, locals (localKey), buffers stored to (bufferKey). */
export function boundNames(stmts: readonly Stmt[]): Set<string> {
  const names = new Set<string>();
  eachStmt(stmts, (s) => {
    if (s.kind === 'for' || s.kind === 'scan') names.add(s.axis.name);
    else if (s.kind === 'let') names.add(localKey(s.local));
    else if (s.kind === 'store') names.add(bufferKey(s.buffer));
    else if (s.kind === 'reduce') {
      names.add(localKey(s.local));
      for (const axis of s.axes) names.add(axis.name);
    }
  });
  return names;
}

export function reassignedLocals(body: readonly Stmt[]): Set<string> {
  const once = new Set<string>();
  const twice = new Set<string>();
  const visit = (stmts: readonly Stmt[], carried: boolean): void => {
    for (const s of stmts) {
      if (s.kind === 'let' || s.kind === 'reduce') {
        if (once.has(s.local) || carried) twice.add(s.local);
        once.add(s.local);
      } else if (s.kind === 'if' || s.kind === 'scan') visit(s.body, true);
      else if (s.kind === 'for') visit(s.body, carried);
    }
  };
  visit(body, false);
  return twice;
}
