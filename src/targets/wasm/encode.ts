/**
 * The binary format's primitives: LEB128 integers, little-endian floats, vectors, names, and one instruction with its immediates.
 *
 * In come numbers, out go arrays of bytes; nothing here knows what a module or a function is. Specification §5.2.
 */
import { Bug } from '../../core/errors.ts';
import { type Immediate, INSTRUCTIONS, type InstructionName, type ValType } from './instructions.ts';

export type Bytes = readonly number[];
/** i64 constants are BigInts; vector constants and shuffles 16 bytes; br_table depths and typed select's types lists. */
export type ImmediateValue = number | bigint | readonly number[];

export const VALTYPE_CODES: Readonly<Record<ValType, number>> = {
  i32: 0x7f,
  i64: 0x7e,
  f32: 0x7d,
  f64: 0x7c,
  v128: 0x7b,
};
/** The type of a block that takes and leaves nothing. */
export const EMPTY_BLOCK = 0x40;

/** Unsigned LEB128 (§5.2.2): seven bits a byte, lowest first, the top bit set on all but the last. */
export function leb(value: number): number[] {
  const out: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    out.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  out.push(rest);
  return out;
}

/** Signed LEB128: ends where the rest is all copies of the sign bit just written. */
export function signedLeb(value: number | bigint): number[] {
  if (value >= -64 && value < 64) return [Number(value) & 0x7f];
  const out: number[] = [];
  let rest = BigInt(value);
  for (;;) {
    const byte = Number(rest & 0x7fn);
    rest >>= 7n;
    if ((rest === 0n && !(byte & 0x40)) || (rest === -1n && byte & 0x40)) {
      out.push(byte);
      return out;
    }
    out.push(byte | 0x80);
  }
}

export const f32Bytes = (value: number): number[] => [...new Uint8Array(new Float32Array([value]).buffer)];
export const f64Bytes = (value: number): number[] => [...new Uint8Array(new Float64Array([value]).buffer)];
/** UTF-8 with its length in bytes before it (§5.2.4). */
export const nameBytes = (name: string): number[] => {
  const utf8 = new TextEncoder().encode(name);
  return [...leb(utf8.length), ...utf8];
};
/** A count, then the items (§5.1.3). */
export const vector = (items: readonly Bytes[]): number[] => [...leb(items.length), ...items.flat()];

/** The bytes of one instruction; immediates in the order of its row, a memarg as two numbers. */
export function encodeInstruction(name: InstructionName, values: readonly ImmediateValue[] = []): Bytes {
  const { opcode, immediates } = INSTRUCTIONS[name];
  if (immediates.length === 0 && values.length === 0) return opcode;
  const out = [...opcode];
  let next = 0;
  for (const immediate of immediates) {
    if (immediate === 'memarg') out.push(...leb(Number(values[next++])));
    out.push(...encodeImmediate(immediate, values[next++]));
  }
  if (next !== values.length)
    throw new Bug('wasm-immediates', `${name} takes ${next} immediates, not ${values.length}`);
  return out;
}

function encodeImmediate(kind: Immediate, value: ImmediateValue): Bytes {
  switch (kind) {
    case 'i32':
      return signedLeb(Number(value) | 0);
    case 'i64':
      return signedLeb(BigInt.asIntN(64, BigInt(value as bigint)));
    case 'f32':
      return f32Bytes(Number(value));
    case 'f64':
      return f64Bytes(Number(value));
    case 'v128':
    case 'lanes':
      if ((value as Bytes).length !== 16) throw new Bug('wasm-immediates', 'a vector immediate has 16 bytes');
      return value as Bytes;
    case 'labels': {
      const depths = value as Bytes;
      return [...vector(depths.slice(0, -1).map(leb)), ...leb(depths[depths.length - 1])];
    }
    case 'types':
      return vector((value as Bytes).map((code) => [code]));
    case 'block':
    case 'zero':
    case 'lane':
      return [Number(value)];
    case 'label':
    case 'func':
    case 'local':
    case 'global':
    case 'memory':
    case 'data':
    case 'memarg':
      return leb(Number(value));
    default:
      return kind satisfies never;
  }
}
