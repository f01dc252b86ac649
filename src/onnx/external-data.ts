/**
 * Weights in files beside the model: TensorProto.external_data names a location, an offset and a length.
 *
 * The model may come from a stranger, so a location must stay inside the model's folder: no absolute path, no drive, no `..`.
 * Opening is the caller's (a disk, a fetched bundle); each location is opened once. Tensors are views on bytes that are in memory already,
 * or read one by one.
 * Rules of the fields: https://onnx.ai/onnx/repo-docs/ExternalData.html
 */
import { ModelError } from '../core/errors.ts';
import type { TensorProto } from './onnx_pb.ts';

/** A file that is read piece by piece: one of many gigabytes is never in memory as a whole, beside the tensors made of it. */
export interface ExternalFile {
  readonly bytes: number;
  /** A fresh array of the bytes from `byteOffset` on; they are within the file. */
  read(byteOffset: number, bytes: number): Uint8Array;
}

/** Gives a file beside the model, its bytes or a way to read them; may throw, or return undefined, where there is none. */
export type OpenExternal = (location: string) => Uint8Array | ExternalFile | undefined;

/** The `bytes` bytes of an external tensor. `label` names the tensor in errors. Throws ModelError `onnx-external-data`. */
export type ExternalReader = (proto: TensorProto, bytes: number, label: string) => Uint8Array;

export function externalReader(open: OpenExternal | undefined): ExternalReader {
  const files = new Map<string, ExternalFile>();
  const openOnce = (location: string, label: string): ExternalFile => {
    const file = files.get(location) ?? openFile(open, location, label);
    files.set(location, file);
    return file;
  };
  return (proto, bytes, label) => {
    const fields = new Map(proto.externalData.map((e) => [e.key, e.value]));
    const location = fields.get('location') ?? '';
    checkLocation(location, label);
    const offset = count(fields.get('offset'), 0, 'offset', label);
    const length = count(fields.get('length'), bytes, 'length', label);
    if (length !== bytes) throw fail(`${label}: its shape needs ${bytes} bytes, but external data gives ${length}`);
    const file = openOnce(location, label);
    if (offset + bytes > file.bytes) {
      throw fail(
        `${label}: "${location}" has ${file.bytes} bytes, but the tensor lies at ${offset} to ${offset + bytes}`,
        'the file is cut short or belongs to another model',
      );
    }
    return file.read(offset, bytes);
  };
}

const fail = (message: string, hint?: string, cause?: unknown): ModelError =>
  new ModelError('onnx-external-data', message, { ...(hint !== undefined && { hint }), cause });

function openFile(open: OpenExternal | undefined, location: string, label: string): ExternalFile {
  let cause: unknown;
  try {
    const file = open?.(location);
    if (file !== undefined) return file instanceof Uint8Array ? inMemory(file) : file;
  } catch (error) {
    if (error instanceof ModelError) throw error;
    cause = error;
  }
  throw fail(`${label}: its data are in "${location}", which is missing`, 'put the file beside the model', cause);
}

const inMemory = (file: Uint8Array): ExternalFile => ({
  bytes: file.length,
  read: (offset, bytes) => file.subarray(offset, offset + bytes),
});

/** Throws where the location is not a relative path that stays inside the model's folder, on any operating system. */
export function checkLocation(location: string, label: string): void {
  const parts = location.split(/[\\/]/);
  const inside = location !== '' && !location.includes('\0') && !location.includes(':') && parts[0] !== '';
  if (!inside || parts.includes('..')) {
    throw fail(
      `${label}: external data location ${JSON.stringify(location)} is not inside the model's folder`,
      'only relative paths without ".." are followed',
    );
  }
}

function count(text: string | undefined, absent: number, field: string, label: string): number {
  if (text === undefined || text === '') return absent;
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw fail(`${label}: external data ${field} is ${JSON.stringify(text)}`);
  return value;
}
