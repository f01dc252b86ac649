/**
 * Operations on integers in general registers: i32, i64, and addresses, whose comparisons are unsigned.
 *
 * Most instructions write over their first operand, so operands are copied first; the copies vanish where the operand is not needed
 * later. Division by 0 gives 0, its remainder too, and the smallest integer divided by -1 wraps: those two divisors take a way of
 * their own around `idiv`, which would trap.
 */
import { Bug } from '../../core/errors.ts';
import type { AsmOp, Reg } from '../cpu/asm.ts';
import type { Builder } from './builder.ts';
import { imm, mem, RAX, RCX, RDX, type Register, r64 } from './encode.ts';
import type { Condition, InstructionName } from './instructions.ts';

const ALU: Partial<Record<AsmOp, 'add' | 'sub' | 'and' | 'or' | 'xor'>> = {
  add: 'add',
  sub: 'sub',
  and: 'and',
  or: 'or',
  xor: 'xor',
};
const COMMUTES: ReadonlySet<AsmOp> = new Set(['add', 'mul', 'and', 'or', 'xor', 'min', 'max', 'eq', 'ne']);

const SIGNED: Partial<Record<AsmOp, Condition>> = {
  eq: 'e',
  ne: 'ne',
  lt: 'l',
  le: 'le',
  gt: 'g',
  ge: 'ge',
  lt_u: 'b',
  gt_u: 'a',
};
const UNSIGNED: Partial<Record<AsmOp, Condition>> = { ...SIGNED, lt: 'b', le: 'be', gt: 'a', ge: 'ae' };
/** The condition of b ⋚ a where that of a ⋚ b is given. */
const MIRRORED: Partial<Record<Condition, Condition>> = {
  l: 'g',
  le: 'ge',
  g: 'l',
  ge: 'le',
  b: 'a',
  be: 'ae',
  a: 'b',
  ae: 'be',
};

const SHIFTS: Partial<Record<AsmOp, readonly [byImmediate: InstructionName, byRegister: InstructionName]>> = {
  shl: ['shl_i', 'shlx'],
  shr: ['sar_i', 'sarx'],
  shr_u: ['shr_i', 'shrx'],
};

export function integerOp(b: Builder, op: AsmOp, args: readonly Reg[], into: Reg | undefined): Reg {
  const x = args[0];
  const y = args[1];
  const condition = (x.type === 'ptr' ? UNSIGNED : SIGNED)[op];
  if (condition) return compare(b, condition, x, y, into);
  if (y && COMMUTES.has(op) && b.known(x) !== undefined && b.known(y) === undefined) {
    return integerOp(b, op, [y, x], into);
  }
  const result = b.result(x.type, into);
  const alu = ALU[op];
  const shift = SHIFTS[op];
  if (alu) arithmetic(b, alu, x, y, result);
  else if (shift) shiftBy(b, shift, x, y, result);
  else if (op === 'mul') multiply(b, x, y, result);
  else if (op === 'min' || op === 'max') extremum(b, op, x, y, result);
  else if (op === 'neg' || op === 'not') {
    b.move(result, x);
    b.emit(op, b.into(result));
  } else if (op === 'abs') {
    // The sign flag is set where -x is negative: there x is the greater one.
    const negative = b.reg(x.type);
    b.move(negative, x);
    b.emit('neg', b.into(negative));
    b.emit('cmovs', b.into(negative), b.use(x));
    b.move(result, negative);
  } else if (op === 'div' || op === 'rem' || op === 'div_u' || op === 'rem_u') divide(b, op, x, y, result);
  else throw new Bug('asm-op', `the assembler has no ${op} of ${x.type} on x64`);
  return result;
}

/** A copy of x that an instruction may write over: the result, unless that would lose y. */
function copied(b: Builder, x: Reg, y: Reg, result: Reg): Reg {
  const target = result.id === y.id && x.id !== y.id ? b.reg(result.type) : result;
  b.move(target, x);
  return target;
}

function arithmetic(b: Builder, name: 'add' | 'sub' | 'and' | 'or' | 'xor', x: Reg, y: Reg, result: Reg): void {
  const immediate = b.immediate(y);
  const isCopied = result.id !== x.id && b.known(x) === undefined;
  if (isCopied && immediate !== undefined && (name === 'add' || name === 'sub') && immediate !== -(2 ** 31)) {
    b.emit('lea', b.into(result), mem(x.id, name === 'add' ? immediate : -immediate));
    return;
  }
  if (isCopied && immediate === undefined && name === 'add' && y.type === x.type) {
    b.emit('lea', b.into(result), mem(x.id, 0, b.use(y).n));
    return;
  }
  if (name !== 'sub' && result.id === y.id && result.id !== x.id) {
    arithmetic(b, name, y, x, result);
    return;
  }
  const operand = immediate === undefined ? wideOperand(b, y, x) : undefined;
  const target = copied(b, x, y, result);
  if (operand) b.emit(name, b.into(target), operand);
  else b.emit(`${name}_i`, b.into(target), imm(immediate as number));
  b.move(result, target);
}

/** y in a register as wide as x: an i32 beside an address or an i64 extends its sign. */
function wideOperand(b: Builder, y: Reg, x: Reg): Register {
  if (y.type !== 'i32' || x.type === 'i32') return b.use(y);
  const wide = b.reg('i64');
  b.emit('movsxd', b.into(wide), b.use(y));
  return b.into(wide);
}

function shiftBy(
  b: Builder,
  [byImmediate, byRegister]: readonly [InstructionName, InstructionName],
  x: Reg,
  y: Reg,
  result: Reg,
): void {
  const count = b.known(y);
  if (count === undefined) {
    b.emit(byRegister, b.into(result), b.use(x), { kind: b.into(x).kind, n: y.id });
    return;
  }
  b.move(result, x);
  b.emit(byImmediate, b.into(result), imm(Number(BigInt.asUintN(x.type === 'i32' ? 5 : 6, BigInt(count)))));
}

function multiply(b: Builder, x: Reg, y: Reg, result: Reg): void {
  const immediate = b.immediate(y);
  const shift = immediate === undefined ? -1 : Math.log2(immediate);
  if (Number.isInteger(shift) && shift >= 0) {
    b.move(result, x);
    b.emit('shl_i', b.into(result), imm(shift));
    return;
  }
  if (immediate !== undefined) {
    b.emit('imul_i', b.into(result), b.use(x), imm(immediate));
    return;
  }
  if (result.id === y.id && result.id !== x.id) {
    multiply(b, y, x, result);
    return;
  }
  const operand = wideOperand(b, y, x);
  b.move(result, x);
  b.emit('imul', b.into(result), operand);
}

function extremum(b: Builder, op: 'min' | 'max', x: Reg, y: Reg, result: Reg): void {
  const other = b.use(y);
  const target = b.reg(x.type);
  b.move(target, x);
  b.emit('cmp', b.into(target), other);
  const less = x.type === 'ptr' ? 'cmovb' : 'cmovl';
  const greater = x.type === 'ptr' ? 'cmova' : 'cmovg';
  b.emit(op === 'min' ? greater : less, b.into(target), other);
  b.move(result, target);
}

function compare(b: Builder, condition: Condition, x: Reg, y: Reg, into: Reg | undefined): Reg {
  if (b.known(x) !== undefined && b.known(y) === undefined) {
    return compare(b, MIRRORED[condition] ?? condition, y, x, into);
  }
  const immediate = b.immediate(y);
  if (immediate === undefined) b.emit('cmp', b.use(x), b.use(y));
  else b.emit('cmp_i', b.use(x), imm(immediate));
  const truth = b.reg('i32');
  const result = b.result('i32', into);
  b.emit(`set${condition}`, { kind: 'r8', n: truth.id });
  b.emit('movzx_8', b.into(result), { kind: 'r8', n: truth.id });
  b.keepFlags(result, condition);
  return result;
}

/** rax / rcx, with rdx: no virtual register lies in these. */
function divide(b: Builder, op: 'div' | 'rem' | 'div_u' | 'rem_u', x: Reg, y: Reg, result: Reg): void {
  const isUnsigned = op === 'div_u' || op === 'rem_u';
  const isRemainder = op === 'rem' || op === 'rem_u';
  const divisor = b.known(y);
  if (isUnsigned && divisor !== undefined && divideByPowerOfTwo(b, isRemainder, BigInt(divisor), x, result)) return;
  const kind = b.into(x).kind;
  const [ax, cx, dx] = [RAX, RCX, RDX].map((n): Register => ({ kind, n }));
  const special = b.code.encoder.newLabel();
  const done = b.code.encoder.newLabel();
  const isSafe = divisor !== undefined && BigInt(divisor) !== 0n && BigInt(divisor) !== -1n;
  const dividend = b.use(x);
  const by = b.use(y);
  b.emit('mov', cx, by);
  b.emit('mov', ax, dividend);
  if (!isSafe && isUnsigned) {
    b.emit('test', cx, cx);
    b.emit('je', special);
  } else if (!isSafe) {
    // b is 0 or -1 exactly where b + 1 is at most 1 unsigned.
    b.emit('lea', dx, mem(RCX, 1));
    b.emit('cmp_i', dx, imm(1));
    b.emit('jbe', special);
  }
  if (isUnsigned) b.emit('mov_oi', { kind: 'r32', n: RDX }, imm(0));
  else b.emit(kind === 'r64' ? 'cqo' : 'cdq');
  b.emit(isUnsigned ? 'div' : 'idiv', cx);
  if (isRemainder) b.emit('mov', ax, dx);
  if (!isSafe) {
    b.emit('jmp', done);
    b.code.bind(special);
    // By 0 and by -1 the quotient is a · b in both cases, and the remainder is 0.
    if (isRemainder || isUnsigned) b.emit('mov_oi', { kind: 'r32', n: RAX }, imm(0));
    else b.emit('imul', ax, cx);
    b.code.bind(done);
  }
  b.emit('mov', r64(result.id), r64(RAX));
}

function divideByPowerOfTwo(b: Builder, isRemainder: boolean, divisor: bigint, x: Reg, result: Reg): boolean {
  if (divisor <= 0n || (divisor & (divisor - 1n)) !== 0n || divisor > 2n ** 30n) return false;
  b.move(result, x);
  if (isRemainder) b.emit('and_i', b.into(result), imm(divisor - 1n));
  else b.emit('shr_i', b.into(result), imm(divisor.toString(2).length - 1));
  return true;
}
