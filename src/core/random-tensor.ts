/**
 * Inputs for runs that are given none: the same for a seed on every machine.
 *
 * Element i of input k is a hash of (seed, k, i): floats uniform in [-1, 1), integers and booleans 0 or 1, which is a legal
 * token, segment, position and mask alike, or below what the caller says. The mixing function is MurmurHash3's 32-bit finaliser.
 */
import { isFloat } from './dtype.ts';
import { elements } from './shape.ts';
import { fromNumbers, type Tensor, type TensorType } from './tensor.ts';

/** The tensor of type `type` for input number `index`; integers are less than `below`. */
export function randomTensor(type: TensorType, index: number, seed: number, below = 2): Tensor {
  const stream = mix(mix(seed | 0) ^ Math.imul(index + 1, 0x9e3779b1));
  const uniform = (i: number) => (mix(stream ^ mix(i + 1)) >>> 0) / 2 ** 32;
  const element = isFloat(type.dtype)
    ? (i: number) => 2 * uniform(i) - 1
    : (i: number) => Math.floor(below * uniform(i));
  const values = Float64Array.from({ length: elements(type.shape) }, (_, i) => element(i));
  return fromNumbers(type.dtype, type.shape, values);
}

function mix(x: number): number {
  let h = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
