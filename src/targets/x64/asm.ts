/**
 * The vector assembler over x86-64, code for one kernel: 8 lanes with AVX2, FMA and BMI2, 16 with AVX-512 (F, BW, DQ, VL) too.
 *
 * In come the calls of `Asm`, recorded as instructions over virtual registers; `finish` folds, assigns registers and appends the kernel's
 * function to an encoder. Kernels of one program share the encoder and with it the pool of constants. The convention of a kernel is
 * stated in frame.ts: edi begin, esi end, rdx the array of buffer addresses. Addresses are 64-bit; an i32 index extends its sign.
 */
import { Bug } from '../../core/errors.ts';
import type { Asm, AsmOp, ConvertOptions, MemType, Reg, RegType } from '../cpu/asm.ts';
import { Addresses } from './addresses.ts';
import { allocate } from './allocate.ts';
import { Builder, type VectorLanes } from './builder.ts';
import { type ByteType, dotPairs, isByteType, loadBytes, storeLanes, type Vnni } from './byte-ops.ts';
import { convert } from './convert.ts';
import { type Encoder, imm, type Label, mem, type RegisterKind, r64, ripMem } from './encode.ts';
import { floatOp, suffixOf } from './float-ops.ts';
import { BEGIN, BUFFERS, END, encodeFunction } from './frame.ts';
import { type InstructionName, inverse } from './instructions.ts';
import { integerOp } from './integer-ops.ts';
import { extractLane, horizontal, insertLane, splat } from './lane-ops.ts';
import { foldLoads, removeDead } from './optimize.ts';
import { Selections } from './select.ts';
import { vectorIntegerOp } from './vector-integer-ops.ts';

interface Access {
  readonly reg: RegType;
  readonly load: InstructionName;
  /** The register as the load writes it, or a whole vector's. */
  readonly into: RegisterKind | 'vector';
  readonly store: InstructionName | undefined;
  readonly from: RegisterKind | 'vector';
}
const access = (
  reg: RegType,
  load: InstructionName,
  into: RegisterKind | 'vector',
  store?: InstructionName,
  from = into,
): Access => ({ reg, load, into, store, from });

const ACCESSES: Readonly<Record<Exclude<MemType, ByteType>, Access>> = {
  i8: access('i32', 'movsx_8', 'r32', 'mov_mr8', 'r8'),
  u8: access('i32', 'movzx_8', 'r32', 'mov_mr8', 'r8'),
  i16: access('i32', 'movsx_16', 'r32', 'mov_mr16', 'r16'),
  u16: access('i32', 'movzx_16', 'r32', 'mov_mr16', 'r16'),
  i32: access('i32', 'mov', 'r32', 'mov_mr'),
  i64: access('i64', 'mov', 'r64', 'mov_mr'),
  f32: access('f32', 'vmovss', 'xmm', 'vmovss_mr'),
  f64: access('f64', 'vmovsd', 'xmm', 'vmovsd_mr'),
  vf32: access('vf32', 'vmovups', 'vector', 'vmovups_mr'),
  vi32: access('vi32', 'vmovups', 'vector', 'vmovups_mr'),
  splatf32: access('vf32', 'vbroadcastss', 'vector'),
  splati32: access('vi32', 'vbroadcastss', 'vector'),
};

const LOAD_ONLY = { store: undefined, from: 'vector' } as const;

export class X64Asm implements Asm {
  readonly lanes: VectorLanes;
  readonly vectorRegisters: number;
  readonly params: readonly Reg[];
  readonly #b: Builder;
  readonly #vnni: Vnni;
  readonly #addresses: Addresses;
  readonly #selections: Selections;

  /** A kernel over `buffers` buffers, appended to `encoder` by finish. `vnni`: dot products of bytes and pairs are one instruction. */
  constructor(encoder: Encoder, buffers: number, lanes: VectorLanes, vnni?: Vnni) {
    this.lanes = lanes;
    this.#vnni = vnni;
    this.vectorRegisters = lanes === 16 ? 32 : 16;
    this.#b = new Builder(encoder, lanes);
    const b = this.#b;
    this.#addresses = new Addresses(b);
    this.#selections = new Selections(b);
    this.params = Array.from({ length: 2 + buffers }, (_, i) => b.reg(i < 2 ? 'i32' : 'ptr'));
    const [begin, end, ...pointers] = this.params;
    b.emit('mov', r64(begin.id), r64(BEGIN));
    b.emit('mov', r64(end.id), r64(END));
    pointers.forEach((pointer, i) => {
      b.emit('mov', r64(pointer.id), mem(BUFFERS, 8 * i));
    });
  }

  /** Appends the function; its entry. Align the encoder before: loops are aligned to 32 bytes. */
  finish(): Label {
    const { code } = this.#b;
    removeDead(code);
    foldLoads(code);
    const bytes = 4 * this.lanes;
    return encodeFunction(code, allocate(code, this.vectorRegisters, bytes), { kind: this.#b.vectorKind, bytes });
  }

  const(type: RegType, value: number | bigint): Reg {
    return this.#b.constant(type, value);
  }
  reg(type: RegType): Reg {
    return this.#b.reg(type);
  }
  move(into: Reg, from: Reg): void {
    this.#b.move(into, from);
  }

  op(op: AsmOp, args: readonly Reg[], into?: Reg): Reg {
    switch (args[0].type) {
      case 'i32':
      case 'i64':
      case 'ptr':
        return integerOp(this.#b, op, args, into);
      case 'f32':
      case 'f64':
      case 'vf32': {
        const result = floatOp(this.#b, op, args, into);
        if ((op === 'lt' || op === 'gt') && !into) this.#selections.remember(op, args, result);
        return result;
      }
      case 'vi32':
        return vectorIntegerOp(this.#b, op, args, into);
      default:
        return args[0].type satisfies never;
    }
  }

  fma(acc: Reg, a: Reg, b: Reg): void {
    const [x, y] = this.#b.known(a) === undefined ? [a, b] : [b, a];
    this.#b.emit(`vfmadd231${suffixOf(acc.type)}`, this.#b.into(acc), this.#b.use(x), this.#b.source(y));
  }

  /** A constant c is read from memory, so the register that is written over begins as a factor: what polynomials are made of. */
  multiplyAdd(a: Reg, b: Reg, c: Reg): Reg {
    const result = this.reg('vf32');
    const [x, y] = this.#b.known(a) === undefined ? [a, b] : [b, a];
    if (this.#b.known(c) === undefined || this.#b.known(x) !== undefined) {
      this.move(result, c);
      this.fma(result, a, b);
    } else {
      this.move(result, x);
      this.#b.emit('vfmadd213ps', this.#b.into(result), this.#b.use(y), this.#b.source(c));
    }
    return result;
  }

  dotBytes(acc: Reg, a: Reg, b: Reg): void {
    if (!this.#vnni) throw new Bug('asm-op', 'a dot product of bytes needs VNNI');
    const name = this.#vnni === 'evex' ? 'vpdpbusd' : 'vpdpbusd_vex';
    this.#b.emit(name, this.#b.into(acc), this.#b.use(a), this.#b.source(b));
  }
  dotPairs(acc: Reg, a: Reg, b: Reg): void {
    dotPairs(this.#b, this.#vnni, acc, a, b);
  }
  repeatLane(x: Reg, lane: number): Reg {
    const result = this.reg(x.type);
    this.#b.emit('vpermilps', this.#b.into(result), this.#b.source(x), imm(lane * 0b01010101));
    return result;
  }
  swapFours(x: Reg): Reg {
    const result = this.reg(x.type);
    const source = this.#b.use(x);
    if (this.lanes === 16) this.#b.emit('vshuff32x4', this.#b.into(result), source, source, imm(0b10110001));
    else this.#b.emit('vperm2f128', this.#b.into(result), source, source, imm(1));
    return result;
  }

  select(cond: Reg, a: Reg, b: Reg, into?: Reg): Reg {
    return this.#selections.select(cond, a, b, into);
  }

  /** vmaxps gives its second source where one is NaN or both are zeros (Intel's manual, volume 2, MAXPS). */
  bounded(op: 'min' | 'max', x: Reg, limit: Reg): Reg {
    const result = this.reg(x.type);
    this.#b.emit(`v${op}${suffixOf(x.type)}`, this.#b.into(result), this.#b.use(limit), this.#b.source(x));
    return result;
  }

  convert(to: RegType, x: Reg, options: ConvertOptions = {}): Reg {
    return convert(this.#b, this, to, x, options);
  }

  /** What is no i32 comes out as 0x80000000 (volume 1, 4.8.3.7). */
  nearestByte(x: Reg): Reg {
    const result = this.reg('vi32');
    this.#b.emit('vcvtps2dq', this.#b.into(result), this.#b.source(x));
    return result;
  }

  bitcast(to: RegType, x: Reg): Reg {
    const b = this.#b;
    const result = b.reg(to);
    const source = b.use(x);
    const from = source.kind;
    const into = b.into(result).kind;
    if (from === into) b.copy(result.id, source.n, to);
    else if (into === 'xmm') b.emit(from === 'r64' ? 'vmovq' : 'vmovd', b.into(result), source);
    else if (from === 'xmm') b.emit(into === 'r64' ? 'vmovq_mr' : 'vmovd_mr', b.into(result), source);
    else throw new Bug('asm-op', `the assembler has no bitcast of ${x.type} to ${to} on x64`);
    return result;
  }

  splat(x: Reg): Reg {
    return splat(this.#b, x);
  }
  count(first: number): Reg {
    const numbers = Int32Array.from({ length: this.lanes }, (_, lane) => first + lane);
    const label = this.#b.code.encoder.constant(`count ${first} ${this.lanes}`, () => new Uint8Array(numbers.buffer));
    const result = this.reg('vi32');
    this.#b.emit('vmovups', this.#b.into(result), ripMem(label));
    return result;
  }
  extract(x: Reg, lane: number): Reg {
    return extractLane(this.#b, x, lane);
  }
  insert(x: Reg, lane: number, value: Reg, into?: Reg): Reg {
    return insertLane(this.#b, x, lane, value, into);
  }
  horizontal(op: 'add' | 'mul' | 'min' | 'max', x: Reg): Reg {
    return horizontal(this.#b, x, (a, b) => this.op(op, [a, b]));
  }

  address(base: Reg, index: Reg, scale: number): Reg {
    return this.#addresses.add(base, index, scale);
  }

  load(type: MemType, base: Reg, byteOffset: number, into?: Reg): Reg {
    if (isByteType(type)) return loadBytes(this.#b, type, this.#addresses.memory(base, byteOffset), into);
    const { load, reg, into: kind } = ACCESSES[type];
    const result = into ?? this.reg(reg);
    const register = { kind: kind === 'vector' ? this.#b.vectorKind : kind, n: result.id };
    this.#b.emit(load, register, this.#addresses.memory(base, byteOffset));
    return result;
  }

  prefetch(base: Reg, byteOffset: number): void {
    this.#b.emit('prefetcht1', this.#addresses.memory(base, byteOffset));
  }

  store(type: MemType, base: Reg, byteOffset: number, value: Reg): void {
    if (type === 'lanesi8' || type === 'lanesu8') {
      storeLanes(this.#b, this.#addresses.memory(base, byteOffset), value);
      return;
    }
    const { store, from } = isByteType(type) ? LOAD_ONLY : ACCESSES[type];
    if (!store) throw new Bug('asm-op', `${type} is a form of load only`);
    const source = this.#b.use(value);
    const register = { kind: from === 'vector' ? this.#b.vectorKind : from, n: source.n };
    this.#b.emit(store, this.#addresses.memory(base, byteOffset), register);
  }

  /** i = from; if (i < to) do { if (!goesOn) break; body; i += step } while (i < to). */
  loop(from: Reg, to: Reg, step: number, body: (i: Reg) => void, goesOn?: (i: Reg) => Reg): void {
    const b = this.#b;
    const { code } = b;
    const first = b.known(from);
    const last = b.known(to);
    if (first !== undefined && last !== undefined && first >= last) return;
    const i = this.reg('i32');
    b.move(i, from);
    this.#addresses.count(i, from);
    let limit = to;
    if (last === undefined) {
      limit = this.reg('i32');
      b.move(limit, to);
    }
    const compare = (): void => {
      if (last === undefined) b.emit('cmp', b.into(i), b.into(limit));
      else b.emit('cmp_i', b.into(i), imm(last));
    };
    const end = code.encoder.newLabel();
    if (first === undefined || last === undefined) {
      compare();
      b.emit('jge', end);
    }
    const head = code.openLoop();
    if (goesOn) b.emit(`j${inverse(b.testTruth(goesOn(i)))}`, end);
    body(i);
    b.emit('add_i', b.into(i), imm(step));
    compare();
    b.emit('jl', head);
    code.closeLoop();
    code.bind(end);
  }

  repeat(count: number, body: () => void): void {
    if (count === 1) body();
    else this.loop(this.const('i32', 0), this.const('i32', count), 1, body);
  }

  if(cond: Reg, then: () => void, otherwise?: () => void): void {
    const b = this.#b;
    const { code } = b;
    const condition = b.testTruth(cond);
    const orElse = code.encoder.newLabel();
    const end = code.encoder.newLabel();
    b.emit(`j${inverse(condition)}`, orElse);
    this.#addresses.inBranch(then);
    if (otherwise) b.emit('jmp', end);
    code.bind(orElse);
    if (otherwise) this.#addresses.inBranch(otherwise);
    code.bind(end);
  }
}
