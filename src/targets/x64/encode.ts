/**
 * Machine code bytes: instructions with physical registers in, code with resolved labels and a constant pool behind it out.
 *
 *     [66 F2 F3 F0] [REX | VEX2 | VEX3] opcode [ModRM [SIB] [disp8 | disp32]] [immediate]
 *
 * Sections are of Intel's manual, volume 2: REX 2.2.1, ModRM and SIB 2.1.3 to 2.1.5, RIP-relative 2.2.1.6, VEX 2.3.5, is4 2.3.10.
 */
import { Bug } from '../../core/errors.ts';
import { INSTRUCTIONS, type Instruction, type InstructionName, type OperandRule } from './instructions.ts';

export type RegisterKind = 'r8' | 'r16' | 'r32' | 'r64' | 'xmm' | 'ymm';
/** n is the register's number, 0 to 15; before registers are assigned, that of a virtual one. */
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

const SHORT_FORMS: Partial<Record<InstructionName, InstructionName>> = {
  add_i: 'add_i8',
  or_i: 'or_i8',
  and_i: 'and_i8',
  sub_i: 'sub_i8',
  xor_i: 'xor_i8',
  cmp_i: 'cmp_i8',
  imul_i: 'imul_i8',
};
const isByte = (value: number | bigint): boolean => value >= -128 && value <= 127;
const PP: Readonly<Record<number, number>> = { 102: 1, 243: 2, 242: 3 };

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

export class Encoder {
  #bytes = new Uint8Array(4096);
  #length = 0;
  readonly #labels: number[] = [];
  readonly #fixups: { readonly at: number; readonly label: number; readonly next: number }[] = [];
  readonly #pool = new Map<string, { readonly label: Label; readonly bytes: Uint8Array }>();

  /** Bytes emitted so far. */
  get length(): number {
    return this.#length;
  }

  newLabel(): Label {
    this.#labels.push(-1);
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

  /** The address of bytes behind the code, aligned to their number (a power of two, at most 64); equal bytes are kept once. */
  constant(bytes: Uint8Array): Label {
    const key = bytes.join();
    let entry = this.#pool.get(key);
    if (!entry) {
      entry = { label: this.newLabel(), bytes };
      this.#pool.set(key, entry);
    }
    return entry.label;
  }

  align(to: number): void {
    for (let rest = -this.#length & (to - 1); rest > 0; ) {
      const count = Math.min(rest, NOPS.length - 1);
      for (const byte of NOPS[count]) this.#byte(byte);
      rest -= count;
    }
  }

  emit(name: InstructionName, ...operands: readonly Operand[]): void {
    const last = operands[operands.length - 1];
    const short = SHORT_FORMS[name];
    const row = INSTRUCTIONS[short && last?.kind === 'imm' && isByte(last.value) ? short : name];
    if (operands.length !== row.operands.length) throw new Bug('x64-operands', `${name} takes ${row.operands.length}`);
    const { reg, rm, vvvv, low, immediate, is4, target } = place(row, operands);
    const isWide = isWideOperation(row, operands);
    if (row.vex) this.#vex(row, operands, reg, rm, vvvv, isWide);
    else this.#legacy(row, operands, reg, rm, low, isWide);
    for (const byte of row.opcode) this.#byte(byte + (row.opcode.length === 1 && low !== undefined ? low & 7 : 0));
    // A displacement from RIP counts from the end of the instruction, so what follows it must be known.
    const immediateBytes = immediateWidth(row);
    if (rm) this.#modrm(reg, rm, immediateBytes);
    if (is4 !== undefined) this.#byte(is4 << 4);
    if (immediate) this.#little(immediate.value, immediateBytes);
    if (target) {
      this.#fixups.push({ at: this.#length, label: target.id, next: this.#length + 4 });
      this.#little(0, 4);
    }
  }

  /** 0100WRXB */
  #legacy(
    row: Instruction,
    operands: readonly Operand[],
    reg: number,
    rm: Register | Memory | undefined,
    low: number | undefined,
    isWide: boolean,
  ): void {
    for (const byte of row.prefixes) this.#byte(byte);
    const { x, b } = extensions(rm);
    const w = row.rexW || (isWide && !row.isDefault64);
    const rex = (w ? 8 : 0) | ((reg >> 3) << 2) | (x << 1) | (b | ((low ?? 0) >> 3));
    // spl, bpl, sil and dil exist only under a REX prefix.
    const isLowByte = operands.some((o) => o.kind === 'r8' && o.n >= 4);
    if (rex !== 0 || isLowByte) this.#byte(0x40 | rex);
    if (row.map > 0) this.#byte(0x0f);
    if (row.map > 1) this.#byte(row.map === 2 ? 0x38 : 0x3a);
  }

  /** C5 RvvvvLpp, or C4 RXBmmmmm WvvvvLpp; R, X, B and vvvv inverted. */
  #vex(
    row: Instruction,
    operands: readonly Operand[],
    reg: number,
    rm: Register | Memory | undefined,
    vvvv: number,
    isWide: boolean,
  ): void {
    const { x, b } = extensions(rm);
    const w = row.vex?.w ?? (isWide ? 1 : 0);
    const l = row.vex?.l ?? (operands.some((o) => o.kind === 'ymm') ? 1 : 0);
    const tail = ((~vvvv & 15) << 3) | (l << 2) | (row.prefixes.length > 0 ? PP[row.prefixes[0]] : 0);
    const r = (reg >> 3) ^ 1;
    if (row.map === 1 && w === 0 && x === 0 && b === 0) {
      this.#byte(0xc5);
      this.#byte((r << 7) | tail);
      return;
    }
    this.#byte(0xc4);
    this.#byte((r << 7) | ((x ^ 1) << 6) | ((b ^ 1) << 5) | row.map);
    this.#byte((w << 7) | tail);
  }

  /** ModRM is mod reg rm; SIB is scale index base. base 101 has no mod 00, index 100 is none, rm 100 is a SIB. */
  #modrm(reg: number, rm: Register | Memory, bytesBehind: number): void {
    const field = (reg & 7) << 3;
    if (rm.kind !== 'mem') {
      this.#byte(0xc0 | field | (rm.n & 7));
      return;
    }
    const { base, index, scale, disp, label } = rm;
    if (label) {
      this.#byte(field | 5);
      this.#fixups.push({ at: this.#length, label: label.id, next: this.#length + 4 + bytesBehind - disp });
      this.#little(0, 4);
      return;
    }
    if (index === RSP) throw new Bug('x64-address', 'rsp is no index');
    const sib = ((31 - Math.clz32(scale)) << 6) | (((index ?? RSP) & 7) << 3) | ((base ?? RBP) & 7);
    if (base === undefined) {
      this.#byte(field | 4);
      this.#byte(sib);
      this.#little(disp, 4);
      return;
    }
    const mod = disp === 0 && (base & 7) !== RBP ? 0 : isByte(disp) ? 1 : 2;
    const hasSib = index !== undefined || (base & 7) === RSP;
    this.#byte((mod << 6) | field | (hasSib ? 4 : base & 7));
    if (hasSib) this.#byte(sib);
    if (mod === 1) this.#little(disp, 1);
    if (mod === 2) this.#little(disp, 4);
  }

  #byte(value: number): void {
    if (this.#length === this.#bytes.length) {
      const grown = new Uint8Array(2 * this.#length);
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes[this.#length++] = value;
  }

  #little(value: number | bigint, count: number): void {
    if (count <= 4) {
      const bits = Number(value) | 0;
      for (let i = 0; i < count; i++) this.#byte((bits >> (8 * i)) & 255);
      return;
    }
    let rest = BigInt.asUintN(64, BigInt(value));
    for (let i = 0; i < count; i++, rest >>= 8n) this.#byte(Number(rest & 255n));
  }

  /** Code, then constants by falling size, each aligned to its size. Labels are resolved; nothing may be emitted after. */
  finish(): Uint8Array {
    const constants = [...this.#pool.values()].sort((a, b) => b.bytes.length - a.bytes.length);
    for (const { label, bytes } of constants) {
      this.align(bytes.length);
      this.bind(label);
      for (const byte of bytes) this.#byte(byte);
    }
    const view = new DataView(this.#bytes.buffer);
    for (const { at, label, next } of this.#fixups) {
      view.setInt32(at, this.offsetOf({ kind: 'label', id: label }) - next, true);
    }
    return this.#bytes.slice(0, this.#length);
  }
}

interface Placed {
  reg: number;
  rm: Register | Memory | undefined;
  vvvv: number;
  low: number | undefined;
  immediate: Immediate | undefined;
  is4: number | undefined;
  target: Label | undefined;
}

function place(row: Instruction, operands: readonly Operand[]): Placed {
  const out: Placed = {
    reg: row.digit ?? 0,
    rm: undefined,
    vvvv: 0,
    low: undefined,
    immediate: undefined,
    is4: undefined,
    target: undefined,
  };
  if (row.encoding === 'ZO') return out;
  for (let i = 0; i < operands.length; i++) {
    const operand = operands[i];
    const letter = row.encoding[i];
    if (operand.kind === 'imm' && letter === 'I') out.immediate = operand;
    else if (operand.kind === 'label' && letter === 'D') out.target = operand;
    else if (operand.kind === 'imm' || operand.kind === 'label') mismatch(row, i);
    else if (letter === 'M') out.rm = operand;
    else if (operand.kind === 'mem') mismatch(row, i);
    else if (letter === 'R') out.reg = operand.n;
    else if (letter === 'V') out.vvvv = operand.n;
    else if (letter === 'O') out.low = operand.n;
    else if (letter === 'S') out.is4 = operand.n;
    else mismatch(row, i);
  }
  return out;
}

function mismatch(row: Instruction, operand: number): never {
  throw new Bug('x64-operands', `operand ${operand} of ${row.mnemonic} is of another kind`);
}

function extensions(rm: Register | Memory | undefined): { x: number; b: number } {
  if (!rm) return { x: 0, b: 0 };
  if (rm.kind !== 'mem') return { x: 0, b: rm.n >> 3 };
  return { x: (rm.index ?? 0) >> 3, b: (rm.base ?? 0) >> 3 };
}

const followsOperandSize = ({ kind }: OperandRule): boolean => kind === 'r' || kind === 'rm';

/** True for 64-bit operations: some operand whose size is free has 64 bits. */
const isWideOperation = (row: Instruction, operands: readonly Operand[]): boolean =>
  operands.some(
    (operand, i) =>
      followsOperandSize(row.operands[i]) && (operand.kind === 'r64' || (operand.kind === 'mem' && operand.isWide)),
  );

function immediateWidth(row: Instruction): number {
  switch (row.operands[row.operands.length - 1]?.kind) {
    case 'i8':
      return 1;
    case 'i32':
      return 4;
    case 'i64':
      return 8;
    default:
      return row.encoding === 'RVMS' ? 1 : 0;
  }
}
