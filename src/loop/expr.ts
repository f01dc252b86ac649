/**
 * Constructors of loop-IR expressions. They derive dtypes and fold what is plain at once (constants, x+0, x·1, nested adds of
 * constants on i32), so that index arithmetic stays short; everything deeper is simplify.ts's.
 *
 * An Expr may stand in several places of a larger one: expressions are DAGs by object identity. Within one evaluation of one
 * statement's expression a shared node has one value, so an emitter may compute it once, at a place that dominates its uses
 * (a select evaluates only the branch taken); between statements locals and buffers change, so nothing is kept across them.
 */
import { type DType, isBigInt, isFloat, type Scalar } from '../core/dtype.ts';
import type { Axis, BinaryOp, Expr, Stmt, UnaryOp } from './ir.ts';

const COMPARISONS: ReadonlySet<BinaryOp> = new Set(['eq', 'ne', 'lt', 'le', 'gt', 'ge', 'and', 'or', 'xor']);
const BOOL_UNARY: ReadonlySet<UnaryOp> = new Set(['not', 'isnan', 'isinf']);

export const constant = (dtype: DType, value: Scalar): Expr => ({
  kind: 'const',
  dtype,
  // Adding 0 turns an integer's -0 (left by truncation) into 0.
  value: isBigInt(dtype) ? BigInt(value) : isFloat(dtype) ? Number(value) : Number(value) + 0,
});
/** An index constant. */
export const index = (value: number): Expr => constant('i32', value);
export const axis = (name: string): Expr => ({ kind: 'axis', dtype: 'i32', name });
export const local = (name: string, dtype: DType): Expr => ({ kind: 'local', dtype, name });
export const load = (buffer: string, dtype: DType, at: Expr): Expr => ({ kind: 'load', dtype, buffer, index: at });
export const unary = (op: UnaryOp, x: Expr): Expr => ({
  kind: 'unary',
  dtype: BOOL_UNARY.has(op) ? 'bool' : x.dtype,
  op,
  x,
});
export const cast = (dtype: DType, x: Expr): Expr => (x.dtype === dtype ? x : { kind: 'cast', dtype, x });
export const bitcast = (dtype: DType, x: Expr): Expr => (x.dtype === dtype ? x : { kind: 'bitcast', dtype, x });

export function select(cond: Expr, a: Expr, b: Expr): Expr {
  if (cond.kind === 'const') return cond.value ? a : b;
  return { kind: 'select', dtype: a.dtype, cond, a, b };
}

export const isConst = (x: Expr, value?: Scalar): x is Extract<Expr, { kind: 'const' }> =>
  x.kind === 'const' && (value === undefined || x.value === value);

/** a op b. Both operands have one dtype, which is the result's except for comparisons and logic (bool). */
export function binary(op: BinaryOp, a: Expr, b: Expr): Expr {
  const dtype: DType = COMPARISONS.has(op) ? 'bool' : a.dtype;
  return (a.dtype === 'i32' && b.dtype === 'i32' && foldIndex(op, a, b)) || { kind: 'binary', dtype, op, a, b };
}

export const add = (a: Expr, b: Expr): Expr => binary('add', a, b);
export const sub = (a: Expr, b: Expr): Expr => binary('sub', a, b);
export const mul = (a: Expr, b: Expr): Expr => binary('mul', a, b);
export const div = (a: Expr, b: Expr): Expr => binary('div', a, b);
export const min = (a: Expr, b: Expr): Expr => binary('min', a, b);
export const max = (a: Expr, b: Expr): Expr => binary('max', a, b);
/** A constant of another expression's dtype. */
export const like = (x: Expr, value: number): Expr =>
  constant(x.dtype, isBigInt(x.dtype) ? BigInt(value) : isFloat(x.dtype) ? value : Math.trunc(value));

/** Where an axis or a dim ends: its extent, or the run-time limit where that is less. Never negative, never beyond the extent. */
export const boundOf = ({ extent, limit }: Pick<Axis, 'extent' | 'limit'>): Expr =>
  limit ? min(max(limit, index(0)), index(extent)) : index(extent);

/** What is asked before each iteration of a loop. */
export const conditionOf = (loop: Stmt): Expr | undefined => (loop.kind === 'scan' ? loop.while : undefined);

/** The loop with that rewritten. */
export function mapCondition<L extends Extract<Stmt, { kind: 'for' | 'scan' }>>(loop: L, map: (x: Expr) => Expr): L {
  const condition = conditionOf(loop);
  return condition ? { ...loop, while: map(condition) } : loop;
}

/** 0 <= x < bound, for a coordinate that may leave its dim. */
export const inRange = (x: Expr, bound: Expr | number): Expr =>
  binary('and', binary('ge', x, index(0)), binary('lt', x, typeof bound === 'number' ? index(bound) : bound));

/** The operands of a node, in order. */
export function children(e: Expr): readonly Expr[] {
  switch (e.kind) {
    case 'const':
    case 'axis':
    case 'local':
      return [];
    case 'load':
      return [e.index];
    case 'unary':
    case 'cast':
    case 'bitcast':
      return [e.x];
    case 'binary':
      return [e.a, e.b];
    case 'select':
      return [e.cond, e.a, e.b];
    default:
      return e satisfies never;
  }
}

/** The node over other operands; itself where none changed, so sharing survives. Operands fold again as they are put together. */
export function mapChildren(e: Expr, map: (child: Expr) => Expr): Expr {
  switch (e.kind) {
    case 'const':
    case 'axis':
    case 'local':
      return e;
    case 'load': {
      const at = map(e.index);
      return at === e.index ? e : { ...e, index: at };
    }
    case 'unary':
    case 'cast':
    case 'bitcast': {
      const x = map(e.x);
      return x === e.x ? e : { ...e, x };
    }
    case 'binary': {
      const a = map(e.a);
      const b = map(e.b);
      return a === e.a && b === e.b ? e : binary(e.op, a, b);
    }
    case 'select': {
      const cond = map(e.cond);
      const a = map(e.a);
      const b = map(e.b);
      return cond === e.cond && a === e.a && b === e.b ? e : select(cond, a, b);
    }
    default:
      return e satisfies never;
  }
}

/** x + 0 = x · x * 1 = x · x * 0 = 0 · (x + c1) + c2 = x + (c1 + c2) · (x * c1) * c2 = x * (c1 · c2); constants go right. */
function foldIndex(op: BinaryOp, a: Expr, b: Expr): Expr | undefined {
  if (isConst(a) && isConst(b)) return foldIndexConstants(op, Number(a.value), Number(b.value));
  if (isConst(a) && (op === 'add' || op === 'mul')) return binary(op, b, a);
  if (!isConst(b)) return undefined;
  const value = Number(b.value);
  switch (op) {
    case 'add':
      if (value === 0) return a;
      if (a.kind === 'binary' && a.op === 'add' && isConst(a.b))
        return add(a.a, index((Number(a.b.value) + value) | 0));
      return undefined;
    case 'sub':
      return add(a, index(-value | 0));
    case 'mul':
      if (value === 0) return index(0);
      if (value === 1) return a;
      if (a.kind === 'binary' && a.op === 'mul' && isConst(a.b))
        return mul(a.a, index(Math.imul(Number(a.b.value), value)));
      return undefined;
    case 'floordiv':
    case 'div':
      return value === 1 ? a : undefined;
    case 'mod':
    case 'rem':
      return value === 1 ? index(0) : undefined;
    default:
      return undefined;
  }
}

/** As i32 computes it: the one quotient that does not fit, -2³¹ / -1, wraps. A division by 0 stays for evaluation. */
function foldIndexConstants(op: BinaryOp, a: number, b: number): Expr | undefined {
  switch (op) {
    case 'add':
      return index((a + b) | 0);
    case 'sub':
      return index((a - b) | 0);
    case 'mul':
      return index(Math.imul(a, b));
    case 'div':
      return b === 0 ? undefined : index((a / b) | 0);
    case 'floordiv':
      return b === 0 ? undefined : index(Math.floor(a / b) | 0);
    case 'mod':
      return b === 0 ? undefined : index(a - b * Math.floor(a / b));
    case 'rem':
      return b === 0 ? undefined : index(a % b);
    case 'min':
      return index(Math.min(a, b));
    case 'max':
      return index(Math.max(a, b));
    case 'lt':
      return constant('bool', a < b ? 1 : 0);
    case 'le':
      return constant('bool', a <= b ? 1 : 0);
    case 'gt':
      return constant('bool', a > b ? 1 : 0);
    case 'ge':
      return constant('bool', a >= b ? 1 : 0);
    case 'eq':
      return constant('bool', a === b ? 1 : 0);
    case 'ne':
      return constant('bool', a !== b ? 1 : 0);
    default:
      return undefined;
  }
}
