/**
 * Axes and affine coordinates for ContractSpecs.
 *
 * An axis of extent 1 is never made: its coordinate is the constant 0. So a 1×1 convolution has no window axes and a grouped one
 * with a single channel a group has no input-channel axis, and templates see the same contract as for a plain product.
 */
import { isBigInt } from '../core/dtype.ts';
import { Bug } from '../core/errors.ts';
import { addAffine, affineAxis, affineConstant, toAffine } from '../loop/affine.ts';
import { affineExpr } from '../loop/contract.ts';
import { local, mul } from '../loop/expr.ts';
import type { Affine, Axis, Expr } from '../loop/ir.ts';
import type { ContractSpec, KernelContext, KernelSpec } from './op.ts';

export type Role = 'batch' | 'm' | 'n' | 'k';
/** An axis, or undefined where it would have extent 1. */
export type AxisOrNone = Axis | undefined;

/** A fresh axis, unless its extent is 1. */
export const wideAxis = (ctx: KernelContext<unknown>, hint: string, extent: number): AxisOrNone =>
  extent === 1 ? undefined : { name: ctx.fresh(hint), extent };

/** coef · axis; 0 where there is no axis. */
export const along = (a: AxisOrNone, coef = 1): Affine => (a ? affineAxis(a.name, coef) : affineConstant(0));

/** constant + the sum of the parts. */
export const affineSum = (parts: readonly Affine[], constant = 0): Affine =>
  parts.reduce((sum, part) => addAffine(sum, part), affineConstant(constant));

export const kAxes = (axes: readonly AxisOrNone[]): { name: string; extent: number; role: 'k' }[] =>
  axes.flatMap((a) => (a ? [{ ...a, role: 'k' as const }] : []));

/** A coordinate that outputAxes gave: one axis, or 0. Throws Bug for anything else. */
export function coordAffine(coord: Expr): Affine {
  const at = toAffine(coord);
  if (!at || at.terms.length > 1)
    throw new Bug('output-coord', `an output coordinate is no axis: ${JSON.stringify(coord)}`);
  return at;
}

/** The number of the output dim that each axis of outputAxes runs along. */
export function dimOfAxis(coords: readonly Expr[], a: Axis): number {
  const d = coords.findIndex((c) => c.kind === 'axis' && c.name === a.name);
  if (d < 0) throw new Bug('output-axis', `axis ${a.name} is no coordinate of the output`);
  return d;
}

/** The contract, or where contracts cannot sum in the dtype (64-bit integers) the same sum as a reduce kernel. */
export function contractOrReduce(ctx: KernelContext<unknown>, spec: ContractSpec): ContractSpec | KernelSpec {
  const { dtype } = ctx.input(spec.a.input);
  if (!isBigInt(dtype)) return spec;
  const element = ({ input, at }: ContractSpec['a']) => ctx.load(input, at.map(affineExpr));
  const sum = ctx.fresh('sum');
  const coords = spec.out.map(affineExpr);
  const axesOf = (summed: boolean) =>
    spec.axes.filter((a) => (a.role === 'k') === summed).map(({ name, extent }) => ({ name, extent }));
  return {
    form: { kind: 'reduce' },
    axes: axesOf(false),
    body: [
      {
        kind: 'reduce',
        local: sum,
        dtype,
        op: 'add',
        axes: axesOf(true),
        value: mul(element(spec.a), element(spec.b)),
      },
      ctx.store(0, coords, spec.finish(local(sum, dtype), coords)),
    ],
  };
}
