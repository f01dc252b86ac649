/**
 * Element types: one row each, and everything the rest of the code may ask about one.
 *
 * f16 and bf16 are stored as their bits in a Uint16Array, bool as 0 or 1 in a Uint8Array, i64 and u64 as BigInts.
 * Rows are in promotion order within a kind; nothing depends on the order of the rows otherwise.
 */

export type DType =
  | 'f64'
  | 'f32'
  | 'f16'
  | 'bf16'
  | 'i64'
  | 'u64'
  | 'i32'
  | 'u32'
  | 'i16'
  | 'u16'
  | 'i8'
  | 'u8'
  | 'bool';

export type TypedArray =
  | Float64Array
  | Float32Array
  | Uint16Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Int8Array
  | Uint8Array;

/** What `data[i]` is for a dtype: bigint for i64 and u64, number for the rest. */
export type Scalar = number | bigint;

export type TypedArrayConstructor = {
  new (length: number): TypedArray;
  new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): TypedArray;
  readonly BYTES_PER_ELEMENT: number;
};

export interface DTypeInfo {
  readonly kind: 'float' | 'int' | 'uint' | 'bool';
  readonly bytes: number;
  readonly array: TypedArrayConstructor;
  /** Smallest and largest finite value; exact for i64 and u64 only as BigInt. */
  readonly min: Scalar;
  readonly max: Scalar;
}

const row = (kind: DTypeInfo['kind'], array: TypedArrayConstructor, min: Scalar, max: Scalar): DTypeInfo => ({
  kind,
  bytes: array.BYTES_PER_ELEMENT,
  array,
  min,
  max,
});

export const DTYPES: { readonly [D in DType]: DTypeInfo } = {
  f64: row('float', Float64Array, -Number.MAX_VALUE, Number.MAX_VALUE),
  f32: row('float', Float32Array, -3.4028234663852886e38, 3.4028234663852886e38),
  f16: row('float', Uint16Array, -65504, 65504),
  bf16: row('float', Uint16Array, -3.3895313892515355e38, 3.3895313892515355e38),
  i64: row('int', BigInt64Array, -(2n ** 63n), 2n ** 63n - 1n),
  u64: row('uint', BigUint64Array, 0n, 2n ** 64n - 1n),
  i32: row('int', Int32Array, -(2 ** 31), 2 ** 31 - 1),
  u32: row('uint', Uint32Array, 0, 2 ** 32 - 1),
  i16: row('int', Int16Array, -32768, 32767),
  u16: row('uint', Uint16Array, 0, 65535),
  i8: row('int', Int8Array, -128, 127),
  u8: row('uint', Uint8Array, 0, 255),
  bool: row('bool', Uint8Array, 0, 1),
};

export const isFloat = (dtype: DType): boolean => DTYPES[dtype].kind === 'float';
export const isBigInt = (dtype: DType): boolean => dtype === 'i64' || dtype === 'u64';
export const isDType = (text: string): text is DType => Object.hasOwn(DTYPES, text);
