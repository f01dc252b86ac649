/**
 * Which steps of a program touch different memory, so that they may run at the same time.
 *
 * Ranges of bytes tell most of it. Parts of a concatenation lie interleaved in one range: there a store's index tells, an affine function
 * whose strides beyond a run of neighbours are all multiples of one number, the period; two such runs at different places of
 * equal periods never meet.
 *
 *     period 6:  a a . . b b  a a . . b b  …
 */
import { DTYPES } from '../../core/dtype.ts';
import type { BufferRef, Step } from '../../engine/engine.ts';
import { toAffine } from '../../loop/affine.ts';
import type { Axis, Expr, Kernel } from '../../loop/ir.ts';
import { eachExpr, eachStmt } from '../cpu/walk.ts';

/** Bytes that a step reads or writes: all of a range, or those whose distance from `first` modulo `period` is less than `run`. */
export interface Touch {
  readonly ref: BufferRef;
  readonly writes: boolean;
  readonly first: number;
  readonly period: number;
  readonly run: number;
}

export function touchesOf(step: Pick<Step, 'buffers'>, kernel: Kernel): readonly Touch[] {
  const read = buffersRead(kernel);
  return step.buffers.flatMap((ref, i): Touch[] => {
    const { name, role, dtype } = kernel.buffers[i];
    const reading: Touch = { ref, writes: false, first: ref.byteOffset, period: 0, run: ref.bytes };
    if (role !== 'out') return [reading];
    const { bytes } = DTYPES[dtype];
    const { constant = 0, period = 0, run = ref.bytes / bytes } = storesOf(kernel, name) ?? {};
    const first = ref.byteOffset + constant * bytes;
    const writing: Touch = { ref, writes: true, first, period: period * bytes, run: run * bytes };
    // What it makes it may look at again, where it lies.
    return read.has(name) ? [reading, writing] : [writing];
  });
}

function buffersRead({ body }: Kernel): ReadonlySet<string> {
  const read = new Set<string>();
  eachExpr(body, (x) => {
    if (x.kind === 'load') read.add(x.buffer);
  });
  return read;
}

/** Whether no byte that one of them writes is touched by the other. */
export const independent = (a: readonly Touch[], b: readonly Touch[]): boolean =>
  a.every((x) => b.every((y) => !(x.writes || y.writes) || apart(x, y)));

function apart(x: Touch, y: Touch): boolean {
  if (!overlap(x.ref, y.ref)) return true;
  if (x.period === 0 || x.period !== y.period) return false;
  const distance = (((y.first - x.first) % x.period) + x.period) % x.period;
  return distance >= x.run && distance + y.run <= x.period;
}

/** Whether two ranges have a byte in common. */
export const overlap = (x: BufferRef, y: BufferRef): boolean =>
  x.space === y.space && x.byteOffset < y.byteOffset + y.bytes && y.byteOffset < x.byteOffset + x.bytes;

/** The elements that a kernel stores to a buffer; undefined where that is not known to be a lattice of runs. */
function storesOf(kernel: Kernel, buffer: string): { constant: number; period: number; run: number } | undefined {
  const indices: Expr[] = [];
  const axes = new Map<string, Axis>(kernel.axes.map((axis) => [axis.name, axis]));
  eachStmt(kernel.body, (s) => {
    if (s.kind === 'store' && s.buffer === buffer) indices.push(s.index);
    if (s.kind !== 'for' && s.kind !== 'scan') return;
    // Loops beside each other may have axes of one name.
    const { name, extent } = s.axis;
    if (extent > (axes.get(name)?.extent ?? 0)) axes.set(name, s.axis);
  });
  if (indices.length !== 1) return undefined;
  const affine = toAffine(indices[0]);
  if (!affine || affine.terms.some(({ axis, coef }) => coef < 0 || !axes.has(axis))) return undefined;
  // Strides from the smallest on make the run longer as long as they reach no further than its end.
  const terms = affine.terms.toSorted((x, y) => x.coef - y.coef);
  let run = 1;
  let period = 0;
  for (const { axis, coef } of terms) {
    const { extent } = axes.get(axis) as Axis;
    if (period === 0 && coef <= run) run += coef * (extent - 1);
    else period = gcd(period, coef);
  }
  return run <= period ? { constant: affine.constant, period, run } : undefined;
}

function gcd(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return x;
}
