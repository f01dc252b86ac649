/**
 * Linear quantisation: numbers as integers with a scale and a zero point, for a whole tensor, an index along an axis, or a block of
 * indices along it.
 *
 *     quantise    q = saturate(round(x / scale) + zeroPoint)        round half to even; to the float's precision where q is one
 *     dequantise  x = (q − zeroPoint) · scale
 *
 * Quotients and products are float32 whatever the model's floats are: a tie there decides the integer. Used by the operators that
 * quantise and by those that compute on quantised tensors.
 */
import { DTYPES, type DType, isFloat } from '../core/dtype.ts';
import { type Dim, elements, printShape, type Shape, type StaticShape } from '../core/shape.ts';
import { toNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { SMALL_FLOATS, SMALL_INTS } from './elementwise.ts';
import type { NodeWriter } from './node-writer.ts';

/** Element types that products are summed of. */
export const BYTES: readonly DType[] = ['i8', 'u8'];
/** Element types of quantised tensors. */
export const QUANTIZED: readonly DType[] = [
  'i8',
  'u8',
  'i16',
  'u16',
  ...SMALL_INTS,
  ...SMALL_FLOATS.filter((dtype) => dtype !== 'f8e8m0'),
];

/** Throws through ctx.fail unless input i has one of the element types. */
export function checkDType(ctx: InferContext<unknown>, i: number, accepted: readonly DType[]): void {
  const type = ctx.inputs[i];
  if (type && !accepted.includes(type.dtype)) {
    ctx.fail(`input ${i} is ${type.dtype}, expected ${accepted.length === 1 ? '' : 'one of '}${accepted.join(', ')}`);
  }
}

/** Where scales and zero points lie along a tensor. */
export interface Granularity {
  readonly axis: number;
  /** Indices along the axis that share a scale; 0: not blocked. */
  readonly blockSize: number;
}

/** Throws through ctx.fail unless a scale of this shape fits a tensor: one element, a vector along the axis, or a block each. */
export function checkScale(ctx: InferContext<unknown>, x: Shape, scale: Shape, at: Granularity): void {
  const { blockSize } = at;
  if (blockSize < 0) ctx.fail(`block_size is ${blockSize}, expected at least 0`);
  if (blockSize > 0) {
    checkBlocks(ctx, x, scale, at);
    return;
  }
  if (scale.length > 1) ctx.fail(`the scale has rank ${scale.length}, expected 0 or 1 without a block_size`);
  if (isSingle(scale)) return;
  const axis = axisOf(at, x.length);
  const extent = x[axis] ?? ctx.fail(`axis ${at.axis} is outside a tensor of rank ${x.length}`);
  if (differs(extent, scale[0]))
    ctx.fail(`the scale is ${printShape(scale)}, the tensor has ${extent} along axis ${axis}`);
}

function checkBlocks(ctx: InferContext<unknown>, x: Shape, scale: Shape, at: Granularity): void {
  const axis = axisOf(at, x.length);
  if (!(axis >= 0 && axis < x.length)) ctx.fail(`axis ${at.axis} is outside a tensor of rank ${x.length}`);
  const fits =
    scale.length === x.length &&
    x.every((d, i) => {
      const wanted = i === axis && typeof d === 'number' ? Math.ceil(d / at.blockSize) : d;
      return (i === axis && typeof d !== 'number') || !differs(wanted, scale[i]);
    });
  if (!fits)
    ctx.fail(`the scale is ${printShape(scale)}, which is not one a block of ${at.blockSize} along axis ${axis}`);
}

const isSingle = (shape: Shape): boolean => shape.every((d) => d === 1);
const differs = (a: Dim, b: Dim): boolean => typeof a === 'number' && typeof b === 'number' && a !== b;
const axisOf = ({ axis }: Granularity, rank: number): number => (axis < 0 ? axis + rank : axis);

/** A scale or zero point, reshaped to broadcast against a tensor of shape x. */
export function alongTensor(w: NodeWriter, parameter: string, x: StaticShape, at: Granularity): string {
  const { shape } = w.type(parameter);
  const axis = axisOf(at, x.length);
  if (at.blockSize > 0) return repeatBlocks(w, parameter, x, axis, at.blockSize);
  if (elements(shape) === 1) return w.reshape(parameter, []);
  return w.reshape(
    parameter,
    x.slice(axis).map((_, i) => (i === 0 ? shape[0] : 1)),
  );
}

/** [.., blocks, ..] to the tensor's own shape: each element stands for `blockSize` indices along the axis, the last for what is left. */
function repeatBlocks(w: NodeWriter, parameter: string, x: StaticShape, axis: number, blockSize: number): string {
  const { shape } = w.type(parameter);
  const [before, after] = [shape.slice(0, axis), shape.slice(axis + 1)];
  const blocks = shape[axis];
  const apart = w.reshape(parameter, [...before, blocks, 1, ...after]);
  const wide = w.expand(apart, [...before, blocks, blockSize, ...after]);
  return w.slice(w.reshape(wide, [...before, blocks * blockSize, ...after]), axis, 0, x[axis]);
}

/** round(x / scale) + zeroPoint as `to`. x is float or i32; parameters broadcast already; zeroPoint '' is 0. */
export function quantize(
  w: NodeWriter,
  x: string,
  scale: string,
  zeroPoint: string,
  to: DType,
  saturate = true,
): string {
  const quotient = w.div(w.cast(x, 'f32'), w.cast(scale, 'f32'));
  if (!isFloat(to)) return roundTo(w, quotient, zeroPoint, to);
  const shifted = zeroPoint === '' || isZero(w, zeroPoint) ? quotient : w.add(quotient, w.cast(zeroPoint, 'f32'));
  return w.node('Cast', [shifted], { to, saturate });
}

/**
 * saturate(round(x) + zeroPoint) of an f32, within `bounds` of x beside. With a zero point that is known, x is clipped by whole numbers
 * before it is rounded, which is the same, and machines then know that it fits an integer.
 */
export function roundTo(
  w: NodeWriter,
  x: string,
  zeroPoint: string,
  to: DType,
  bounds: readonly [number, number] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
): string {
  const clip = (y: string, [low, high]: readonly number[]): string =>
    w.node('Clip', [y, w.scalar('f32', low), w.scalar('f32', high)]);
  const range = [DTYPES[to].min, DTYPES[to].max].map(Number);
  const known = zeroPoint === '' ? undefined : w.known(zeroPoint);
  if (zeroPoint !== '' && known?.data.length !== 1) {
    return w.cast(clip(w.add(w.node('Round', [clip(x, bounds)]), w.cast(zeroPoint, 'f32')), range), to);
  }
  const zero = known ? Number(toNumbers(known)[0]) : 0;
  const low = Math.max(range[0] - zero, nearest(bounds[0]));
  const high = Math.min(range[1] - zero, nearest(bounds[1]));
  const whole = w.cast(w.node('Round', [clip(x, [low, high])]), 'i32');
  return w.cast(zero === 0 ? whole : w.add(whole, w.scalar('i32', zero)), to);
}

/** To the nearest whole number, ties to even; rounding keeps order, so bounds may be rounded in the place of what they bound. */
function nearest(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down;
}

/** (q − zeroPoint) · scale in f32; parameters broadcast already, zeroPoint '' is 0. */
export const dequantize = (w: NodeWriter, q: string, scale: string, zeroPoint: string): string =>
  w.mul(w.cast(centred(w, q, zeroPoint), 'f32'), w.cast(scale, 'f32'));

/** q − zeroPoint as i32, as f32 where they are floats; zeroPoint '' is 0. */
export function centred(w: NodeWriter, q: string, zeroPoint: string): string {
  const as = isFloat(w.type(q).dtype) ? 'f32' : 'i32';
  const wide = w.cast(q, as);
  return zeroPoint === '' || isZero(w, zeroPoint) ? wide : w.sub(wide, w.cast(zeroPoint, as));
}

/** True where a value is known to be all 0. */
const isZero = (w: NodeWriter, value: string): boolean => {
  const known = w.known(value);
  return known !== undefined && Array.from(toNumbers(known)).every((q) => q === 0);
};
