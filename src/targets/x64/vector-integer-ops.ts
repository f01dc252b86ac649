/**
 * Operations on vectors of 32-bit integers, masks of comparisons among them. Division goes lane by lane. With 512 bits comparisons give
 * mask registers, which are spread over lanes, and the bitwise instructions have other names.
 */
import { Bug } from '../../core/errors.ts';
import type { AsmOp, Reg } from '../cpu/asm.ts';
import type { Builder } from './builder.ts';
import { imm } from './encode.ts';
import type { InstructionName } from './instructions.ts';
import { integerOp } from './integer-ops.ts';
import { extractLane, insertLane } from './lane-ops.ts';

const BINARY: Partial<Record<AsmOp, InstructionName>> = {
  add: 'vpaddd',
  sub: 'vpsubd',
  mul: 'vpmulld',
  min: 'vpminsd',
  max: 'vpmaxsd',
  and: 'vpand',
  or: 'vpor',
  xor: 'vpxor',
  eq: 'vpcmpeqd',
  gt: 'vpcmpgtd',
};
const WIDE_BITS: Partial<Record<AsmOp, InstructionName>> = { and: 'vpandd', or: 'vpord', xor: 'vpxord' };
/** Predicates of vpcmpd: volume 2, VPCMPD, table 5-20. */
const PREDICATES: Partial<Record<AsmOp, readonly ['vpcmpd' | 'vpcmpud', number]>> = {
  eq: ['vpcmpd', 0],
  lt: ['vpcmpd', 1],
  le: ['vpcmpd', 2],
  ne: ['vpcmpd', 4],
  ge: ['vpcmpd', 5],
  gt: ['vpcmpd', 6],
  lt_u: ['vpcmpud', 1],
  gt_u: ['vpcmpud', 6],
};
const COMMUTES: ReadonlySet<AsmOp> = new Set(['add', 'mul', 'min', 'max', 'and', 'or', 'xor', 'eq']);
/** The comparison that is false where this one is true. */
const NEGATED: Partial<Record<AsmOp, AsmOp>> = { ne: 'eq', le: 'gt', ge: 'lt' };
/** By an immediate, by a scalar in an xmm register, and lane by lane. */
const SHIFTS: Partial<Record<AsmOp, readonly [InstructionName, InstructionName, InstructionName]>> = {
  shl: ['vpslld_i', 'vpslld', 'vpsllvd'],
  shr: ['vpsrad_i', 'vpsrad', 'vpsravd'],
  shr_u: ['vpsrld_i', 'vpsrld', 'vpsrlvd'],
};

export function vectorIntegerOp(b: Builder, op: AsmOp, args: readonly Reg[], into: Reg | undefined): Reg {
  const [x, y] = args;
  const wide = b.lanes === 16;
  const predicate = wide ? PREDICATES[op] : undefined;
  if (predicate) return compare(b, predicate, x, y, into);
  const binary = (wide ? WIDE_BITS[op] : undefined) ?? BINARY[op];
  const negated = NEGATED[op];
  const shift = SHIFTS[op];
  const result = b.result('vi32', into);
  if (binary) {
    const [first, second] = COMMUTES.has(op) && b.known(x) !== undefined ? [y, x] : [x, y];
    b.emit(binary, b.into(result), b.use(first), b.source(second));
  } else if (shift) shiftBy(b, shift, x, y, result);
  else if (negated) invert(b, vectorIntegerOp(b, negated, args, undefined), result);
  else
    switch (op) {
      case 'lt':
        return vectorIntegerOp(b, 'gt', [y, x], result);
      case 'lt_u':
        return vectorIntegerOp(b, 'gt', [flipSign(b, y), flipSign(b, x)], result);
      case 'gt_u':
        return vectorIntegerOp(b, 'gt', [flipSign(b, x), flipSign(b, y)], result);
      case 'not':
        invert(b, x, result);
        break;
      case 'neg':
        b.emit('vpsubd', b.into(result), b.use(b.constant('vi32', 0)), b.source(x));
        break;
      case 'abs':
        b.emit('vpabsd', b.into(result), b.source(x));
        break;
      case 'div':
      case 'rem':
      case 'div_u':
      case 'rem_u':
        laneByLane(b, op, x, y, result);
        break;
      default:
        throw new Bug('asm-op', `the assembler has no ${op} of vi32 on x64`);
    }
  return result;
}

function compare(
  b: Builder,
  [name, predicate]: readonly ['vpcmpd' | 'vpcmpud', number],
  x: Reg,
  y: Reg,
  into: Reg | undefined,
): Reg {
  const mask = b.mask();
  b.emit(name, mask, b.use(x), b.source(y), imm(predicate));
  return b.spread(mask, into);
}

const invert = (b: Builder, x: Reg, result: Reg): void =>
  b.emit(b.lanes === 16 ? 'vpxord' : 'vpxor', b.into(result), b.use(x), b.source(b.constant('vi32', -1)));

/** Unsigned order becomes signed order. */
const flipSign = (b: Builder, x: Reg): Reg => vectorIntegerOp(b, 'xor', [x, b.constant('vi32', -(2 ** 31))], undefined);

/** The machine gives 0 or the sign for counts above 31, so they are masked. */
function shiftBy(
  b: Builder,
  names: readonly [InstructionName, InstructionName, InstructionName],
  x: Reg,
  y: Reg,
  result: Reg,
): void {
  const [byImmediate, byScalar, byVector] = names;
  const count = b.known(y);
  if (count !== undefined) b.emit(byImmediate, b.into(result), b.use(x), imm(Number(count) & 31));
  else if (y.type === 'vi32') {
    const counts = vectorIntegerOp(b, 'and', [y, b.constant('vi32', 31)], undefined);
    b.emit(byVector, b.into(result), b.use(x), b.into(counts));
  } else {
    const masked = integerOp(b, 'and', [y, b.constant(y.type, 31)], undefined);
    const inVector = b.into(b.reg('f32'));
    b.emit('vmovd', inVector, { kind: 'r32', n: masked.id });
    b.emit(byScalar, b.into(result), b.use(x), inVector);
  }
}

function laneByLane(b: Builder, op: AsmOp, x: Reg, y: Reg, result: Reg): void {
  let out = x;
  for (let lane = 0; lane < b.lanes; lane++) {
    const known = b.known(y);
    const by = known === undefined ? extractLane(b, y, lane) : b.constant('i32', known);
    out = insertLane(b, out, lane, integerOp(b, op, [extractLane(b, x, lane), by], undefined), b.reg('vi32'));
  }
  b.move(result, out);
}
