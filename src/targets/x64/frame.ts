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
  #slotOperands: SlotOperands | undefined;

  constructor(code: Code, assignment: Assignment, vectors: VectorFile) {
    this.#code = code;
    this.#encoder = code.encoder;
    this.#assignment = assignment;
    this.#vectors = vectors;
    const { places } = assignment;
    let used = 0;
    for (let v = 0; v < places.length; v++)
      if (!isSlot(places[v]) && code.classOf(v + FIRST_VIRTUAL) === 'general') used |= 1 << places[v];
    this.#saved = PRESERVED.filter((n) => used & (1 << n));
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
    this.#slotOperands ??= new SlotOperands(op, this.#assignment, this.#encoder, this.#lendOffset, this.#vectors);
    this.#slotOperands.encode(op, at);
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
    const into = operands[0];
    const from = operands[1];
    if (!isRegister(into) || !isRegister(from) || into.kind === 'r32') return false;
    return this.#place(into.n) === this.#place(from.n);
  }

  /** Whole registers are copied to a slot in one instruction. */
  #storeToSlot({ name, operands }: Op): boolean {
    if (name !== 'mov' && name !== 'vmovaps') return false;
    const into = operands[0];
    const from = operands[1];
    if (!isRegister(into) || !isRegister(from) || isSlot(this.#place(from.n)) || into.kind === 'r32') return false;
    const source = this.#place(from.n);
    if (name === 'mov') this.#encoder.emit('mov_mr', this.#slot(into.n), r64(source));
    else this.#encoder.emit('vmovups_mr', this.#slot(into.n), { kind: this.#vectors.kind, n: source });
    return true;
  }
}

/** Instructions of which some operands are in slots; one object serves a function, as most of a large one may be such. */
class SlotOperands {
  readonly #assignment: Assignment;
  readonly #encoder: Encoder;
  readonly #lendOffset: number;
  readonly #vectors: VectorFile;
  #op: Op;
  #at = 0;
  /** Machine registers that the instruction names, as bits. */
  #takenGeneral = 0;
  #takenVectors = 0;
  /** Virtual registers, and the scratch registers that hold them. */
  readonly #held: number[] = [];
  readonly #scratch: Register[] = [];
  readonly #lent: number[] = [];

  constructor(op: Op, assignment: Assignment, encoder: Encoder, lendOffset: number, vectors: VectorFile) {
    this.#op = op;
    this.#assignment = assignment;
    this.#encoder = encoder;
    this.#lendOffset = lendOffset;
    this.#vectors = vectors;
  }

  /** The instruction at item `at`. */
  encode(op: Op, at: number): void {
    this.#op = op;
    this.#at = at;
    this.#takenGeneral = 0;
    this.#takenVectors = 0;
    this.#held.length = 0;
    this.#scratch.length = 0;
    this.#lent.length = 0;
    const { operands } = op;
    const rules = op.row.operands;
    const memoryAt = this.#takePlaced(operands) ? -1 : this.#memoryOperand(operands, rules);
    // Sources come first: a register that is only written may then share the scratch of one that is only read.
    for (let i = 0; i < operands.length; i++) {
      const operand = operands[i];
      if (operand.kind !== 'mem') continue;
      if (operand.base !== undefined) this.#address(operand.base);
      if (operand.index !== undefined) this.#address(operand.index);
    }
    for (let i = 0; i < operands.length; i++) {
      const operand = operands[i];
      if (i !== memoryAt && this.#isInSlot(operand) && this.#isRead(operand.n)) this.#bring(operand, true);
    }
    const rewritten: Operand[] = [];
    for (let i = 0; i < operands.length; i++) rewritten.push(this.#rewritten(operands[i], i === memoryAt));
    this.#encoder.encode(op.row, rewritten, NO_PLACES);
    this.#storeWritten(operands, rules);
    for (let i = 0; i < this.#lent.length; i++) {
      this.#encoder.emit('vmovups', this.#whole(this.#lent[i]), mem(RSP, this.#lendOffset + i * this.#vectors.bytes));
    }
  }

  #place(n: number): number {
    return n < FIRST_VIRTUAL ? n : this.#assignment.places[n - FIRST_VIRTUAL];
  }
  #slot(n: number): Memory {
    return mem(RSP, slotOffset(this.#place(n)));
  }
  #whole(n: number): Register {
    return { kind: this.#vectors.kind, n };
  }
  #isInSlot(operand: Operand): operand is Register {
    return isRegister(operand) && isSlot(this.#place(operand.n));
  }

  /** Notes the machine registers that the operands lie in; whether one of them is memory. */
  #takePlaced(operands: readonly Operand[]): boolean {
    let hasMemory = false;
    for (let i = 0; i < operands.length; i++) {
      const operand = operands[i];
      if (operand.kind === 'mem') {
        hasMemory = true;
        if (operand.base !== undefined) this.#takeGeneral(this.#place(operand.base));
        if (operand.index !== undefined) this.#takeGeneral(this.#place(operand.index));
      } else if (isRegister(operand) && operand.kind !== 'k') {
        const place = this.#place(operand.n);
        if (!isVector(operand)) this.#takeGeneral(place);
        else if (!isSlot(place)) this.#takenVectors |= 1 << place;
      }
    }
    return hasMemory;
  }
  #takeGeneral(place: number): void {
    if (!isSlot(place)) this.#takenGeneral |= 1 << place;
  }

  /** The operand that is read in place: only read, and mentioned once. -1: none. */
  #memoryOperand(operands: readonly Operand[], rules: readonly OperandRule[]): number {
    for (let i = 0; i < operands.length; i++) {
      const operand = operands[i];
      if (rules[i].writes || !this.#isInSlot(operand) || !mayBeMemory(rules[i].kind)) continue;
      if (operands.every((o, j) => j === i || !isRegister(o) || o.n !== operand.n)) return i;
    }
    return -1;
  }

  #rewritten(operand: Operand, isMemory: boolean): Operand {
    if (operand.kind === 'mem') {
      const { base, index } = operand;
      return {
        ...operand,
        base: base === undefined ? base : this.#address(base),
        index: index === undefined ? index : this.#address(index),
      };
    }
    if (!isRegister(operand)) return operand;
    const place = this.#place(operand.n);
    if (!isSlot(place)) return { kind: operand.kind, n: place };
    if (isMemory) return { ...this.#slot(operand.n), isWide: operand.kind === 'r64' };
    return { kind: operand.kind, n: this.#bring(operand, false).n };
  }

  #storeWritten(operands: readonly Operand[], rules: readonly OperandRule[]): void {
    for (let i = 0; i < operands.length; i++) {
      const operand = operands[i];
      if (!rules[i].writes || !this.#isInSlot(operand)) continue;
      const scratch = this.#scratch[this.#held.indexOf(operand.n)];
      this.#encoder.emit(isVector(operand) ? 'vmovups_mr' : 'mov_mr', this.#slot(operand.n), scratch);
    }
  }

  #isRead(n: number): boolean {
    return !isZeroing(this.#op) && this.#mentions(n, 'reads');
  }
  #mentions(n: number, how: 'reads' | 'writes'): boolean {
    const { operands, row } = this.#op;
    for (let i = 0; i < operands.length; i++) {
      const operand = operands[i];
      if (row.operands[i][how] && isRegister(operand) && operand.n === n) return true;
    }
    return false;
  }

  #address(n: number): number {
    return isSlot(this.#place(n)) ? this.#bring(r64(n), true).n : this.#place(n);
  }

  #bring(register: Register, isRead: boolean): Register {
    const known = this.#held.indexOf(register.n);
    if (known >= 0) return this.#scratch[known];
    const shared = isRead ? undefined : this.#sharedScratch(register);
    const scratch = shared ?? (isVector(register) ? this.#whole(this.#vectorScratch()) : r64(this.#generalScratch()));
    this.#held.push(register.n);
    this.#scratch.push(scratch);
    if (isRead) this.#encoder.emit(isVector(register) ? 'vmovups' : 'mov', scratch, this.#slot(register.n));
    return scratch;
  }

  #sharedScratch(register: Register): Register | undefined {
    for (let i = 0; i < this.#held.length; i++) {
      const scratch = this.#scratch[i];
      if (isVector(scratch) === isVector(register) && !this.#mentions(this.#held[i], 'writes')) return scratch;
    }
    return undefined;
  }

  #generalScratch(): number {
    const n = GENERAL_SCRATCH.find((s) => !(this.#takenGeneral & (1 << s))) ?? RAX;
    this.#takenGeneral |= 1 << n;
    return n;
  }

  /** One that is free here, or one lent: saved around the instruction. */
  #vectorScratch(): number {
    const untaken = (n: number): boolean => !(this.#takenVectors & (1 << n));
    let n = 0;
    while (n < LENDABLE && !(untaken(n) && this.#assignment.isVectorFree(n, this.#at))) n++;
    if (n === LENDABLE) {
      n = 0;
      while (!untaken(n)) n++;
      const at = this.#lendOffset + this.#lent.length * this.#vectors.bytes;
      this.#encoder.emit('vmovups_mr', mem(RSP, at), this.#whole(n));
      this.#lent.push(n);
    }
    this.#takenVectors |= 1 << n;
    return n;
  }
}

const NO_PLACES = new Int32Array(0);

/** Operands that may be memory as well as a register. */
function mayBeMemory(kind: OperandRule['kind']): boolean {
  switch (kind) {
    case 'rm':
    case 'rm8':
    case 'rm16':
    case 'rm32':
    case 'rm64':
    case 'vm':
    case 'xm32':
    case 'xm64':
    case 'xm128':
      return true;
    default:
      return false;
  }
}
