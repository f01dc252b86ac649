/** Random tensors that are the same at every run: values come from a hash of (seed, index), so a failure can be repeated by its seed. */
import { type DType, isFloat } from '../src/core/dtype.ts';
import { elements, type StaticShape } from '../src/core/shape.ts';
import { fromNumbers, type Tensor } from '../src/core/tensor.ts';

/** A number in [0, 1). */
export function hash(seed: number, index: number): number {
  let h = Math.imul(index + 1, 0x9e3779b1) ^ Math.imul(seed + 1, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return ((h ^ (h >>> 16)) >>> 0) / 2 ** 32;
}

/** Values in [low, high): integers where the dtype is integer. */
export function randomTensor(
  dtype: DType,
  shape: StaticShape,
  seed: number,
  [low, high]: readonly [number, number] = [-1, 1],
): Tensor {
  const values = Float64Array.from({ length: elements(shape) }, (_, i) => low + (high - low) * hash(seed, i));
  return fromNumbers(dtype, shape, isFloat(dtype) ? values : values.map(Math.floor));
}
