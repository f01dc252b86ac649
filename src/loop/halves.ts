/**
 * Half precision is for memory only. A kernel over f16 or bf16 buffers becomes one that widens what it loads to f32, computes in f32, and
 * rounds once, where it stores:
 *
 *     y[i] = f16(acc) + b[i]     ⇒     y[i] = f16(acc + f32(b[i]))
 *
 * Machines may compute in more digits than a dtype has, and have f32 at the same price; what fusion joins is then as exact as one
 * operation. Of casts to a half only those in front of a store are left.
 * Where a machine has no halves, the same kernel is emulated: f32 buffers that hold only numbers that are halves.
 */
import type { DType } from '../core/dtype.ts';
import { rounder } from './arithmetic.ts';
import { contractKernel } from './contract.ts';
import { add, binary, bitcast, cast, constant, mapChildren, mapCondition, mul, select, unary } from './expr.ts';
import type { Expr, Kernel, Stmt } from './ir.ts';

type Half = 'f16' | 'bf16';
export const isHalf = (dtype: DType): dtype is Half => dtype === 'f16' || dtype === 'bf16';
const wideDType = (dtype: DType): DType => (isHalf(dtype) ? 'f32' : dtype);

interface Edge {
  /** An element of a half buffer as f32. */
  load(x: Extract<Expr, { kind: 'load' }>): Expr;
  /** An f32 as what is stored in such a buffer. */
  store(x: Expr, dtype: Half): Expr;
}

/** The kernel with arithmetic in f32; itself where no buffer is a half. */
export const roundOnStore = (kernel: Kernel): Kernel =>
  rewrite(kernel, { load: (x) => cast('f32', x), store: (x, dtype) => cast(dtype, x) });

/** The kernel over f32 buffers that computes the same numbers; itself where no buffer is a half. */
export function emulateHalves(kernel: Kernel): Kernel {
  const emulated = rewrite(kernel, { load: (x) => ({ ...x, dtype: 'f32' }), store: roundedTo });
  const buffers = kernel.buffers.map((b) => ({ ...b, dtype: wideDType(b.dtype) }));
  const { form } = emulated;
  return form.kind === 'contract' ? contractKernel(kernel.name, buffers, form) : { ...emulated, buffers };
}

function rewrite(kernel: Kernel, edge: Edge): Kernel {
  const halves = new Map(kernel.buffers.flatMap(({ name, dtype }) => (isHalf(dtype) ? [[name, dtype] as const] : [])));
  if (halves.size === 0) return kernel;
  const done = new Map<Expr, Expr>();
  const wide = (x: Expr): Expr => {
    const known = done.get(x) ?? widened(mapChildren(x, wide), edge);
    done.set(x, known);
    return known;
  };
  const stmts = (body: readonly Stmt[]): Stmt[] =>
    body.map((s): Stmt => {
      switch (s.kind) {
        case 'for':
        case 'scan':
          return { ...mapCondition(s, wide), body: stmts(s.body) };
        case 'if':
          return { ...s, cond: wide(s.cond), body: stmts(s.body) };
        case 'reduce':
        case 'let':
          return { ...s, dtype: wideDType(s.dtype), value: wide(s.value) };
        case 'store': {
          const dtype = halves.get(s.buffer);
          const value = wide(s.value);
          return { ...s, index: wide(s.index), value: dtype ? edge.store(value, dtype) : value };
        }
        default:
          return s satisfies never;
      }
    });
  const { form } = kernel;
  return form.kind === 'contract'
    ? contractKernel(kernel.name, kernel.buffers, { ...form, epilogue: stmts(form.epilogue) })
    : { ...kernel, body: stmts(kernel.body) };
}

/** A node over operands that are wide already. */
function widened(x: Expr, edge: Edge): Expr {
  if (x.kind === 'cast' && x.x.dtype === x.dtype) return x.x;
  if (!isHalf(x.dtype)) return x;
  switch (x.kind) {
    case 'load':
      return edge.load(x);
    case 'const':
      return constant('f32', rounder(x.dtype)?.(Number(x.value)) ?? x.value);
    case 'cast':
      return cast('f32', x.x);
    default:
      return { ...x, dtype: 'f32' } as Expr;
  }
}

const i32 = (value: number): Expr => constant('i32', value);
const f32 = (value: number): Expr => constant('f32', value);

/** x, an f32, as the nearest number of the dtype, ties to even: on its bits, and in steps of 2^-24 where f16 has subnormals. */
function roundedTo(x: Expr, dtype: Half): Expr {
  const dropped = dtype === 'f16' ? 13 : 16;
  const bits = bitcast('i32', x);
  const odd = binary('bitand', binary('shr', bits, i32(dropped)), i32(1));
  const up = add(add(bits, i32(2 ** (dropped - 1) - 1)), odd);
  const nearest = bitcast('f32', binary('bitand', up, i32(-(2 ** dropped))));
  const number = dtype === 'f16' ? inRangeOfF16(x, nearest) : nearest;
  return select(unary('isnan', x), x, number);
}

function inRangeOfF16(x: Expr, nearest: Expr): Expr {
  const subnormal = mul(unary('round', mul(x, f32(2 ** 24))), f32(2 ** -24));
  const infinity = select(binary('lt', x, f32(0)), f32(Number.NEGATIVE_INFINITY), f32(Number.POSITIVE_INFINITY));
  const normal = select(binary('ge', unary('abs', nearest), f32(2 ** 16)), infinity, nearest);
  return select(binary('lt', unary('abs', x), f32(2 ** -14)), subnormal, normal);
}
