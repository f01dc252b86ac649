/**
 * Loop-IR operations on scalar registers, with the integer semantics of src/loop/ir.ts.
 *
 * A value of a dtype is held in one register: f32, f16 and bf16 as f32, f64 as f64, i64 and u64 as i64, all others as i32. Narrow
 * integers are kept normalised (sign- or zero-extended), so comparisons and stores need no care; u32 and u64 are the same bits
 * read unsigned; bool is 0 or 1. f16 and bf16 convert by integer arithmetic at loads and stores only.
 */
import { DTYPES, type DType, isFloat } from '../../core/dtype.ts';
import { Bug } from '../../core/errors.ts';
import type { BinaryOp, UnaryOp } from '../../loop/ir.ts';
import { COMMON_OPS, type MachineOps } from '../../loop/legalize.ts';
import type { Asm, AsmOp, Reg, RegType } from './asm.ts';

export function scalarType(dtype: DType): 'i32' | 'i64' | 'f32' | 'f64' {
  switch (dtype) {
    case 'f64':
      return 'f64';
    case 'f32':
    case 'f16':
    case 'bf16':
      return 'f32';
    case 'i64':
    case 'u64':
      return 'i64';
    default:
      return 'i32';
  }
}

/** What scalarUnary and scalarBinary do themselves; the rest is legalized into these. */
export const CPU_OPS: MachineOps = {
  unary: new Set([...COMMON_OPS.unary, 'sign', 'isnan', 'isinf']),
  binary: new Set([...COMMON_OPS.binary, 'floordiv']),
};

const isUnsigned = (dtype: DType): boolean => DTYPES[dtype].kind === 'uint';

/** Brings the result of 32-bit arithmetic back into the range of a narrow dtype. */
function normalize(asm: Asm, dtype: DType, x: Reg): Reg {
  const bits = DTYPES[dtype].bytes * 8;
  if (scalarType(dtype) !== 'i32' || bits === 32) return x;
  if (isUnsigned(dtype)) return asm.op('and', [x, asm.const('i32', 2 ** bits - 1)]);
  const shift = asm.const('i32', 32 - bits);
  return asm.op('shr', [asm.op('shl', [x, shift]), shift]);
}

export function scalarUnary(asm: Asm, op: UnaryOp, dtype: DType, x: Reg): Reg {
  const c = (value: number) => asm.const(x.type, x.type === 'i64' ? BigInt(value) : value);
  const float = isFloat(dtype);
  switch (op) {
    case 'neg':
      return float ? asm.op('neg', [x]) : normalize(asm, dtype, asm.op('sub', [c(0), x]));
    case 'abs':
      if (float) return asm.op('abs', [x]);
      if (isUnsigned(dtype)) return x;
      return normalize(asm, dtype, asm.select(asm.op('lt', [x, c(0)]), asm.op('sub', [c(0), x]), x));
    case 'sqrt':
    case 'floor':
    case 'ceil':
    case 'trunc':
      return float ? asm.op(op, [x]) : x;
    case 'round':
      return float ? asm.op('nearest', [x]) : x;
    case 'sign': {
      if (isUnsigned(dtype)) return asm.select(asm.op('ne', [x, c(0)]), c(1), c(0));
      const negative = asm.select(asm.op('lt', [x, c(0)]), c(-1), x);
      return asm.select(asm.op('gt', [x, c(0)]), c(1), negative);
    }
    case 'not':
      return asm.op('eq', [x, c(0)]);
    case 'bitnot':
      return normalize(asm, dtype, asm.op('xor', [x, c(-1)]));
    case 'isnan':
      return float ? asm.op('ne', [x, x]) : asm.const('i32', 0);
    case 'isinf':
      return float ? asm.op('eq', [asm.op('abs', [x]), c(Number.POSITIVE_INFINITY)]) : asm.const('i32', 0);
    default:
      throw new Bug('cpu-unary', `${op} on ${dtype} should have been legalized before emission`);
  }
}

const COMPARE: Partial<Record<BinaryOp, AsmOp>> = { eq: 'eq', ne: 'ne', lt: 'lt', le: 'le', gt: 'gt', ge: 'ge' };

/** What is known of a division: that the dividend is not negative, and the divisor where it is a constant. */
export interface Divisor {
  readonly nonNegative?: boolean;
  readonly divisor?: number;
}

/** `dtype` is that of the operands. */
export function scalarBinary(asm: Asm, op: BinaryOp, dtype: DType, a: Reg, b: Reg, known: Divisor = {}): Reg {
  const compare = COMPARE[op];
  if (compare) return scalarCompare(asm, compare, dtype, a, b);
  const float = isFloat(dtype);
  switch (op) {
    case 'add':
    case 'sub':
    case 'mul':
      return float ? asm.op(op, [a, b]) : normalize(asm, dtype, asm.op(op, [a, b]));
    case 'min':
    case 'max': {
      if (float) return asm.op(op, [a, b]);
      const less = scalarCompare(asm, 'lt', dtype, a, b);
      return op === 'min' ? asm.select(less, a, b) : asm.select(less, b, a);
    }
    case 'and':
    case 'bitand':
      return asm.op('and', [a, b]);
    case 'or':
    case 'bitor':
      return asm.op('or', [a, b]);
    case 'xor':
    case 'bitxor':
      return asm.op('xor', [a, b]);
    case 'shl':
      return normalize(asm, dtype, asm.op('shl', [a, b]));
    case 'shr':
      return asm.op(isUnsigned(dtype) ? 'shr_u' : 'shr', [a, b]);
    case 'div':
      return float ? asm.op('div', [a, b]) : normalize(asm, dtype, integerDivision(asm, 'div', dtype, a, b, known));
    case 'rem':
      return float ? floatRemainder(asm, op, dtype, a, b) : integerDivision(asm, 'rem', dtype, a, b, known);
    case 'mod':
      return float ? floatRemainder(asm, op, dtype, a, b) : floorDivision(asm, 'rem', dtype, a, b, known);
    case 'floordiv':
      return float
        ? asm.op('floor', [asm.op('div', [a, b])])
        : normalize(asm, dtype, floorDivision(asm, 'div', dtype, a, b, known));
    default:
      throw new Bug('cpu-binary', `${op} on ${dtype} should have been legalized before emission`);
  }
}

/** Unsigned orders by flipping the sign bits; eq and ne do not care. Narrow unsigned values are already non-negative i32. */
function scalarCompare(asm: Asm, op: AsmOp, dtype: DType, a: Reg, b: Reg): Reg {
  if ((dtype !== 'u32' && dtype !== 'u64') || op === 'eq' || op === 'ne') return asm.op(op, [a, b]);
  const sign = dtype === 'u32' ? asm.const('i32', -(2 ** 31)) : asm.const('i64', -(2n ** 63n));
  return asm.op(op, [asm.op('xor', [a, sign]), asm.op('xor', [b, sign])]);
}

/** Truncating division; the assembler gives 0 for x / 0 and x rem 0, and wraps. */
function integerDivision(asm: Asm, op: 'div' | 'rem', dtype: DType, a: Reg, b: Reg, known: Divisor): Reg {
  const unsigned = isUnsigned(dtype) || known.nonNegative === true;
  const c = (value: number) => asm.const(a.type, a.type === 'i64' ? BigInt(value) : value);
  if (unsigned && known.divisor !== undefined && known.divisor > 0) {
    const shift = Math.log2(known.divisor);
    if (Number.isInteger(shift)) {
      return op === 'rem' ? asm.op('and', [a, c(known.divisor - 1)]) : asm.op('shr_u', [a, c(shift)]);
    }
    return asm.op(`${op}_u`, [a, b]);
  }
  return asm.op(isUnsigned(dtype) ? `${op}_u` : op, [a, b]);
}

/** Rounds the quotient toward minus infinity: one less than truncation where the signs differ and the remainder is not 0. */
function floorDivision(asm: Asm, op: 'div' | 'rem', dtype: DType, a: Reg, b: Reg, known: Divisor): Reg {
  const positive = known.divisor !== undefined && known.divisor > 0;
  if (isUnsigned(dtype) || (known.nonNegative && positive)) return integerDivision(asm, op, dtype, a, b, known);
  const c = (value: number) => asm.const(a.type, a.type === 'i64' ? BigInt(value) : value);
  const rem = integerDivision(asm, 'rem', dtype, a, b, known);
  const signs = positive ? asm.op('lt', [rem, c(0)]) : asm.op('lt', [asm.op('xor', [rem, b]), c(0)]);
  const adjust = asm.op('and', [signs, asm.op('ne', [rem, c(0)])]);
  if (op === 'rem') return asm.select(adjust, asm.op('add', [rem, b]), rem);
  const quotient = integerDivision(asm, 'div', dtype, a, b, known);
  return asm.select(adjust, asm.op('sub', [quotient, c(1)]), quotient);
}

/**
 * a - q·b in float64 with q = ⌊|a/b|⌋ signed; a itself where q is 0, which keeps -0 and allows an infinite b. mod moves a remainder whose
 * sign is not the divisor's into the divisor's range.
 */
function floatRemainder(asm: Asm, op: 'rem' | 'mod', dtype: DType, a: Reg, b: Reg): Reg {
  const [x, y] = dtype === 'f64' ? [a, b] : [asm.convert('f64', a), asm.convert('f64', b)];
  const zero = asm.const('f64', 0);
  const q = asm.op('trunc', [asm.op('div', [x, y])]);
  let rest = asm.select(asm.op('eq', [q, zero]), x, asm.op('sub', [x, asm.op('mul', [q, y])]));
  if (op === 'mod') {
    const signs = asm.op('ne', [asm.op('lt', [rest, zero]), asm.op('lt', [y, zero])]);
    const moves = asm.op('and', [signs, asm.op('ne', [rest, zero])]);
    rest = asm.select(moves, asm.op('add', [rest, y]), rest);
  }
  return dtype === 'f64' ? rest : asm.convert('f32', rest);
}

export function scalarCast(asm: Asm, from: DType, to: DType, x: Reg): Reg {
  const source = scalarType(from);
  const target = scalarType(to);
  if (to === 'bool') {
    return asm.op('ne', [x, asm.const(source, source === 'i64' ? 0n : 0)]);
  }
  if (isFloat(from) && isFloat(to)) return source === target ? x : asm.convert(target, x);
  if (isFloat(to)) return asm.convert(target, x, { unsigned: isUnsigned(from) });
  if (isFloat(from)) {
    if (to === 'u32' || target === 'i64') return asm.convert(target, x, { unsigned: isUnsigned(to) });
    return saturate(asm, to, asm.convert('i32', x));
  }
  if (source === 'i64' && target === 'i32') return normalize(asm, to, asm.convert('i32', x));
  if (source === 'i32' && target === 'i64') return asm.convert('i64', x, { unsigned: isUnsigned(from) });
  return normalize(asm, to, x);
}

function saturate(asm: Asm, dtype: DType, x: Reg): Reg {
  if (DTYPES[dtype].bytes === 4) return x;
  const low = asm.const('i32', Number(DTYPES[dtype].min));
  const high = asm.const('i32', Number(DTYPES[dtype].max));
  const above = asm.select(asm.op('lt', [x, low]), low, x);
  return asm.select(asm.op('gt', [above, high]), high, above);
}

/** Same bits in another register type; narrow dtypes have none. */
export function scalarBitcast(asm: Asm, to: DType, x: Reg): Reg {
  const target: RegType = scalarType(to);
  return x.type === target ? x : asm.bitcast(target, x);
}

/**
 * f32 from the bits of an f16: exponent and mantissa moved into place, then scaled by 2^112, which is exact and turns f16's
 * subnormals into normal numbers.
 */
export function f16ToF32(asm: Asm, bits: Reg): Reg {
  const c = (value: number) => asm.const('i32', value | 0);
  const magnitude = asm.op('shl', [asm.op('and', [bits, c(0x7fff)]), c(13)]);
  const scaled = asm.bitcast('i32', asm.op('mul', [asm.bitcast('f32', magnitude), asm.const('f32', 2 ** 112)]));
  const special = asm.op('or', [magnitude, c(0x7f800000)]);
  const finite = asm.op('lt', [magnitude, c(0x0f800000)]);
  const sign = asm.op('shl', [asm.op('and', [bits, c(0x8000)]), c(16)]);
  return asm.bitcast('f32', asm.op('or', [asm.select(finite, scaled, special), sign]));
}

/** Bits of the f16 nearest to an f32, ties to even. Subnormals are rounded by adding 0.5, whose last place is 2^-24. */
export function f32ToF16(asm: Asm, x: Reg): Reg {
  const c = (value: number) => asm.const('i32', value | 0);
  const bits = asm.bitcast('i32', x);
  const abs = asm.op('and', [bits, c(0x7fffffff)]);
  const even = asm.op('and', [asm.op('shr_u', [abs, c(13)]), c(1)]);
  const normal = asm.op('shr_u', [asm.op('add', [asm.op('add', [abs, c(0xc8000fff)]), even]), c(13)]);
  const shifted = asm.op('add', [asm.bitcast('f32', abs), asm.const('f32', 0.5)]);
  const subnormal = asm.op('sub', [asm.bitcast('i32', shifted), c(0x3f000000)]);
  const finite = asm.select(asm.op('lt', [abs, c(0x38800000)]), subnormal, normal);
  const capped = asm.select(asm.op('lt', [abs, c(0x477ff000)]), finite, c(0x7c00));
  const half = asm.select(asm.op('gt', [abs, c(0x7f800000)]), c(0x7e00), capped);
  return asm.op('or', [half, asm.op('and', [asm.op('shr_u', [bits, c(16)]), c(0x8000)])]);
}

export const bf16ToF32 = (asm: Asm, bits: Reg): Reg => asm.bitcast('f32', asm.op('shl', [bits, asm.const('i32', 16)]));

/** The upper half, rounded to nearest even; a NaN keeps a quiet bit so that it cannot become an infinity. */
export function f32ToBf16(asm: Asm, x: Reg): Reg {
  const c = (value: number) => asm.const('i32', value | 0);
  const bits = asm.bitcast('i32', x);
  const even = asm.op('and', [asm.op('shr_u', [bits, c(16)]), c(1)]);
  const rounded = asm.op('shr_u', [asm.op('add', [asm.op('add', [bits, c(0x7fff)]), even]), c(16)]);
  const quiet = asm.op('or', [asm.op('shr_u', [bits, c(16)]), c(0x40)]);
  return asm.select(asm.op('ne', [x, x]), quiet, rounded);
}
