/**
 * Whether a file is one that this room reads, told by its first bytes or its name. Apart from the readers: whoever only runs engines
 * asks this too, and loads nothing else of the room.
 */
import { dataView, readU64 } from '../core/bytes.ts';

/** The first pickle of PyTorch's legacy format: PROTO 2, LONG1 of ten bytes. */
const LEGACY_START = [0x80, 0x02, 0x8a, 0x0a];
const ZIP_START = [0x50, 0x4b, 0x03, 0x04];
/** The format's own bound on its header. */
const MOST_HEADER_BYTES = 100_000_000;
const EXTENSIONS = /\.(pth|pt|pt2|safetensors)$/i;

const startsWith = (bytes: Uint8Array, start: readonly number[]): boolean =>
  start.every((byte, i) => bytes[i] === byte);

export const isZip = (bytes: Uint8Array): boolean => startsWith(bytes, ZIP_START);
export const isLegacyCheckpoint = (bytes: Uint8Array): boolean => startsWith(bytes, LEGACY_START);

/** A header length that fits, and `{` behind it. */
export function isSafetensors(bytes: Uint8Array): boolean {
  if (bytes.length < 10) return false;
  const length = readU64(dataView(bytes), 0);
  const most = Math.min(MOST_HEADER_BYTES, bytes.length - 8);
  return length !== undefined && length >= 2 && length <= most && bytes[8] === 0x7b;
}

/** Never true of an ONNX model or an engine. */
export const isTorchFile = (bytes: Uint8Array): boolean =>
  isZip(bytes) || isLegacyCheckpoint(bytes) || isSafetensors(bytes);

export const hasTorchName = (file: string): boolean => EXTENSIONS.test(file);
