/**
 * Which tiles of a kernel with open sizes are there: threads share out as many as there are at the largest sizes, and what they are
 * given stands for the same part of those that there are now.
 *
 *     [begin, end) of most  ->  [⌊begin·there / most⌋, ⌊end·there / most⌋) of there
 *
 * So ranges that cover all tiles cover all that are there, no tile twice, and equal ranges stay about equal. Tiles are counted within the
 * limits of their axes, so none is left to skip.
 */
import * as e from '../../loop/expr.ts';
import type { Axis } from '../../loop/ir.ts';
import type { Asm, Reg } from './asm.ts';
import { extentOf, hasLimit } from './contract-plan.ts';
import type { ExprEmitter } from './emit-expr.ts';

export interface TileRange {
  readonly begin: Reg;
  readonly end: Reg;
}

/** The part of the kernel's range that it is of the `there` tiles in place of `most`. */
export function presentRange(asm: Asm, there: Reg, most: number): TileRange {
  const [begin, end] = asm.params;
  const count = asm.convert('i64', there);
  const scaled = (at: Reg): Reg =>
    asm.convert('i32', asm.op('div', [asm.op('mul', [asm.convert('i64', at), count]), asm.const('i64', BigInt(most))]));
  return { begin: scaled(begin), end: scaled(end) };
}

/** The kernel's range of points of `axes` times `perPoint`; as it was given where no axis has a limit. */
export function presentTiles(asm: Asm, exprs: ExprEmitter, axes: readonly Axis[], perPoint: number): TileRange {
  const [begin, end] = asm.params;
  if (!hasLimit(axes)) return { begin, end };
  const there = exprs.value(axes.map(e.boundOf).reduce(e.mul, e.index(perPoint)));
  return presentRange(asm, there, extentOf(axes) * perPoint);
}

/** x / by, rounded up; by is a register or a number. */
export function divideUp(asm: Asm, x: Reg, by: Reg | number): Reg {
  const divisor = typeof by === 'number' ? asm.const('i32', by) : by;
  const less = typeof by === 'number' ? asm.const('i32', by - 1) : asm.op('sub', [by, asm.const('i32', 1)]);
  return asm.op('div_u', [asm.op('add', [x, less]), divisor]);
}

/** The size of each of `parts` parts of [0, count), a multiple of `step`; the last may be smaller. */
export function partOf(asm: Asm, count: Reg, parts: Reg | number, step: number): Reg {
  const part = divideUp(asm, count, parts);
  if (step === 1) return part;
  return asm.op('mul', [divideUp(asm, part, step), asm.const('i32', step)]);
}

/** The coordinates of a flat position within the limits of the axes, the outermost first. */
export function coordinates(asm: Asm, exprs: ExprEmitter, axes: readonly Axis[], position: Reg): Reg[] {
  const coords: Reg[] = [];
  let rest = position;
  for (let i = axes.length - 1; i > 0; i--) {
    const extent = exprs.value(e.boundOf(axes[i]));
    coords.unshift(asm.op('rem_u', [rest, extent]));
    rest = asm.op('div_u', [rest, extent]);
  }
  return axes.length > 0 ? [rest, ...coords] : coords;
}
