/**
 * The vector assembler over WebAssembly: 4 lanes, registers are locals, `vf32` and `vi32` both v128.
 *
 * In come the calls of `Asm`, out goes the body of one kernel function (i32 begin, i32 end, an i32 address a buffer).
 * What the instruction set has not is composed here without traps: integer division by 0 gives 0 (as its remainder does) and
 * the smallest integer divided by -1 wraps; conversions saturate. With `relaxed`, fma has one rounding wherever the machine has
 * the instruction, and blends take relaxed_laneselect (masks are all ones or zeros in each lane, for which it is exact).
 */
import { Bug } from '../../core/errors.ts';
import type { Asm, AsmOp, ConvertOptions, MemType, Reg, RegType } from '../cpu/asm.ts';
import {
  ACCESSES,
  BITCASTS,
  COMPARISONS,
  CONVERSIONS,
  DIRECT,
  SHAPES,
  VALTYPES,
  VECTOR_BITS,
  WIDENINGS,
} from './asm-tables.ts';
import { type Bytes, f32Bytes, VALTYPE_CODES } from './encode.ts';
import { FunctionBuilder, type Local } from './function.ts';
import { INSTRUCTIONS, type InstructionName, type ValType } from './instructions.ts';

export interface WasmAsmOptions {
  /** Use relaxed SIMD. */
  readonly relaxed: boolean;
}

const LANES = 4;
/** x rotated by half its lanes, then by one: two steps combine four lanes. */
const ROTATIONS: readonly Bytes[] = [8, 4].map((by) => Array.from({ length: 16 }, (_, i) => (i + by) % 16));

/** The lowest byte of each lane, first. */
const LOWEST_BYTES: Bytes = Array.from({ length: 16 }, (_, i) => (4 * i) % 16);
const LANE_BYTES = 4;

export class WasmAsm implements Asm {
  readonly lanes = LANES;
  /** What V8 leaves of x64's sixteen; arm64 has more, where tiles of this size still do well. */
  readonly vectorRegisters = 15;
  readonly params: readonly Reg[];
  readonly #code: FunctionBuilder;
  readonly #relaxed: boolean;
  /** Values of scalar constants and of vectors that were made by `const`. */
  readonly #known = new Map<number, number | bigint>();

  /** A kernel over `buffers` buffers. */
  constructor(buffers: number, options: WasmAsmOptions) {
    this.#code = new FunctionBuilder(new Array<ValType>(2 + buffers).fill('i32'));
    this.#relaxed = options.relaxed;
    this.params = this.#code.params.map(({ id }, i) => ({ id, type: i < 2 ? 'i32' : 'ptr' }));
  }

  /** Locals and instructions, for ModuleBuilder.define. */
  finish(): Bytes {
    return this.#code.finish();
  }

  const(type: RegType, value: number | bigint): Reg {
    const id = this.#constant(type, value).id;
    this.#known.set(id, value);
    return { id, type };
  }

  #constant(type: RegType, value: number | bigint): Local {
    switch (type) {
      case 'i64':
        return this.#code.constant('i64', BigInt(value));
      case 'i32':
      case 'ptr':
        return this.#code.constant('i32', Number(value));
      case 'f32':
      case 'f64':
        return this.#code.constant(type, Number(value));
      case 'vf32':
      case 'vi32': {
        const lane = type === 'vf32' ? f32Bytes(Number(value)) : i32Bytes(Number(value));
        return this.#code.emit('v128.const', [], [[...lane, ...lane, ...lane, ...lane]]);
      }
      default:
        return type satisfies never;
    }
  }

  reg(type: RegType): Reg {
    return { id: this.#code.local(VALTYPES[type]).id, type };
  }

  move(into: Reg, from: Reg): void {
    if (VALTYPES[into.type] !== VALTYPES[from.type]) illegal('move', from.type, into.type);
    this.#code.move(local(into), local(from));
  }

  op(op: AsmOp, args: readonly Reg[], into?: Reg): Reg {
    const { type } = args[0];
    const isVector = type === 'vf32' || type === 'vi32';
    const result = into ?? this.reg(COMPARISONS.has(op) ? (isVector ? 'vi32' : 'i32') : type);
    const bits = isVector ? VECTOR_BITS[op] : undefined;
    const suffix = DIRECT[type][op];
    if (bits) this.#emit(bits, args, [], result);
    else if (suffix && !(type === 'i64' && args[1]?.type === 'i32'))
      this.#emit(`${SHAPES[type]}.${suffix}`, args, [], result);
    else if (type === 'i32' || type === 'i64' || type === 'ptr') this.#composeInt(op, args, result);
    else if (type === 'vi32') this.#composeVector(op, args, result);
    else illegal(op, type);
    return result;
  }

  /** Scalar integer operations that are not one instruction. */
  #composeInt(op: AsmOp, [a, b]: readonly Reg[], result: Reg): void {
    const { type } = a;
    const shape = SHAPES[type];
    switch (op) {
      case 'min':
        this.select(this.op('lt', [a, b]), a, b, result);
        return;
      case 'max':
        this.select(this.op('gt', [a, b]), a, b, result);
        return;
      case 'neg':
        this.op('sub', [this.const(type, 0), a], result);
        return;
      case 'not':
        this.op('xor', [a, this.const(type, -1)], result);
        return;
      case 'abs': {
        // sign = x >> 31 (all ones where negative); |x| = (x xor sign) - sign
        const sign = this.op('shr', [a, this.const(type, type === 'i64' ? 63 : 31)]);
        this.op('sub', [this.op('xor', [a, sign]), sign], result);
        return;
      }
      case 'shl':
      case 'shr':
      case 'shr_u':
        this.op(op, [a, this.convert('i64', b)], result);
        return;
      case 'div':
      case 'rem': {
        if (this.#isSafeDivisor(b)) {
          this.#emit(`${shape}.${op}_s`, [a, b], [], result);
          return;
        }
        // b is 0 or -1 exactly where b + 1 is below 2 unsigned; there a / b is a · b in both cases, and a rem b is 0 = a rem 1.
        const one = this.const(type, 1);
        const special = this.op('lt_u', [this.op('add', [b, one]), this.const(type, 2)]);
        const quotient = this.#emit(`${shape}.${op}_s`, [a, this.select(special, one, b)], [], this.reg(type));
        if (op === 'rem') this.move(result, quotient);
        else this.select(special, this.op('mul', [a, b]), quotient, result);
        return;
      }
      case 'div_u':
      case 'rem_u': {
        if (this.#isSafeDivisor(b)) {
          this.#emit(`${shape}.${op}`, [a, b], [], result);
          return;
        }
        const zero = this.const(type, 0);
        const special = this.op('eq', [b, zero]);
        const divisor = this.select(special, this.const(type, 1), b);
        const quotient = this.#emit(`${shape}.${op}`, [a, divisor], [], this.reg(type));
        if (op === 'rem_u') this.move(result, quotient);
        else this.select(special, zero, quotient, result);
        return;
      }
      default:
        illegal(op, type);
    }
  }

  #isSafeDivisor(b: Reg): boolean {
    const value = this.#known.get(b.id);
    return value !== undefined && Number(value) !== 0 && Number(value) !== -1;
  }

  /** Vector shifts take a scalar count; by vectors, and for division, lane by lane. */
  #composeVector(op: AsmOp, [a, b]: readonly Reg[], result: Reg): void {
    switch (op) {
      case 'shl':
      case 'shr':
      case 'shr_u': {
        const known = this.#known.get(b.id);
        if (b.type === 'vi32' && known === undefined) {
          this.#laneByLane(op, a, b, result);
          return;
        }
        const count = known === undefined ? b : this.const('i32', known);
        this.#emit(`i32x4.${op === 'shr' ? 'shr_s' : op}`, [a, count], [], result);
        return;
      }
      case 'div':
      case 'div_u':
      case 'rem':
      case 'rem_u':
        this.#laneByLane(op, a, b, result);
        return;
      default:
        illegal(op, 'vi32');
    }
  }

  #laneByLane(op: AsmOp, a: Reg, b: Reg, result: Reg): void {
    let out = a;
    for (let lane = 0; lane < LANES; lane++) {
      const value = this.op(op, [this.extract(a, lane), this.extract(b, lane)]);
      out = this.insert(out, lane, value, lane === LANES - 1 ? result : undefined);
    }
  }

  fma(acc: Reg, a: Reg, b: Reg): void {
    if (acc.type === 'vf32' && this.#relaxed) this.#emit('f32x4.relaxed_madd', [a, b, acc], [], acc);
    else this.op('add', [acc, this.op('mul', [a, b])], acc);
  }

  multiplyAdd(a: Reg, b: Reg, c: Reg): Reg {
    if (this.#relaxed) return this.#emit('f32x4.relaxed_madd', [a, b, c], [], this.reg('vf32'));
    return this.op('add', [c, this.op('mul', [a, b])]);
  }

  dotBytes(): void {
    throw new Bug('asm-op', 'WebAssembly has no exact dot product of bytes');
  }

  dotPairs(acc: Reg, a: Reg, b: Reg): void {
    this.op('add', [acc, this.#emit('i32x4.dot_i16x8_s', [a, b], [], this.reg('vi32'))], acc);
  }

  repeatLane(x: Reg, lane: number): Reg {
    const bytes = Array.from({ length: 16 }, (_, i) => LANE_BYTES * lane + (i % LANE_BYTES));
    return this.#emit('i8x16.shuffle', [x, x], [bytes], this.reg(x.type));
  }

  swapFours(): Reg {
    throw new Bug('asm-op', 'vectors of WebAssembly have four lanes');
  }

  select(cond: Reg, a: Reg, b: Reg, into?: Reg): Reg {
    const result = into ?? this.reg(a.type);
    if (cond.type === 'vi32') {
      this.#emit(this.#relaxed ? 'i32x4.relaxed_laneselect' : 'v128.bitselect', [a, b, cond], [], result);
    } else if (VALTYPES[a.type] === 'v128') {
      this.#emit('select_t', [a, b, cond], [[VALTYPE_CODES.v128]], result);
    } else this.#emit('select', [a, b, cond], [], result);
    return result;
  }

  bounded(op: 'min' | 'max', x: Reg, limit: Reg): Reg {
    return this.select(this.op(op === 'max' ? 'lt' : 'gt', [x, limit]), limit, x);
  }

  convert(to: RegType, x: Reg, options: ConvertOptions = {}): Reg {
    const result = this.reg(to);
    const name = CONVERSIONS[`${x.type}>${to}`];
    if (name) this.#emit((options.unsigned && name[1]) || name[0], [x], [], result);
    else if (x.type === to || (VALTYPES[x.type] === 'i32' && VALTYPES[to] === 'i32')) this.move(result, x);
    else illegal('convert', x.type, to);
    return result;
  }

  nearestByte(x: Reg): Reg {
    return this.convert('vi32', this.op('nearest', [x]));
  }

  bitcast(to: RegType, x: Reg): Reg {
    const result = this.reg(to);
    const name = BITCASTS[`${x.type}>${to}`];
    if (name) this.#emit(name, [x], [], result);
    else this.move(result, x);
    return result;
  }

  splat(x: Reg): Reg {
    if (x.type === 'f32') return this.#emit('f32x4.splat', [x], [], this.reg('vf32'));
    if (x.type === 'i32') return this.#emit('i32x4.splat', [x], [], this.reg('vi32'));
    return illegal('splat', x.type);
  }

  count(first: number): Reg {
    const bytes = Array.from({ length: LANES }, (_, lane) => i32Bytes(first + lane)).flat();
    return { id: this.#code.emit('v128.const', [], [bytes]).id, type: 'vi32' };
  }

  extract(x: Reg, lane: number): Reg {
    return this.#emit(`${SHAPES[x.type]}.extract_lane`, [x], [lane], this.reg(x.type === 'vf32' ? 'f32' : 'i32'));
  }

  insert(x: Reg, lane: number, value: Reg, into?: Reg): Reg {
    return this.#emit(`${SHAPES[x.type]}.replace_lane`, [x, value], [lane], into ?? this.reg(x.type));
  }

  horizontal(op: 'add' | 'mul' | 'min' | 'max', x: Reg): Reg {
    let out = x;
    for (const rotation of ROTATIONS) {
      out = this.op(op, [out, this.#emit('i8x16.shuffle', [out, out], [rotation], this.reg(x.type))]);
    }
    return this.extract(out, 0);
  }

  address(base: Reg, index: Reg, scale: number): Reg {
    if (scale === 1) return this.op('add', [base, index]);
    const shift = Math.log2(scale);
    const offset = Number.isInteger(shift)
      ? this.op('shl', [index, this.const('i32', shift)])
      : this.op('mul', [index, this.const('i32', scale)]);
    return this.op('add', [base, offset]);
  }

  load(type: MemType, base: Reg, byteOffset: number, into?: Reg): Reg {
    const [from, offset] = this.#addressed(base, byteOffset);
    if (type === 'lanesi8' || type === 'lanesu8') {
      const [toPairs, toLanes] = WIDENINGS[type];
      const bytes = this.#emit('v128.load32_zero', [from], [0, offset], this.reg('vi32'));
      const pairs = this.#emit(toPairs, [bytes], [], this.reg('vi32'));
      return this.#emit(toLanes, [pairs], [], into ?? this.reg('vi32'));
    }
    const { load, reg, alignment } = ACCESSES[type];
    return this.#emit(load, [from], [alignment, offset], into ?? this.reg(reg));
  }

  /** WebAssembly has no such instruction. */
  prefetch(): void {}

  store(type: MemType, base: Reg, byteOffset: number, value: Reg): void {
    const [to, offset] = this.#addressed(base, byteOffset);
    if (type === 'lanesi8' || type === 'lanesu8') {
      const bytes = this.#emit('i8x16.shuffle', [value, value], [LOWEST_BYTES], this.reg('vi32'));
      this.#code.effect('v128.store32_lane', [local(to), local(bytes)], [0, offset, 0]);
      return;
    }
    const { store, alignment } = ACCESSES[type];
    if (!store) throw new Bug('asm-op', `${type} is a form of load only`);
    this.#code.effect(store, [local(to), local(value)], [alignment, offset]);
  }

  /** The offset immediate is unsigned and does not wrap: what lies below the base is added first. */
  #addressed(base: Reg, byteOffset: number): [Reg, number] {
    return byteOffset >= 0 ? [base, byteOffset] : [this.op('add', [base, this.const('i32', byteOffset)]), 0];
  }

  loop(from: Reg, to: Reg, step: number, body: (i: Reg) => void, goesOn?: (i: Reg) => Reg): void {
    const [first, last] = [this.#known.get(from.id), this.#known.get(to.id)];
    if (first !== undefined && last !== undefined && first >= last) return;
    const i = this.reg('i32');
    this.move(i, from);
    let limit = to;
    if (last === undefined) {
      limit = this.reg('i32');
      this.move(limit, to);
    }
    const repeated = (): void =>
      this.#code.loop(() => {
        if (goesOn) this.#code.effect('br_if', [local(this.op('eq', [goesOn(i), this.const('i32', 0)]))], [1]);
        body(i);
        this.op('add', [i, this.const('i32', step)], i);
        this.#code.effect('br_if', [local(this.op('lt', [i, limit]))], [0]);
      });
    const rounds = (): void => (goesOn ? this.#code.block(repeated) : repeated());
    if (first !== undefined && last !== undefined) rounds();
    else this.if(this.op('lt', [i, limit]), rounds);
  }

  repeat(count: number, body: () => void): void {
    if (count === 1) body();
    else this.loop(this.const('i32', 0), this.const('i32', count), 1, body);
  }

  if(cond: Reg, then: () => void, otherwise?: () => void): void {
    this.#code.if(local(cond), then, otherwise);
  }

  #emit(name: string, args: readonly Reg[], immediates: readonly (number | Bytes)[], result: Reg): Reg {
    if (!isInstruction(name)) throw new Bug('asm-op', `WebAssembly has no ${name}`);
    this.#code.emit(name, args.map(local), immediates, local(result));
    return result;
  }
}

const local = (reg: Reg): Local => ({ id: reg.id, type: VALTYPES[reg.type] });
const isInstruction = (name: string): name is InstructionName => Object.hasOwn(INSTRUCTIONS, name);
const i32Bytes = (value: number): number[] => [...new Uint8Array(new Int32Array([value]).buffer)];

function illegal(what: string, from: RegType, to?: RegType): never {
  throw new Bug('asm-op', `the assembler has no ${what} of ${from}${to ? ` to ${to}` : ''} on WebAssembly`);
}
