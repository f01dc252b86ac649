/**
 * Bytes in memory and in files: alignment, typed views, little-endian words. Files of Hotrod and of ONNX are little-endian, and so is
 * every machine that runs JavaScript engines with WebAssembly, so typed arrays may lie directly on a file's bytes.
 */
import type { TypedArray, TypedArrayConstructor } from './dtype.ts';

/** The smallest multiple of `alignment` that is at least n. Exact up to 2^53. */
export const alignUp = (n: number, alignment: number): number => Math.ceil(n / alignment) * alignment;

/**
 * The bytes as elements of `array`: the same memory where the address allows, a copy where it is not a multiple of the element size.
 * `bytes.length` must be a multiple of the element size.
 */
export function typedView(array: TypedArrayConstructor, bytes: Uint8Array): TypedArray {
  const size = array.BYTES_PER_ELEMENT;
  // Not slice: Node's Buffer is a Uint8Array whose slice does not copy.
  const at = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  return new array(at.buffer, at.byteOffset, at.byteLength / size);
}

/** The memory of a typed array as bytes; shared, not copied. */
export const bytesOf = (data: TypedArray): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

export const dataView = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** An unsigned 64-bit integer as a number; undefined above 2^53 - 1. */
export function readU64(view: DataView, byteOffset: number): number | undefined {
  const value = view.getUint32(byteOffset + 4, true) * 2 ** 32 + view.getUint32(byteOffset, true);
  return Number.isSafeInteger(value) ? value : undefined;
}

export function writeU64(view: DataView, byteOffset: number, value: number): void {
  view.setUint32(byteOffset, value % 2 ** 32, true);
  view.setUint32(byteOffset + 4, Math.floor(value / 2 ** 32), true);
}

/** Two digits a byte. */
export const hex = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');

export function bytesEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  // Weights are compared too: in words where both lie at multiples of four.
  const words = (a.byteOffset | b.byteOffset) % 4 === 0 ? a.length >> 2 : 0;
  const [x, y] = [a, b].map((bytes) => new Uint32Array(bytes.buffer, words > 0 ? bytes.byteOffset : 0, words));
  for (let i = 0; i < words; i++) if (x[i] !== y[i]) return false;
  for (let i = 4 * words; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
