/**
 * What the parts of the assembler record with: typed registers as operands, constants where an instruction can take them.
 *
 * A constant is no register until an instruction needs it in one. Floats and vectors lie in the pool behind the code and are read from
 * there; integers are immediates where they fit.
 */
import type { Reg, RegType } from '../cpu/asm.ts';
import { Code, type RegisterClass } from './code.ts';
import { type Encoder, imm, type Memory, type Operand, type Register, type RegisterKind, ripMem } from './encode.ts';
import type { Condition, InstructionName } from './instructions.ts';

/** Vectors of 256 bits by AVX2, or of 512 by AVX-512. */
export type VectorLanes = 8 | 16;

const SCALAR_KINDS = { i32: 'r32', i64: 'r64', ptr: 'r64', f32: 'xmm', f64: 'xmm' } as const;
const KINDS: Readonly<Record<VectorLanes, Readonly<Record<RegType, RegisterKind>>>> = {
  8: { ...SCALAR_KINDS, vf32: 'ymm', vi32: 'ymm' },
  16: { ...SCALAR_KINDS, vf32: 'zmm', vi32: 'zmm' },
};

export const isVectorType = (type: RegType): boolean => type === 'vf32' || type === 'vi32';
const classOf = (type: RegType): RegisterClass =>
  type === 'i32' || type === 'i64' || type === 'ptr' ? 'general' : 'vector';
export const fitsInt32 = (value: number | bigint): boolean => value >= -(2 ** 31) && value < 2 ** 31;

/** A mask register whose bits are those of a vector of truths, and where that is known. */
interface Spread {
  readonly truth: number;
  readonly mask: Register;
  readonly loop: number;
}
/** So few that all of them find a register. */
const REMEMBERED_MASKS = 4;

/** A comparison whose flags still stand, and the register that holds its truth. */
interface Flags {
  readonly items: number;
  readonly truth: number;
  readonly condition: Condition;
}

export class Builder {
  readonly code: Code;
  readonly lanes: VectorLanes;
  readonly #kinds: Readonly<Record<RegType, RegisterKind>>;
  readonly #constants = new Map<number, number | bigint>();
  #flags: Flags | undefined;
  #zeros: { readonly n: number; readonly piece: number } | undefined;
  /** The latest, oldest first. */
  #spreads: readonly Spread[] = [];

  constructor(encoder: Encoder, lanes: VectorLanes) {
    this.code = new Code(encoder);
    this.lanes = lanes;
    this.#kinds = KINDS[lanes];
  }

  /** Registers of vectors. */
  get vectorKind(): RegisterKind {
    return this.#kinds.vf32;
  }

  emit(name: InstructionName, ...operands: readonly Operand[]): void {
    this.code.record(name, operands);
  }

  reg(type: RegType): Reg {
    return { id: this.code.newVirtual(classOf(type)), type };
  }

  /** A fresh mask register. */
  mask(): Register {
    return { kind: 'k', n: this.code.newVirtual('mask') };
  }

  /** A mask as lanes of all ones and zeros. */
  spread(mask: Register, into: Reg | undefined): Reg {
    const result = this.result('vi32', into);
    this.emit('vpmovm2d', this.into(result), mask);
    const spread = { truth: result.id, mask, loop: this.code.loop };
    this.#spreads = [...this.#spreads, spread].slice(-REMEMBERED_MASKS);
    return result;
  }

  /** The signs of lanes as a mask: the one that they were made of, where they are still that. */
  maskOf(truth: Register): Register {
    const known = this.#spreads.find(({ truth: n, loop }) => n === truth.n && loop === this.code.loop);
    if (known && this.code.version(truth.n) === 1) return known.mask;
    const mask = this.mask();
    this.emit('vpmovd2m', mask, truth);
    return mask;
  }

  constant(type: RegType, value: number | bigint): Reg {
    const reg = this.reg(type);
    const isFloat = type === 'f32' || type === 'f64' || type === 'vf32';
    this.#constants.set(reg.id, isFloat ? Number(value) : wrap(type, value));
    return reg;
  }

  /** The value of a constant, on vectors that of each lane; undefined for a register. */
  known(reg: Reg): number | bigint | undefined {
    return this.#constants.get(reg.id);
  }
  /** The value of an integer constant that an instruction can hold, sign-extended from 32 bits. */
  immediate(reg: Reg): number | undefined {
    const value = this.#constants.get(reg.id);
    return value !== undefined && fitsInt32(value) ? Number(value) : undefined;
  }

  /** The register as it is written. */
  into(reg: Reg): Register {
    return { kind: this.#kinds[reg.type], n: reg.id };
  }

  /** In a register: a constant is brought to a fresh one. */
  use(reg: Reg): Register {
    const value = this.#constants.get(reg.id);
    if (value === undefined) return this.into(reg);
    // With 32 registers one may hold zeros as long as code is straight.
    const isZeros = this.lanes === 16 && reg.type === 'vf32' && Object.is(value, 0);
    if (isZeros && this.#zeros?.piece === this.code.piece) return { kind: this.vectorKind, n: this.#zeros.n };
    const fresh = this.into(this.reg(reg.type));
    this.#bring(fresh, reg.type, value);
    if (isZeros) this.#zeros = { n: fresh.n, piece: this.code.piece };
    return fresh;
  }

  /** For operands that may be memory: float and vector constants stay in the pool. */
  source(reg: Reg): Register | Memory {
    const value = this.#constants.get(reg.id);
    if (value === undefined || classOf(reg.type) === 'general') return this.use(reg);
    return this.pool(reg.type, value, isVectorType(reg.type) ? this.lanes : 1);
  }

  /** A constant of `lanes` equal elements in the pool. */
  pool(type: RegType, value: number | bigint, lanes: number): Memory {
    const isFloat = type === 'f32' || type === 'vf32' || type === 'f64';
    const kind = isFloat ? (type === 'f64' ? 'double' : 'float') : type === 'vi32' || type === 'i32' ? 'int' : 'long';
    const key = `${kind} ${Object.is(value, -0) ? '-0' : value} ${lanes}`;
    return ripMem(this.code.encoder.constant(key, () => elementBytes(type, value, lanes)));
  }

  move(into: Reg, from: Reg): void {
    const value = this.#constants.get(from.id);
    if (value !== undefined) this.#bring(this.into(into), into.type, value);
    else if (into.id !== from.id) this.copy(into.id, from.id, into.type);
  }

  /** General registers are copied whole, so that the copy may vanish; so are vectors. */
  copy(into: number, from: number, type: RegType): void {
    if (classOf(type) === 'general') this.emit('mov', { kind: 'r64', n: into }, { kind: 'r64', n: from });
    else this.emit('vmovaps', { kind: this.vectorKind, n: into }, { kind: this.vectorKind, n: from });
  }

  #bring(into: Register, type: RegType, value: number | bigint): void {
    switch (type) {
      case 'i32':
        this.emit('mov_oi', into, imm(value));
        return;
      case 'i64':
      case 'ptr':
        if (value >= 0 && value < 2 ** 32) this.emit('mov_oi', { kind: 'r32', n: into.n }, imm(value));
        else if (fitsInt32(value)) this.emit('mov_mi', into, imm(value));
        else this.emit('movabs', into, imm(value));
        return;
      default:
        if (Object.is(value, 0)) this.zero(into.n);
        else if (type === 'f64') this.emit('vmovsd', into, this.pool(type, value, 1));
        else if (type === 'f32') this.emit('vmovss', into, this.pool(type, value, 1));
        else this.emit('vbroadcastss', into, this.pool(type, value, 1));
    }
  }

  /** All bits of a vector register 0. */
  zero(n: number): void {
    const register: Register = { kind: 'xmm', n };
    this.emit('vxorps', register, register, register);
  }

  /** The register that operations write: `into`, or a fresh one of the type. */
  result(type: RegType, into: Reg | undefined): Reg {
    return into ?? this.reg(type);
  }

  /** The last instruction set the flags and then `truth` to 0 or 1 by them. */
  keepFlags(truth: Reg, condition: Condition): void {
    this.#flags = { items: this.code.items.length, truth: truth.id, condition };
  }

  /** Sets the flags for a truth value in a register; the condition under which it is not 0. */
  testTruth(truth: Reg): Condition {
    const flags = this.#flags;
    if (flags?.truth === truth.id && flags.items === this.code.items.length) return flags.condition;
    const register = this.use(truth);
    this.emit('test', register, register);
    return 'ne';
  }
}

function wrap(type: RegType, value: number | bigint): number | bigint {
  if (type === 'i64') return BigInt.asIntN(64, BigInt(value));
  if (type === 'ptr') return Number(value);
  return typeof value === 'bigint' ? Number(BigInt.asIntN(32, value)) : value | 0;
}

function elementBytes(type: RegType, value: number | bigint, lanes: number): Uint8Array {
  switch (type) {
    case 'f32':
    case 'vf32':
      return new Uint8Array(new Float32Array(lanes).fill(Number(value)).buffer);
    case 'f64':
      return new Uint8Array(new Float64Array(lanes).fill(Number(value)).buffer);
    case 'i64':
    case 'ptr':
      return new Uint8Array(new BigInt64Array(lanes).fill(BigInt(value)).buffer);
    default:
      return new Uint8Array(new Int32Array(lanes).fill(Number(value)).buffer);
  }
}
