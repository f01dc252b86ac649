/**
 * Loop-IR operations on PTX registers, with the semantics of src/loop/ir.ts; registers.ts says how values are held.
 */
import { DTYPES, type DType, isBigInt, isFloat } from '../../core/dtype.ts';
import { Bug } from '../../core/errors.ts';
import { isHalf } from '../../loop/halves.ts';
import type { BinaryOp, UnaryOp } from '../../loop/ir.ts';
import { COMMON_OPS, type MachineOps } from '../../loop/legalize.ts';
import { divideBy, remainderBy } from './divide.ts';
import type { PtxKernel, Reg } from './ptx.ts';
import { bitsToF32, f32ToBits, instructionType, registerOf, roundHalf } from './registers.ts';

/** What scalarUnary and scalarBinary do themselves; the rest is legalized into these. */
export const CUDA_OPS: MachineOps = {
  unary: new Set([...COMMON_OPS.unary, 'isnan', 'isinf']),
  f32Unary: new Set(['exp']),
  binary: new Set([...COMMON_OPS.binary, 'floordiv']),
};

const isUnsigned = (dtype: DType): boolean => DTYPES[dtype].kind === 'uint';

/** Brings the result of 32-bit arithmetic back into the range of a narrow dtype. */
function normalize(k: PtxKernel, dtype: DType, x: Reg): Reg {
  const { bytes } = DTYPES[dtype];
  if (registerOf(dtype) !== 'b32' || bytes === 4) return x;
  if (isUnsigned(dtype)) return k.op('and.b32', x, 2 ** (8 * bytes) - 1);
  return k.op(bytes === 1 ? 'cvt.s32.s8' : 'cvt.s32.s16', x);
}

const ROUNDING: { readonly [op in UnaryOp]?: string } = { floor: 'rmi', ceil: 'rpi', round: 'rni', trunc: 'rzi' };

export function scalarUnary(k: PtxKernel, op: UnaryOp, dtype: DType, x: Reg): Reg {
  const type = instructionType(dtype);
  const float = isFloat(dtype);
  switch (op) {
    case 'not':
      return k.op('not.pred', x);
    case 'neg':
      return float ? k.op(`neg.${type}`, x) : normalize(k, dtype, k.op(`neg.${signed(type)}`, x));
    case 'abs':
      if (isUnsigned(dtype)) return x;
      return float ? k.op(`abs.${type}`, x) : normalize(k, dtype, k.op(`abs.${type}`, x));
    case 'sqrt':
      return k.op(`sqrt.rn.${type}`, x);
    case 'floor':
    case 'ceil':
    case 'round':
    case 'trunc':
      return float ? k.op(`cvt.${ROUNDING[op]}.${type}.${type}`, x) : x;
    case 'bitnot':
      return normalize(k, dtype, k.op(`not.${registerOf(dtype)}`, x));
    case 'isnan':
      return float ? k.op(`setp.nan.${type}`, x, x) : k.op('setp.ne.u32', k.op('mov.u32', 0), 0);
    case 'isinf':
      if (!float) return k.op('setp.ne.u32', k.op('mov.u32', 0), 0);
      return k.op(`setp.eq.${type}`, k.op(`abs.${type}`, x), Number.POSITIVE_INFINITY);
    case 'exp':
      return exponential(k, x);
    default:
      throw new Bug('cuda-unary', `${op} on ${dtype} should have been legalized before emission`);
  }
}

const signed = (type: string): string => type.replace('u', 's');

/**
 * e^x within 2 ulp: e^x = 2^n · 2^r, n = ⌊x·log2 e⌋ in [-126, 126], r the rest, x·log2 e in two parts.
 *
 *     t = ⌊252·clamp(x·log2 e / 252 + ½)⌋ + 1 in the low bits of a float32 near 1.5·2^23: n + 127, which is 2^n's exponent
 */
function exponential(k: PtxKernel, x: Reg): Reg {
  const unit = k.op('fma.rn.sat.f32', x, Math.LOG2E / 252, 0.5);
  const shifted = k.op('fma.rm.f32', unit, 252, 12582913);
  const n = k.op('add.f32', shifted, -12583039);
  const high = Math.fround(Math.LOG2E);
  const rest = k.op('fma.rn.f32', x, high, k.op('neg.f32', n));
  const power = k.op('ex2.approx.ftz.f32', k.op('fma.rn.f32', x, Math.LOG2E - high, rest));
  return k.op('mul.f32', power, bitsToF32(k, k.op('shl.b32', f32ToBits(k, shifted), 23)));
}

const COMPARE: ReadonlySet<BinaryOp> = new Set(['eq', 'ne', 'lt', 'le', 'gt', 'ge']);

/** What is known of a division: that the dividend is not negative, and the divisor where it is a constant. */
export interface Divisor {
  readonly nonNegative?: boolean;
  readonly divisor?: number;
}

/** `dtype` is that of the operands. */
export function scalarBinary(k: PtxKernel, op: BinaryOp, dtype: DType, a: Reg, b: Reg, known: Divisor = {}): Reg {
  if (dtype === 'bool') return boolBinary(k, op, a, b);
  const type = instructionType(dtype);
  // Unordered for ne: NaN differs from everything.
  if (COMPARE.has(op)) return k.op(`setp.${op === 'ne' && isFloat(dtype) ? 'neu' : op}.${type}`, a, b);
  if (isFloat(dtype)) return floatBinary(k, op, dtype, a, b);
  const width = registerOf(dtype);
  switch (op) {
    case 'add':
    case 'sub':
      return normalize(k, dtype, k.op(`${op}.${type}`, a, b));
    case 'mul':
      return normalize(k, dtype, k.op(`mul.lo.${type}`, a, b));
    case 'min':
    case 'max':
      return k.op(`${op}.${type}`, a, b);
    case 'bitand':
    case 'bitor':
    case 'bitxor':
      return k.op(`${op.slice(3)}.${width}`, a, b);
    case 'shl':
    case 'shr': {
      const count = k.op('and.b32', isBigInt(dtype) ? k.op('cvt.u32.u64', b) : b, isBigInt(dtype) ? 63 : 31);
      return op === 'shl' ? normalize(k, dtype, k.op(`shl.${width}`, a, count)) : k.op(`shr.${type}`, a, count);
    }
    case 'div':
    case 'rem':
      return normalize(k, dtype, integerDivision(k, op, dtype, a, b, known));
    case 'floordiv':
    case 'mod':
      return normalize(k, dtype, floorDivision(k, op, dtype, a, b, known));
    default:
      throw new Bug('cuda-binary', `${op} on ${dtype} should have been legalized before emission`);
  }
}

function boolBinary(k: PtxKernel, op: BinaryOp, a: Reg, b: Reg): Reg {
  const not = (p: Reg): Reg => k.op('not.pred', p);
  switch (op) {
    case 'and':
    case 'min':
    case 'mul':
    case 'bitand':
      return k.op('and.pred', a, b);
    case 'or':
    case 'max':
    case 'bitor':
      return k.op('or.pred', a, b);
    case 'xor':
    case 'bitxor':
    case 'ne':
      return k.op('xor.pred', a, b);
    case 'eq':
      return not(k.op('xor.pred', a, b));
    case 'lt':
      return k.op('and.pred', not(a), b);
    case 'gt':
      return k.op('and.pred', a, not(b));
    case 'le':
      return k.op('or.pred', not(a), b);
    case 'ge':
      return k.op('or.pred', a, not(b));
    default:
      throw new Bug('cuda-binary', `there is no ${op} on bool`);
  }
}

function floatBinary(k: PtxKernel, op: BinaryOp, dtype: DType, a: Reg, b: Reg): Reg {
  const type = instructionType(dtype);
  switch (op) {
    case 'add':
    case 'sub':
    case 'mul':
      return k.op(`${op}.${type}`, a, b);
    case 'div':
      return k.op(`div.rn.${type}`, a, b);
    case 'floordiv':
      return k.op(`cvt.rmi.${type}.${type}`, k.op(`div.rn.${type}`, a, b));
    case 'min':
    case 'max': {
      if (type === 'f32' && k.capability >= 80) return k.op(`${op}.NaN.f32`, a, b);
      return k.op(
        `selp.${type}`,
        k.op(`add.${type}`, a, b),
        k.op(`${op}.${type}`, a, b),
        k.op(`setp.nan.${type}`, a, b),
      );
    }
    case 'rem':
    case 'mod':
      return floatRemainder(k, op, dtype, a, b);
    default:
      throw new Bug('cuda-binary', `${op} on ${dtype} should have been legalized before emission`);
  }
}

/** Truncating division, 0 where the divisor is 0. */
function integerDivision(k: PtxKernel, op: 'div' | 'rem', dtype: DType, a: Reg, b: Reg, known: Divisor): Reg {
  const { divisor } = known;
  const type = instructionType(dtype);
  if (known.nonNegative && divisor !== undefined && divisor > 0) {
    return op === 'div' ? divideBy(k, a, divisor) : remainderBy(k, a, divisor);
  }
  const quotient = k.op(`${op}.${type}`, a, b);
  if (divisor !== undefined && divisor !== 0) return quotient;
  const zero = isBigInt(dtype) ? 0n : 0;
  return k.op(`selp.${type}`, zero, quotient, k.op(`setp.eq.${type}`, b, zero));
}

/** Rounds the quotient toward minus infinity: one less than truncation where the signs differ and the remainder is not 0. */
function floorDivision(k: PtxKernel, op: 'floordiv' | 'mod', dtype: DType, a: Reg, b: Reg, known: Divisor): Reg {
  const plain = op === 'mod' ? 'rem' : 'div';
  const positive = known.divisor !== undefined && known.divisor > 0;
  if (isUnsigned(dtype) || (known.nonNegative && positive)) return integerDivision(k, plain, dtype, a, b, known);
  const type = instructionType(dtype);
  const zero = isBigInt(dtype) ? 0n : 0;
  const rem = integerDivision(k, 'rem', dtype, a, b, known);
  const signs = k.op(`setp.lt.${type}`, k.op(`xor.${registerOf(dtype)}`, rem, b), zero);
  const adjust = k.op('and.pred', signs, k.op(`setp.ne.${type}`, rem, zero));
  if (op === 'mod') return k.op(`selp.${type}`, k.op(`add.${type}`, rem, b), rem, adjust);
  const quotient = integerDivision(k, 'div', dtype, a, b, known);
  return k.op(`selp.${type}`, k.op(`sub.${type}`, quotient, isBigInt(dtype) ? 1n : 1), quotient, adjust);
}

/**
 * a - q·b in float64 with q = a/b truncated; a itself where q is 0, which keeps -0 and allows an infinite b. mod moves a remainder
 * whose sign is not the divisor's into the divisor's range.
 */
function floatRemainder(k: PtxKernel, op: 'rem' | 'mod', dtype: DType, a: Reg, b: Reg): Reg {
  const [x, y] = dtype === 'f64' ? [a, b] : [k.op('cvt.f64.f32', a), k.op('cvt.f64.f32', b)];
  const q = k.op('cvt.rzi.f64.f64', k.op('div.rn.f64', x, y));
  const reduced = k.op('sub.rn.f64', x, k.op('mul.rn.f64', q, y));
  let rest = k.op('selp.f64', x, reduced, k.op('setp.eq.f64', q, 0));
  if (op === 'mod') {
    const signs = k.op('xor.pred', k.op('setp.lt.f64', rest, 0), k.op('setp.lt.f64', y, 0));
    const moves = k.op('and.pred', signs, k.op('setp.neu.f64', rest, 0));
    rest = k.op('selp.f64', k.op('add.f64', rest, y), rest, moves);
  }
  return dtype === 'f64' ? rest : k.op('cvt.rn.f32.f64', rest);
}

export function scalarCast(k: PtxKernel, from: DType, to: DType, x: Reg): Reg {
  const [source, target] = [registerOf(from), registerOf(to)];
  const [fromType, toType] = [instructionType(from), instructionType(to)];
  if (from === 'bool') {
    if (to === 'bool') return x;
    const [one, zero] = isBigInt(to) ? [1n, 0n] : [1, 0];
    return k.op(`selp.${toType}`, one, zero, x);
  }
  if (to === 'bool') return k.op(`setp.${isFloat(from) ? 'neu' : 'ne'}.${fromType}`, x, isBigInt(from) ? 0n : 0);
  if (isFloat(to)) {
    const wide = isFloat(from)
      ? source === target
        ? x
        : k.op(to === 'f64' ? 'cvt.f64.f32' : 'cvt.rn.f32.f64', x)
      : k.op(`cvt.rn.${toType}.${fromType}`, x);
    return isHalf(to) && from !== to ? roundHalf(k, to, wide) : wide;
  }
  if (isFloat(from)) return floatToInteger(k, from, to, x);
  if (source === 'b64') return target === 'b64' ? x : normalize(k, to, k.op('cvt.u32.u64', x));
  if (target === 'b64') return k.op(isUnsigned(from) ? 'cvt.u64.u32' : 'cvt.s64.s32', x);
  return normalize(k, to, x);
}

/** Truncates and saturates; NaN gives 0. The instruction clamps to the type it names. */
function floatToInteger(k: PtxKernel, from: DType, to: DType, x: Reg): Reg {
  const { kind, bytes } = DTYPES[to];
  const fromType = instructionType(from);
  const toType = instructionType(to);
  const name = `${kind === 'uint' ? 'u' : 's'}${bytes * 8}`;
  const whole = k.op(`cvt.rzi.${name}.${fromType}`, x);
  return k.op(`selp.${toType}`, isBigInt(to) ? 0n : 0, whole, k.op(`setp.nan.${fromType}`, x, x));
}

/** Same bits in another register type. */
export function scalarBitcast(k: PtxKernel, to: DType, x: Reg): Reg {
  const target = registerOf(to);
  if (target === x.type) return x;
  if (target === 'f32') return bitsToF32(k, x);
  if (x.type === 'f32') return f32ToBits(k, x);
  return k.op(target === 'f64' ? 'mov.b64#toF64' : 'mov.b64#ofF64', x);
}
