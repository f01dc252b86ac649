/**
 * A tensor: dtype, static shape and row-major elements. Plain data; nothing here computes.
 */
import { DTYPES, type DType, isBigInt, isSmallFloat, isSmallInt, type Scalar, type TypedArray } from './dtype.ts';
import { Bug } from './errors.ts';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from './float16.ts';
import { minifloatToNumber, numberToMinifloat } from './minifloat.ts';
import { elements, printShape, type Shape, type StaticShape } from './shape.ts';

export interface Tensor {
  readonly dtype: DType;
  readonly shape: StaticShape;
  /** Row-major, exactly `elements(shape)` long. */
  readonly data: TypedArray;
}

/** What is known of a value before it is computed. */
export interface ValueType {
  readonly dtype: DType;
  readonly shape: Shape;
}
export interface TensorType extends ValueType {
  readonly shape: StaticShape;
}

/** `f32[1,3,224,224]`. */
export const printType = (type: ValueType): string => `${type.dtype}${printShape(type.shape)}`;

export function tensor(dtype: DType, shape: StaticShape, data: TypedArray): Tensor {
  if (data.length !== elements(shape) || !(data instanceof DTYPES[dtype].array)) {
    throw new Bug(
      'tensor-data',
      `${data.constructor.name}(${data.length}) is no data for ${dtype}${printShape(shape)}`,
    );
  }
  return { dtype, shape, data };
}

export const zeros = (dtype: DType, shape: StaticShape): Tensor => ({
  dtype,
  shape,
  data: new DTYPES[dtype].array(elements(shape)),
});

/** Stores `value` as dtype would hold it: rounded, wrapped for integers, 0 or 1 for bool. */
export function encodeScalar(dtype: DType, value: Scalar): Scalar {
  switch (dtype) {
    case 'f16':
      return numberToF16(Number(value));
    case 'bf16':
      return numberToBf16(Number(value));
    case 'bool':
      return value ? 1 : 0;
    case 'i64':
    case 'u64':
      return typeof value === 'bigint' ? value : BigInt(Math.trunc(value));
    default:
      if (isSmallFloat(dtype)) return numberToMinifloat(dtype, Number(value), false);
      return isSmallInt(dtype) ? wrapSmall(dtype, Number(value)) : Number(value);
  }
}

/** A whole number's lowest bits, as many as the dtype has. */
export function wrapSmall(dtype: DType, value: number): number {
  const { bits = 0, kind } = DTYPES[dtype];
  const unused = 32 - bits;
  return kind === 'int' ? (value << unused) >> unused : (value << unused) >>> unused;
}

/** The inverse of encodeScalar: the number that a stored element stands for. */
export function decodeScalar(dtype: DType, stored: Scalar): Scalar {
  if (dtype === 'f16') return f16ToNumber(Number(stored));
  if (dtype === 'bf16') return bf16ToNumber(Number(stored));
  return isSmallFloat(dtype) ? minifloatToNumber(dtype, Number(stored)) : stored;
}

/** A tensor from numbers in row-major order, each rounded or wrapped to the dtype. */
export function fromNumbers(dtype: DType, shape: StaticShape, values: ArrayLike<number>): Tensor {
  const out = zeros(dtype, shape);
  const { coded, storage } = DTYPES[dtype];
  if (coded || storage || dtype === 'bool' || isBigInt(dtype)) {
    for (let i = 0; i < values.length; i++) out.data[i] = encodeScalar(dtype, values[i]) as never;
  } else (out.data as Float32Array).set(values);
  return out;
}

/** The elements as numbers, without a copy where the data already are. i64 and u64 lose exactness beyond 2^53. */
export function toNumbers(t: Tensor): ArrayLike<number> {
  if (t.dtype === 'f16') return Float32Array.from(t.data as Uint16Array, f16ToNumber);
  if (t.dtype === 'bf16') return Float32Array.from(t.data as Uint16Array, bf16ToNumber);
  const { dtype } = t;
  if (isSmallFloat(dtype)) return Float32Array.from(t.data as Uint8Array, (bits) => minifloatToNumber(dtype, bits));
  if (isBigInt(t.dtype)) return Float64Array.from(t.data as BigInt64Array, Number);
  return t.data as Float32Array;
}

export const scalarTensor = (dtype: DType, value: Scalar): Tensor => {
  const t = zeros(dtype, []);
  t.data[0] = encodeScalar(dtype, value) as never;
  return t;
};

/** The bytes of the elements, little-endian, sharing memory with the tensor. */
export const tensorBytes = (t: Tensor): Uint8Array =>
  new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength);

export const byteLength = (type: TensorType): number => elements(type.shape) * DTYPES[type.dtype].bytes;
