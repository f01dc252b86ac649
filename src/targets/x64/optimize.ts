/**
 * Two passes over recorded code: loads move into the one instruction that reads them, and what nothing reads goes.
 *
 * A load may move down to its reader where that is its only one, lies in the same straight piece of code, can take an operand of that
 * width from memory, and nothing between writes memory or a register of the address.
 */
import { type Code, type Item, isRegister, type Op } from './code.ts';
import { FIRST_VIRTUAL, type Memory, type Operand } from './encode.ts';
import { CONDITIONS, INSTRUCTIONS, type Instruction, type InstructionName, type OperandKind } from './instructions.ts';

/** Loads and the bits they read; 0: as many as their register has. */
const LOADS: ReadonlyMap<InstructionName, number> = new Map<InstructionName, number>([
  ['vmovups', 0],
  ['vmovss', 32],
  ['vmovsd', 64],
  ['mov', 0],
]);

/** What only sets the flags; `neg` sets them beside its result. */
const COMPARISONS: ReadonlySet<InstructionName> = new Set<InstructionName>([
  'cmp',
  'cmp_i',
  'cmp_mr',
  'test',
  'vucomiss',
  'vucomisd',
]);
const READS_FLAGS: ReadonlySet<InstructionName> = new Set(
  CONDITIONS.flatMap((condition) => [`set${condition}`, `cmov${condition}`, `j${condition}`] as const),
);

const isJump = ({ encoding }: Instruction): boolean => encoding === 'D';

function writesMemory({ row, operands }: Op): boolean {
  for (let i = 0; i < operands.length; i++) if (operands[i].kind === 'mem' && row.operands[i].writes) return true;
  return false;
}

function bitsOf({ kind }: Operand): number {
  switch (kind) {
    case 'zmm':
      return 512;
    case 'ymm':
      return 256;
    case 'r64':
      return 64;
    case 'r32':
      return 32;
    default:
      return 128;
  }
}

/** The bits of memory that a source operand may be; undefined: it must be a register. */
function sourceBits(kind: OperandKind, operand: Operand): number | undefined {
  switch (kind) {
    case 'vm':
    case 'rm':
      return bitsOf(operand);
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
  readonly register: number;
  readonly at: number;
  readonly memory: Memory;
  readonly bits: number;
}

/** Moves loads into their readers. */
export function foldLoads(code: Code): void {
  const items: (Item | undefined)[] = code.items;
  let pending: Pending[] = [];
  for (let at = 0; at < items.length; at++) {
    const item = items[at];
    if (item?.kind !== 'op') {
      pending = [];
      continue;
    }
    let op = item;
    const folded = pending.length > 0 ? foldInto(item, pending) : undefined;
    if (folded) {
      op = folded.op;
      items[at] = op;
      items[folded.load.at] = undefined;
      pending = pending.filter((load) => load !== folded.load);
    }
    if (isJump(op.row) || op.row.hasEffects || writesMemory(op)) pending = [];
    if (pending.length > 0) pending = stillValid(pending, op);
    const load = loadOf(code, op, at);
    if (load) pending.push(load);
  }
  code.items = items.filter((item) => item !== undefined);
}

/** Loads whose address the instruction leaves as it is. */
function stillValid(pending: Pending[], { row, operands }: Op): Pending[] {
  let out = pending;
  for (let i = 0; i < operands.length; i++) {
    const operand = operands[i];
    if (!row.operands[i].writes || !isRegister(operand)) continue;
    const { n } = operand;
    for (let j = 0; j < out.length; j++) {
      const { base, index } = out[j].memory;
      if (base !== n && index !== n) continue;
      out = out.filter(({ memory }) => memory.base !== n && memory.index !== n);
      break;
    }
  }
  return out;
}

/** The instruction as a load that may move: read once, written once. */
function loadOf(code: Code, { name, operands }: Op, at: number): Pending | undefined {
  const bits = LOADS.get(name);
  if (bits === undefined) return undefined;
  const into = operands[0];
  const memory = operands[1];
  if (memory.kind !== 'mem' || !isRegister(into) || into.n < FIRST_VIRTUAL) return undefined;
  // Machine registers may be scratch to what stands between.
  if (memory.base !== undefined && memory.base < FIRST_VIRTUAL) return undefined;
  const virtual = into.n - FIRST_VIRTUAL;
  if (code.reads[virtual] !== 1 || code.writes[virtual] !== 1) return undefined;
  return { register: into.n, at, memory, bits: bits || bitsOf(into) };
}

function foldInto(op: Op, pending: readonly Pending[]): { readonly op: Op; readonly load: Pending } | undefined {
  const { operands, row } = op;
  for (let i = 0; i < operands.length; i++) {
    const operand = operands[i];
    // Beside a machine register others may hold what comes next (a divisor), and an address in memory would take them as scratch.
    if (operand.kind === 'mem' || (isRegister(operand) && operand.n < FIRST_VIRTUAL)) return undefined;
  }
  for (let i = operands.length - 1; i >= 0; i--) {
    const operand = operands[i];
    if (!isRegister(operand)) continue;
    const load = pending.find(({ register }) => register === operand.n);
    if (!load) continue;
    // Where only the other source may be memory, the two change places.
    const to = row.commutes && i === 1 ? 2 : i;
    const rule = row.operands[to];
    if (rule.writes || sourceBits(rule.kind, operand) !== load.bits) continue;
    const changed = [...operands];
    if (to !== i) changed[i] = operands[to];
    changed[to] = { ...load.memory, isWide: operand.kind === 'r64' };
    // An aligned move would fault.
    const name = op.name === 'vmovaps' ? 'vmovups' : op.name;
    return { op: { kind: 'op', name, row: INSTRUCTIONS[name], operands: changed }, load };
  }
  return undefined;
}

/**
 * Drops instructions whose results nothing reads, from the end backward, so that what only they read goes too. What an instruction
 * reads of a register that it writes itself keeps nothing alive.
 */
export function removeDead(code: Code): void {
  const kept: Item[] = [];
  let needsFlags = false;
  for (let i = code.items.length - 1; i >= 0; i--) {
    const item = code.items[i];
    if (item.kind === 'op') {
      const isComparison = COMPARISONS.has(item.name);
      if (isComparison ? !needsFlags : isDead(item, code.reads)) {
        code.count(item, -1);
        continue;
      }
      if (isComparison || item.name === 'neg') needsFlags = false;
      if (READS_FLAGS.has(item.name)) needsFlags = true;
    }
    kept.push(item);
  }
  code.items = kept.reverse();
}

function isDead({ row, operands }: Op, reads: readonly number[]): boolean {
  if (row.hasEffects || isJump(row)) return false;
  const rules = row.operands;
  let writes = false;
  for (let i = 0; i < rules.length; i++) {
    if (!rules[i].writes) continue;
    const operand = operands[i];
    if (!isRegister(operand) || operand.n < FIRST_VIRTUAL || reads[operand.n - FIRST_VIRTUAL] > 0) return false;
    writes = true;
  }
  return writes;
}
