/**
 * Machine code bytes: instructions in, code with resolved labels and a constant pool behind it out.
 *
 *     [66 F2 F3 F0] [REX | VEX2 | VEX3 | EVEX] opcode [ModRM [SIB] [disp8 | disp32]] [immediate]
 *
 * Sections are of Intel's manual, volume 2: REX 2.2.1, ModRM and SIB 2.1.3 to 2.1.5, RIP-relative 2.2.1.6, VEX 2.3.5, is4 2.3.10,
 * EVEX 2.7.1, its displacements 2.7.5. A load of an engine goes through `encode` tens of thousands of times before any compiler has
 * seen it, so it makes no objects.
 */
import { Bug } from '../../core/errors.ts';
import { INSTRUCTIONS, type Instruction, type InstructionName } from './instructions.ts';

export type RegisterKind = 'r8' | 'r16' | 'r32' | 'r64' | 'xmm' | 'ymm' | 'zmm' | 'k';
/** n is the register's number, 0 to 31; before registers are assigned, that of a virtual one. */
export interface Register {
  readonly kind: RegisterKind;
  readonly n: number;
}
/** [base + index·scale + disp], or, with a label, [rip + label + disp]. Registers are 64-bit ones by number. */
export interface Memory {
  readonly kind: 'mem';
  readonly base: number | undefined;
  readonly index: number | undefined;
  readonly scale: 1 | 2 | 4 | 8;
  readonly disp: number;
  readonly label: Label | undefined;
  /** 64 bits, where the instruction has no register to say so. */
  readonly isWide: boolean;
}
export interface Immediate {
  readonly kind: 'imm';
  readonly value: number | bigint;
}
/** A place in the code, known once it is bound. */
export interface Label {
  readonly kind: 'label';
  readonly id: number;
}
export type Operand = Register | Memory | Immediate | Label;

export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RBP = 5;
export const RSI = 6;
export const RDI = 7;

export const r8 = (n: number): Register => ({ kind: 'r8', n });
export const r32 = (n: number): Register => ({ kind: 'r32', n });
export const r64 = (n: number): Register => ({ kind: 'r64', n });
export const xmm = (n: number): Register => ({ kind: 'xmm', n });
export const ymm = (n: number): Register => ({ kind: 'ymm', n });
export const zmm = (n: number): Register => ({ kind: 'zmm', n });
export const imm = (value: number | bigint): Immediate => ({ kind: 'imm', value });
export const mem = (base: number | undefined, disp = 0, index?: number, scale: 1 | 2 | 4 | 8 = 1): Memory => ({
  kind: 'mem',
  base,
  index,
  scale,
  disp,
  label: undefined,
  isWide: false,
});
export const ripMem = (label: Label, disp = 0): Memory => ({
  kind: 'mem',
  base: undefined,
  index: undefined,
  scale: 1,
  disp,
  label,
  isWide: false,
});

const SHORT_FORMS: ReadonlyMap<Instruction, Instruction> = new Map(
  (['add', 'or', 'and', 'sub', 'xor', 'cmp', 'imul'] as const).map((stem) => [
    INSTRUCTIONS[`${stem}_i`],
    INSTRUCTIONS[`${stem}_i8`],
  ]),
);
const isByte = (value: number | bigint): boolean => value >= -128 && value <= 127;
/** VEX.pp by prefix byte; 0 where there is none. */
function pp({ prefixes }: Instruction): number {
  const prefix = prefixes[0];
  return prefix === 0x66 ? 1 : prefix === 0xf3 ? 2 : prefix === 0xf2 ? 3 : 0;
}

/** Numbers from here on are virtual registers'. */
export const FIRST_VIRTUAL = 32;

/** Recommended multi-byte no-operations, volume 2, NOP. */
const NOPS: readonly (readonly number[])[] = [
  [],
  [0x90],
  [0x66, 0x90],
  [0x0f, 0x1f, 0x00],
  [0x0f, 0x1f, 0x40, 0x00],
  [0x0f, 0x1f, 0x44, 0x00, 0x00],
  [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
  [0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
  [0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];
/** No instruction is longer (volume 2, 2.3.11), constants are. */
const LONGEST = 64;
const NO_PLACES = new Int32Array(0);
const NONE = -1;

export class Encoder {
  #bytes = new Uint8Array(65536);
  #length = 0;
  readonly #labels: number[] = [];
  readonly #fixups: { readonly at: number; readonly label: number; readonly next: number }[] = [];
  readonly #pool = new Map<string, { readonly label: Label; readonly bytes: Uint8Array }>();

  /** Bytes emitted so far. */
  get length(): number {
    return this.#length;
  }

  newLabel(): Label {
    this.#labels.push(NONE);
    return { kind: 'label', id: this.#labels.length - 1 };
  }

  bind(label: Label): void {
    this.#labels[label.id] = this.#length;
  }

  /** Byte offset of a bound label. */
  offsetOf(label: Label): number {
    const offset = this.#labels[label.id];
    if (offset < 0) throw new Bug('x64-label', `label ${label.id} is not bound`);
    return offset;
  }

  /** The address of bytes behind the code, aligned to their number (a power of two, at most 64), kept once for each key. */
  constant(key: string, make: () => Uint8Array): Label {
    let entry = this.#pool.get(key);
    if (!entry) {
      entry = { label: this.newLabel(), bytes: make() };
      this.#pool.set(key, entry);
    }
    return entry.label;
  }

  align(to: number): void {
    for (let rest = -this.#length & (to - 1); rest > 0; ) {
      const count = Math.min(rest, NOPS.length - 1);
      this.#append(NOPS[count]);
      rest -= count;
    }
  }

  emit(name: InstructionName, ...operands: readonly Operand[]): void {
    this.encode(INSTRUCTIONS[name], operands, NO_PLACES);
  }

  /** One instruction. `places` are the machine registers of virtual ones, in their order. */
  encode(general: Instruction, operands: readonly Operand[], places: Int32Array): void {
    const { length: count } = operands;
    const last = operands[count - 1];
    const isShort = count > 1 && last.kind === 'imm' && isByte(last.value);
    const row = (isShort && SHORT_FORMS.get(general)) || general;
    const { encoding } = row;
    if (count !== row.operands.length) throw new Bug('x64-operands', `${row.mnemonic} takes ${row.operands.length}`);
    let reg = row.digit ?? 0;
    let memory: Memory | undefined;
    let rm = NONE;
    let vvvv = 0;
    let low = NONE;
    let is4 = NONE;
    let mask = 0;
    let vector = 0;
    let immediate: number | bigint | undefined;
    let target: Label | undefined;
    let isWide = row.rexW;
    let isLowByte = false;
    let isEvex = row.vex === undefined && row.evex !== undefined;
    for (let i = 0; i < count; i++) {
      const operand = operands[i];
      const letter = encoding[i];
      const { kind } = operand;
      if (kind === 'mem') {
        if (letter !== 'M') mismatch(row, i);
        memory = operand;
        if (operand.isWide && row.operands[i].kind === 'rm') isWide = true;
      } else if (kind === 'imm') {
        if (letter !== 'I') mismatch(row, i);
        immediate = operand.value;
      } else if (kind === 'label') {
        if (letter !== 'D') mismatch(row, i);
        target = operand;
      } else {
        const n = operand.n < FIRST_VIRTUAL ? operand.n : places[operand.n - FIRST_VIRTUAL];
        if (kind === 'r64') isWide ||= row.operands[i].kind === 'r' || row.operands[i].kind === 'rm';
        else if (kind === 'ymm') vector = Math.max(vector, 1);
        else if (kind === 'zmm') vector = 2;
        else if (kind === 'r8') isLowByte ||= n >= 4;
        if (n >= 16) isEvex = true;
        if (letter === 'R') reg = n;
        else if (letter === 'M') rm = n;
        else if (letter === 'V') vvvv = n;
        else if (letter === 'O') low = n;
        else if (letter === 'S') is4 = n;
        else if (letter === 'K') mask = n;
        else mismatch(row, i);
      }
    }
    const base = memory?.base === undefined ? NONE : at(memory.base, places);
    const index = memory?.index === undefined ? NONE : at(memory.index, places);
    this.#reserve();
    if (isEvex || vector === 2) this.#evex(row, reg, rm, base, index, vvvv, mask, vector);
    else if (row.vex) this.#vex(row, reg, rm, base, index, vvvv, isWide, vector);
    else this.#legacy(row, reg, rm, base, index, low, isWide && !(row.isDefault64 && !row.rexW), isLowByte);
    const { opcode, immediateBytes } = row;
    if (opcode.length === 1) this.#bytes[this.#length++] = opcode[0] + (low === NONE ? 0 : low & 7);
    else this.#append(opcode);
    if (memory) {
      const unit = isEvex || vector === 2 ? unitOf(row, vector) : 1;
      this.#address(reg, memory, base, index, unit, immediateBytes);
    } else if (rm !== NONE) this.#bytes[this.#length++] = 0xc0 | ((reg & 7) << 3) | (rm & 7);
    if (is4 !== NONE) this.#bytes[this.#length++] = is4 << 4;
    if (immediate !== undefined) this.#little(immediate, immediateBytes);
    if (target) {
      this.#fixups.push({ at: this.#length, label: target.id, next: this.#length + 4 });
      this.#little(0, 4);
    }
  }

  /** 0100WRXB */
  #legacy(
    row: Instruction,
    reg: number,
    rm: number,
    base: number,
    index: number,
    low: number,
    isWide: boolean,
    isLowByte: boolean,
  ): void {
    const { prefixes, map } = row;
    for (let i = 0; i < prefixes.length; i++) this.#bytes[this.#length++] = prefixes[i];
    const b = high(rm) | high(base) | high(low);
    const rex = (isWide ? 8 : 0) | (high(reg) << 2) | (high(index) << 1) | b;
    // spl, bpl, sil and dil exist only under a REX prefix.
    if (rex !== 0 || isLowByte) this.#bytes[this.#length++] = 0x40 | rex;
    if (map > 0) this.#bytes[this.#length++] = 0x0f;
    if (map > 1) this.#bytes[this.#length++] = map === 2 ? 0x38 : 0x3a;
  }

  /** C5 RvvvvLpp, or C4 RXBmmmmm WvvvvLpp; R, X, B and vvvv inverted. */
  #vex(
    row: Instruction,
    reg: number,
    rm: number,
    base: number,
    index: number,
    vvvv: number,
    isWide: boolean,
    vector: number,
  ): void {
    const x = high(index);
    const b = high(rm) | high(base);
    const w = row.vex?.w ?? (isWide ? 1 : 0);
    const l = row.vex?.l ?? vector;
    const tail = ((~vvvv & 15) << 3) | (l << 2) | pp(row);
    const r = high(reg) ^ 1;
    if (row.map === 1 && w === 0 && x === 0 && b === 0) {
      this.#bytes[this.#length++] = 0xc5;
      this.#bytes[this.#length++] = (r << 7) | tail;
      return;
    }
    this.#bytes[this.#length++] = 0xc4;
    this.#bytes[this.#length++] = (r << 7) | ((x ^ 1) << 6) | ((b ^ 1) << 5) | row.map;
    this.#bytes[this.#length++] = (w << 7) | tail;
  }

  /** 62 RXBR'0mmm Wvvvv1pp zL'LbV'aaa; R, X, B, R', vvvv and V' inverted. A register in rm has its bit 4 in X. */
  #evex(
    row: Instruction,
    reg: number,
    rm: number,
    base: number,
    index: number,
    vvvv: number,
    mask: number,
    vector: number,
  ): void {
    const { evex } = row;
    if (!evex) throw new Bug('x64-operands', `${row.mnemonic} has no EVEX form`);
    const x = rm === NONE ? high(index) : rm >> 4;
    const b = high(rm) | high(base);
    const first = (high(reg) << 7) | (x << 6) | (b << 5) | ((reg >> 4) << 4);
    this.#bytes[this.#length++] = 0x62;
    this.#bytes[this.#length++] = (first ^ 0xf0) | row.map;
    this.#bytes[this.#length++] = (evex.w << 7) | ((~vvvv & 15) << 3) | 4 | pp(row);
    this.#bytes[this.#length++] = (evex.zeroes ? 0x80 : 0) | (vector << 5) | (((vvvv >> 4) ^ 1) << 3) | mask;
  }

  /**
   * ModRM is mod reg rm; SIB is scale index base. base 101 has no mod 00, index 100 is none, rm 100 is a SIB. A displacement from RIP
   * counts from the end of the instruction; one of 8 bits in units.
   */
  #address(reg: number, memory: Memory, base: number, index: number, unit: number, bytesBehind: number): void {
    const field = (reg & 7) << 3;
    const { scale, disp, label } = memory;
    if (label) {
      this.#bytes[this.#length++] = field | 5;
      this.#fixups.push({ at: this.#length, label: label.id, next: this.#length + 4 + bytesBehind - disp });
      this.#little(0, 4);
      return;
    }
    if (index === RSP) throw new Bug('x64-address', 'rsp is no index');
    const scaleField = scale === 1 ? 0 : scale === 2 ? 0x40 : scale === 4 ? 0x80 : 0xc0;
    const sib = scaleField | (((index === NONE ? RSP : index) & 7) << 3) | ((base === NONE ? RBP : base) & 7);
    if (base === NONE) {
      this.#bytes[this.#length++] = field | 4;
      this.#bytes[this.#length++] = sib;
      this.#little(disp, 4);
      return;
    }
    const units = disp / unit;
    const isShort = units >= -128 && units <= 127 && Number.isInteger(units);
    const mod = disp === 0 && (base & 7) !== RBP ? 0 : isShort ? 1 : 2;
    const hasSib = index !== NONE || (base & 7) === RSP;
    this.#bytes[this.#length++] = (mod << 6) | field | (hasSib ? 4 : base & 7);
    if (hasSib) this.#bytes[this.#length++] = sib;
    if (mod === 1) this.#bytes[this.#length++] = units;
    else if (mod === 2) this.#little(disp, 4);
  }

  /** Room for the longest thing that is written without looking. */
  #reserve(): void {
    if (this.#length + LONGEST <= this.#bytes.length) return;
    const grown = new Uint8Array(2 * this.#bytes.length);
    grown.set(this.#bytes);
    this.#bytes = grown;
  }

  #append(bytes: ArrayLike<number>): void {
    this.#reserve();
    for (let i = 0; i < bytes.length; i++) this.#bytes[this.#length++] = bytes[i];
  }

  #little(value: number | bigint, count: number): void {
    if (count <= 4) {
      const bits = Number(value) | 0;
      for (let i = 0; i < count; i++) this.#bytes[this.#length++] = bits >> (8 * i);
      return;
    }
    let rest = BigInt.asUintN(64, BigInt(value));
    for (let i = 0; i < count; i++, rest >>= 8n) this.#bytes[this.#length++] = Number(rest & 255n);
  }

  /** Code, then constants by falling size, each aligned to its size. Labels are resolved; nothing may be emitted after. */
  finish(): Uint8Array {
    const constants = [...this.#pool.values()].sort((a, b) => b.bytes.length - a.bytes.length);
    for (const { label, bytes } of constants) {
      this.align(bytes.length);
      this.bind(label);
      this.#append(bytes);
    }
    const view = new DataView(this.#bytes.buffer);
    for (const { at, label, next } of this.#fixups) {
      view.setInt32(at, this.offsetOf({ kind: 'label', id: label }) - next, true);
    }
    return this.#bytes.slice(0, this.#length);
  }
}

/** Bit 3 of a register's number; 0 where there is none. */
const high = (n: number): number => (n === NONE ? 0 : (n >> 3) & 1);
const at = (n: number, places: Int32Array): number => (n < FIRST_VIRTUAL ? n : places[n - FIRST_VIRTUAL]);

function unitOf({ evex }: Instruction, vector: number): number {
  const unit = evex?.unit ?? 1;
  return unit === 'vector' ? 16 << vector : unit;
}

function mismatch(row: Instruction, operand: number): never {
  throw new Bug('x64-operands', `operand ${operand} of ${row.mnemonic} is of another kind`);
}
