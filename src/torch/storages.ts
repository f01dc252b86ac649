/**
 * Tensors of a checkpoint as its pickle describes them: views on storages, by offset, sizes and strides.
 *
 * A view that lies in row-major order is used in place; others are copied. What a strided view claims is checked against its storage
 * first, and copies share one budget, so a small file cannot ask for much memory.
 */
import { typedView } from '../core/bytes.ts';
import { DTYPES, type DType, type TypedArray } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { elements, printShape, type StaticShape } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';

export interface StorageRef {
  /** Names the storage within its file. */
  readonly key: string;
  /** Element type; undefined for storages of bytes, whose tensors say their own. */
  readonly dtype: DType | undefined;
  /** Elements, or bytes where there is no dtype. */
  readonly count: number;
}

export interface TensorRef {
  readonly storage: StorageRef;
  readonly dtype: DType;
  readonly offset: number;
  readonly shape: StaticShape;
  readonly strides: readonly number[];
}

/** Bytes that all copies of a file's tensors may take beyond 8 times what the file has. */
const SPARE_COPY_BYTES = 64 * 2 ** 20;

export const isTensorRef = (value: unknown): value is TensorRef =>
  typeof value === 'object' && value !== null && 'storage' in value && 'strides' in value;

/** Turns references into tensors. `readStorage` gives the bytes of a storage; `fileBytes` bounds what may be copied. */
export class TensorMaker {
  readonly #readStorage: (storage: StorageRef) => Uint8Array;
  readonly #arrays = new Map<string, TypedArray>();
  #copyBudget: number;

  constructor(readStorage: (storage: StorageRef) => Uint8Array, fileBytes: number) {
    this.#readStorage = readStorage;
    this.#copyBudget = 8 * fileBytes + SPARE_COPY_BYTES;
  }

  /** `label` names the tensor in errors. Throws ModelError `torch-parse`. */
  make(ref: TensorRef, label: string): Tensor {
    const { shape, strides, offset, dtype } = ref;
    const data = this.#storageArray(ref, label);
    const count = checkView(ref, data.length, label);
    if (isRowMajor(shape, strides))
      return { dtype, shape, data: asBools(dtype, data.subarray(offset, offset + count)) };
    this.#copyBudget -= count * DTYPES[dtype].bytes;
    if (this.#copyBudget < 0) {
      throw new ModelError(
        'torch-parse',
        `${label}: its views of storages take more memory than the file accounts for`,
      );
    }
    return { dtype, shape, data: asBools(dtype, gather(data, offset, shape, strides, count)) };
  }

  #storageArray({ storage, dtype }: TensorRef, label: string): TypedArray {
    const id = `${dtype} ${storage.key}`;
    const known = this.#arrays.get(id);
    if (known) return known;
    const bytes = this.#readStorage(storage);
    const wanted = storage.count * (storage.dtype === undefined ? 1 : DTYPES[storage.dtype].bytes);
    if (bytes.length !== wanted) {
      throw new ModelError(
        'torch-parse',
        `${label}: storage "${storage.key}" has ${bytes.length} bytes, expected ${wanted}`,
        {
          hint: 'The file is cut short or damaged: copy or download it again.',
        },
      );
    }
    const size = DTYPES[dtype].bytes;
    const array = typedView(DTYPES[dtype].array, bytes.subarray(0, bytes.length - (bytes.length % size)));
    this.#arrays.set(id, array);
    return array;
  }
}

/** The number of elements. Throws where the view does not lie within its storage. */
function checkView({ shape, strides, offset, dtype }: TensorRef, stored: number, label: string): number {
  const isCount = (n: number): boolean => Number.isSafeInteger(n) && n >= 0;
  const sound = shape.length === strides.length && [offset, ...shape, ...strides].every(isCount);
  const count = sound ? elements(shape) : Number.NaN;
  const last = shape.reduce((sum, dim, i) => sum + Math.max(0, dim - 1) * strides[i], offset);
  if (!sound || !Number.isSafeInteger(count) || !Number.isSafeInteger(last) || (count > 0 && last >= stored)) {
    throw new ModelError(
      'torch-parse',
      `${label}: ${dtype}${printShape(shape)} with strides [${strides.join()}] at ${offset} does not lie in its storage of ${stored} elements`,
    );
  }
  return count;
}

function isRowMajor(shape: StaticShape, strides: readonly number[]): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== expected) return elements(shape) === 0;
    expected *= shape[i];
  }
  return true;
}

function gather(
  data: TypedArray,
  offset: number,
  shape: StaticShape,
  strides: readonly number[],
  count: number,
): TypedArray {
  const out = new (data.constructor as new (length: number) => TypedArray)(count);
  const at = shape.map(() => 0);
  let from = offset;
  for (let i = 0; i < count; i++) {
    out[i] = data[from] as never;
    for (let d = shape.length - 1; d >= 0; d--) {
      from += strides[d];
      if (++at[d] < shape[d]) break;
      from -= strides[d] * shape[d];
      at[d] = 0;
    }
  }
  return out;
}

/** Bools are 0 or 1 everywhere in Hotrod; a file may hold any byte for true. */
function asBools(dtype: DType, data: TypedArray): TypedArray {
  if (dtype !== 'bool' || (data as Uint8Array).every((v) => v <= 1)) return data;
  return (data as Uint8Array).map((v) => (v === 0 ? 0 : 1));
}
