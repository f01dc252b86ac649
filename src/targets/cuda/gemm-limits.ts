/**
 * Open sizes in products on tensor cores: of rows, of the batch and of padded windows. Sums stay whole, and so do columns, which are moved
 * eight at a time.
 *
 * Rows behind a limit are read as they lie in memory and not stored; a block without any others ends before it does anything. The table
 * of sizes may be a kernel's work, so it is read after the wait for the kernel before.
 */
import { Bug } from '../../core/errors.ts';
import type { Axis, BinaryOp, Expr } from '../../loop/ir.ts';
import { extentOf, type GemmPlan, type Guard } from './gemm-plan.ts';
import { hasLimit } from './limits.ts';
import type { PtxText } from './ptx-text.ts';

const OPS: { readonly [O in BinaryOp]?: string } = {
  add: 'add.s32',
  sub: 'sub.s32',
  mul: 'mul.lo.s32',
  min: 'min.s32',
  max: 'max.s32',
};

const canCompute = (x: Expr): boolean =>
  x.kind === 'const' ||
  (x.kind === 'load' && x.index.kind === 'const') ||
  (x.kind === 'binary' && x.op in OPS && canCompute(x.a) && canCompute(x.b));

export function takesLimits({ batch, m, n, k, a }: GemmPlan): boolean {
  if (hasLimit([...n, ...k])) return false;
  return [...batch, ...m, ...a.guards].every(({ limit }) => !limit || canCompute(limit));
}

/** Where things end, by the record that has the limit: registers, never negative and never beyond the extent. */
export type Ends = ReadonlyMap<Axis | Guard, string>;

/** To be written before anything reads them. */
export function readEnds(w: PtxText, pointers: ReadonlyMap<string, string>, { batch, m, a }: GemmPlan): Ends {
  const compute = (x: Expr): string | number => {
    if (x.kind === 'const') return Number(x.value);
    if (x.kind === 'load' && x.index.kind === 'const')
      return w.op('b32', 'ld.global.b32', `[${pointers.get(x.buffer)}+${Number(x.index.value) * 4}]`);
    const name = x.kind === 'binary' ? OPS[x.op] : undefined;
    if (x.kind !== 'binary' || !name) throw new Bug('cuda-gemm', 'a limit is none that this template takes');
    return w.op('b32', name, register(w, compute(x.a)), compute(x.b));
  };
  const ends = new Map<Axis | Guard, string>();
  for (const limited of [...batch, ...m, ...a.guards]) {
    if (!limited.limit) continue;
    const least = w.op('b32', 'min.s32', register(w, compute(limited.limit)), limited.extent);
    ends.set(limited, w.op('b32', 'max.s32', least, 0));
  }
  return ends;
}

const register = (w: PtxText, x: string | number): string => (typeof x === 'string' ? x : w.op('b32', 'mov.b32', x));

/** Ends a block whose batch, or whose rows from `first` on, all lie behind a limit. */
export function leaveEmpty(
  w: PtxText,
  ends: Ends,
  { batch, m }: GemmPlan,
  at: { readonly batch: readonly string[]; readonly firstRow: string },
): void {
  const leave = (position: string, end: string): void => w.line(`@${w.op('pred', 'setp.ge.s32', position, end)} ret`);
  for (const [i, axis] of batch.entries()) {
    const end = ends.get(axis);
    if (end) leave(at.batch[i], end);
  }
  const [outer, ...inner] = m;
  const end = outer && ends.get(outer);
  if (end) leave(at.firstRow, w.op('b32', 'mul.lo.s32', end, extentOf(inner)));
}

/** Whether a row with these digits (one an axis of m) lies before all limits; undefined where there are none. */
export function rowIsInside(w: PtxText, ends: Ends, { m }: GemmPlan, digits: readonly string[]): string | undefined {
  return m.reduce<string | undefined>((all, axis, i) => {
    const end = ends.get(axis);
    if (!end) return all;
    const inside = w.op('pred', 'setp.lt.s32', digits[i], end);
    return all ? w.op('pred', 'and.pred', all, inside) : inside;
  }, undefined);
}
