/**
 * A function as it is recorded: instructions over virtual registers, labels, and where loops begin and end.
 *
 * Virtual registers are numbered from FIRST_VIRTUAL; below are the machine's. A virtual register is born when it is asked for, and is
 * read only inside the block of its birth: what is born in a loop's body carries nothing from round to round.
 */
import { type Encoder, FIRST_VIRTUAL, type Label, type Operand, type Register } from './encode.ts';
import { INSTRUCTIONS, type Instruction, type InstructionName } from './instructions.ts';

export interface Op {
  readonly kind: 'op';
  readonly name: InstructionName;
  readonly row: Instruction;
  readonly operands: readonly Operand[];
}
export type Item =
  | Op
  | { readonly kind: 'bind'; readonly label: Label }
  /** The head of loop `loop`, a label bound here. */
  | { readonly kind: 'loop'; readonly loop: number; readonly label: Label }
  | { readonly kind: 'end'; readonly loop: number };

export interface Loop {
  /** The loop around; -1 outside of all. */
  readonly parent: number;
  /** 1 for an outermost loop. */
  readonly depth: number;
  /** The last loop inside this one: loops are numbered in the order of their heads. */
  last: number;
}

export type RegisterClass = 'general' | 'vector' | 'mask';

export class Code {
  readonly encoder: Encoder;
  items: Item[] = [];
  readonly loops: Loop[] = [];
  readonly #classes: RegisterClass[] = [];
  readonly #births: number[] = [];
  /** By virtual register, the operands that read it and those that write it; not what an instruction reads of a register that it writes. */
  readonly reads: number[] = [];
  readonly writes: number[] = [];
  /** Grows where control may come from elsewhere: within one number code is straight. */
  piece = 0;
  #loop = -1;

  constructor(encoder: Encoder) {
    this.encoder = encoder;
  }

  /** The innermost loop that is open; -1 outside of all. */
  get loop(): number {
    return this.#loop;
  }
  get virtuals(): number {
    return this.#classes.length;
  }

  newVirtual(registerClass: RegisterClass): number {
    this.#births.push(this.#loop);
    this.reads.push(0);
    this.writes.push(0);
    return FIRST_VIRTUAL + this.#classes.push(registerClass) - 1;
  }
  classOf(virtual: number): RegisterClass {
    return this.#classes[virtual - FIRST_VIRTUAL];
  }
  /** The innermost loop in which the register was born. */
  birthOf(virtual: number): number {
    return this.#births[virtual - FIRST_VIRTUAL];
  }
  /** Differs after each instruction that writes the register. */
  version(virtual: number): number {
    return this.writes[virtual - FIRST_VIRTUAL];
  }

  /** The next instruction; keeps the operands. */
  record(name: InstructionName, operands: readonly Operand[]): void {
    const op: Op = { kind: 'op', name, row: INSTRUCTIONS[name], operands };
    this.items.push(op);
    this.count(op, 1);
  }

  /** The instruction comes (1) or goes (-1). */
  count(op: Op, by: 1 | -1): void {
    const { operands } = op;
    const rules = op.row.operands;
    let first = 0;
    let second = 0;
    for (let i = 0; i < operands.length; i++) {
      const operand = operands[i];
      if (!rules[i].writes || !isRegister(operand)) continue;
      second = first;
      first = operand.n;
      if (first >= FIRST_VIRTUAL) this.writes[first - FIRST_VIRTUAL] += by;
    }
    for (let i = 0; i < operands.length; i++) {
      const operand = operands[i];
      if (operand.kind === 'mem') {
        const { base = 0, index = 0 } = operand;
        if (base >= FIRST_VIRTUAL && base !== first && base !== second) this.reads[base - FIRST_VIRTUAL] += by;
        if (index >= FIRST_VIRTUAL && index !== first && index !== second) this.reads[index - FIRST_VIRTUAL] += by;
      } else if (rules[i].reads && isRegister(operand)) {
        const { n } = operand;
        if (n >= FIRST_VIRTUAL && n !== first && n !== second) this.reads[n - FIRST_VIRTUAL] += by;
      }
    }
  }
  bind(label: Label): void {
    this.piece++;
    this.items.push({ kind: 'bind', label });
  }

  openLoop(): Label {
    const label = this.encoder.newLabel();
    const parent = this.#loop;
    const depth = parent < 0 ? 1 : this.loops[parent].depth + 1;
    this.#loop = this.loops.push({ parent, depth, last: 0 }) - 1;
    this.piece++;
    this.items.push({ kind: 'loop', loop: this.#loop, label });
    return label;
  }
  /** After the jump back. */
  closeLoop(): void {
    const loop = this.loops[this.#loop];
    loop.last = this.loops.length - 1;
    this.piece++;
    this.items.push({ kind: 'end', loop: this.#loop });
    this.#loop = loop.parent;
  }
}

export const isRegister = (operand: Operand): operand is Register =>
  operand.kind !== 'mem' && operand.kind !== 'imm' && operand.kind !== 'label';

/** Exclusive or of a register with itself is 0 and reads nothing. */
export function isZeroing({ name, operands }: Op): boolean {
  if (name !== 'vxorps') return false;
  const into = operands[0] as Register;
  const a = operands[1] as Register;
  const b = operands[2] as Register;
  return b.kind === into.kind && into.n === a.n && a.n === b.n;
}
