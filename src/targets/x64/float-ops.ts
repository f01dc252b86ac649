/**
 * Operations on floats, scalar in xmm registers and all lanes of a vector, by the same table with another suffix.
 *
 * Minimum and maximum are those of IEEE 754-2019: NaN where one operand is NaN, and -0 below +0. `vminps` gives its second source in
 * both cases, so both orders are taken and joined (Intel's manual, volume 2, MINPS).
 */
import { Bug } from '../../core/errors.ts';
import type { AsmOp, Reg, RegType } from '../cpu/asm.ts';
import type { Builder } from './builder.ts';
import { imm, type Memory, type Register } from './encode.ts';
import type { InstructionName } from './instructions.ts';

type Suffix = 'ss' | 'sd' | 'ps';
const SUFFIXES: Partial<Record<RegType, Suffix>> = { f32: 'ss', f64: 'sd', vf32: 'ps' };
const ARITHMETIC: Partial<Record<AsmOp, 'vadd' | 'vsub' | 'vmul' | 'vdiv'>> = {
  add: 'vadd',
  sub: 'vsub',
  mul: 'vmul',
  div: 'vdiv',
};
/** Immediates of vroundps: volume 2, ROUNDPS, figure 4-24. Bit 3 leaves the inexact exception alone. */
const ROUNDINGS: Partial<Record<AsmOp, number>> = { nearest: 8, floor: 9, ceil: 10, trunc: 11 };
/** Predicates of vcmpps: volume 2, CMPPD, table 3-1. Ordered but for ne. */
const PREDICATES: Partial<Record<AsmOp, number>> = { eq: 0, lt: 1, le: 2, ne: 4, ge: 13, gt: 14 };
/** What vucomiss of the greater and the less tells by its flags: false where one is NaN (volume 2, UCOMISS). */
const ORDERS: Partial<Record<AsmOp, readonly [condition: 'a' | 'ae', greaterFirst: boolean]>> = {
  gt: ['a', true],
  ge: ['ae', true],
  lt: ['a', false],
  le: ['ae', false],
};
const BITS: Partial<Record<AsmOp, InstructionName>> = { and: 'vandps', or: 'vorps', xor: 'vxorps' };

export function suffixOf(type: RegType): Suffix {
  const suffix = SUFFIXES[type];
  if (!suffix) throw new Bug('asm-op', `${type} is no float on x64`);
  return suffix;
}

export function floatOp(b: Builder, op: AsmOp, args: readonly Reg[], into: Reg | undefined): Reg {
  const { type } = args[0];
  const suffix = suffixOf(type);
  const arithmetic = ARITHMETIC[op];
  const rounding = ROUNDINGS[op];
  const predicate = PREDICATES[op];
  const bits = BITS[op];
  const order = type === 'vf32' ? undefined : ORDERS[op];
  if (order) return compareOrder(b, order, args, into);
  if (predicate !== undefined) return compare(b, predicate, args, into);
  const result = b.result(type, into);
  if (arithmetic) {
    const swap = (op === 'add' || op === 'mul') && b.known(args[0]) !== undefined;
    const [x, y] = swap ? [args[1], args[0]] : args;
    b.emit(`${arithmetic}${suffix}`, b.into(result), b.use(x), b.source(y));
  } else if (rounding !== undefined) {
    const isWide = type === 'vf32' && b.lanes === 16;
    unary(b, isWide ? 'vrndscaleps' : `vround${suffix}`, args[0], result, imm(rounding));
  } else if (op === 'sqrt') unary(b, `vsqrt${suffix}`, args[0], result);
  else if (op === 'neg') b.emit('vxorps', b.into(result), b.use(args[0]), signMask(b, type));
  else if (op === 'abs') b.emit('vandps', b.into(result), b.use(args[0]), absMask(b, type));
  else if (op === 'min') minimum(b, args, suffix, result);
  else if (op === 'max') maximum(b, args, suffix, result);
  else if (bits && type === 'vf32') b.emit(bits, b.into(result), b.use(args[0]), b.source(args[1]));
  else if (op === 'not' && type === 'vf32') {
    b.emit('vxorps', b.into(result), b.use(args[0]), b.source(b.constant('vi32', -1)));
  } else throw new Bug('asm-op', `the assembler has no ${op} of ${type} on x64`);
  return result;
}

/** The scalar forms take their upper lanes from a source of their own. */
function unary(
  b: Builder,
  name: InstructionName,
  x: Reg,
  result: Reg,
  ...rest: readonly ReturnType<typeof imm>[]
): void {
  if (x.type === 'vf32') b.emit(name, b.into(result), b.source(x), ...rest);
  else {
    const source = b.use(x);
    b.emit(name, b.into(result), source, source, ...rest);
  }
}

/** Whole registers of masks: bitwise instructions have no scalar form. */
function signMask(b: Builder, type: RegType): Memory {
  return type === 'f64' ? b.pool('i64', -(2n ** 63n), 2) : b.pool('vi32', -(2 ** 31), type === 'f32' ? 4 : b.lanes);
}
function absMask(b: Builder, type: RegType): Memory {
  return type === 'f64' ? b.pool('i64', 2n ** 63n - 1n, 2) : b.pool('vi32', 2 ** 31 - 1, type === 'f32' ? 4 : b.lanes);
}

/** An ordinary number that is not 0: against it either order of operands does for all that is not NaN. */
function isPlain(value: number | bigint | undefined): boolean {
  return value !== undefined && Number(value) !== 0 && !Number.isNaN(Number(value));
}

/** min(x, y) | min(y, x): where the two differ they are x and y, one a NaN or both zeros. */
function minimum(b: Builder, [x, y]: readonly Reg[], suffix: Suffix, result: Reg): void {
  if (isPlain(b.known(x)) || isPlain(b.known(y))) {
    plainExtremum(b, `vmin${suffix}`, x, y, result);
    return;
  }
  const { one, other } = bothOrders(b, `vmin${suffix}`, x, y);
  b.emit('vorps', b.into(result), one, other);
}

/** d = max(x, y) ^ max(y, x); (max(x, y) | d) - d: -0 and +0 give -0 - -0 = +0, NaN stays NaN, others lose nothing to d = 0. */
function maximum(b: Builder, [x, y]: readonly Reg[], suffix: Suffix, result: Reg): void {
  if (isPlain(b.known(x)) || isPlain(b.known(y))) {
    plainExtremum(b, `vmax${suffix}`, x, y, result);
    return;
  }
  const zero = [x, y].find((reg) => Object.is(b.known(reg), 0));
  if (zero) {
    // NaN and -0 come through as the second source; adding +0 makes -0 +0.
    const other = zero === x ? y : x;
    const greater = b.reg(result.type);
    b.emit(`vmax${suffix}`, b.into(greater), b.use(zero), b.source(other));
    b.emit(`vadd${suffix}`, b.into(result), b.into(greater), b.use(zero));
    return;
  }
  const { one, other } = bothOrders(b, `vmax${suffix}`, x, y);
  const difference = b.into(b.reg(result.type));
  const joined = b.into(b.reg(result.type));
  b.emit('vxorps', difference, one, other);
  b.emit('vorps', joined, one, difference);
  b.emit(`vsub${suffix}`, b.into(result), joined, difference);
}

function plainExtremum(b: Builder, name: InstructionName, x: Reg, y: Reg, result: Reg): void {
  const [plain, other] = isPlain(b.known(x)) ? [x, y] : [y, x];
  b.emit(name, b.into(result), b.use(plain), b.source(other));
}

function bothOrders(b: Builder, name: InstructionName, x: Reg, y: Reg): { one: Register; other: Register } {
  const first = b.use(x);
  const second = b.use(y);
  const one = b.into(b.reg(x.type));
  const other = b.into(b.reg(x.type));
  b.emit(name, one, first, second);
  b.emit(name, other, second, first);
  return { one, other };
}

/** Whether one scalar is greater, in the flags for who asks at once. */
function compareOrder(
  b: Builder,
  [condition, greaterFirst]: readonly [condition: 'a' | 'ae', greaterFirst: boolean],
  [x, y]: readonly Reg[],
  into: Reg | undefined,
): Reg {
  const [greater, less] = greaterFirst ? [x, y] : [y, x];
  const truth = b.reg('i32');
  const result = b.result('i32', into);
  b.emit(x.type === 'f64' ? 'vucomisd' : 'vucomiss', b.use(greater), b.source(less));
  b.emit(`set${condition}`, { kind: 'r8', n: truth.id });
  b.emit('movzx_8', b.into(result), { kind: 'r8', n: truth.id });
  b.keepFlags(result, condition);
  return result;
}

/** On vectors a mask; a scalar's mask comes to a general register, of which one bit is kept. */
function compare(b: Builder, predicate: number, [x, y]: readonly Reg[], into: Reg | undefined): Reg {
  const suffix = suffixOf(x.type);
  if (suffix === 'ps' && b.lanes === 16) {
    const mask = b.mask();
    b.emit('vcmpps_k', mask, b.use(x), b.source(y), imm(predicate));
    return b.spread(mask, into);
  }
  if (suffix === 'ps') {
    const result = b.result('vi32', into);
    b.emit('vcmpps', b.into(result), b.use(x), b.source(y), imm(predicate));
    return result;
  }
  const mask = b.into(b.reg(x.type));
  const truth = b.reg('i32');
  const result = b.result('i32', into);
  b.emit(`vcmp${suffix}`, mask, b.use(x), b.source(y), imm(predicate));
  b.emit('vmovd_mr', b.into(truth), mask);
  b.emit('and_i', b.into(truth), imm(1));
  b.move(result, truth);
  return result;
}
