/**
 * Element types: one row each, and everything the rest of the code may ask about one.
 *
 * f16 and bf16 are stored as their bits in a Uint16Array, bool as 0 or 1 in a Uint8Array, i64 and u64 as BigInts. Floats of 8, 6 and 4 bits
 * are their bits in a Uint8Array, integers of 4 and 2 bits their values in an Int8Array or Uint8Array: one element a byte, so that every
 * element has an address; model files pack them, and reading unpacks.
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
  | 'bool'
  | SmallFloat
  | SmallInt;

/** Floats that only conversions know: elements are their bits, and arithmetic is another dtype's. minifloat.ts has the formats. */
export type SmallFloat =
  | 'f8e4m3fn'
  | 'f8e4m3fnuz'
  | 'f8e5m2'
  | 'f8e5m2fnuz'
  | 'f8e8m0'
  | 'f6e2m3'
  | 'f6e3m2'
  | 'f4e2m1';
/** Integers that only conversions know. */
export type SmallInt = 'i4' | 'u4' | 'i2' | 'u2';

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
  /** Elements are the bits of a float, which JavaScript's arrays have no type for. */
  readonly coded: boolean;
  /** Bits of an element, where they are not those of its bytes. */
  readonly bits?: number;
  /** The dtype that kernels have in its place: machines move elements of this one, and conversions are arithmetic. */
  readonly storage?: 'u8' | 'i8';
}

const row = (kind: DTypeInfo['kind'], array: TypedArrayConstructor, min: Scalar, max: Scalar): DTypeInfo => ({
  kind,
  bytes: array.BYTES_PER_ELEMENT,
  array,
  min,
  max,
  coded: kind === 'float' && array.BYTES_PER_ELEMENT < 4,
});

const smallFloat = (bits: number, max: number, min: number = -max): DTypeInfo => ({
  ...row('float', Uint8Array, min, max),
  bits,
  storage: 'u8',
});
const smallInt = (kind: 'int' | 'uint', bits: number): DTypeInfo =>
  kind === 'int'
    ? { ...row(kind, Int8Array, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1), bits, storage: 'i8' }
    : { ...row(kind, Uint8Array, 0, 2 ** bits - 1), bits, storage: 'u8' };

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
  f8e4m3fn: smallFloat(8, 448),
  f8e4m3fnuz: smallFloat(8, 240),
  f8e5m2: smallFloat(8, 57344),
  f8e5m2fnuz: smallFloat(8, 57344),
  f8e8m0: smallFloat(8, 2 ** 127, 2 ** -127),
  f6e2m3: smallFloat(6, 7.5),
  f6e3m2: smallFloat(6, 28),
  f4e2m1: smallFloat(4, 6),
  i4: smallInt('int', 4),
  u4: smallInt('uint', 4),
  i2: smallInt('int', 2),
  u2: smallInt('uint', 2),
};

export const isFloat = (dtype: DType): boolean => DTYPES[dtype].kind === 'float';
export const isBigInt = (dtype: DType): boolean => dtype === 'i64' || dtype === 'u64';
export const isDType = (text: string): text is DType => Object.hasOwn(DTYPES, text);
/** Bits of an element where elements are packed, as model files have them. */
export const packedBits = (dtype: DType): number => DTYPES[dtype].bits ?? 8 * DTYPES[dtype].bytes;
/** What machines know. */
export type MachineDType = Exclude<DType, SmallFloat | SmallInt>;
/** The dtype that a machine has for elements of this one. */
export const storageOf = (dtype: DType): MachineDType => DTYPES[dtype].storage ?? (dtype as MachineDType);
export const isSmallFloat = (dtype: DType): dtype is SmallFloat =>
  DTYPES[dtype].storage !== undefined && isFloat(dtype);
export const isSmallInt = (dtype: DType): dtype is SmallInt => DTYPES[dtype].storage !== undefined && !isFloat(dtype);
