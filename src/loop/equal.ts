/**
 * Whether two pieces of a kernel say the same, whichever objects they are made of. Pairs found equal are remembered, so a DAG costs
 * as much as it has objects.
 */
import { conditionOf } from './expr.ts';
import type { Axis, Expr, Stmt } from './ir.ts';

export const equalStmts = (a: readonly Stmt[], b: readonly Stmt[]): boolean => new Comparison().stmts(a, b);

export const equalAxes = (a: readonly Axis[], b: readonly Axis[]): boolean => new Comparison().axes(a, b);

class Comparison {
  /** For an expression of the one side one of the other that is equal to it. */
  readonly #equal = new Map<Expr, Expr>();

  stmts(a: readonly Stmt[], b: readonly Stmt[]): boolean {
    return a.length === b.length && a.every((stmt, i) => this.#stmt(stmt, b[i]));
  }

  axes(a: readonly Axis[], b: readonly Axis[]): boolean {
    return a.length === b.length && a.every((axis, i) => this.#axis(axis, b[i]));
  }

  #axis(a: Axis, b: Axis): boolean {
    if (a.name !== b.name || a.extent !== b.extent) return false;
    return this.#maybe(a.limit, b.limit);
  }

  #maybe(a: Expr | undefined, b: Expr | undefined): boolean {
    return a && b ? this.#expr(a, b) : a === b;
  }

  #stmt(a: Stmt, b: Stmt): boolean {
    switch (a.kind) {
      case 'for':
      case 'scan':
        return (
          a.kind === b.kind &&
          this.#axis(a.axis, b.axis) &&
          this.#maybe(conditionOf(a), conditionOf(b)) &&
          this.stmts(a.body, b.body)
        );
      case 'if':
        return b.kind === 'if' && this.#expr(a.cond, b.cond) && this.stmts(a.body, b.body);
      case 'let':
        return b.kind === 'let' && a.local === b.local && a.dtype === b.dtype && this.#expr(a.value, b.value);
      case 'reduce':
        return (
          b.kind === 'reduce' &&
          a.local === b.local &&
          a.dtype === b.dtype &&
          a.op === b.op &&
          this.axes(a.axes, b.axes) &&
          this.#expr(a.value, b.value)
        );
      case 'store':
        return (
          b.kind === 'store' && a.buffer === b.buffer && this.#expr(a.index, b.index) && this.#expr(a.value, b.value)
        );
      default:
        return a satisfies never;
    }
  }

  #expr(a: Expr, b: Expr): boolean {
    if (a === b || this.#equal.get(a) === b) return true;
    const isEqual = a.dtype === b.dtype && this.#node(a, b);
    if (isEqual) this.#equal.set(a, b);
    return isEqual;
  }

  #node(a: Expr, b: Expr): boolean {
    switch (a.kind) {
      case 'const':
        return b.kind === 'const' && Object.is(a.value, b.value);
      case 'axis':
        return b.kind === 'axis' && a.name === b.name;
      case 'local':
        return b.kind === 'local' && a.name === b.name;
      case 'load':
        return b.kind === 'load' && a.buffer === b.buffer && this.#expr(a.index, b.index);
      case 'unary':
        return b.kind === 'unary' && a.op === b.op && this.#expr(a.x, b.x);
      case 'cast':
      case 'bitcast':
        return a.kind === b.kind && this.#expr(a.x, b.x);
      case 'binary':
        return b.kind === 'binary' && a.op === b.op && this.#expr(a.a, b.a) && this.#expr(a.b, b.b);
      case 'select':
        return b.kind === 'select' && this.#expr(a.cond, b.cond) && this.#expr(a.a, b.a) && this.#expr(a.b, b.b);
      default:
        return a satisfies never;
    }
  }
}
