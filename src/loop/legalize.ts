/**
 * Rewrites the operations that a machine lacks into ones it has. A kernel in, a kernel out that computes the same up to the ulps
 * stated in approximate.ts and approximate-f64.ts; emitters call it before they emit, and stored kernels stay as they are.
 *
 * Functions become float64 expressions on f64 and float32 expressions on the other floats, exact enough for f16 and bf16.
 * The result shares subexpressions by identity (see expr.ts).
 */

import { DTYPES, isFloat } from '../core/dtype.ts';
import * as f32 from './approximate.ts';
import * as f64 from './approximate-f64.ts';
import { pow } from './approximate-pow.ts';
import { binary, cast, constant, like, mapChildren, mapCondition, select, sub, unary } from './expr.ts';
import type { BinaryOp, Expr, Kernel, Stmt, UnaryOp } from './ir.ts';
import { BINARY_OPS, UNARY_OPS } from './ir.ts';
import { mapOwnStatements } from './own-statements.ts';

/** The operations that a machine does by itself on every dtype it computes in; `f32Unary` only on floats of up to 32 bits. */
export interface MachineOps {
  readonly unary: ReadonlySet<UnaryOp>;
  readonly f32Unary?: ReadonlySet<UnaryOp>;
  readonly binary: ReadonlySet<BinaryOp>;
}

/** A function on any float dtype, computed in float64 on f64 and in float32 on the others. */
const inPrecision =
  (wide: (x: Expr) => Expr, narrow: (x: Expr) => Expr) =>
  (x: Expr): Expr =>
    x.dtype === 'f64' ? wide(x) : cast(x.dtype, narrow(cast('f32', x)));

/** One row an operation: the expression that takes its place. */
const UNARY: { readonly [op in UnaryOp]?: (x: Expr) => Expr } = {
  exp: inPrecision(f64.exp, f32.exp),
  log: inPrecision(f64.log, f32.log),
  erf: inPrecision(f64.erf, f32.erf),
  tanh: inPrecision(f64.tanh, f32.tanh),
  sin: inPrecision(f64.sin, f32.sin),
  cos: inPrecision(f64.cos, f32.cos),
  tan: inPrecision(f64.tan, f32.tan),
  asin: inPrecision(f64.asin, f32.asin),
  acos: inPrecision(f64.acos, f32.acos),
  atan: inPrecision(f64.atan, f32.atan),
  sinh: inPrecision(f64.sinh, f32.sinh),
  cosh: inPrecision(f64.cosh, f32.cosh),
  asinh: inPrecision(f64.asinh, f32.asinh),
  acosh: inPrecision(f64.acosh, f32.acosh),
  atanh: inPrecision(f64.atanh, f32.atanh),
  // x > 0 ? 1 : x < 0 ? -1 : x; zeros and NaN are their own sign, and no unsigned number is below 0.
  sign: (x) => {
    const below = DTYPES[x.dtype].kind === 'uint' ? x : select(binary('lt', x, like(x, 0)), like(x, -1), x);
    return select(binary('gt', x, like(x, 0)), like(x, 1), below);
  },
  isnan: (x) => binary('ne', x, x),
  isinf: (x) => binary('eq', unary('abs', x), constant(x.dtype, Number.POSITIVE_INFINITY)),
};

const BINARY: { readonly [op in BinaryOp]?: (a: Expr, b: Expr) => Expr } = {
  pow,
  // ⌊a / b⌋ on floats; on integers, the truncated quotient less one where signs differ and something remains.
  floordiv: (a, b) => {
    if (isFloat(a.dtype)) return unary('floor', binary('div', a, b));
    const zero = like(a, 0);
    const rest = binary('rem', a, b);
    const differ = binary('ne', binary('lt', rest, zero), binary('lt', b, zero));
    const quotient = binary('div', a, b);
    return select(binary('and', binary('ne', rest, zero), differ), sub(quotient, like(a, 1)), quotient);
  },
};

/** What the table can replace, and everything else: a machine has at least these. */
export const COMMON_OPS: MachineOps = {
  unary: new Set([...UNARY_OPS].filter((op) => !UNARY[op])),
  binary: new Set([...BINARY_OPS].filter((op) => !BINARY[op])),
};

/**
 * The kernel with every expression legal for the machine. Of a contract the epilogue is rewritten; its sum needs nothing. An attend's body
 * is rewritten, too, and is no longer the one that its form implies.
 */
export function legalizeKernel(kernel: Kernel, machine: MachineOps): Kernel {
  const legalize = legalizer(machine);
  const rewrite = (body: readonly Stmt[]): readonly Stmt[] => body.map((stmt) => mapStmt(stmt, legalize));
  const legal = mapOwnStatements(kernel, rewrite);
  return kernel.form.kind === 'attend' ? { ...legal, body: rewrite(legal.body) } : legal;
}

/** The expression with every operation that the machine lacks, and the table has, replaced. */
export const legalizeExpr = (e: Expr, machine: MachineOps): Expr => legalizer(machine)(e);

/** Rewrites bottom-up, each shared node once. */
function legalizer(machine: MachineOps): (e: Expr) => Expr {
  const done = new Map<Expr, Expr>();
  const rewrite = (e: Expr): Expr => {
    const known = done.get(e);
    if (known) return known;
    const result = replace(mapChildren(e, rewrite), machine);
    done.set(e, result);
    return result;
  };
  return rewrite;
}

const hasUnary = (machine: MachineOps, { op, dtype }: Extract<Expr, { kind: 'unary' }>): boolean =>
  machine.unary.has(op) || (dtype !== 'f64' && machine.f32Unary?.has(op) === true);

function replace(e: Expr, machine: MachineOps): Expr {
  if (e.kind === 'unary' && !hasUnary(machine, e)) return UNARY[e.op]?.(e.x) ?? e;
  if (e.kind === 'binary' && !machine.binary.has(e.op)) return BINARY[e.op]?.(e.a, e.b) ?? e;
  return e;
}

/** The statement over mapped expressions. */
export function mapStmt(stmt: Stmt, map: (e: Expr) => Expr): Stmt {
  switch (stmt.kind) {
    case 'for':
    case 'scan':
      return { ...mapCondition(stmt, map), body: stmt.body.map((s) => mapStmt(s, map)) };
    case 'if':
      return { ...stmt, cond: map(stmt.cond), body: stmt.body.map((s) => mapStmt(s, map)) };
    case 'let':
    case 'reduce':
      return { ...stmt, value: map(stmt.value) };
    case 'store':
      return { ...stmt, index: map(stmt.index), value: map(stmt.value) };
    default:
      return stmt satisfies never;
  }
}
