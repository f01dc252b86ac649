/**
 * TensorProto to Tensor and back.
 *
 * Elements are in one of: raw_data (little-endian, read in place where aligned), a typed list, or a file beside the model. Dims are
 * compared with the data before anything is allocated, so a tensor costs no more memory than the file has bytes for it, or a few times
 * that where elements of less than a byte are packed.
 */
import { create } from '@bufbuild/protobuf';
import { bytesOf, typedView } from '../core/bytes.ts';
import { DTYPES, type DType, isSmallInt, packedBits, type TypedArray } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { elements, printShape, type StaticShape } from '../core/shape.ts';
import { type Tensor, wrapSmall } from '../core/tensor.ts';
import { codeOfDType, dtypeOfCode, nameOfCode } from './dtypes.ts';
import type { ExternalReader } from './external-data.ts';
import { type TensorProto, TensorProtoSchema } from './onnx_pb.ts';

const EXTERNAL = 1;

/** `label` names the tensor in errors. Throws ModelError `onnx-unsupported`, `model-invalid` or `onnx-external-data`. */
export function readTensor(proto: TensorProto, label: string, readExternal: ExternalReader): Tensor {
  const dtype = dtypeOfCode(proto.dataType);
  if (dtype === undefined)
    throw new ModelError('onnx-unsupported', `${label}: element type ${nameOfCode(proto.dataType)}`);
  const shape = readDims(proto, label);
  return { dtype, shape, data: readElements(proto, dtype, shape, label, readExternal) };
}

function readDims(proto: TensorProto, label: string): StaticShape {
  const shape = proto.dims.map(Number);
  // The product of the non-zero dims is bounded too: strides are computed from it even where a dim is 0.
  const extent = shape.reduce((n, d) => n * Math.max(d, 1), 1);
  if (shape.some((d) => d < 0) || !Number.isSafeInteger(extent * 8)) {
    throw new ModelError('model-invalid', `${label}: dims ${printShape(shape)} are out of range`);
  }
  return shape;
}

function readElements(
  proto: TensorProto,
  dtype: DType,
  shape: StaticShape,
  label: string,
  readExternal: ExternalReader,
): TypedArray {
  const wanted = elements(shape);
  const size = packedLength(dtype, wanted);
  if (proto.dataLocation === EXTERNAL) return fromBytes(dtype, readExternal(proto, size, label), wanted);
  const list = proto[listField(dtype)];
  if (proto.rawData === undefined || (proto.rawData.length === 0 && list.length > 0)) {
    // Elements of 4 and 2 bits are packed in lists too, a byte an entry.
    const packed = packedBits(dtype) <= 4;
    if (list.length !== (packed ? size : wanted)) throw wrongLength(label, dtype, shape, `${list.length} elements`);
    return packed
      ? fromBytes(dtype, fromList('u8', list, label) as Uint8Array, wanted)
      : checkedBools(dtype, fromList(dtype, list, label));
  }
  if (proto.rawData.length !== size) throw wrongLength(label, dtype, shape, `${proto.rawData.length} bytes`);
  return fromBytes(dtype, proto.rawData, wanted);
}

const packedLength = (dtype: DType, count: number): number => Math.ceil((count * packedBits(dtype)) / 8);

function fromBytes(dtype: DType, bytes: Uint8Array, count: number): TypedArray {
  const { array } = DTYPES[dtype];
  return packedBits(dtype) < 8 ? unpack(dtype, bytes, count) : checkedBools(dtype, typedView(array, bytes));
}

/** Elements that lie one behind the other, lowest bits first, without regard to bytes. */
function unpack(dtype: DType, bytes: Uint8Array, count: number): TypedArray {
  const bits = packedBits(dtype);
  const out = new DTYPES[dtype].array(count);
  for (let i = 0; i < count; i++) {
    const at = i * bits;
    const both = bytes[at >> 3] | ((bytes[(at >> 3) + 1] ?? 0) << 8);
    const raw = (both >> (at & 7)) & (2 ** bits - 1);
    out[i] = isSmallInt(dtype) ? wrapSmall(dtype, raw) : raw;
  }
  return out;
}

function pack({ dtype, data }: Tensor): Uint8Array {
  const bits = packedBits(dtype);
  const out = new Uint8Array(packedLength(dtype, data.length));
  for (let i = 0; i < data.length; i++) {
    const at = i * bits;
    const raw = (Number(data[i]) & (2 ** bits - 1)) << (at & 7);
    out[at >> 3] |= raw & 255;
    if (raw > 255) out[(at >> 3) + 1] |= raw >> 8;
  }
  return out;
}

const wrongLength = (label: string, dtype: DType, shape: StaticShape, found: string): ModelError =>
  new ModelError('model-invalid', `${label}: ${dtype}${printShape(shape)} has ${found} of data`, {
    hint: 'the file is damaged, or its exporter is wrong',
  });

/** The field that holds a dtype's elements as a list. f16, bf16 and smaller floats are there as their bits. */
function listField(dtype: DType): 'floatData' | 'doubleData' | 'int64Data' | 'uint64Data' | 'int32Data' {
  switch (dtype) {
    case 'f32':
      return 'floatData';
    case 'f64':
      return 'doubleData';
    case 'i64':
      return 'int64Data';
    case 'u64':
    case 'u32':
      return 'uint64Data';
    case 'f16':
    case 'bf16':
    case 'i32':
    case 'i16':
    case 'u16':
    case 'i8':
    case 'u8':
    case 'bool':
    case 'f8e4m3fn':
    case 'f8e4m3fnuz':
    case 'f8e5m2':
    case 'f8e5m2fnuz':
    case 'f8e8m0':
    case 'f6e2m3':
    case 'f6e3m2':
    case 'f4e2m1':
    case 'i4':
    case 'u4':
    case 'i2':
    case 'u2':
      return 'int32Data';
    default:
      return dtype satisfies never;
  }
}

function fromList(dtype: DType, list: readonly number[] | readonly bigint[], label: string): TypedArray {
  const out = new DTYPES[dtype].array(list.length);
  for (let i = 0; i < list.length; i++) {
    const value = dtype === 'u32' ? Number(list[i]) : list[i];
    out[i] = value as never;
    // NaN is the one value that differs from itself; anything else was wrapped.
    if (out[i] !== value && !Number.isNaN(value)) {
      throw new ModelError('model-invalid', `${label}: element ${i} is ${value}, which no ${dtype} can hold`);
    }
  }
  return out;
}

/** Bools are 0 or 1 everywhere in Hotrod; a file may hold any byte for true. */
function checkedBools(dtype: DType, data: TypedArray): TypedArray {
  if (dtype !== 'bool' || (data as Uint8Array).every((v) => v <= 1)) return data;
  return (data as Uint8Array).map((v) => (v === 0 ? 0 : 1));
}

/** Places bytes outside the model; the entries of external_data that say where. */
export type PlaceExternal = (bytes: Uint8Array) => ReadonlyMap<string, string>;

/** With `place`, the data go there; otherwise into raw_data, without a copy. */
export function writeTensor(tensor: Tensor, name: string, place?: PlaceExternal): TensorProto {
  const head = { name, dims: tensor.shape.map(BigInt), dataType: codeOfDType(tensor.dtype) };
  const bytes = packedBits(tensor.dtype) < 8 ? pack(tensor) : bytesOf(tensor.data);
  if (place === undefined) return create(TensorProtoSchema, { ...head, rawData: bytes });
  const externalData = [...place(bytes)].map(([key, value]) => ({ key, value }));
  return create(TensorProtoSchema, { ...head, dataLocation: EXTERNAL, externalData });
}
