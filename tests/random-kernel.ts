/**
 * Random valid kernels for property tests: a seed in, a kernel out whose indices stay in range and whose operations exist for their
 * dtypes, with shared subexpressions, every statement kind, awkward names and awkward constants.
 */
import { DTYPES, type DType, isBigInt, isFloat, type Scalar, storageOf, type TypedArray } from '../src/core/dtype.ts';
import { encodeScalar } from '../src/core/tensor.ts';
import { binaryFn, bitcastFn, unaryFn } from '../src/loop/arithmetic.ts';
import { contractKernel } from '../src/loop/contract.ts';
import { BINARY_OPS, type Buffer, type Expr, type Kernel, type Stmt, UNARY_OPS } from '../src/loop/ir.ts';

export interface Random {
  /** In [0, 1). */
  next(): number;
  /** In 0..n-1. */
  below(n: number): number;
  pick<T>(items: readonly T[]): T;
}

/** Mulberry32. */
export function random(seed: number): Random {
  let state = seed | 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (n: number): number => Math.floor(next() * n);
  return { next, below, pick: (items) => items[below(items.length)] };
}

/** Kernels have what machines have. */
const ALL = (Object.keys(DTYPES) as DType[]).filter((d) => storageOf(d) === d);
const COMPARES = ['eq', 'ne', 'lt', 'le', 'gt', 'ge'] as const;
const NAMES = ['x', 'y0', 'a/b c', 'for', 'inf', 'max', '__proto__', '日本', 'q"\\', 'f32', ''];

export function randomScalar(rnd: Random, dtype: DType): Scalar {
  if (dtype === 'bool') return rnd.below(2);
  const { min, max } = DTYPES[dtype];
  if (isFloat(dtype)) {
    return rnd.pick([
      0,
      -0,
      1,
      -1,
      0.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      5e-324,
      1e21,
      -3.25,
      (rnd.next() - 0.5) * 20,
    ]);
  }
  const small = Math.max(Number(min), rnd.below(20) - 10);
  if (isBigInt(dtype)) return rnd.pick([min, max, BigInt(small), BigInt(small)]);
  return rnd.pick([min, max, small, small]);
}

/** Elements for a buffer: small numbers with a few awkward ones. */
export function randomArray(rnd: Random, dtype: DType, elements: number): TypedArray {
  const data = new DTYPES[dtype].array(elements);
  for (let i = 0; i < elements; i++) data[i] = encodeScalar(dtype, randomScalar(rnd, dtype)) as never;
  return data;
}

interface Scope {
  readonly axes: readonly string[];
  readonly locals: readonly { readonly name: string; readonly dtype: DType }[];
}

class Maker {
  readonly rnd: Random;
  readonly inputs: readonly Buffer[];
  readonly outputs: readonly Buffer[];
  private names = 0;
  private pool: Expr[] = [];

  constructor(rnd: Random) {
    this.rnd = rnd;
    const dtypes: readonly DType[] = [rnd.pick(ALL), 'f32', rnd.pick(ALL)];
    this.inputs = dtypes.map((dtype) => ({ name: this.name(), dtype, elements: 1 + rnd.below(40), role: 'in' }));
    this.outputs = [rnd.pick(ALL), 'f32' as const].map((dtype) => ({
      name: this.name(),
      dtype,
      elements: 1 + rnd.below(40),
      role: 'out',
    }));
  }

  name(): string {
    return `${this.rnd.pick(NAMES)}${this.names++}`;
  }

  /** An index into a buffer: anything, modulo its size. */
  index(elements: number, scope: Scope, depth: number): Expr {
    return {
      kind: 'binary',
      dtype: 'i32',
      op: 'mod',
      a: this.expr('i32', scope, depth),
      b: { kind: 'const', dtype: 'i32', value: elements },
    };
  }

  /** A whole expression; nodes are shared only within one. */
  root(dtype: DType, scope: Scope, depth = 4): Expr {
    this.pool = [];
    return this.expr(dtype, scope, depth);
  }

  expr(dtype: DType, scope: Scope, depth: number): Expr {
    const { rnd } = this;
    const again = this.pool.filter((e) => e.dtype === dtype);
    if (again.length > 0 && rnd.next() < 0.2) return rnd.pick(again);
    const made = depth <= 0 ? this.leaf(dtype, scope) : this.inner(dtype, scope, depth - 1);
    this.pool.push(made);
    return made;
  }

  private leaf(dtype: DType, scope: Scope): Expr {
    const { rnd } = this;
    const locals = scope.locals.filter((l) => l.dtype === dtype);
    if (locals.length > 0 && rnd.next() < 0.5) return { kind: 'local', dtype, name: rnd.pick(locals).name };
    if (dtype === 'i32' && scope.axes.length > 0 && rnd.next() < 0.7)
      return { kind: 'axis', dtype, name: rnd.pick(scope.axes) };
    return { kind: 'const', dtype, value: randomScalar(rnd, dtype) };
  }

  private inner(dtype: DType, scope: Scope, depth: number): Expr {
    const { rnd } = this;
    switch (rnd.below(8)) {
      case 0:
        return this.leaf(dtype, scope);
      case 1: {
        const buffer = this.inputs.find((b) => b.dtype === dtype);
        if (!buffer) return this.leaf(dtype, scope);
        return { kind: 'load', dtype, buffer: buffer.name, index: this.index(buffer.elements, scope, depth) };
      }
      case 2: {
        if (dtype === 'bool' && rnd.next() < 0.5)
          return { kind: 'unary', dtype, op: rnd.pick(['isnan', 'isinf'] as const), x: this.expr('f32', scope, depth) };
        const ops = [...UNARY_OPS].filter((op) => op !== 'isnan' && op !== 'isinf' && unaryFn(op, dtype));
        return { kind: 'unary', dtype, op: rnd.pick(ops), x: this.expr(dtype, scope, depth) };
      }
      case 3: {
        const cond = this.expr('bool', scope, depth);
        return { kind: 'select', dtype, cond, a: this.expr(dtype, scope, depth), b: this.expr(dtype, scope, depth) };
      }
      case 4: {
        const x = this.expr(rnd.pick(ALL), scope, depth);
        return x.dtype === dtype ? x : { kind: 'cast', dtype, x };
      }
      case 5: {
        const from = ALL.find((other) => bitcastFn(other, dtype));
        return from ? { kind: 'bitcast', dtype, x: this.expr(from, scope, depth) } : this.leaf(dtype, scope);
      }
      default: {
        const compares = dtype === 'bool' && rnd.next() < 0.7;
        const ops = compares
          ? COMPARES
          : [...BINARY_OPS].filter((op) => !COMPARES.includes(op as 'eq') && binaryFn(op, dtype));
        const operand = compares ? rnd.pick(ALL) : dtype;
        const a = this.expr(operand, scope, depth);
        return { kind: 'binary', dtype, op: rnd.pick(ops), a, b: this.expr(operand, scope, depth) };
      }
    }
  }

  body(scope: Scope, depth: number): Stmt[] {
    const { rnd } = this;
    const body: Stmt[] = [];
    let inner = scope;
    for (let n = 1 + rnd.below(3); n > 0; n--) {
      const axis = { name: this.name(), extent: rnd.below(4) };
      const within = { ...inner, axes: [...inner.axes, axis.name] };
      const dtype = rnd.pick(ALL);
      const local = this.name();
      const kind = depth > 0 ? rnd.below(6) : 5;
      if (kind === 0) body.push({ kind: 'for', axis, body: this.stores(within) });
      else if (kind === 1) {
        const condition = rnd.next() < 0.5 ? { while: this.root('bool', within) } : {};
        body.push({ kind: 'scan', axis, ...condition, body: this.body(within, depth - 1) });
      } else if (kind === 2)
        body.push({ kind: 'if', cond: this.root('bool', inner), body: this.body(inner, depth - 1) });
      else if (kind === 3) {
        body.push({ kind: 'let', local, dtype, value: this.root(dtype, inner) });
        inner = { ...inner, locals: [...inner.locals, { name: local, dtype }] };
      } else if (kind === 4) {
        const op = rnd.pick((['add', 'mul', 'min', 'max'] as const).filter((o) => binaryFn(o, dtype)));
        body.push({ kind: 'reduce', local, dtype, op, axes: [axis], value: this.root(dtype, within) });
        inner = { ...inner, locals: [...inner.locals, { name: local, dtype }] };
      } else body.push(...this.stores(inner));
    }
    return body;
  }

  stores(scope: Scope): Stmt[] {
    const buffer = this.rnd.pick(this.outputs);
    this.pool = [];
    const index = this.index(buffer.elements, scope, 1);
    return [{ kind: 'store', buffer: buffer.name, index, value: this.root(buffer.dtype, scope) }];
  }
}

/** Any form but contract. */
export function randomKernel(seed: number): Kernel {
  const rnd = random(seed);
  const maker = new Maker(rnd);
  const axes = Array.from({ length: rnd.below(3) }, () => ({ name: maker.name(), extent: rnd.below(4) }));
  const kind = rnd.pick(['map', 'move', 'reduce', 'routine'] as const);
  return {
    name: rnd.pick(['map_f32', '', 'sort "x"']),
    form: kind === 'routine' ? { kind, name: maker.name() } : { kind },
    buffers: [...maker.inputs, ...maker.outputs],
    axes,
    body: maker.body({ axes: axes.map((a) => a.name), locals: [] }, 2),
  };
}

/** A contract with any number of axes, padded or not, over f32 or i8 operands. */
export function randomContract(seed: number): Kernel {
  const rnd = random(seed);
  const roles = ['batch', 'm', 'n', 'k', 'k', 'm'] as const;
  const axes = roles
    .slice(0, 1 + rnd.below(6))
    .map((role, i) => ({ name: `${role}${i}`, extent: 1 + rnd.below(4), role }));
  const acc = rnd.pick(['f32', 'i32'] as const);
  const dtype: DType = acc === 'f32' ? rnd.pick(['f32', 'f16'] as const) : 'i8';
  const padded = rnd.next() < 0.5;
  const access = (buffer: string, without: 'm' | 'n') => ({
    buffer,
    dims: axes
      .filter((a) => a.role !== without)
      .map((a) => {
        const coef = 1 + rnd.below(2);
        const constant = padded ? rnd.below(3) - 1 : 0;
        const extent = padded ? a.extent : coef * (a.extent - 1) + 1;
        return { at: { terms: [{ axis: a.name, coef }], constant }, extent, stride: 1 + rnd.below(3), padded };
      }),
  });
  const a = access('x', 'n');
  const b = access('w', 'm');
  const size = (dims: typeof a.dims) => dims.reduce((n, d) => n + (d.extent - 1) * d.stride, 1);
  const outer = axes.filter((axis) => axis.role !== 'k');
  let elements = 1;
  let index: Expr = { kind: 'const', dtype: 'i32', value: 0 };
  for (const axis of outer) {
    const at: Expr = { kind: 'axis', dtype: 'i32', name: axis.name };
    const scaled: Expr = {
      kind: 'binary',
      dtype: 'i32',
      op: 'mul',
      a: index,
      b: { kind: 'const', dtype: 'i32', value: axis.extent },
    };
    index =
      elements === 1 && index.kind === 'const' ? at : { kind: 'binary', dtype: 'i32', op: 'add', a: scaled, b: at };
    elements *= axis.extent;
  }
  return contractKernel(
    'contract',
    [
      { name: 'x', dtype, elements: size(a.dims), role: 'in' },
      { name: 'w', dtype, elements: size(b.dims), role: 'in' },
      { name: 'y', dtype: acc, elements, role: 'out' },
    ],
    {
      kind: 'contract',
      axes,
      a,
      b,
      acc,
      epilogue: [{ kind: 'store', buffer: 'y', index, value: { kind: 'local', dtype: acc, name: 'acc' } }],
    },
  );
}

/** Fresh buffers for a kernel: inputs random, outputs zero. */
export const randomBuffers = (kernel: Kernel, seed: number): Map<string, TypedArray> => {
  const rnd = random(seed);
  return new Map(
    kernel.buffers.map((b) => [
      b.name,
      b.role === 'in' ? randomArray(rnd, b.dtype, b.elements) : new DTYPES[b.dtype].array(b.elements),
    ]),
  );
};
