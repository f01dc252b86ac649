/**
 * How a value of each dtype is held in registers and lies in memory.
 *
 * f16 and bf16 are computed in f32, bool is a predicate, integers of up to 32 bits are b32 and kept normalised (sign- or
 * zero-extended), u32 and u64 are the same bits read unsigned.
 */
import { DTYPES, type DType, type MachineDType, storageOf } from '../../core/dtype.ts';
import { isHalf } from '../../loop/halves.ts';
import type { Address, MemType, PtxKernel, Reg } from './ptx.ts';
import type { RegType } from './ptx-instructions.ts';

interface Representation {
  readonly register: RegType;
  readonly memory: MemType;
  /** The type that instructions are spelled with. */
  readonly instruction: 'f32' | 'f64' | 's32' | 'u32' | 's64' | 'u64' | 'pred';
}

const row = (register: RegType, memory: MemType, instruction: Representation['instruction']): Representation => ({
  register,
  memory,
  instruction,
});

const REPRESENTATION: { readonly [D in MachineDType]: Representation } = {
  f64: row('f64', 'f64', 'f64'),
  f32: row('f32', 'f32', 'f32'),
  f16: row('f32', 'b16', 'f32'),
  bf16: row('f32', 'b16', 'f32'),
  i64: row('b64', 'b64', 's64'),
  u64: row('b64', 'b64', 'u64'),
  i32: row('b32', 'b32', 's32'),
  u32: row('b32', 'b32', 'u32'),
  i16: row('b32', 's16', 's32'),
  u16: row('b32', 'u16', 'u32'),
  i8: row('b32', 's8', 's32'),
  u8: row('b32', 'u8', 'u32'),
  bool: row('pred', 'u8', 'pred'),
};

export const registerOf = (dtype: DType): RegType => REPRESENTATION[storageOf(dtype)].register;
export const instructionType = (dtype: DType): Representation['instruction'] =>
  REPRESENTATION[storageOf(dtype)].instruction;

/** A constant in a register. */
export function constantReg(k: PtxKernel, dtype: DType, value: number | bigint): Reg {
  const type = registerOf(dtype);
  if (type === 'pred') return k.op('setp.eq.u32', k.op('mov.u32', Number(value)), 1);
  return k.op(`mov.${type}`, value);
}

/** Same bits in another register type. */
export const bitsToF32 = (k: PtxKernel, bits: Reg): Reg => k.op('mov.b32#toF32', bits);
export const f32ToBits = (k: PtxKernel, x: Reg): Reg => k.op('mov.b32#ofF32', x);

/** Where a load may not happen, and what its elements then are. */
export interface LoadGuard {
  readonly pred: Reg;
  /** As a number of the dtype; the bits of one for f16 and bf16. */
  readonly fill: number | bigint;
}

/** Elements that one instruction moves: 16 bytes, and no more than 4 registers. */
export const mostElements = (dtype: DType): number => (isHalf(dtype) ? 8 : Math.min(4, 16 / DTYPES[dtype].bytes));

/** `count` neighbouring elements (a power of two, at most mostElements) in one load, as registers to compute with. */
export function loadElements(
  k: PtxKernel,
  kind: string,
  dtype: DType,
  address: Address,
  count: number,
  guard?: LoadGuard,
): Reg[] {
  const load = (type: MemType, n: number, fill: number | bigint): Reg[] =>
    guard ? k.loadOr(guard.pred, fill, kind, type, address, n) : k.load(kind, type, address, n);
  const fill = guard?.fill ?? 0;
  if (isHalf(dtype)) {
    if (count === 1) return halves(k, dtype, load(dtype === 'f16' ? 'b16' : 'u16', 1, fill)[0]).slice(0, 1);
    const pair = (Number(fill) | (Number(fill) << 16)) >>> 0;
    return load('b32', count / 2, pair).flatMap((word) => halves(k, dtype, word));
  }
  const regs = load(REPRESENTATION[storageOf(dtype)].memory, count, fill);
  return dtype === 'bool' ? regs.map((reg) => k.op('setp.ne.u32', reg, 0)) : regs;
}

/** The two halves of a b32 register, or the one f16 of a b16 register, as f32. */
function halves(k: PtxKernel, dtype: DType, word: Reg): Reg[] {
  if (word.type === 'b16') return [k.op('cvt.f32.f16', word)];
  if (dtype === 'bf16')
    return [k.op('shl.b32', word, 16), k.op('and.b32', word, 0xffff0000)].map((x) => bitsToF32(k, x));
  return k.ops('mov.b32#unpack', word).map((half) => k.op('cvt.f32.f16', half));
}

/** Neighbouring elements in one store; as many as loadElements takes. */
export function storeElements(k: PtxKernel, dtype: DType, address: Address, values: readonly Reg[]): void {
  const kind = 'global';
  if (isHalf(dtype)) {
    if (values.length === 1) {
      const bits = dtype === 'f16' ? k.op('cvt.rn.f16.f32', values[0]) : k.op('cvt.u16.u32', bf16Bits(k, values[0]));
      k.store(kind, 'b16', address, [bits]);
      return;
    }
    const words = values.filter((_, i) => i % 2 === 0).map((low, i) => packHalves(k, dtype, low, values[2 * i + 1]));
    k.store(kind, 'b32', address, words);
    return;
  }
  const regs = dtype === 'bool' ? values.map((p) => k.op('selp.b32', 1, 0, p)) : values;
  k.store(kind, REPRESENTATION[storageOf(dtype)].memory, address, regs);
}

function packHalves(k: PtxKernel, dtype: DType, low: Reg, high: Reg): Reg {
  if (k.capability >= 80) return k.op(`cvt.rn.${dtype}x2.f32`, high, low);
  if (dtype === 'f16')
    return k.op(
      'mov.b32#pack',
      [low, high].map((x) => k.op('cvt.rn.f16.f32', x)),
    );
  return k.op('prmt.b32', bf16Bits(k, low), bf16Bits(k, high), 0x5410);
}

/** The bits of the bf16 nearest to an f32, ties to even, in the low half; a NaN keeps a quiet bit. */
function bf16Bits(k: PtxKernel, x: Reg): Reg {
  const bits = f32ToBits(k, x);
  const odd = k.op('bfe.u32', bits, 16, 1);
  const rounded = k.op('shr.u32', k.op('add.u32', k.op('add.u32', bits, 0x7fff), odd), 16);
  return k.op('selp.b32', 0x7fff, rounded, k.op('setp.nan.f32', x, x));
}

/** An f32 rounded to what f16 or bf16 can hold. */
export function roundHalf(k: PtxKernel, dtype: 'f16' | 'bf16', x: Reg): Reg {
  if (dtype === 'f16') return k.op('cvt.f32.f16', k.op('cvt.rn.f16.f32', x));
  return bitsToF32(k, k.op('shl.b32', bf16Bits(k, x), 16));
}
