/**
 * Axes that end at a size which only running tells, as kernels of target cuda see them. A grid is as large as the largest sizes ask; points
 * behind a limit do nothing, loops end at it. Nothing is stored behind a limit: another value may begin there.
 */
import { boundOf, index, max } from '../../loop/expr.ts';
import type { Axis } from '../../loop/ir.ts';
import type { ExprEmitter } from './emit-expr.ts';
import type { PtxKernel, Reg } from './ptx.ts';

/** An axis of one iteration, always. */
export const isPoint = (axis: Axis): boolean => axis.extent === 1 && !axis.limit;

export const hasLimit = (axes: readonly Axis[]): boolean => axes.some((a) => a.limit);

/** A number that divides wherever the axis ends. */
export const divisorOf = ({ extent, limit }: Axis): number => {
  if (!limit) return extent;
  const isMultiple = limit.kind === 'binary' && limit.op === 'mul' && limit.b.kind === 'const';
  return isMultiple ? greatestCommon(extent, Number(limit.b.value)) : 1;
};

const greatestCommon = (a: number, b: number): number => (b === 0 ? a : greatestCommon(b, a % b));

/** Where an axis ends: a number, or a register, which is not negative whatever the table of sizes says. */
export const endOf = (exprs: ExprEmitter, axis: Pick<Axis, 'extent' | 'limit'>): Reg | number =>
  axis.limit ? exprs.scalar(max(boundOf(axis), index(0))) : axis.extent;

/** Whether positions (u32 registers, one an axis) lie before all limits; undefined where there are none. */
export function beforeLimits(
  k: PtxKernel,
  exprs: ExprEmitter,
  positions: readonly { readonly axis: Axis; readonly at: Reg }[],
): Reg | undefined {
  return positions
    .filter(({ axis }) => axis.limit)
    .map(({ axis, at }) => k.op('setp.lt.s32', at, endOf(exprs, axis)))
    .reduce<Reg | undefined>((all, one) => (all ? k.op('and.pred', all, one) : one), undefined);
}
