/**
 * The names that a checkpoint's pickle may use: what PyTorch itself writes for tensors, sizes, dtypes and ordered dicts. All others
 * are refused. See torch/_utils.py (`_rebuild_tensor_v2`, …) and torch/serialization.py (`persistent_id`) for their arguments.
 */
import type { DType } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { isTuple, type Opaque, type PickleFunction, type PickleSetting, type PickleValue } from './pickle.ts';
import { isTensorRef, type StorageRef, type TensorRef } from './storages.ts';

/** Storage classes by name, with their element type: null where Hotrod has none. */
const STORAGES: Readonly<Record<string, DType | null>> = {
  DoubleStorage: 'f64',
  FloatStorage: 'f32',
  HalfStorage: 'f16',
  BFloat16Storage: 'bf16',
  LongStorage: 'i64',
  IntStorage: 'i32',
  ShortStorage: 'i16',
  CharStorage: 'i8',
  ByteStorage: 'u8',
  BoolStorage: 'bool',
  ComplexFloatStorage: null,
  ComplexDoubleStorage: null,
  QInt8Storage: null,
  QUInt8Storage: null,
  QInt32Storage: null,
};

/** `torch.…` dtypes; null as above. */
const TORCH_DTYPES: Readonly<Record<string, DType | null>> = {
  float64: 'f64',
  float32: 'f32',
  float16: 'f16',
  bfloat16: 'bf16',
  int64: 'i64',
  uint64: 'u64',
  int32: 'i32',
  uint32: 'u32',
  int16: 'i16',
  uint16: 'u16',
  int8: 'i8',
  uint8: 'u8',
  bool: 'bool',
  complex64: null,
  complex128: null,
  float8_e4m3fn: null,
  float8_e5m2: null,
};

interface StorageClass {
  readonly storageClass: string;
  readonly dtype: DType | null | undefined;
}
interface DTypeName {
  readonly torchDType: string;
  readonly dtype: DType | null;
}

const opaque = (value: unknown): Opaque => ({ kind: 'opaque', value });
const fn = (call: PickleFunction['call']): PickleFunction => ({ kind: 'function', call });

/** What the machine carries for the caller, or undefined. */
export const carried = (value: PickleValue | undefined): unknown =>
  typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'opaque' ? value.value : undefined;

const damaged = (what: string): ModelError => new ModelError('torch-parse', `the checkpoint is damaged: ${what}`);

function has<K extends string>(value: unknown, key: K): value is Record<K, unknown> {
  return typeof value === 'object' && value !== null && key in value;
}

function storageOf(value: PickleValue): StorageRef {
  const storage = carried(value);
  if (!has(storage, 'key')) throw damaged('a tensor has no storage');
  return storage as unknown as StorageRef;
}

function numbers(value: PickleValue, what: string): readonly number[] {
  const items = isTuple(value) ? value.items : Array.isArray(value) ? value : undefined;
  if (!items?.every((item) => typeof item === 'number')) throw damaged(`the ${what} of a tensor are no integers`);
  return items as readonly number[];
}

function tensorRef(args: readonly PickleValue[], dtype: DType | null | undefined): Opaque {
  const [storageArg, offset, size, stride] = args;
  if (typeof offset !== 'number') throw damaged('the offset of a tensor is no integer');
  const storage = storageOf(storageArg);
  const type = dtype === undefined ? storage.dtype : dtype;
  if (type === undefined || type === null) throw unsupportedType('tensor');
  const ref: TensorRef = {
    storage,
    dtype: type,
    offset,
    shape: numbers(size, 'sizes'),
    strides: numbers(stride, 'strides'),
  };
  return opaque(ref);
}

const unsupportedType = (name: string): ModelError =>
  new ModelError('torch-unsupported', `the checkpoint holds a ${name} of an element type that Hotrod does not have`, {
    hint: 'float64, float32, float16, bfloat16, integers and bool are read; convert the others in PyTorch',
  });

/** A parameter is its tensor. */
const rebuildParameter = fn(([data]) => {
  if (!isTensorRef(carried(data))) throw damaged('a parameter is no tensor');
  return data;
});

const FUNCTIONS: Readonly<Record<string, PickleValue>> = {
  'torch._utils._rebuild_tensor': fn((args) => tensorRef(args, undefined)),
  'torch._utils._rebuild_tensor_v2': fn((args) => tensorRef(args, undefined)),
  'torch._utils._rebuild_tensor_v3': fn((args) => {
    const dtype = carried(args[6]);
    if (!has(dtype, 'torchDType')) throw damaged('a tensor has no dtype');
    return tensorRef(args, (dtype as unknown as DTypeName).dtype);
  }),
  'torch._utils._rebuild_parameter': rebuildParameter,
  'torch._utils._rebuild_parameter_with_state': rebuildParameter,
  'torch.Size': fn(([sizes]) => sizes),
  'torch.device': fn((args) => opaque({ device: args })),
  'collections.OrderedDict': fn(([items]) => {
    const dict = new Map<PickleValue, PickleValue>();
    for (const item of Array.isArray(items) ? items : []) if (isTuple(item)) dict.set(item.items[0], item.items[1]);
    return dict;
  }),
  'collections.defaultdict': fn(() => new Map()),
  // Bytes objects as protocol 2 writes them.
  '_codecs.encode': fn(([text]) => text),
};

/** What `module.name` stands for in a checkpoint; undefined where tensors do not need it. */
function findGlobal(name: string): PickleValue | undefined {
  if (Object.hasOwn(FUNCTIONS, name)) return FUNCTIONS[name];
  const short = name.replace(/^torch\.(cuda\.)?(storage\.)?/, '');
  if (short === name) return undefined;
  if (Object.hasOwn(STORAGES, short))
    return opaque({ storageClass: short, dtype: STORAGES[short] } satisfies StorageClass);
  if (/^(Untyped|_Untyped)Storage$/.test(short)) {
    return opaque({ storageClass: short, dtype: undefined } satisfies StorageClass);
  }
  if (Object.hasOwn(TORCH_DTYPES, short)) {
    return opaque({ torchDType: short, dtype: TORCH_DTYPES[short] } satisfies DTypeName);
  }
  return undefined;
}

/** The names that may be used. Each storage that the pickle names goes into `storages`, by key. */
export const tensorSetting = (storages: Map<string, StorageRef>): PickleSetting => ({
  find: findGlobal,
  persistent(id) {
    const storage = storageRef(id);
    storages.set(storage.key, storage);
    return opaque(storage);
  },
});

/**
 * ('storage', class, key, location, count) and, in the legacy format, what part of another storage it is: None, or a triple
 * (key, offset, count) of views that PyTorch has not written since 2017.
 */
function storageRef(id: PickleValue): StorageRef {
  const [tag, cls, key, , count, view] = isTuple(id) ? id.items : [];
  const storage = carried(cls);
  if (tag !== 'storage' || !has(storage, 'storageClass') || typeof count !== 'number' || !(count >= 0)) {
    throw damaged('a persistent id names no storage');
  }
  if (view !== undefined && view !== null) throw damaged('a storage is a view of another');
  const { storageClass, dtype } = storage as unknown as StorageClass;
  if (dtype === null) throw unsupportedType(storageClass);
  return { key: String(key), dtype, count };
}
