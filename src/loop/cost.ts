/**
 * What a kernel costs at least, by counting: operations on values, and elements read and written once each.
 *
 * Index arithmetic and conditions are not counted: machines do it beside the values, and emitters hoist it. A function that machines lack counts
 * as the operations that legalize makes of it. A shared subexpression counts once; of a select both branches do.
 */
import { DTYPES } from '../core/dtype.ts';
import { axesOf } from './attend.ts';
import { children, conditionOf } from './expr.ts';
import type { BinaryOp, Expr, Kernel, Stmt, UnaryOp } from './ir.ts';

export interface KernelCost {
  readonly flops: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/** Operations in place of one, where it is more than one. */
const UNARY_FLOPS: { readonly [op in UnaryOp]?: number } = {
  exp: 15,
  log: 20,
  erf: 30,
  tanh: 20,
  sin: 20,
  cos: 20,
  tan: 40,
  asin: 20,
  acos: 20,
  atan: 20,
  sinh: 30,
  cosh: 30,
  asinh: 30,
  acosh: 30,
  atanh: 30,
};
/** Of a score: maximum, difference, exponential, sum. */
const WEIGHT_FLOPS = 3 + (UNARY_FLOPS.exp ?? 1);
const BINARY_FLOPS: { readonly [op in BinaryOp]?: number } = { pow: 40 };

/** Counts over the whole index space. Elements that a guard or a repeated index leaves out make the bytes an upper bound. */
export function kernelCost(kernel: Kernel): KernelCost {
  const { flops, touched } = count(kernel);
  const bytes = (role: 'in' | 'out'): number =>
    kernel.buffers
      .filter((b) => b.role === role)
      .reduce((n, b) => n + Math.min(b.elements, touched.get(b.name) ?? 0) * DTYPES[b.dtype].bytes, 0);
  return { flops, bytesRead: bytes('in'), bytesWritten: bytes('out') };
}

/** How often elements of each buffer are loaded or stored, over the whole index space; an upper bound. Buffers never used are not in it. */
export const accesses = (kernel: Kernel): ReadonlyMap<string, number> => count(kernel).touched;

function count(kernel: Kernel): { readonly flops: number; readonly touched: ReadonlyMap<string, number> } {
  let flops = 0;
  const touched = new Map<string, number>();
  const touch = (buffer: string, times: number): void => {
    touched.set(buffer, (touched.get(buffer) ?? 0) + times);
  };
  const countExpr = (root: Expr, times: number): void => {
    const seen = new Set<Expr>();
    const visit = (e: Expr, isIndex: boolean): void => {
      if (seen.has(e)) return;
      seen.add(e);
      const counts = !isIndex && e.dtype !== 'bool';
      if (counts && e.kind === 'unary') flops += times * (UNARY_FLOPS[e.op] ?? 1);
      if (counts && e.kind === 'binary') flops += times * (BINARY_FLOPS[e.op] ?? 1);
      if (e.kind === 'load') touch(e.buffer, times);
      for (const child of children(e)) visit(child, isIndex || e.kind === 'load' || e.dtype === 'bool');
    };
    visit(root, false);
  };
  const countBody = (body: readonly Stmt[], times: number): void => {
    for (const stmt of body) {
      switch (stmt.kind) {
        case 'for':
        case 'scan': {
          const condition = conditionOf(stmt);
          if (condition) countExpr(condition, times * stmt.axis.extent);
          countBody(stmt.body, times * stmt.axis.extent);
          break;
        }
        case 'if':
          countBody(stmt.body, times);
          break;
        case 'let':
          countExpr(stmt.value, times);
          break;
        case 'reduce': {
          const rounds = stmt.axes.reduce((n, a) => n * a.extent, times);
          countExpr(stmt.value, rounds);
          flops += rounds;
          break;
        }
        case 'store':
          countExpr(stmt.value, times);
          touch(stmt.buffer, times);
          break;
        default:
          stmt satisfies never;
      }
    }
  };
  const points = kernel.axes.reduce((n, a) => n * a.extent, 1);
  if (kernel.form.kind !== 'attend') countBody(kernel.body, points);
  else {
    // The body computes scores for each value anew; whoever runs it well does not.
    const { form } = kernel;
    const values = axesOf(form, 'value').reduce((n, a) => n * a.extent, 1);
    const scores = (points / Math.max(1, values)) * axesOf(form, 'key')[0].extent;
    const inner = axesOf(form, 'inner').reduce((n, a) => n * a.extent, 1);
    for (const { buffer } of [form.q, form.k]) touch(buffer, scores * inner);
    touch(form.v.buffer, scores * values);
    flops += scores * (2 * inner + 2 * values + WEIGHT_FLOPS);
    countBody(form.score, scores);
    countBody(form.epilogue, points);
  }
  return { flops, touched };
}
