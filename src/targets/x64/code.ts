/**
 * A function as it is recorded: instructions over virtual registers, labels, and where loops begin and end.
 *
 * Virtual registers are numbered from FIRST_VIRTUAL; below are the machine's. A virtual register is born when it is asked for, and is
 * read only inside the block of its birth: what is born in a loop's body carries nothing from round to round.
 */
import type { Encoder, Label, Operand } from './encode.ts';
import { INSTRUCTIONS, type InstructionName } from './instructions.ts';

export const FIRST_VIRTUAL = 16;

export interface Op {
  readonly kind: 'op';
  readonly name: InstructionName;
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

export type RegisterClass = 'general' | 'vector';

export class Code {
  readonly encoder: Encoder;
  items: Item[] = [];
  readonly loops: Loop[] = [];
  readonly #classes: RegisterClass[] = [];
  readonly #births: number[] = [];
  /** How often each virtual register was written so far. */
  readonly #writes: number[] = [];
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
    this.#writes.push(0);
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
    return this.#writes[virtual - FIRST_VIRTUAL];
  }

  emit(name: InstructionName, ...operands: readonly Operand[]): void {
    this.items.push({ kind: 'op', name, operands });
    const rules = INSTRUCTIONS[name].operands;
    for (let i = 0; i < operands.length; i++) {
      const operand = operands[i];
      if (rules[i].writes && isRegister(operand) && operand.n >= FIRST_VIRTUAL)
        this.#writes[operand.n - FIRST_VIRTUAL]++;
    }
  }
  bind(label: Label): void {
    this.items.push({ kind: 'bind', label });
  }

  openLoop(): Label {
    const label = this.encoder.newLabel();
    const parent = this.#loop;
    const depth = parent < 0 ? 1 : this.loops[parent].depth + 1;
    this.#loop = this.loops.push({ parent, depth, last: 0 }) - 1;
    this.items.push({ kind: 'loop', loop: this.#loop, label });
    return label;
  }
  /** After the jump back. */
  closeLoop(): void {
    const loop = this.loops[this.#loop];
    loop.last = this.loops.length - 1;
    this.items.push({ kind: 'end', loop: this.#loop });
    this.#loop = loop.parent;
  }
}

export const isRegister = (operand: Operand): operand is Extract<Operand, { readonly n: number }> => 'n' in operand;

/** Exclusive or of a register with itself is 0 and reads nothing. */
export function isZeroing({ name, operands }: Op): boolean {
  if (name !== 'vxorps') return false;
  const [into, a, b] = operands;
  return isRegister(into) && isRegister(a) && isRegister(b) && into.n === a.n && a.n === b.n;
}

/** Calls `see` for each register that the instruction reads or writes, those of addresses with the kind r64. */
export function eachRegister(op: Op, see: (n: number, reads: boolean, writes: boolean) => void): void {
  const rules = INSTRUCTIONS[op.name].operands;
  const zeroes = isZeroing(op);
  for (let i = 0; i < op.operands.length; i++) {
    const operand = op.operands[i];
    if (operand.kind === 'mem') {
      if (operand.base !== undefined) see(operand.base, true, false);
      if (operand.index !== undefined) see(operand.index, true, false);
    } else if (isRegister(operand)) see(operand.n, rules[i].reads && !zeroes, rules[i].writes);
  }
}
