/**
 * Shorter kernels that compute the same: a table of rules, each one line of formula, applied bottom-up until none fits.
 *
 * Rules hold exactly, for floats too (NaN, infinities and signed zeros included), in the buffer's precision; so no x + 0 = x on
 * floats (-0 + 0 is 0), and no x·0 = 0. Rules on i32 use what the axes' extents tell (intervals.ts) and hold where nothing wraps.
 */
import { DTYPES, type DType, isBigInt, isFloat, type Scalar } from '../core/dtype.ts';
import { binaryFn, castFn, rounder, unaryFn } from './arithmetic.ts';
import {
  add,
  binary,
  cast,
  constant,
  index,
  isConst,
  like,
  mapChildren,
  mapCondition,
  mul,
  select,
  unary,
} from './expr.ts';
import { type Facts, type Interval, intervalOf, noFacts, within } from './intervals.ts';
import type { BinaryOp, Expr, Kernel, Stmt } from './ir.ts';
import { mapOwnStatements } from './own-statements.ts';
import { Structure } from './structure.ts';

export interface RuleContext {
  readonly facts: Facts;
  /** Structural equality. */
  same(a: Expr, b: Expr): boolean;
}

type Node<K extends Expr['kind']> = Extract<Expr, { readonly kind: K }>;

/** `apply` gives the simpler expression, or undefined where the rule does not fit. */
export interface Rule {
  readonly name: string;
  apply(e: Expr, context: RuleContext): Expr | undefined;
}

const rule = <K extends Expr['kind']>(
  kind: K,
  name: string,
  apply: (e: Node<K>, context: RuleContext) => Expr | undefined,
): Rule => ({ name, apply: (e, context) => (e.kind === kind ? apply(e as Node<K>, context) : undefined) });

/** A rule on one binary operation. */
const on = (op: BinaryOp, name: string, apply: (a: Expr, b: Expr, context: RuleContext) => Expr | undefined): Rule =>
  rule('binary', name, (e, context) => (e.op === op ? apply(e.a, e.b, context) : undefined));

const is = (x: Expr, value: number): boolean =>
  x.kind === 'const' && Object.is(typeof x.value === 'bigint' ? Number(x.value) : x.value, value);
const isInt = (x: Expr): boolean => DTYPES[x.dtype].kind === 'int' || DTYPES[x.dtype].kind === 'uint';
const bool = (value: boolean): Expr => constant('bool', value ? 1 : 0);
const range = (x: Expr, context: RuleContext): Interval => intervalOf(x, context.facts);
/** The value of a positive i32 constant. */
const positive = (x: Expr): number | undefined =>
  x.kind === 'const' && x.dtype === 'i32' && Number(x.value) > 0 ? Number(x.value) : undefined;

const NEGATED: { readonly [op in BinaryOp]?: BinaryOp } = {
  lt: 'ge',
  ge: 'lt',
  gt: 'le',
  le: 'gt',
  eq: 'ne',
  ne: 'eq',
};

export const RULES: readonly Rule[] = [
  rule('unary', 'op(const) = const', (e) =>
    isConst(e.x) ? fold(e.dtype, unaryFn(e.op, e.x.dtype)?.(heldValue(e.x))) : undefined,
  ),
  rule('binary', 'const op const = const', (e) => {
    if (!isConst(e.a) || !isConst(e.b) || (isInt(e.b) && Number(e.b.value) === 0 && e.dtype !== 'bool'))
      return undefined;
    return fold(e.dtype, binaryFn(e.op, e.a.dtype)?.(heldValue(e.a), heldValue(e.b)));
  }),
  rule('cast', 'cast(const) = const', (e) =>
    isConst(e.x) ? fold(e.dtype, castFn(e.x.dtype, e.dtype)(heldValue(e.x))) : undefined,
  ),

  // Floats and integers alike.
  on('mul', 'x · 1 = x', (x, one) => (is(one, 1) ? x : undefined)),
  on('mul', '1 · x = x', (one, x) => (is(one, 1) ? x : undefined)),
  on('div', 'x / 1 = x', (x, one) => (is(one, 1) ? x : undefined)),
  on('sub', 'x - 0 = x', (x, zero) => (is(zero, 0) ? x : undefined)),
  on('sub', 'x - (-y) = x + y', (x, y) => (y.kind === 'unary' && y.op === 'neg' ? add(x, y.x) : undefined)),
  on('add', 'x + (-y) = x - y', (x, y) => (y.kind === 'unary' && y.op === 'neg' ? binary('sub', x, y.x) : undefined)),
  rule('unary', '-(-x) = x', (e) => (e.op === 'neg' && e.x.kind === 'unary' && e.x.op === 'neg' ? e.x.x : undefined)),
  rule('unary', '|-x| = |x|, ||x|| = |x|', (e) =>
    e.op === 'abs' && e.x.kind === 'unary' && (e.x.op === 'neg' || e.x.op === 'abs') ? unary('abs', e.x.x) : undefined,
  ),

  // Floats.
  on('add', 'x + -0 = x', (x, zero) => (isFloat(x.dtype) && is(zero, -0) ? x : undefined)),
  on('mul', 'x · -1 = -x', (x, one) => (isFloat(x.dtype) && is(one, -1) ? unary('neg', x) : undefined)),
  on('div', 'x / 2^k = x · 2^-k', (x, d) => {
    const exponent = d.kind === 'const' && isFloat(x.dtype) ? Math.log2(Math.abs(Number(d.value))) : Number.NaN;
    return Number.isInteger(exponent) && Math.abs(exponent) <= 14
      ? mul(x, constant(x.dtype, 1 / Number((d as Node<'const'>).value)))
      : undefined;
  }),
  on('min', 'min(x, inf) = x', (x, inf) => (is(inf, Number.POSITIVE_INFINITY) ? x : undefined)),
  on('max', 'max(x, -inf) = x', (x, inf) => (is(inf, Number.NEGATIVE_INFINITY) ? x : undefined)),

  // Integers.
  on('add', 'x + 0 = x', (x, zero) => (isInt(x) && is(zero, 0) ? x : undefined)),
  on('mul', 'x · 0 = 0', (x, zero) => (isInt(x) && is(zero, 0) ? zero : undefined)),
  on('sub', 'x - x = 0', (x, y, context) => (isInt(x) && context.same(x, y) ? like(x, 0) : undefined)),
  on('floordiv', 'x // 1 = x', (x, one) => (isInt(x) && is(one, 1) ? x : undefined)),

  // Casts.
  rule('cast', 'cast(cast(x)) = cast(x), the inner one exact', (e) =>
    e.x.kind === 'cast' && castsCompose(e.x.x.dtype, e.x.dtype, e.dtype) ? cast(e.dtype, e.x.x) : undefined,
  ),

  // Conditions.
  rule('unary', '!!x = x', (e) => (e.op === 'not' && e.x.kind === 'unary' && e.x.op === 'not' ? e.x.x : undefined)),
  rule('unary', '!(a < b) = a >= b, …; on floats only of == and !=, because of NaN', (e) => {
    const op = e.op === 'not' && e.x.kind === 'binary' ? NEGATED[e.x.op] : undefined;
    if (!op || e.x.kind !== 'binary' || (isFloat(e.x.a.dtype) && op !== 'eq' && op !== 'ne')) return undefined;
    return binary(op, e.x.a, e.x.b);
  }),
  on('and', 'x && true = x, x && false = false', (x, c) => (isConst(c) ? (c.value ? x : c) : undefined)),
  on('and', 'true && x = x, false && x = false', (c, x) => (isConst(c) ? (c.value ? x : c) : undefined)),
  on('or', 'x || false = x, x || true = true', (x, c) => (isConst(c) ? (c.value ? c : x) : undefined)),
  on('or', 'false || x = x, true || x = true', (c, x) => (isConst(c) ? (c.value ? c : x) : undefined)),
  rule('binary', 'a comparison that the ranges decide', (e, context) => {
    if (e.dtype !== 'bool' || e.a.dtype !== 'i32') return undefined;
    const { lo, hi } = range(e, context);
    return lo === hi ? bool(lo === 1) : undefined;
  }),
  rule('select', 'select(const, a, b) = a or b', (e) => (isConst(e.cond) ? (e.cond.value ? e.a : e.b) : undefined)),
  rule('select', 'select(c, x, x) = x', (e, context) => (context.same(e.a, e.b) ? e.a : undefined)),
  rule('select', 'select(!c, a, b) = select(c, b, a)', (e) =>
    e.cond.kind === 'unary' && e.cond.op === 'not' ? select(e.cond.x, e.b, e.a) : undefined,
  ),
  rule('select', 'select(c, select(c, a, _), b) = select(c, a, b)', (e, context) =>
    e.a.kind === 'select' && context.same(e.cond, e.a.cond) ? select(e.cond, e.a.a, e.b) : undefined,
  ),
  rule('select', 'select(c, a, select(c, _, b)) = select(c, a, b)', (e, context) =>
    e.b.kind === 'select' && context.same(e.cond, e.b.cond) ? select(e.cond, e.a, e.b.b) : undefined,
  ),
  rule('select', 'select(c, true, false) = c', (e) =>
    e.dtype === 'bool' && is(e.a, 1) && is(e.b, 0) ? e.cond : undefined,
  ),

  // i32 with ranges.
  on('min', 'min(x, y) = the one that is never greater', (x, y, context) => lesser(x, y, context)),
  on('max', 'max(x, y) = the one that is never less', (x, y, context) => {
    const less = lesser(x, y, context);
    return less && (less === x ? y : x);
  }),
  on('div', 'x / c = x // c for x >= 0, c > 0', (x, c, context) =>
    positive(c) && range(x, context).lo >= 0 ? binary('floordiv', x, c) : undefined,
  ),
  on('rem', 'x rem c = x % c for x >= 0, c > 0', (x, c, context) =>
    positive(c) && range(x, context).lo >= 0 ? binary('mod', x, c) : undefined,
  ),
  on('floordiv', 'x // c = q where all of x lies in [q·c, q·c + c)', (x, d, context) => {
    const c = positive(d);
    const { lo, hi } = range(x, context);
    return c && x.dtype === 'i32' && Math.floor(lo / c) === Math.floor(hi / c) ? index(Math.floor(lo / c)) : undefined;
  }),
  on('mod', 'x % c = x where 0 <= x < c', (x, d, context) => {
    const c = positive(d);
    const { lo, hi } = range(x, context);
    return c && lo >= 0 && hi < c ? x : undefined;
  }),
  on('floordiv', '(x // a) // b = x // (a·b)', (x, d) => {
    const [b, a] = [positive(d), x.kind === 'binary' && x.op === 'floordiv' ? positive(x.b) : undefined];
    return a && b && a * b < 2 ** 31 ? binary('floordiv', (x as Node<'binary'>).a, index(a * b)) : undefined;
  }),
  on('mod', '(x % (a·b)) % b = x % b', (x, d) => {
    const [b, ab] = [positive(d), x.kind === 'binary' && x.op === 'mod' ? positive(x.b) : undefined];
    return b && ab && ab % b === 0 ? binary('mod', (x as Node<'binary'>).a, d) : undefined;
  }),
  on('floordiv', '(x·c·k + y) // c = x·k + y // c', (sum, d, context) => {
    const parts = multiples(sum, d, context);
    return parts && add(parts.quotient, binary('floordiv', parts.rest, d));
  }),
  on('mod', '(x·c·k + y) % c = y % c', (sum, d, context) => {
    const parts = multiples(sum, d, context);
    return parts && binary('mod', parts.rest, d);
  }),
];

/** What a constant stands for: a float's value as its dtype holds it. */
const heldValue = (x: Node<'const'>): Scalar => rounder(x.dtype)?.(x.value as number) ?? x.value;

/** A constant of the result of folding; undefined where there is none. */
function fold(dtype: DType, value: Scalar | undefined): Expr | undefined {
  if (value === undefined) return undefined;
  return constant(dtype, isFloat(dtype) ? (rounder(dtype)?.(value as number) ?? value) : value);
}

function lesser(x: Expr, y: Expr, context: RuleContext): Expr | undefined {
  if (x.dtype !== 'i32') return undefined;
  const [a, b] = [range(x, context), range(y, context)];
  return a.hi <= b.lo ? x : b.hi <= a.lo ? y : undefined;
}

/**
 * Whether to(mid(x)) = to(x) for every x of `from`: mid holds all of from's values, and the way from mid does what the way from
 * `from` does. They part only where an integer went to a float and then saturates on the way to a smaller integer.
 */
function castsCompose(from: DType, mid: DType, to: DType): boolean {
  if (!holds(mid, from)) return false;
  const throughFloat = isFloat(mid) && !isFloat(from);
  return !throughFloat || isFloat(to) || to === 'bool' || holds(to, from);
}

const SIGNIFICAND_BITS: { readonly [D in DType]?: number } = { f64: 53, f32: 24, f16: 11, bf16: 8 };

/** True where every value of b is one of a. */
function holds(a: DType, b: DType): boolean {
  if (a === b) return true;
  const bits = SIGNIFICAND_BITS[a];
  if (isFloat(b)) return a === 'f64' || (a === 'f32' && (b === 'f16' || b === 'bf16'));
  if (bits !== undefined)
    return isBigInt(b) ? false : Number(DTYPES[b].max) <= 2 ** bits && Number(DTYPES[b].max) <= Number(DTYPES[a].max);
  return DTYPES[a].min <= DTYPES[b].min && DTYPES[a].max >= DTYPES[b].max;
}

/**
 * sum = c·quotient + rest, the terms of the sum with a factor of c in quotient; undefined where there are none, or where the sum may
 * wrap. A sum or product that wraps has all of i32 as its interval, and so have the sums that it is part of.
 */
function multiples(sum: Expr, d: Expr, context: RuleContext): { quotient: Expr; rest: Expr } | undefined {
  const c = positive(d);
  const { lo, hi } = range(sum, context);
  if (!c || c === 1 || sum.dtype !== 'i32' || (lo === -(2 ** 31) && hi === 2 ** 31 - 1)) return undefined;
  let quotient: Expr | undefined;
  let rest: Expr = index(0);
  const visit = (x: Expr): void => {
    if (x.kind === 'binary' && x.op === 'add') {
      visit(x.a);
      visit(x.b);
      return;
    }
    const factor =
      x.kind === 'const'
        ? Number(x.value)
        : x.kind === 'binary' && x.op === 'mul' && isConst(x.b)
          ? Number(x.b.value)
          : 1;
    if (factor % c !== 0 || factor === 0) rest = add(rest, x);
    else quotient = add(quotient ?? index(0), x.kind === 'binary' ? mul(x.a, index(factor / c)) : index(factor / c));
  };
  visit(sum);
  const { lo: restLo, hi: restHi } = range(rest, context);
  if (restLo === -(2 ** 31) && restHi === 2 ** 31 - 1) return undefined;
  return quotient && { quotient, rest };
}

/** Rules applied to one node at most, should two of them ever undo each other. */
const MAX_STEPS = 32;

/** The kernel with every expression of its own statements simplified. Statements stay as they are. */
export const simplifyKernel = (kernel: Kernel): Kernel =>
  mapOwnStatements(kernel, (body, axes) => simplifyBody(body, within(axes, noFacts())));

function simplifyBody(body: readonly Stmt[], facts: Facts): readonly Stmt[] {
  const here = simplifier(facts);
  return body.map((stmt): Stmt => {
    switch (stmt.kind) {
      case 'for':
      case 'scan': {
        const inner = within([stmt.axis], facts);
        return { ...mapCondition(stmt, simplifier(inner)), body: simplifyBody(stmt.body, inner) };
      }
      case 'if':
        return { ...stmt, cond: here(stmt.cond), body: simplifyBody(stmt.body, facts) };
      case 'let':
        return { ...stmt, value: here(stmt.value) };
      case 'reduce':
        return { ...stmt, value: simplifier(within(stmt.axes, facts))(stmt.value) };
      case 'store':
        return { ...stmt, index: here(stmt.index), value: here(stmt.value) };
      default:
        return stmt satisfies never;
    }
  });
}

/** Simplifies an expression whose axes lie in the facts' intervals. */
export const simplifyExpr = (e: Expr, facts: Facts): Expr => simplifier(facts)(e);

function simplifier(facts: Facts): (e: Expr) => Expr {
  const structure = new Structure();
  const context: RuleContext = { facts, same: (a, b) => structure.id(a) === structure.id(b) };
  const done = new Map<Expr, Expr>();
  const simplify = (e: Expr): Expr => {
    const known = done.get(e);
    if (known) return known;
    let result = mapChildren(e, simplify);
    for (let steps = 0; steps < MAX_STEPS; steps++) {
      const next = firstMatch(result, context);
      if (!next) break;
      result = mapChildren(next, simplify);
    }
    done.set(e, result);
    done.set(result, result);
    return result;
  };
  return simplify;
}

function firstMatch(e: Expr, context: RuleContext): Expr | undefined {
  for (const { apply } of RULES) {
    const next = apply(e, context);
    if (next && next !== e) return next;
  }
  return undefined;
}
