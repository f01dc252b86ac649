/**
 * Two passes over recorded code: loads move into the one instruction that reads them, and what nothing reads goes.
 *
 * A load may move down to its reader where that is its only one, lies in the same straight piece of code, can take an operand of that
 * width from memory, and nothing between writes memory or a register of the address.
 */
import { type Code, eachRegister, FIRST_VIRTUAL, type Item, isRegister, type Op } from './code.ts';
import type { Memory, Operand } from './encode.ts';
import { CONDITIONS, INSTRUCTIONS, type InstructionName, type OperandKind } from './instructions.ts';

/** Loads and the bits they read; mov's follow its register. */
const LOADS: Partial<Record<InstructionName, number>> = { vmovups: 256, vmovss: 32, vmovsd: 64, mov: 0 };

const EFFECTS: ReadonlySet<InstructionName> = new Set<InstructionName>([
  'ret',
  'call',
  'call_m',
  'jmp',
  'jmp_m',
  'push',
  'pop',
  'div',
  'idiv',
  'mul',
  'cdq',
  'cqo',
  'syscall',
  'mfence',
  'pause',
  'xchg',
  'lock_xadd',
  'lock_cmpxchg',
  'vzeroupper',
  'prefetcht0',
  'cpuid',
  'xgetbv',
]);

/** What only sets the flags; `neg` sets them beside its result. */
const COMPARISONS: ReadonlySet<InstructionName> = new Set<InstructionName>(['cmp', 'cmp_i', 'cmp_mr', 'test']);
const READS_FLAGS: ReadonlySet<InstructionName> = new Set(
  CONDITIONS.flatMap((condition) => [`set${condition}`, `cmov${condition}`, `j${condition}`] as const),
);

interface Counts {
  readonly reads: Int32Array;
  readonly writes: Int32Array;
}

function count(code: Code): Counts {
  const reads = new Int32Array(code.virtuals);
  const writes = new Int32Array(code.virtuals);
  for (const item of code.items) {
    if (item.kind !== 'op') continue;
    eachRegister(item, (n, isRead, isWritten) => {
      if (n < FIRST_VIRTUAL) return;
      if (isRead) reads[n - FIRST_VIRTUAL]++;
      if (isWritten) writes[n - FIRST_VIRTUAL]++;
    });
  }
  return { reads, writes };
}

const isJump = (name: InstructionName): boolean => INSTRUCTIONS[name].encoding === 'D';
const writesMemory = ({ name, operands }: Op): boolean =>
  operands.some((o, i) => o.kind === 'mem' && INSTRUCTIONS[name].operands[i].writes);

/** The bits of memory that a source operand may be; undefined: it must be a register. */
function sourceBits(kind: OperandKind, operand: Operand): number | undefined {
  switch (kind) {
    case 'vm':
      return operand.kind === 'ymm' ? 256 : 128;
    case 'rm':
      return operand.kind === 'r64' ? 64 : 32;
    case 'rm32':
    case 'xm32':
      return 32;
    case 'rm64':
    case 'xm64':
      return 64;
    default:
      return undefined;
  }
}

interface Pending {
  readonly at: number;
  readonly memory: Memory;
  readonly bits: number;
}

/** Moves loads into their readers. */
export function foldLoads(code: Code): void {
  const { reads, writes } = count(code);
  const items: (Item | undefined)[] = code.items;
  const pending = new Map<number, Pending>();
  items.forEach((item, at) => {
    if (item?.kind !== 'op') {
      pending.clear();
      return;
    }
    const folded = pending.size > 0 ? foldInto(item, pending) : undefined;
    if (folded) {
      items[at] = folded.op;
      items[folded.load.at] = undefined;
      pending.delete(folded.register);
    }
    const op = folded?.op ?? item;
    if (isJump(op.name) || writesMemory(op) || EFFECTS.has(op.name)) pending.clear();
    eachRegister(op, (n, _, isWritten) => {
      if (!isWritten) return;
      for (const [register, { memory }] of pending)
        if (memory.base === n || memory.index === n) pending.delete(register);
    });
    const bits = LOADS[op.name];
    const [into, from] = op.operands;
    if (bits === undefined || from?.kind !== 'mem' || !isRegister(into) || into.n < FIRST_VIRTUAL) return;
    // Machine registers may be scratch to what stands between.
    if (from.base !== undefined && from.base < FIRST_VIRTUAL) return;
    if (reads[into.n - FIRST_VIRTUAL] !== 1 || writes[into.n - FIRST_VIRTUAL] !== 1) return;
    pending.set(into.n, { at, memory: from, bits: bits || (into.kind === 'r64' ? 64 : 32) });
  });
  code.items = items.filter((item) => item !== undefined);
}

function foldInto(op: Op, pending: ReadonlyMap<number, Pending>) {
  if (op.operands.some((o) => o.kind === 'mem')) return undefined;
  const row = INSTRUCTIONS[op.name];
  for (const swapped of row.commutes ? [false, true] : [false]) {
    const operands = [...op.operands];
    if (swapped) [operands[1], operands[2]] = [operands[2], operands[1]];
    for (let i = 0; i < operands.length; i++) {
      const operand = operands[i];
      const load = isRegister(operand) ? pending.get(operand.n) : undefined;
      if (!load || !isRegister(operand) || row.operands[i].writes) continue;
      if (sourceBits(row.operands[i].kind, operand) !== load.bits) continue;
      operands[i] = { ...load.memory, isWide: operand.kind === 'r64' };
      // An aligned move would fault.
      const name = op.name === 'vmovaps' ? 'vmovups' : op.name;
      return { op: { ...op, name, operands }, load, register: operand.n };
    }
  }
  return undefined;
}

/**
 * Drops instructions whose results nothing reads, from the end backward, so that what only they read goes too. What an instruction
 * reads of a register that it writes itself keeps nothing alive.
 */
export function removeDead(code: Code): void {
  const readers = new Int32Array(code.virtuals);
  const change = (op: Op, by: 1 | -1): void =>
    eachRegister(op, (n, isRead) => {
      if (isRead && n >= FIRST_VIRTUAL && !writesRegister(op, n)) readers[n - FIRST_VIRTUAL] += by;
    });
  for (const item of code.items) if (item.kind === 'op') change(item, 1);
  const kept: Item[] = [];
  let needsFlags = false;
  for (let i = code.items.length - 1; i >= 0; i--) {
    const item = code.items[i];
    if (item.kind === 'op') {
      const isComparison = COMPARISONS.has(item.name);
      if (isComparison ? !needsFlags : isDead(item, readers)) {
        change(item, -1);
        continue;
      }
      if (isComparison || item.name === 'neg') needsFlags = false;
      if (READS_FLAGS.has(item.name)) needsFlags = true;
    }
    kept.push(item);
  }
  code.items = kept.reverse();
}

function writesRegister({ name, operands }: Op, n: number): boolean {
  const rules = INSTRUCTIONS[name].operands;
  return operands.some((o, i) => rules[i].writes && isRegister(o) && o.n === n);
}

function isDead(op: Op, readers: Int32Array): boolean {
  if (EFFECTS.has(op.name) || isJump(op.name)) return false;
  const rules = INSTRUCTIONS[op.name].operands;
  let writes = false;
  for (let i = 0; i < rules.length; i++) {
    if (!rules[i].writes) continue;
    const operand = op.operands[i];
    if (!isRegister(operand) || operand.n < FIRST_VIRTUAL || readers[operand.n - FIRST_VIRTUAL] > 0) return false;
    writes = true;
  }
  return writes;
}
