/**
 * Loop-IR operations on vector registers: f32 as vf32, i32 as vi32, i8 and u8 as vi32 of their value, bool as a vi32 mask of all ones
 * or zeros.
 *
 * Each function returns undefined where the machine has no vector form; the emitter then works lane by lane.
 */
import { DTYPES, type DType } from '../../core/dtype.ts';
import type { BinaryOp, UnaryOp } from '../../loop/ir.ts';
import type { Asm, AsmOp, MemType, Reg } from './asm.ts';

const BYTES: readonly DType[] = ['i8', 'u8'];
const isByte = (dtype: DType): boolean => BYTES.includes(dtype);
/** Dtypes that fit 32-bit lanes. */
export const isVectorDType = (dtype: DType): boolean =>
  dtype === 'f32' || dtype === 'i32' || dtype === 'bool' || isByte(dtype);
/** How elements that lie one behind the other come into lanes; undefined: one by one. */
export const LANE_MEMORY: Partial<Readonly<Record<DType, MemType>>> = {
  f32: 'vf32',
  i32: 'vi32',
  i8: 'lanesi8',
  u8: 'lanesu8',
};
export const vectorType = (dtype: DType): 'vf32' | 'vi32' => (dtype === 'f32' ? 'vf32' : 'vi32');
export const isVector = (reg: Reg): boolean => reg.type === 'vf32' || reg.type === 'vi32';

const FLOAT_UNARY: Partial<Record<UnaryOp, AsmOp>> = {
  neg: 'neg',
  abs: 'abs',
  sqrt: 'sqrt',
  floor: 'floor',
  ceil: 'ceil',
  trunc: 'trunc',
  round: 'nearest',
};
const INTEGER_UNARY: Partial<Record<UnaryOp, AsmOp>> = { neg: 'neg', abs: 'abs', bitnot: 'not' };

/** Lanes brought into the range of a byte as wrapping does. */
export function wrapped(asm: Asm, dtype: DType, x: Reg): Reg {
  if (dtype === 'u8') return asm.op('and', [x, asm.const('vi32', 0xff)]);
  if (dtype !== 'i8') return x;
  const bits = asm.const('i32', 24);
  return asm.op('shr', [asm.op('shl', [x, bits]), bits]);
}

export function vectorUnary(asm: Asm, op: UnaryOp, dtype: DType, x: Reg): Reg | undefined {
  if (dtype === 'bool') return op === 'not' ? asm.op('not', [x]) : undefined;
  const done = plainUnary(asm, op, dtype, x);
  return done && INTEGER_UNARY[op] ? wrapped(asm, dtype, done) : done;
}

function plainUnary(asm: Asm, op: UnaryOp, dtype: DType, x: Reg): Reg | undefined {
  const plain = (dtype === 'f32' ? FLOAT_UNARY : INTEGER_UNARY)[op];
  if (plain) return asm.op(plain, [x]);
  const c = (value: number) => asm.const(x.type, value);
  switch (op) {
    case 'floor':
    case 'ceil':
    case 'trunc':
    case 'round':
      return x;
    case 'sign': {
      const negative = asm.select(asm.op('lt', [x, c(0)]), c(-1), x);
      return asm.select(asm.op('gt', [x, c(0)]), c(1), negative);
    }
    case 'isnan':
      return dtype === 'f32' ? asm.op('ne', [x, x]) : undefined;
    case 'isinf':
      return dtype === 'f32' ? asm.op('eq', [asm.op('abs', [x]), c(Number.POSITIVE_INFINITY)]) : undefined;
    default:
      return undefined;
  }
}

const COMPARE: ReadonlySet<BinaryOp> = new Set(['eq', 'ne', 'lt', 'le', 'gt', 'ge']);
const LOGIC: Partial<Record<BinaryOp, AsmOp>> = {
  and: 'and',
  or: 'or',
  xor: 'xor',
  bitand: 'and',
  bitor: 'or',
  bitxor: 'xor',
};

/** `dtype` is that of the operands. Shifts take their count as a scalar: see vectorShift. */
export function vectorBinary(asm: Asm, op: BinaryOp, dtype: DType, a: Reg, b: Reg): Reg | undefined {
  const logic = LOGIC[op];
  if (logic) return dtype === 'f32' ? undefined : asm.op(logic, [a, b]);
  if (dtype === 'bool') return op === 'eq' ? asm.op('eq', [a, b]) : op === 'ne' ? asm.op('xor', [a, b]) : undefined;
  if (COMPARE.has(op)) return asm.op(op as AsmOp, [a, b]);
  switch (op) {
    case 'add':
    case 'sub':
    case 'mul':
      return wrapped(asm, dtype, asm.op(op, [a, b]));
    case 'min':
    case 'max':
      return asm.op(op, [a, b]);
    case 'div':
      return dtype === 'f32' ? asm.op('div', [a, b]) : undefined;
    case 'floordiv':
      return dtype === 'f32' ? asm.op('floor', [asm.op('div', [a, b])]) : undefined;
    default:
      return undefined;
  }
}

/** All lanes shifted by the same scalar count. */
export const vectorShift = (asm: Asm, op: 'shl' | 'shr', x: Reg, count: Reg): Reg => asm.op(op, [x, count]);

export function vectorCast(asm: Asm, from: DType, to: DType, x: Reg): Reg | undefined {
  if (to === 'bool') return asm.op('ne', [x, asm.const(x.type, 0)]);
  if (from === 'bool') {
    if (to === 'f32') return asm.bitcast('vf32', asm.op('and', [x, asm.const('vi32', 0x3f800000)]));
    return asm.op('and', [x, asm.const('vi32', 1)]);
  }
  if (!isByte(to)) return asm.convert(vectorType(to), x);
  if (from !== 'f32') return wrapped(asm, to, x);
  const [low, high] = [DTYPES[to].min, DTYPES[to].max].map((limit) => asm.const('vi32', Number(limit)));
  return asm.op('min', [asm.op('max', [asm.convert('vi32', x), low]), high]);
}
