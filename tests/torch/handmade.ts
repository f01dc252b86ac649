/**
 * Pickles and ZIP archives made by hand: the hostile files of the checkpoint tests.
 */
import { type Tensor, tensorBytes } from '../../src/core/tensor.ts';

/** Puts opcodes and their arguments one behind the other. Characters of `op` are bytes. */
class PickleWriter {
  readonly #bytes: number[] = [0x80, 2];

  raw(bytes: readonly number[]): this {
    for (const byte of bytes) this.#bytes.push(byte);
    return this;
  }
  op(code: string | number): this {
    return this.raw(typeof code === 'number' ? [code] : Array.from(code, (c) => c.charCodeAt(0)));
  }
  text(value: string): this {
    const utf8 = new TextEncoder().encode(value);
    return this.op('X')
      .raw([utf8.length & 255, utf8.length >> 8, 0, 0])
      .raw([...utf8]);
  }
  int(value: number): this {
    if (Math.abs(value) >= 2 ** 31) return this.op(`L${value}L\n`);
    return this.op('J').raw([...new Uint8Array(new Int32Array([value]).buffer)]);
  }
  ints(values: readonly number[]): this {
    for (const value of values) this.int(value);
    return this;
  }
  global(module: string, name: string): this {
    return this.op(`c${module}\n${name}\n`);
  }
  bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

export const pickle = (): PickleWriter => new PickleWriter();

export interface PackedEntry {
  readonly method: number;
  readonly packed: Uint8Array;
  /** The size that the directory states. */
  readonly bytes: number;
}

/** An archive of stored entries, and of those that say how they are packed. */
export function zipOf(
  stored: Readonly<Record<string, Uint8Array>>,
  packed: Readonly<Record<string, PackedEntry>> = {},
): Uint8Array {
  const entries: [string, PackedEntry][] = [
    ...Object.entries(stored).map(([name, data]): [string, PackedEntry] => [
      name,
      { method: 0, packed: data, bytes: data.length },
    ]),
    ...Object.entries(packed),
  ];
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  const put = (list: Uint8Array[], bytes: Uint8Array): number => {
    list.push(bytes);
    return bytes.length;
  };
  for (const [name, entry] of entries) {
    const text = new TextEncoder().encode(name);
    const header = words(
      [0x04034b50, 4],
      [20, 2],
      [0, 2],
      [entry.method, 2],
      [0, 8],
      [entry.packed.length, 4],
      [entry.bytes, 4],
      [text.length, 2],
      [0, 2],
    );
    directory.push(
      words(
        [0x02014b50, 4],
        [20, 2],
        [20, 2],
        [0, 2],
        [entry.method, 2],
        [0, 8],
        [entry.packed.length, 4],
        [entry.bytes, 4],
        [text.length, 2],
        [0, 4],
        [0, 8],
        [at, 4],
      ),
      text,
    );
    for (const part of [header, text, entry.packed]) at += put(parts, part);
  }
  const directoryBytes = directory.reduce((sum, { length }) => sum + length, 0);
  const end = words(
    [0x06054b50, 4],
    [0, 4],
    [entries.length, 2],
    [entries.length, 2],
    [directoryBytes, 4],
    [at, 4],
    [0, 2],
  );
  return new Uint8Array(Buffer.concat([...parts, ...directory, end]));
}

/** Little-endian numbers, each with its bytes. */
const words = (...fields: readonly (readonly [value: number, bytes: number])[]): Uint8Array =>
  Uint8Array.from(
    fields.flatMap(([value, bytes]) => Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) % 256)),
  );

/** A safetensors file of f32 tensors. */
export function safetensorsOf(tensors: ReadonlyMap<string, Tensor>): Uint8Array {
  const header: Record<string, unknown> = {};
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const [name, tensor] of tensors) {
    const bytes = tensorBytes(tensor);
    header[name] = { dtype: 'F32', shape: tensor.shape, data_offsets: [at, at + bytes.length] };
    at += bytes.length;
    parts.push(bytes);
  }
  const json = JSON.stringify(header);
  // Spaces align the elements, as the format's own writer does.
  const text = new TextEncoder().encode(json.padEnd(Math.ceil(json.length / 8) * 8));
  return new Uint8Array(Buffer.concat([words([text.length, 8]), text, ...parts]));
}
