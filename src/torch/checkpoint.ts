/**
 * A checkpoint file to its state dict, whichever of PyTorch's formats it has, or safetensors.
 *
 *     zip      PK.. with NAME/data.pkl and NAME/data/KEY, a file a storage (PyTorch 1.6 and later)
 *     legacy   pickles one behind the other: magic, version, system, object, storage keys; then u64 count + elements a storage
 *
 * Nothing in a file is executed: see pickle.ts. Tensors are views on `bytes` where alignment allows: leave those unchanged.
 */
import { dataView, readU64 } from '../core/bytes.ts';
import { DTYPES } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { isLegacyCheckpoint, isSafetensors, isZip } from './is-torch-file.ts';
import { type PickleValue, unpickle } from './pickle.ts';
import { readSafetensors } from './safetensors.ts';
import { type StateDict, stateDictOf } from './state-dict.ts';
import { type StorageRef, TensorMaker } from './storages.ts';
import { tensorSetting } from './tensor-globals.ts';
import { openZip, type ZipArchive } from './zip.ts';

/** The legacy format's first pickle. */
const MAGIC = 0x1950a86a20f9469cfc6cn;
const LEGACY_VERSION = 1001;

/**
 * The weights in the bytes of a .pth, .pt or .safetensors file, by name. Tensors are views on `bytes` where they can be.
 * Throws ModelError: `torch-parse`, `torch-refused`, `torch-unsupported`.
 */
export function readCheckpoint(bytes: Uint8Array): StateDict {
  if (isZip(bytes)) return readZip(openZip(bytes), bytes.length);
  if (isLegacyCheckpoint(bytes)) return readLegacy(bytes);
  if (isSafetensors(bytes)) return readSafetensors(bytes);
  throw new ModelError('torch-parse', 'these are not the bytes of a PyTorch checkpoint or a safetensors file', {
    hint:
      bytes[0] === 0x80
        ? "It is a bare pickle. In PyTorch, save it with torch.save(model.state_dict(), 'weights.pth')."
        : 'Was the download complete?',
  });
}

function readZip(zip: ZipArchive, fileBytes: number): StateDict {
  const pickleName = zip.names.find((name) => /^[^/]*\/?data\.pkl$/.test(name));
  const pickle = pickleName === undefined ? undefined : zip.read(pickleName);
  if (pickleName === undefined || pickle === undefined) {
    throw new ModelError('torch-parse', 'the ZIP archive is no checkpoint: it has no data.pkl');
  }
  const root = pickleName.slice(0, -'data.pkl'.length);
  if (zip.names.some((name) => name.startsWith(`${root}code/`))) {
    throw new ModelError('torch-unsupported', 'the file is a TorchScript program, which Hotrod does not read', {
      hint: 'Export the model with torch.export.save (.pt2) or torch.onnx.export, or save model.state_dict().',
    });
  }
  const order = zip.read(`${root}byteorder`);
  if (order && new TextDecoder().decode(order).trim() !== 'little') throw bigEndian();
  const { value } = unpickle(pickle, 0, tensorSetting(new Map()));
  const readStorage = ({ key }: StorageRef): Uint8Array => {
    const storage = zip.read(`${root}data/${key}`);
    if (storage) return storage;
    throw new ModelError('torch-parse', `the checkpoint is damaged: storage "${key}" is missing`);
  };
  return stateDictOf(value, new TensorMaker(readStorage, fileBytes));
}

function readLegacy(bytes: Uint8Array): StateDict {
  const storages = new Map<string, StorageRef>();
  const setting = tensorSetting(storages);
  let at = 0;
  const next = (): PickleValue => {
    const { value, end } = unpickle(bytes, at, setting);
    at = end;
    return value;
  };
  if (next() !== MAGIC) throw new ModelError('torch-parse', 'the file is no checkpoint: its magic number is another');
  const version = next();
  if (version !== LEGACY_VERSION) {
    throw new ModelError(
      'torch-unsupported',
      `the checkpoint has version ${String(version)} of its format, expected ${LEGACY_VERSION}`,
    );
  }
  const system = next();
  if (system instanceof Map && system.get('little_endian') === false) throw bigEndian();
  const value = next();
  const places = storagePlaces(next(), storages, bytes, at);
  const readStorage = (storage: StorageRef): Uint8Array => {
    const start = places.get(storage.key) ?? bytes.length;
    return bytes.subarray(start, start + storage.count * elementBytes(storage));
  };
  return stateDictOf(value, new TensorMaker(readStorage, bytes.length));
}

/** Where the elements of each storage begin. */
function storagePlaces(
  keys: PickleValue,
  storages: ReadonlyMap<string, StorageRef>,
  bytes: Uint8Array,
  start: number,
): Map<string, number> {
  const places = new Map<string, number>();
  let at = start;
  for (const key of Array.isArray(keys) ? keys.map(String) : []) {
    const storage = storages.get(key);
    const count = at + 8 <= bytes.length ? readU64(dataView(bytes), at) : undefined;
    if (count === undefined || storage === undefined) {
      throw new ModelError('torch-parse', `the checkpoint is cut short before storage "${key}"`);
    }
    places.set(key, at + 8);
    at += 8 + count * elementBytes(storage);
  }
  return places;
}

const elementBytes = ({ dtype }: StorageRef): number => (dtype === undefined ? 1 : DTYPES[dtype].bytes);

const bigEndian = (): ModelError =>
  new ModelError('torch-unsupported', 'the checkpoint was written by a big-endian machine');
