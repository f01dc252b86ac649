/**
 * A recorded function as machine code: entry, instructions on machine registers, stack slots, exit.
 *
 * The convention of kernels: edi is the first tile, esi the end, rdx the address of an array of 64-bit buffer addresses. rbx, rbp, rsp
 * and r12 to r15 are preserved; everything else may change, and the upper halves of vector registers are clean at the end. It is a
 * case of System V's (its Application Binary Interface, 3.2.1).
 *
 *     rsp → slots of vectors and general registers | room to lend two vector registers | caller's rsp | (alignment to a vector)
 *
 * Values in slots are read from there where an instruction can, else by way of rax, rcx and rdx, which hold no virtual registers, or of
 * a vector register that is free at that instruction; where none is, one is saved around it.
 */
import { type Assignment, isSlot, slotOffset } from './allocate.ts';
import { type Code, isRegister, isZeroing, type Op } from './code.ts';
import {
  type Encoder,
  FIRST_VIRTUAL,
  imm,
  type Label,
  type Memory,
  mem,
  type Operand,
  RAX,
  RCX,
  RDI,
  RDX,
  type Register,
  type RegisterKind,
  RSI,
  RSP,
  r64,
} from './encode.ts';
import type { OperandRule } from './instructions.ts';

export const BEGIN = RDI;
export const END = RSI;
export const BUFFERS = RDX;

const PRESERVED: readonly number[] = [3, 5, 12, 13, 14, 15];
const GENERAL_SCRATCH: readonly number[] = [RAX, RCX, RDX];
/** Any instruction can name these. */
const LENDABLE = 16;
/** An instruction has at most two vector sources that cannot be memory. */
const LENT = 2;
const LOOP_ALIGNMENT = 32;

/** The machine's vectors, as slots keep them whole. */
export interface VectorFile {
  readonly kind: RegisterKind;
  readonly bytes: number;
}

/** Appends the function; its entry. */
export function encodeFunction(code: Code, assignment: Assignment, vectors: VectorFile): Label {
  return new FunctionEncoder(code, assignment, vectors).run();
}

const isVector = ({ kind }: Register): boolean => kind === 'xmm' || kind === 'ymm' || kind === 'zmm';

class FunctionEncoder {
  readonly #code: Code;
  readonly #encoder: Encoder;
  readonly #assignment: Assignment;
  readonly #vectors: VectorFile;
  readonly #saved: readonly number[];
  readonly #lendOffset: number;
  readonly #frameBytes: number;

  constructor(code: Code, assignment: Assignment, vectors: VectorFile) {
    this.#code = code;
    this.#encoder = code.encoder;
    this.#assignment = assignment;
    this.#vectors = vectors;
    const used = new Set<number>();
    assignment.places.forEach((place, v) => {
      if (!isSlot(place) && code.classOf(v + FIRST_VIRTUAL) === 'general') used.add(place);
    });
    this.#saved = PRESERVED.filter((n) => used.has(n));
    this.#lendOffset = Math.ceil(assignment.slotBytes / vectors.bytes) * vectors.bytes;
    this.#frameBytes = assignment.slotBytes === 0 ? 0 : this.#lendOffset + (LENT + 1) * vectors.bytes;
  }

  run(): Label {
    const encoder = this.#encoder;
    const entry = encoder.newLabel();
    encoder.align(LOOP_ALIGNMENT);
    encoder.bind(entry);
    this.#enter();
    const { items } = this.#code;
    for (let i = 0; i < items.length; i++) {
      const item = items[i];
      switch (item.kind) {
        case 'op':
          this.#op(item, i);
          break;
        case 'bind':
          encoder.bind(item.label);
          break;
        case 'loop':
          if (this.#code.loops[item.loop].last === item.loop) encoder.align(LOOP_ALIGNMENT);
          encoder.bind(item.label);
          break;
        case 'end':
          break;
        default:
          item satisfies never;
      }
    }
    this.#leave();
    return entry;
  }

  #enter(): void {
    const encoder = this.#encoder;
    for (const n of this.#saved) encoder.emit('push', r64(n));
    if (this.#frameBytes === 0) return;
    encoder.emit('mov', r64(RAX), r64(RSP));
    encoder.emit('and_i', r64(RSP), imm(-this.#vectors.bytes));
    encoder.emit('sub_i', r64(RSP), imm(this.#frameBytes));
    encoder.emit('mov_mr', mem(RSP, this.#frameBytes - 8), r64(RAX));
  }

  #leave(): void {
    const encoder = this.#encoder;
    if (this.#frameBytes > 0) encoder.emit('mov', r64(RSP), mem(RSP, this.#frameBytes - 8));
    for (const n of this.#saved.toReversed()) encoder.emit('pop', r64(n));
    encoder.emit('vzeroupper');
    encoder.emit('ret');
  }

  #place(n: number): number {
    return n < FIRST_VIRTUAL ? n : this.#assignment.places[n - FIRST_VIRTUAL];
  }
  #slot(n: number): Memory {
    return mem(RSP, slotOffset(this.#place(n)));
  }

  #op(op: Op, at: number): void {
    if (!this.#isInSlots(op)) {
      if (!this.#isIdentity(op)) this.#encoder.encode(op.row, op.operands, this.#assignment.places);
      return;
    }
    if (this.#storeToSlot(op)) return;
    const isFree = (register: number): boolean => this.#assignment.isVectorFree(register, at);
    new SlotOperands(op, (n) => this.#place(n), isFree, this.#encoder, this.#lendOffset, this.#vectors).run();
  }

  #isInSlots({ operands }: Op): boolean {
    if (this.#assignment.slotBytes === 0) return false;
    for (let i = 0; i < operands.length; i++) {
      const operand = operands[i];
      if (operand.kind === 'mem') {
        if (operand.base !== undefined && isSlot(this.#place(operand.base))) return true;
        if (operand.index !== undefined && isSlot(this.#place(operand.index))) return true;
      } else if (isRegister(operand) && isSlot(this.#place(operand.n))) return true;
    }
    return false;
  }

  /** A 32-bit move to the same register is none: it clears the upper half. */
  #isIdentity({ name, operands }: Op): boolean {
    if (name !== 'vmovaps' && name !== 'mov') return false;
    const [into, from] = operands;
    if (!isRegister(into) || !isRegister(from) || into.kind === 'r32') return false;
    return this.#place(into.n) === this.#place(from.n);
  }

  /** Whole registers are copied to a slot in one instruction. */
  #storeToSlot({ name, operands: [into, from] }: Op): boolean {
    if (name !== 'mov' && name !== 'vmovaps') return false;
    if (!isRegister(into) || !isRegister(from) || isSlot(this.#place(from.n)) || into.kind === 'r32') return false;
    const source = this.#place(from.n);
    if (name === 'mov') this.#encoder.emit('mov_mr', this.#slot(into.n), r64(source));
    else this.#encoder.emit('vmovups_mr', this.#slot(into.n), { kind: this.#vectors.kind, n: source });
    return true;
  }
}

/** One instruction of which some operands are in slots. */
class SlotOperands {
  readonly #op: Op;
  readonly #place: (n: number) => number;
  readonly #isFree: (register: number) => boolean;
  readonly #encoder: Encoder;
  readonly #lendOffset: number;
  readonly #vectors: VectorFile;
  /** Machine registers that the instruction names. */
  readonly #taken = new Set<string>();
  /** Scratch registers by virtual register. */
  readonly #scratch = new Map<number, Register>();
  readonly #lent: number[] = [];

  constructor(
    op: Op,
    place: (n: number) => number,
    isFree: (register: number) => boolean,
    encoder: Encoder,
    lendOffset: number,
    vectors: VectorFile,
  ) {
    this.#vectors = vectors;
    this.#isFree = isFree;
    this.#op = op;
    this.#place = place;
    this.#encoder = encoder;
    this.#lendOffset = lendOffset;
  }

  run(): void {
    const { name, operands } = this.#op;
    const rules = this.#op.row.operands;
    for (const operand of operands) {
      if (operand.kind === 'mem') for (const n of [operand.base, operand.index]) this.#take('general', n);
      else if (isRegister(operand) && operand.kind !== 'k')
        this.#take(isVector(operand) ? 'vector' : 'general', operand.n);
    }
    const memoryAt = operands.some((o) => o.kind === 'mem') ? -1 : this.#memoryOperand(rules);
    // Sources come first: a register that is only written may then share the scratch of one that is only read.
    const inSlots = operands.filter(
      (o, i): o is Register => isRegister(o) && isSlot(this.#place(o.n)) && i !== memoryAt,
    );
    for (const operand of operands) {
      if (operand.kind === 'mem') for (const n of [operand.base, operand.index]) if (n !== undefined) this.#address(n);
    }
    for (const operand of inSlots) if (this.#isRead(operand.n)) this.#bring(operand, true);
    const rewritten = operands.map((operand, i): Operand => {
      if (operand.kind === 'mem') {
        const [base, index] = [operand.base, operand.index].map((n) => (n === undefined ? n : this.#address(n)));
        return { ...operand, base, index };
      }
      if (!isRegister(operand)) return operand;
      const place = this.#place(operand.n);
      if (!isSlot(place)) return { kind: operand.kind, n: place };
      if (i === memoryAt) return { ...mem(RSP, slotOffset(place)), isWide: operand.kind === 'r64' };
      return { kind: operand.kind, n: this.#bring(operand, false).n };
    });
    const after = inSlots.filter((o, i) => this.#isWritten(o.n) && inSlots.findIndex(({ n }) => n === o.n) === i);
    this.#encoder.emit(name, ...rewritten);
    for (const operand of after) this.#store(operand);
    this.#lent.forEach((n, i) => {
      this.#encoder.emit('vmovups', this.#whole(n), mem(RSP, this.#lendOffset + i * this.#vectors.bytes));
    });
  }

  #whole(n: number): Register {
    return { kind: this.#vectors.kind, n };
  }

  #take(registerClass: string, n: number | undefined): void {
    if (n !== undefined && !isSlot(this.#place(n))) this.#taken.add(`${registerClass} ${this.#place(n)}`);
  }

  /** The operand that is read in place: only read, and mentioned once. -1: none. */
  #memoryOperand(rules: readonly OperandRule[]): number {
    const { operands } = this.#op;
    return operands.findIndex((operand, i) => {
      if (!isRegister(operand) || !isSlot(this.#place(operand.n)) || rules[i].writes) return false;
      if (!/^(rm|vm|xm)/.test(rules[i].kind)) return false;
      return operands.filter((o) => isRegister(o) && o.n === operand.n).length === 1;
    });
  }

  #isRead(n: number): boolean {
    const rules = this.#op.row.operands;
    return !isZeroing(this.#op) && this.#op.operands.some((o, i) => isRegister(o) && o.n === n && rules[i].reads);
  }

  #isWritten(n: number): boolean {
    const rules = this.#op.row.operands;
    return this.#op.operands.some((o, i) => isRegister(o) && o.n === n && rules[i].writes);
  }

  #address(n: number): number {
    return isSlot(this.#place(n)) ? this.#bring(r64(n), true).n : this.#place(n);
  }

  #bring(register: Register, isRead: boolean): Register {
    const known = this.#scratch.get(register.n);
    if (known) return known;
    const slot = mem(RSP, slotOffset(this.#place(register.n)));
    const shared = isRead ? undefined : this.#sharedScratch(register);
    const scratch = shared ?? (isVector(register) ? this.#whole(this.#vectorScratch()) : r64(this.#generalScratch()));
    this.#scratch.set(register.n, scratch);
    if (isRead) this.#encoder.emit(isVector(register) ? 'vmovups' : 'mov', scratch, slot);
    return scratch;
  }

  #sharedScratch(register: Register): Register | undefined {
    for (const [n, scratch] of this.#scratch) {
      if (isVector(scratch) === isVector(register) && !this.#isWritten(n)) return scratch;
    }
    return undefined;
  }

  #generalScratch(): number {
    const n = GENERAL_SCRATCH.find((s) => !this.#taken.has(`general ${s}`)) ?? RAX;
    this.#taken.add(`general ${n}`);
    return n;
  }

  #vectorScratch(): number {
    const untaken = Array.from({ length: LENDABLE }, (_, n) => n).filter((n) => !this.#taken.has(`vector ${n}`));
    const free = untaken.find((n) => this.#isFree(n));
    const n = free ?? untaken[0];
    this.#taken.add(`vector ${n}`);
    if (free === undefined) {
      const at = this.#lendOffset + this.#lent.length * this.#vectors.bytes;
      this.#encoder.emit('vmovups_mr', mem(RSP, at), this.#whole(n));
      this.#lent.push(n);
    }
    return n;
  }

  #store(register: Register): void {
    const scratch = this.#scratch.get(register.n) as Register;
    const slot = mem(RSP, slotOffset(this.#place(register.n)));
    this.#encoder.emit(isVector(register) ? 'vmovups_mr' : 'mov_mr', slot, scratch);
  }
}
