/**
 * The assembler's operations as WebAssembly instructions, by register and memory type: tables that asm.ts reads.
 *
 * What is missing in a table is no instruction of the machine: asm.ts composes it or refuses it.
 */
import type { AsmOp, MemType, RegType } from '../cpu/asm.ts';
import type { InstructionName, ValType } from './instructions.ts';

export const VALTYPES: Readonly<Record<RegType, ValType>> = {
  i32: 'i32',
  i64: 'i64',
  f32: 'f32',
  f64: 'f64',
  ptr: 'i32',
  vf32: 'v128',
  vi32: 'v128',
};

/** The part of the name before the dot. */
export const SHAPES: Readonly<Record<RegType, string>> = {
  i32: 'i32',
  i64: 'i64',
  f32: 'f32',
  f64: 'f64',
  ptr: 'i32',
  vf32: 'f32x4',
  vi32: 'i32x4',
};

type OpNames = Partial<Readonly<Record<AsmOp, string>>>;
const COMMON: OpNames = { add: 'add', sub: 'sub', mul: 'mul', eq: 'eq', ne: 'ne' };
const SIGNED: OpNames = { lt: 'lt_s', le: 'le_s', gt: 'gt_s', ge: 'ge_s', lt_u: 'lt_u', gt_u: 'gt_u' };
const UNSIGNED: OpNames = { lt: 'lt_u', le: 'le_u', gt: 'gt_u', ge: 'ge_u', lt_u: 'lt_u', gt_u: 'gt_u' };
const SCALAR_INT: OpNames = { ...COMMON, and: 'and', or: 'or', xor: 'xor', shl: 'shl', shr: 'shr_s', shr_u: 'shr_u' };
const FLOAT: OpNames = {
  ...COMMON,
  div: 'div',
  min: 'min',
  max: 'max',
  neg: 'neg',
  abs: 'abs',
  sqrt: 'sqrt',
  floor: 'floor',
  ceil: 'ceil',
  trunc: 'trunc',
  nearest: 'nearest',
  lt: 'lt',
  le: 'le',
  gt: 'gt',
  ge: 'ge',
};
const VECTOR_INT: OpNames = { ...COMMON, ...SIGNED, min: 'min_s', max: 'max_s', neg: 'neg', abs: 'abs' };

/** Operations that are one instruction of the type's shape. */
export const DIRECT: Readonly<Record<RegType, OpNames>> = {
  i32: { ...SCALAR_INT, ...SIGNED },
  i64: { ...SCALAR_INT, ...SIGNED },
  ptr: { ...SCALAR_INT, ...UNSIGNED },
  f32: FLOAT,
  f64: FLOAT,
  vf32: FLOAT,
  vi32: VECTOR_INT,
};
export const VECTOR_BITS: Partial<Readonly<Record<AsmOp, InstructionName>>> = {
  and: 'v128.and',
  or: 'v128.or',
  xor: 'v128.xor',
  not: 'v128.not',
};
export const COMPARISONS: ReadonlySet<AsmOp> = new Set(['eq', 'ne', 'lt', 'le', 'gt', 'ge', 'lt_u', 'gt_u']);

/** `from>to`: signed, then unsigned where it differs. Absent between different types: not a conversion of this machine. */
export const CONVERSIONS: Readonly<Record<string, readonly [InstructionName, InstructionName?]>> = {
  'i32>i64': ['i64.extend_i32_s', 'i64.extend_i32_u'],
  'i64>i32': ['i32.wrap_i64'],
  'i32>f32': ['f32.convert_i32_s', 'f32.convert_i32_u'],
  'i32>f64': ['f64.convert_i32_s', 'f64.convert_i32_u'],
  'i64>f32': ['f32.convert_i64_s', 'f32.convert_i64_u'],
  'i64>f64': ['f64.convert_i64_s', 'f64.convert_i64_u'],
  'f32>i32': ['i32.trunc_sat_f32_s', 'i32.trunc_sat_f32_u'],
  'f64>i32': ['i32.trunc_sat_f64_s', 'i32.trunc_sat_f64_u'],
  'f32>i64': ['i64.trunc_sat_f32_s', 'i64.trunc_sat_f32_u'],
  'f64>i64': ['i64.trunc_sat_f64_s', 'i64.trunc_sat_f64_u'],
  'f32>f64': ['f64.promote_f32'],
  'f64>f32': ['f32.demote_f64'],
  'vi32>vf32': ['f32x4.convert_i32x4_s', 'f32x4.convert_i32x4_u'],
  'vf32>vi32': ['i32x4.trunc_sat_f32x4_s', 'i32x4.trunc_sat_f32x4_u'],
  'ptr>i64': ['i64.extend_i32_u'],
  'i64>ptr': ['i32.wrap_i64'],
};

export const BITCASTS: Readonly<Record<string, InstructionName>> = {
  'i32>f32': 'f32.reinterpret_i32',
  'f32>i32': 'i32.reinterpret_f32',
  'i64>f64': 'f64.reinterpret_i64',
  'f64>i64': 'i64.reinterpret_f64',
};

interface Access {
  readonly reg: RegType;
  readonly load: InstructionName;
  readonly store: InstructionName | undefined;
  /** log2 of the alignment that the address is known to have: that of an element, also for vectors. */
  readonly alignment: number;
}
const access = (
  reg: RegType,
  load: InstructionName,
  store: InstructionName | undefined,
  alignment: number,
): Access => ({ reg, load, store, alignment });
export const ACCESSES: Readonly<Record<Exclude<MemType, keyof typeof WIDENINGS>, Access>> = {
  i8: access('i32', 'i32.load8_s', 'i32.store8', 0),
  u8: access('i32', 'i32.load8_u', 'i32.store8', 0),
  i16: access('i32', 'i32.load16_s', 'i32.store16', 1),
  u16: access('i32', 'i32.load16_u', 'i32.store16', 1),
  i32: access('i32', 'i32.load', 'i32.store', 2),
  i64: access('i64', 'i64.load', 'i64.store', 3),
  f32: access('f32', 'f32.load', 'f32.store', 2),
  f64: access('f64', 'f64.load', 'f64.store', 3),
  vf32: access('vf32', 'v128.load', 'v128.store', 2),
  vi32: access('vi32', 'v128.load', 'v128.store', 2),
  splatf32: access('vf32', 'v128.load32_splat', undefined, 2),
  splati32: access('vi32', 'v128.load32_splat', undefined, 2),
  pairsi8: access('vi32', 'v128.load8x8_s', undefined, 0),
  spreadi8: access('vi32', 'v128.load8x8_s', undefined, 0),
  spreadu8: access('vi32', 'v128.load8x8_u', undefined, 0),
};
/** By the sign: what widens a byte a lane, in two steps. */
export const WIDENINGS = {
  lanesi8: ['i16x8.extend_low_i8x16_s', 'i32x4.extend_low_i16x8_s'],
  lanesu8: ['i16x8.extend_low_i8x16_u', 'i32x4.extend_low_i16x8_u'],
} as const;
