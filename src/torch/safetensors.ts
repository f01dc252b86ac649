/**
 * The safetensors format: a length, a JSON header, and the elements, used where they lie.
 *
 *     u64 N | N bytes of JSON {"name": {"dtype", "shape", "data_offsets": [begin, end]}, …} | elements
 *
 * Held to the format's own rules: offsets in bounds, sizes that fit shapes, no gaps and no overlaps. See
 * https://github.com/huggingface/safetensors (Format).
 */
import { dataView, readU64, typedView } from '../core/bytes.ts';
import { DTYPES, type DType } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { elements, printShape } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';
import { type StateDict, withoutWrappers } from './state-dict.ts';

const NAMES: Readonly<Record<string, DType>> = {
  F64: 'f64',
  F32: 'f32',
  F16: 'f16',
  BF16: 'bf16',
  I64: 'i64',
  U64: 'u64',
  I32: 'i32',
  U32: 'u32',
  I16: 'i16',
  U16: 'u16',
  I8: 'i8',
  U8: 'u8',
  BOOL: 'bool',
};
interface Placed {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

const damaged = (what: string): ModelError => new ModelError('torch-parse', `the safetensors file is damaged: ${what}`);

/** Throws ModelError `torch-parse` or `torch-unsupported`. */
export function readSafetensors(bytes: Uint8Array): StateDict {
  const headerBytes = readU64(dataView(bytes), 0) ?? Number.POSITIVE_INFINITY;
  if (headerBytes > bytes.length - 8) throw damaged(`its header has ${headerBytes} bytes, the file ${bytes.length}`);
  const data = bytes.subarray(8 + headerBytes);
  const placed = readHeader(bytes.subarray(8, 8 + headerBytes));
  checkPlaces(placed, data.length);
  return withoutWrappers(placed.map((tensor) => [tensor.name, tensorAt(tensor, data)]));
}

function readHeader(bytes: Uint8Array): Placed[] {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new ModelError('torch-parse', 'the safetensors file is damaged: its header is no JSON', { cause });
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) throw damaged('its header is no object');
  return Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, entry]) => readEntry(name, entry));
}

function readEntry(name: string, entry: unknown): Placed {
  const {
    dtype,
    shape,
    data_offsets: offsets,
  } = (typeof entry === 'object' ? (entry ?? {}) : {}) as Record<string, unknown>;
  const isCount = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
  if (typeof dtype !== 'string' || !Array.isArray(shape) || !shape.every(isCount) || shape.length > 64) {
    throw damaged(`tensor "${name}" has no dtype or shape`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw damaged(`tensor "${name}" has no data offsets`);
  }
  if (!Object.hasOwn(NAMES, dtype)) {
    throw new ModelError(
      'torch-unsupported',
      `tensor "${name}" has elements of type ${dtype}, which Hotrod does not have`,
    );
  }
  return { name, dtype: NAMES[dtype], shape, begin: offsets[0], end: offsets[1] };
}

function checkPlaces(placed: readonly Placed[], dataBytes: number): void {
  let at = 0;
  for (const { name, dtype, shape, begin, end } of placed.toSorted((a, b) => a.begin - b.begin || a.end - b.end)) {
    const wanted = elements(shape) * DTYPES[dtype].bytes;
    if (end - begin !== wanted) {
      throw damaged(`tensor "${name}" is ${dtype}${printShape(shape)}, ${wanted} bytes, but has ${end - begin}`);
    }
    if (begin !== at) throw damaged(`tensor "${name}" begins at ${begin}, the one before it ends at ${at}`);
    at = end;
  }
  if (at !== dataBytes) throw damaged(`its tensors take ${at} bytes, it has ${dataBytes}`);
}

function tensorAt({ dtype, shape, begin, end }: Placed, data: Uint8Array): Tensor {
  const array = typedView(DTYPES[dtype].array, data.subarray(begin, end));
  const isSound = dtype !== 'bool' || (array as Uint8Array).every((v) => v <= 1);
  return { dtype, shape, data: isSound ? array : (array as Uint8Array).map((v) => (v === 0 ? 0 : 1)) };
}
