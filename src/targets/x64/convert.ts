/**
 * Conversions between register types. Float to integer truncates and saturates, NaN gives 0: the machine's own conversions give the
 * smallest integer for all that does not fit (Intel's manual, volume 1, 4.8.3.7), so values are clamped before or mended after.
 */
import { Bug } from '../../core/errors.ts';
import type { AsmOp, ConvertOptions, Reg, RegType } from '../cpu/asm.ts';
import type { Builder } from './builder.ts';
import { imm, type Register } from './encode.ts';
import { floatOp, suffixOf } from './float-ops.ts';
import { vectorIntegerOp } from './vector-integer-ops.ts';

/** Operations of the assembler, for conversions that are several. */
export interface Ops {
  op(op: AsmOp, args: readonly Reg[]): Reg;
  select(cond: Reg, a: Reg, b: Reg): Reg;
}

/** Predicate of vcmpps: neither is NaN. */
const ORDERED = 7;
const isGeneral = (type: RegType): boolean => type === 'i32' || type === 'i64' || type === 'ptr';

export function convert(b: Builder, ops: Ops, to: RegType, x: Reg, options: ConvertOptions): Reg {
  const isUnsigned = options.unsigned ?? false;
  const from = x.type;
  if (from === to) return moved(b, to, x);
  if (isGeneral(from) && isGeneral(to)) return resize(b, to, x, isUnsigned);
  if (isGeneral(from) && (to === 'f32' || to === 'f64')) return floatOf(b, ops, to, x, isUnsigned);
  if ((from === 'f32' || from === 'f64') && isGeneral(to)) return integerOf(b, ops, to, x, isUnsigned);
  if (from === 'f32' && to === 'f64') return ofScalar(b, 'vcvtss2sd', to, x);
  if (from === 'f64' && to === 'f32') return ofScalar(b, 'vcvtsd2ss', to, x);
  if (from === 'vi32' && to === 'vf32') return floatsOf(b, ops, x, isUnsigned);
  if (from === 'vf32' && to === 'vi32') return isUnsigned ? unsignedsOf(b, ops, x) : integersOf(b, x, options.isBelow);
  throw new Bug('asm-op', `the assembler has no conversion of ${from} to ${to} on x64`);
}

function moved(b: Builder, to: RegType, x: Reg): Reg {
  const result = b.reg(to);
  b.move(result, x);
  return result;
}

function ofScalar(b: Builder, name: 'vcvtss2sd' | 'vcvtsd2ss', to: RegType, x: Reg): Reg {
  const result = b.reg(to);
  const source = b.use(x);
  b.emit(name, b.into(result), source, source);
  return result;
}

/** An i32 grows by its sign, or by zeros; what shrinks loses its upper half. */
function resize(b: Builder, to: RegType, x: Reg, isUnsigned: boolean): Reg {
  const result = b.reg(to);
  const source = b.use(x);
  if (x.type !== 'i32') b.copy(result.id, source.n, to);
  else if (isUnsigned) b.emit('mov', { kind: 'r32', n: result.id }, source);
  else b.emit('movsxd', b.into(result), source);
  return result;
}

function floatOf(b: Builder, ops: Ops, to: 'f32' | 'f64', x: Reg, isUnsigned: boolean): Reg {
  if (x.type === 'i32') return signedFloatOf(b, to, isUnsigned ? b.use(resize(b, 'i64', x, true)) : b.use(x));
  if (!isUnsigned) return signedFloatOf(b, to, b.use(x));
  // Above the signed range: half of x, its lowest bit kept for rounding, converted and doubled.
  const isBig = ops.op('lt', [{ ...x, type: 'i64' }, b.constant('i64', 0)]);
  const half = ops.op('or', [ops.op('shr_u', [x, b.constant('i64', 1)]), ops.op('and', [x, b.constant('i64', 1)])]);
  const converted = signedFloatOf(b, to, b.use(ops.select(isBig, half, x)));
  return ops.select(isBig, ops.op('add', [converted, converted]), converted);
}

/** The upper lanes come from a register that is cleared, so that nothing earlier is waited for. */
function signedFloatOf(b: Builder, to: 'f32' | 'f64', source: Register): Reg {
  const result = b.reg(to);
  const cleared = b.into(b.reg(to));
  b.zero(cleared.n);
  b.emit(to === 'f32' ? 'vcvtsi2ss' : 'vcvtsi2sd', b.into(result), cleared, source);
  return result;
}

function integerOf(b: Builder, ops: Ops, to: RegType, x: Reg, isUnsigned: boolean): Reg {
  if (to === 'i32') {
    const wide = x.type === 'f32' ? convert(b, ops, 'f64', x, {}) : x;
    const [low, high] = isUnsigned ? [0, 2 ** 32 - 1] : [-(2 ** 31), 2 ** 31 - 1];
    const clamped = ops.op('min', [
      ops.op('max', [withoutNaN(b, wide), b.constant('f64', low)]),
      b.constant('f64', high),
    ]);
    return truncated(b, to, clamped);
  }
  const c = (value: number): Reg => b.constant(x.type, value);
  if (!isUnsigned) {
    const result = truncated(b, to, withoutNaN(b, x));
    return ops.select(ops.op('ge', [x, c(2 ** 63)]), b.constant('i64', 2n ** 63n - 1n), result);
  }
  const isBig = ops.op('ge', [x, c(2 ** 63)]);
  const low = truncated(b, to, ops.select(isBig, ops.op('sub', [x, c(2 ** 63)]), x));
  const result = ops.op('xor', [low, ops.select(isBig, b.constant('i64', -(2n ** 63n)), b.constant('i64', 0))]);
  const bounded = ops.select(ops.op('ge', [x, c(2 ** 64)]), b.constant('i64', -1), result);
  return ops.select(ops.op('gt', [x, c(0)]), bounded, b.constant('i64', 0));
}

/** By way of 64 bits, which hold every i32 and u32. */
function truncated(b: Builder, to: RegType, x: Reg): Reg {
  const result = b.reg(to);
  b.emit(x.type === 'f32' ? 'vcvttss2si' : 'vcvttsd2si', { kind: 'r64', n: result.id }, b.source(x));
  return result;
}

/** x, or 0 where it is NaN. */
function withoutNaN(b: Builder, x: Reg): Reg {
  const result = b.reg(x.type);
  const source = b.use(x);
  if (source.kind === 'zmm') {
    const ordered = b.mask();
    b.emit('vcmpps_k', ordered, source, source, imm(ORDERED));
    b.emit('vblendmps', b.into(result), b.use(b.constant('vf32', 0)), source, ordered);
    return result;
  }
  const mask = b.into(b.reg(x.type));
  b.emit(`vcmp${suffixOf(x.type)}`, mask, source, source, imm(ORDERED));
  b.emit('vandps', b.into(result), source, mask);
  return result;
}

function floatsOf(b: Builder, ops: Ops, x: Reg, isUnsigned: boolean): Reg {
  if (isUnsigned) {
    // high · 2^16 and low are exact: only their sum is rounded.
    const high = floatsOf(b, ops, ops.op('shr_u', [x, b.constant('vi32', 16)]), false);
    const low = floatsOf(b, ops, ops.op('and', [x, b.constant('vi32', 0xffff)]), false);
    return ops.op('add', [ops.op('mul', [high, b.constant('vf32', 65536)]), low]);
  }
  const result = b.reg('vf32');
  b.emit('vcvtdq2ps', b.into(result), b.source(x));
  return result;
}

/** What is too large comes out as 0x80000000; inverting it there gives the largest integer. */
function integersOf(b: Builder, x: Reg, isBelow = false): Reg {
  const raw = b.reg('vi32');
  b.emit('vcvttps2dq', b.into(raw), b.use(withoutNaN(b, x)));
  if (isBelow) return raw;
  const isBig = floatOp(b, 'ge', [x, b.constant('vf32', 2 ** 31)], undefined);
  return vectorIntegerOp(b, 'xor', [raw, isBig], undefined);
}

function unsignedsOf(b: Builder, ops: Ops, x: Reg): Reg {
  const positive = ops.op('max', [withoutNaN(b, x), b.constant('vf32', 0)]);
  const c = (value: number): Reg => b.constant('vf32', value);
  const isBig = ops.op('ge', [positive, c(2 ** 31)]);
  const low = integersOf(b, ops.select(isBig, ops.op('sub', [positive, c(2 ** 31)]), positive));
  const result = ops.op('xor', [low, ops.op('and', [isBig, b.constant('vi32', -(2 ** 31))])]);
  return ops.op('or', [result, ops.op('ge', [x, c(2 ** 32)])]);
}
