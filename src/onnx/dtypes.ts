/**
 * ONNX's element types (TensorProto.DataType) and Hotrod's: one row each. Types without a DType are known by name only, so that a
 * message can say what the model uses.
 */
import type { DType } from '../core/dtype.ts';

interface Row {
  readonly code: number;
  readonly name: string;
  readonly dtype?: DType;
}

const ROWS: readonly Row[] = [
  { code: 1, name: 'float', dtype: 'f32' },
  { code: 2, name: 'uint8', dtype: 'u8' },
  { code: 3, name: 'int8', dtype: 'i8' },
  { code: 4, name: 'uint16', dtype: 'u16' },
  { code: 5, name: 'int16', dtype: 'i16' },
  { code: 6, name: 'int32', dtype: 'i32' },
  { code: 7, name: 'int64', dtype: 'i64' },
  { code: 8, name: 'string' },
  { code: 9, name: 'bool', dtype: 'bool' },
  { code: 10, name: 'float16', dtype: 'f16' },
  { code: 11, name: 'double', dtype: 'f64' },
  { code: 12, name: 'uint32', dtype: 'u32' },
  { code: 13, name: 'uint64', dtype: 'u64' },
  { code: 14, name: 'complex64' },
  { code: 15, name: 'complex128' },
  { code: 16, name: 'bfloat16', dtype: 'bf16' },
  { code: 17, name: 'float8e4m3fn', dtype: 'f8e4m3fn' },
  { code: 18, name: 'float8e4m3fnuz', dtype: 'f8e4m3fnuz' },
  { code: 19, name: 'float8e5m2', dtype: 'f8e5m2' },
  { code: 20, name: 'float8e5m2fnuz', dtype: 'f8e5m2fnuz' },
  { code: 21, name: 'uint4', dtype: 'u4' },
  { code: 22, name: 'int4', dtype: 'i4' },
  { code: 23, name: 'float4e2m1', dtype: 'f4e2m1' },
  { code: 24, name: 'float8e8m0', dtype: 'f8e8m0' },
  { code: 25, name: 'uint2', dtype: 'u2' },
  { code: 26, name: 'int2', dtype: 'i2' },
  { code: 27, name: 'float6e2m3', dtype: 'f6e2m3' },
  { code: 28, name: 'float6e3m2', dtype: 'f6e3m2' },
];

const BY_CODE: ReadonlyMap<number, Row> = new Map(ROWS.map((row) => [row.code, row]));
const CODES: ReadonlyMap<string, number> = new Map(ROWS.flatMap((row) => (row.dtype ? [[row.dtype, row.code]] : [])));

/** Undefined where Hotrod has no such type. */
export const dtypeOfCode = (code: number): DType | undefined => BY_CODE.get(code)?.dtype;
/** ONNX's own name, for messages. */
export const nameOfCode = (code: number): string => BY_CODE.get(code)?.name ?? `type ${code}`;
export const codeOfDType = (dtype: DType): number => CODES.get(dtype)!;
