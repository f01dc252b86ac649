/**
 * The definition of a kernel: runs it on typed arrays, one point after the other. Every target must agree with this up to rounding.
 *
 * An Expr becomes a closure once; axes and locals are slots of arrays. Floats are float64 and rounded where they are stored or
 * cast; with `rounding: 'each'` every float result is rounded to its dtype, as a machine without wider registers does.
 * Loads and stores are checked: one out of range is a Bug. Shared subexpressions are computed once an evaluation.
 */
import { DTYPES, type DType, isBigInt, isFloat, type Scalar, type TypedArray } from '../core/dtype.ts';
import { Bug } from '../core/errors.ts';
import { decodeScalar, encodeScalar } from '../core/tensor.ts';
import { binaryFn, bitcastFn, castFn, identity, rounder, unaryFn } from './arithmetic.ts';
import { boundOf, children, conditionOf } from './expr.ts';
import type { Axis, Expr, Kernel, Stmt } from './ir.ts';

export type Thunk = () => Scalar;

export interface EvalOptions {
  /** When floats are rounded to their dtype: only where they are stored or cast (the definition), or after each operation. */
  readonly rounding?: 'store' | 'each';
}

/** The state that compiled closures share: the current value of each axis and local, the buffers, and which evaluation this is. */
export interface EvalEnv {
  readonly buffers: ReadonlyMap<
    string,
    { readonly dtype: DType; readonly data: TypedArray; readonly elements: number }
  >;
  readonly rounding: 'store' | 'each';
  readonly axes: number[];
  readonly locals: Scalar[];
  /** Slot of a name in `axes` or `locals`. */
  readonly axisSlots: Map<string, number>;
  readonly localSlots: Map<string, number>;
  /** Counts evaluations, so that shared nodes know whether their value is of this one. */
  evaluation: number;
}

/** Runs the kernel over all points. Throws Bug where a buffer is missing or too small, or an index leaves its buffer. */
export function evalKernel(kernel: Kernel, buffers: ReadonlyMap<string, TypedArray>, options: EvalOptions = {}): void {
  const env = makeEnv(kernel, buffers, options);
  const body = compileBody(kernel.body, env);
  nest(kernel.axes, env, body)();
}

function makeEnv(kernel: Kernel, buffers: ReadonlyMap<string, TypedArray>, options: EvalOptions): EvalEnv {
  const bound = new Map<string, { dtype: DType; data: TypedArray; elements: number }>();
  for (const { name, dtype, elements } of kernel.buffers) {
    const data = buffers.get(name);
    if (!data || data.length < elements || !(data instanceof DTYPES[dtype].array)) {
      const got = data ? `${data.constructor.name}(${data.length})` : 'nothing';
      throw new Bug(
        'loop-eval-buffer',
        `kernel ${kernel.name}: buffer "${name}" wants ${dtype}[${elements}], got ${got}`,
      );
    }
    bound.set(name, { dtype, data, elements });
  }
  return {
    buffers: bound,
    rounding: options.rounding ?? 'store',
    axes: [],
    locals: [],
    axisSlots: new Map(),
    localSlots: new Map(),
    evaluation: 0,
  };
}

/** The slot of a name, made at its first mention. */
function slotOf(slots: Map<string, number>, name: string): number {
  const slot = slots.get(name) ?? slots.size;
  slots.set(name, slot);
  return slot;
}

/** `body` for every point of the axes, the last innermost, as long as `condition` holds. */
function nest(axes: readonly Axis[], env: EvalEnv, body: () => void, condition?: Thunk): () => void {
  return axes.reduceRight<() => void>((inner, axis) => {
    const slot = slotOf(env.axisSlots, axis.name);
    const bound = compileExpr(boundOf(axis), env) as () => number;
    return () => {
      for (let i = 0, end = bound(); i < end; i++) {
        env.axes[slot] = i;
        if (condition && !condition()) return;
        inner();
      }
    };
  }, body);
}

function compileBody(body: readonly Stmt[], env: EvalEnv): () => void {
  const steps = body.map((stmt) => compileStmt(stmt, env));
  if (steps.length === 1) return steps[0];
  return () => {
    for (const step of steps) step();
  };
}

function compileStmt(stmt: Stmt, env: EvalEnv): () => void {
  switch (stmt.kind) {
    case 'for':
    case 'scan': {
      const condition = conditionOf(stmt);
      return nest([stmt.axis], env, compileBody(stmt.body, env), condition && compileExpr(condition, env));
    }
    case 'if': {
      const cond = compileExpr(stmt.cond, env);
      const body = compileBody(stmt.body, env);
      return () => {
        if (cond()) body();
      };
    }
    case 'let': {
      const value = compileExpr(stmt.value, env);
      const slot = slotOf(env.localSlots, stmt.local);
      return () => {
        env.locals[slot] = value();
      };
    }
    case 'reduce': {
      const fold = binaryFn(stmt.op, stmt.dtype);
      if (!fold) throw new Bug('loop-eval', `no reduction ${stmt.op} on ${stmt.dtype}`);
      const round = env.rounding === 'each' ? rounder(stmt.dtype) : undefined;
      const value = compileExpr(stmt.value, env);
      const start = identity(stmt.op, stmt.dtype);
      let sum: Scalar = start;
      const loop = nest(stmt.axes, env, () => {
        sum = fold(sum, value());
        if (round) sum = round(sum as number);
      });
      const slot = slotOf(env.localSlots, stmt.local);
      return () => {
        sum = start;
        loop();
        env.locals[slot] = sum;
      };
    }
    case 'store': {
      const { dtype, data, elements } = bufferOf(env, stmt.buffer);
      const at = compileExpr(stmt.index, env) as () => number;
      const value = compileExpr(stmt.value, env);
      const encode = DTYPES[dtype].coded;
      return () => {
        const i = at();
        if (!(i >= 0 && i < elements)) throw outOfRange('store to', stmt.buffer, i, elements);
        data[i] = (encode ? encodeScalar(dtype, value()) : value()) as never;
      };
    }
    default:
      return stmt satisfies never;
  }
}

function bufferOf(env: EvalEnv, name: string) {
  const buffer = env.buffers.get(name);
  if (!buffer) throw new Bug('loop-eval', `buffer "${name}" is not one of the kernel's`);
  return buffer;
}

const outOfRange = (what: string, buffer: string, at: number, elements: number): Bug =>
  new Bug('loop-eval-range', `${what} "${buffer}" at ${at}, which has ${elements} elements`);

/** A closure that computes the expression from the present axes, locals and buffers: bigint for i64 and u64, number otherwise. */
export function compileExpr(expr: Expr, env: EvalEnv): Thunk {
  const seen = new Set<Expr>();
  const shared = new Set<Expr>();
  const visit = (e: Expr): void => {
    if (e.kind === 'const' || e.kind === 'axis' || e.kind === 'local') return;
    if (seen.has(e)) {
      shared.add(e);
      return;
    }
    seen.add(e);
    children(e).forEach(visit);
  };
  visit(expr);
  const done = new Map<Expr, Thunk>();
  const compile = (e: Expr): Thunk => {
    const known = done.get(e);
    if (known) return known;
    const made = rounded(e, compileNode(e, compile, env), env);
    const thunk = shared.has(e) ? once(made, env) : made;
    done.set(e, thunk);
    return thunk;
  };
  const root = compile(expr);
  if (shared.size === 0) return root;
  return () => {
    env.evaluation++;
    return root();
  };
}

/** Keeps the value for the rest of the present evaluation. */
function once(thunk: Thunk, env: EvalEnv): Thunk {
  let of = -1;
  let value: Scalar = 0;
  return () => {
    if (of !== env.evaluation) {
      value = thunk();
      of = env.evaluation;
    }
    return value;
  };
}

function rounded(e: Expr, thunk: Thunk, env: EvalEnv): Thunk {
  const round = env.rounding === 'each' && e.kind !== 'select' && e.kind !== 'local' ? rounder(e.dtype) : undefined;
  return round ? () => round(thunk() as number) : thunk;
}

function compileNode(e: Expr, compile: (e: Expr) => Thunk, env: EvalEnv): Thunk {
  switch (e.kind) {
    case 'const': {
      const value = e.value;
      return () => value;
    }
    case 'axis': {
      const slot = slotOf(env.axisSlots, e.name);
      const axes = env.axes;
      return () => axes[slot];
    }
    case 'local': {
      const slot = slotOf(env.localSlots, e.name);
      const locals = env.locals;
      return () => locals[slot];
    }
    case 'load':
      return compileLoad(e.buffer, compile(e.index) as () => number, env);
    case 'unary': {
      const fn = unaryFn(e.op, e.x.dtype);
      if (!fn) throw new Bug('loop-eval', `no operation ${e.op} on ${e.x.dtype}`);
      const x = compile(e.x);
      return () => fn(x());
    }
    case 'binary':
      return compileBinary(e, compile(e.a), compile(e.b));
    case 'select': {
      const [cond, a, b] = [compile(e.cond), compile(e.a), compile(e.b)];
      return () => (cond() ? a() : b());
    }
    case 'cast': {
      const fn = castFn(e.x.dtype, e.dtype);
      const x = compile(e.x);
      return () => fn(x());
    }
    case 'bitcast': {
      const fn = bitcastFn(e.x.dtype, e.dtype);
      if (!fn) throw new Bug('loop-eval', `no bitcast from ${e.x.dtype} to ${e.dtype}`);
      const x = compile(e.x);
      return () => fn(x());
    }
    default:
      return e satisfies never;
  }
}

function compileLoad(name: string, at: () => number, env: EvalEnv): Thunk {
  const { dtype, data, elements } = bufferOf(env, name);
  const encoded = DTYPES[dtype].coded;
  return () => {
    const i = at();
    if (!(i >= 0 && i < elements)) throw outOfRange('load from', name, i, elements);
    return encoded ? decodeScalar(dtype, data[i]) : data[i];
  };
}

/** The few operations that fill inner loops get closures of their own; all others go through the tables. */
function compileBinary(e: Extract<Expr, { kind: 'binary' }>, left: Thunk, right: Thunk): Thunk {
  const dtype = e.a.dtype;
  const fn = binaryFn(e.op, dtype);
  if (!fn) throw new Bug('loop-eval', `no operation ${e.op} on ${dtype}`);
  const [a, b] = [left, right] as unknown as readonly [() => number, () => number];
  if (isFloat(dtype) && e.op === 'add') return () => a() + b();
  if (isFloat(dtype) && e.op === 'mul') return () => a() * b();
  if (dtype === 'i32' && e.op === 'add') return () => (a() + b()) | 0;
  if (dtype === 'i32' && e.op === 'mul') return () => Math.imul(a(), b());
  if (!isBigInt(dtype) && e.op === 'lt') return () => (a() < b() ? 1 : 0);
  if (!isBigInt(dtype) && e.op === 'ge') return () => (a() >= b() ? 1 : 0);
  if (e.op === 'and') return () => a() & b();
  return () => fn(left(), right());
}
