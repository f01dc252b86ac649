/**
 * Register assignment: each virtual register gets a machine register for its whole life, or a slot of the stack.
 *
 * A life is one interval of instructions, from first to last mention, stretched over every loop that mentions the register and does not
 * contain its birth. Lives are served by weight (mentions, 64 times more a level of loop) over length, so what a hot loop needs is
 * placed first and what only passes through it goes to memory. After the linear scan of Poletto and Sarkar (1999), in the order of
 * priority coloring (Chow and Hennessy, 1990).
 */
import { Bug } from '../../core/errors.ts';
import { type Code, isRegister, isZeroing, type Op, type RegisterClass } from './code.ts';
import { FIRST_VIRTUAL } from './encode.ts';

/** By virtual register less FIRST_VIRTUAL: a machine register, or -1 - offset of a stack slot. */
export interface Assignment {
  readonly places: Int32Array;
  readonly slotBytes: number;
  /** True where the vector register holds nothing at the instruction of that index. */
  isVectorFree(register: number, item: number): boolean;
}

export const isSlot = (place: number): boolean => place < 0;
export const slotOffset = (place: number): number => -1 - place;

/**
 * rsi, rdi, r8 to r11 are free to change, then those that a function must preserve. rax, rcx and rdx are scratch. Vector registers from 16
 * and masks are there where the processor has AVX-512; k0 stands for no mask.
 */
const FILES: Readonly<Record<RegisterClass, readonly number[]>> = {
  general: [6, 7, 8, 9, 10, 11, 3, 5, 12, 13, 14, 15],
  vector: Array.from({ length: 32 }, (_, i) => i),
  mask: [1, 2, 3, 4, 5, 6, 7],
};
const LOW_VECTORS = 16;
const LOOP_WEIGHT = 64;
const MAX_DEPTH = 8;
const ABSENT = -1;
const FALLING = 2 ** 32 - 1;
/** 32 bits of priority and these are exact in a double. */
const MOST_VIRTUALS = 2 ** 21;

interface Lives {
  /** Reading instruction i is position 2i, writing it 2i + 1. */
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  readonly weights: Float64Array;
  /** 1 for vectors of instructions that know 16 registers only. */
  readonly isLow: Uint8Array;
  /** Pairs of registers of which one is a copy of the other. */
  readonly partners: ReadonlyMap<number, readonly number[]>;
  /** Up to where arguments stay in machine registers. */
  readonly arguments: ReadonlyMap<number, number>;
}

function findLives(code: Code): Lives {
  const count = code.virtuals;
  const starts = new Int32Array(count).fill(ABSENT);
  const ends = new Int32Array(count).fill(ABSENT);
  const weights = new Float64Array(count);
  const isLow = new Uint8Array(count);
  const partners = new Map<number, number[]>();
  const incoming = new Map<number, number>();
  const { items, loops } = code;
  const heads = new Int32Array(loops.length);
  const tails = new Int32Array(loops.length);
  items.forEach((item, i) => {
    if (item.kind === 'loop') heads[item.loop] = 2 * i;
    if (item.kind === 'end') tails[item.loop] = 2 * i + 1;
  });
  let loop = -1;
  let weight = 1;
  const mention = (n: number, from: number, to: number): void => {
    const virtual = n - FIRST_VIRTUAL;
    weights[virtual] += weight;
    let start = from;
    let end = to;
    if (loop >= 0) {
      const birth = code.birthOf(n);
      for (let l = loop; l >= 0 && !(l <= birth && birth <= loops[l].last); l = loops[l].parent) {
        if (heads[l] < start) start = heads[l];
        if (tails[l] > end) end = tails[l];
      }
    }
    if (starts[virtual] === ABSENT || start < starts[virtual]) starts[virtual] = start;
    if (end > ends[virtual]) ends[virtual] = end;
  };
  const read = (n: number, i: number): void => {
    if (n < FIRST_VIRTUAL) incoming.set(n, 2 * i);
    else mention(n, 2 * i, 2 * i);
  };
  for (let i = 0; i < items.length; i++) {
    const item = items[i];
    if (item.kind === 'loop') loop = item.loop;
    else if (item.kind === 'end') loop = loops[item.loop].parent;
    if (item.kind !== 'op') {
      weight = LOOP_WEIGHT ** Math.min(MAX_DEPTH, loop < 0 ? 0 : loops[loop].depth);
      continue;
    }
    const { row, operands } = item;
    const zeroes = item.name === 'vxorps' && isZeroing(item);
    const isNarrow = row.evex === undefined;
    for (let o = 0; o < operands.length; o++) {
      const operand = operands[o];
      if (operand.kind === 'mem') {
        if (operand.base !== undefined) read(operand.base, i);
        if (operand.index !== undefined) read(operand.index, i);
      } else if (isRegister(operand)) {
        const { n } = operand;
        const { reads, writes } = row.operands[o];
        const isRead = reads && !zeroes;
        if (n < FIRST_VIRTUAL) {
          if (isRead) incoming.set(n, 2 * i);
          continue;
        }
        if (isNarrow) isLow[n - FIRST_VIRTUAL] = 1;
        mention(n, isRead || !writes ? 2 * i : 2 * i + 1, writes ? 2 * i + 1 : 2 * i);
      }
    }
    if (item.name === 'mov' || item.name === 'vmovaps') addPartners(partners, item);
  }
  return { starts, ends, weights, isLow, partners, arguments: incoming };
}

function addPartners(partners: Map<number, number[]>, { operands }: Op): void {
  const into = operands[0];
  const from = operands[1];
  if (!isRegister(into) || !isRegister(from) || into.n < FIRST_VIRTUAL || from.n < FIRST_VIRTUAL) return;
  addPartner(partners, into.n - FIRST_VIRTUAL, from.n - FIRST_VIRTUAL);
  addPartner(partners, from.n - FIRST_VIRTUAL, into.n - FIRST_VIRTUAL);
}

function addPartner(partners: Map<number, number[]>, of: number, partner: number): void {
  const known = partners.get(of);
  if (known) known.push(partner);
  else partners.set(of, [partner]);
}

const BLOCK_BITS = 6;
const BLOCK = 1 << BLOCK_BITS;

/**
 * Which registers of a file are taken where: a bit a register for each position, and for each block of positions the registers taken
 * somewhere in it and those taken all through it, so that long lives cost little.
 */
class Occupancy {
  readonly #at: Int32Array;
  readonly #somewhere: Int32Array;
  readonly #throughout: Int32Array;

  constructor(positions: number) {
    const blocks = (positions >> BLOCK_BITS) + 1;
    this.#at = new Int32Array(blocks << BLOCK_BITS);
    this.#somewhere = new Int32Array(blocks);
    this.#throughout = new Int32Array(blocks);
  }

  /** Registers taken anywhere in [start, end], as bits. */
  taken(start: number, end: number): number {
    let out = 0;
    for (let i = start; i <= end; ) {
      const block = i >> BLOCK_BITS;
      if ((i & (BLOCK - 1)) === 0 && i + BLOCK - 1 <= end) {
        out |= this.#somewhere[block];
        i += BLOCK;
        continue;
      }
      out |= this.#throughout[block];
      const last = Math.min(end, ((block + 1) << BLOCK_BITS) - 1);
      for (; i <= last; i++) out |= this.#at[i];
    }
    return out;
  }

  take(register: number, start: number, end: number): void {
    const bit = 1 << register;
    for (let i = start; i <= end; ) {
      const block = i >> BLOCK_BITS;
      this.#somewhere[block] |= bit;
      if ((i & (BLOCK - 1)) === 0 && i + BLOCK - 1 <= end) {
        this.#throughout[block] |= bit;
        i += BLOCK;
        continue;
      }
      const last = Math.min(end, ((block + 1) << BLOCK_BITS) - 1);
      for (; i <= last; i++) this.#at[i] |= bit;
    }
  }
}

/** Virtual registers by falling priority, then in the order of their birth. */
function byPriority(starts: Int32Array, ends: Int32Array, weights: Float64Array): Float64Array {
  // One number holds both, so that they sort without a comparison function: the bits of a positive float order as it does.
  const priorities = new Float32Array(weights.length);
  for (let v = 0; v < weights.length; v++) priorities[v] = weights[v] / (ends[v] - starts[v] + 4);
  const bits = new Uint32Array(priorities.buffer);
  const keys = new Float64Array(weights.length);
  let count = 0;
  for (let v = 0; v < weights.length; v++)
    if (starts[v] !== ABSENT) keys[count++] = (FALLING - bits[v]) * MOST_VIRTUALS + v;
  const order = keys.subarray(0, count).sort();
  for (let i = 0; i < count; i++) order[i] %= MOST_VIRTUALS;
  return order;
}

/** `vectors` is how many vector registers the machine has, and `vectorBytes` what a slot of one takes. */
export function allocate(code: Code, vectors: number, vectorBytes: number): Assignment {
  const { starts, ends, weights, isLow, partners, arguments: incoming } = findLives(code);
  if (code.virtuals > MOST_VIRTUALS)
    throw new Bug('x64-registers', `${code.virtuals} virtual registers in one function`);
  const places = new Int32Array(code.virtuals).fill(ABSENT);
  const isPlaced = new Uint8Array(code.virtuals);
  const positions = 2 * code.items.length + 2;
  const occupied: Readonly<Record<RegisterClass, Occupancy>> = {
    general: new Occupancy(positions),
    vector: new Occupancy(positions),
    mask: new Occupancy(positions),
  };
  for (const [n, end] of incoming) occupied.general.take(n, 0, end);
  let slotBytes = 0;
  const order = byPriority(starts, ends, weights);
  for (let o = 0; o < order.length; o++) {
    const virtual = order[o];
    const registerClass = code.classOf(virtual + FIRST_VIRTUAL);
    const start = starts[virtual];
    const end = ends[virtual];
    const file = FILES[registerClass];
    const limit = registerClass !== 'vector' ? file.length : isLow[virtual] ? LOW_VECTORS : vectors;
    const taken = occupied[registerClass].taken(start, end);
    let register = -1;
    const copies = partners.get(virtual);
    for (let i = 0; copies !== undefined && i < copies.length; i++) {
      const partner = copies[i];
      const place = places[partner];
      if (!isPlaced[partner] || isSlot(place) || (registerClass === 'vector' && place >= limit)) continue;
      if (taken & (1 << place)) continue;
      register = place;
      break;
    }
    for (let i = 0; i < limit && register < 0; i++) if (!(taken & (1 << file[i]))) register = file[i];
    isPlaced[virtual] = 1;
    if (register >= 0) {
      occupied[registerClass].take(register, start, end);
      places[virtual] = register;
      continue;
    }
    if (registerClass === 'mask') throw new Bug('x64-masks', 'more than seven masks live at once');
    const bytes = registerClass === 'vector' ? vectorBytes : 8;
    slotBytes = Math.ceil(slotBytes / bytes) * bytes;
    places[virtual] = -1 - slotBytes;
    slotBytes += bytes;
  }
  return {
    places,
    slotBytes,
    isVectorFree: (register, item) => !(occupied.vector.taken(2 * item, 2 * item + 1) & (1 << register)),
  };
}
