/**
 * Elementwise nodes whose other operand is a constant: which of them scale and shift their operand a channel (`channelAffine`), and
 * which change nothing (`identity`).
 */
import { isFloat } from '../core/dtype.ts';
import type { Tensor } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import type { InputAffine } from './op.ts';
import { toFloat64 } from './product.ts';

/** x op c as a scale and a shift of x, for one number c. */
export type ScaleShift = (c: number) => readonly [scale: number, shift: number];

/** Scale and shift of a binary operator with one constant operand: `right` for x op c, `left` for c op x. */
export function binaryAffine(
  ctx: InferContext<unknown>,
  right: ScaleShift,
  left: ScaleShift | undefined,
): InputAffine | undefined {
  return operandAffine(ctx, 0, ctx.constant(1), right) ?? (left && operandAffine(ctx, 1, ctx.constant(0), left));
}

function operandAffine(
  ctx: InferContext<unknown>,
  input: number,
  constant: Tensor | undefined,
  scaleShift: ScaleShift,
): InputAffine | undefined {
  const x = ctx.inputs[input];
  if (!x || !constant || !isFloat(x.dtype) || x.shape.length < 2 || constant.shape.length > x.shape.length) {
    return undefined;
  }
  const wide = constant.shape.flatMap((extent, d) => (extent === 1 ? [] : [d]));
  if (wide.length > 1) return undefined;
  // One number for all is one for each channel; channels are dim 1 by ONNX's custom.
  const axis = wide.length === 0 ? 1 : x.shape.length - constant.shape.length + wide[0];
  const channels = x.shape[axis];
  if (typeof channels !== 'number' || (wide.length === 1 && constant.data.length !== channels)) return undefined;
  const values = toFloat64(constant);
  const pairs = Array.from({ length: channels }, (_, c) => scaleShift(values[wide.length === 0 ? 0 : c]));
  const scale = Float64Array.from(pairs, ([s]) => s);
  const shift = Float64Array.from(pairs, ([, t]) => t);
  // In a weight, an infinite scale would meet zeros that the sum never had.
  return scale.every(Number.isFinite) && shift.every(Number.isFinite) ? { input, axis, scale, shift } : undefined;
}

/** The operand that x op c leaves as it is, c being filled with `neutral`: 0, or 1 for c op x where the operator commutes. */
export function neutralOperand(ctx: InferContext<unknown>, neutral: number, commutes: boolean): number | undefined {
  if (isFilledWith(ctx.constant(1), neutral)) return 0;
  return commutes && isFilledWith(ctx.constant(0), neutral) ? 1 : undefined;
}

const isFilledWith = (constant: Tensor | undefined, value: number): boolean =>
  constant !== undefined && constant.data.length > 0 && toFloat64(constant).every((x) => x === value);
