/**
 * Positions that kernels read from tensors (gather indices and the like), and parameters that lowering must know.
 *
 * A position from data is never trusted: whatever the tensor holds, the load that follows stays inside its buffer. eval throws
 * ModelError for the same value, so a model that is right sees no difference.
 */
import { Bug, ModelError } from '../core/errors.ts';
import { binary, cast, index, like, max, min, select } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { intsOf } from './dims.ts';
import type { LowerContext } from './op.ts';

/** Element `coords` of integer input i, counted from the end where negative, clamped into [0, extent); i32. */
export function loadPosition<A>(ctx: LowerContext<A>, i: number, coords: readonly Expr[], extent: number): Expr {
  if (extent === 0) return index(0);
  const known = ctx.constant(i);
  if (known?.data.length === 1) {
    const [value] = intsOf(known);
    return index(Math.min(Math.max(value < 0 ? value + extent : value, 0), extent - 1));
  }
  const x = ctx.load(i, coords);
  const wrapped = select(binary('lt', x, like(x, 0)), binary('add', x, like(x, extent)), x);
  return cast('i32', min(max(wrapped, like(x, 0)), like(x, extent - 1)));
}

/** The position that eval reads. Throws ModelError `model-invalid` outside [-extent, extent). */
export function checkPosition(op: string, value: number, extent: number): number {
  if (value >= -extent && value < extent) return value < 0 ? value + extent : value;
  throw new ModelError('model-invalid', `${op}: index ${value} is outside [${-extent}, ${extent})`);
}

/** The elements of an integer input that decides the shape, known by the time a kernel is written; undefined where absent. */
export function knownInts<A>(ctx: LowerContext<A>, i: number): readonly number[] | undefined {
  if (ctx.inputs[i] === undefined) return undefined;
  const value = ctx.constant(i);
  if (!value) throw new Bug('lower-not-constant', `input ${i} decides a shape and is not constant`);
  return intsOf(value);
}
