/**
 * Register assignment: each virtual register gets a machine register for its whole life, or a slot of the stack.
 *
 * A life is one interval of instructions, from first to last mention, stretched over every loop that mentions the register and does not
 * contain its birth. Lives are served by weight (mentions, 64 times more a level of loop) over length, so what a hot loop needs is
 * placed first and what only passes through it goes to memory. After the linear scan of Poletto and Sarkar (1999), in the order of
 * priority coloring (Chow and Hennessy, 1990).
 */
import { type Code, eachRegister, FIRST_VIRTUAL, isRegister, type RegisterClass } from './code.ts';

/** By virtual register less FIRST_VIRTUAL: a machine register, or -1 - offset of a stack slot. */
export interface Assignment {
  readonly places: Int32Array;
  readonly slotBytes: number;
  /** True where the vector register holds nothing at the instruction of that index. */
  isVectorFree(register: number, item: number): boolean;
}

export const isSlot = (place: number): boolean => place < 0;
export const slotOffset = (place: number): number => -1 - place;

/** rsi, rdi, r8 to r11 are free to change, then those that a function must preserve. rax, rcx and rdx are scratch. */
const GENERAL: readonly number[] = [6, 7, 8, 9, 10, 11, 3, 5, 12, 13, 14, 15];
const VECTOR: readonly number[] = Array.from({ length: 16 }, (_, i) => i);
const LOOP_WEIGHT = 64;
const MAX_DEPTH = 8;
const ABSENT = -1;

interface Lives {
  /** Reading instruction i is position 2i, writing it 2i + 1. */
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  readonly weights: Float64Array;
  /** Pairs of registers of which one is a copy of the other. */
  readonly partners: Map<number, number[]>;
  /** Up to where arguments stay in machine registers. */
  readonly arguments: Map<number, number>;
}

function findLives(code: Code): Lives {
  const count = code.virtuals;
  const starts = new Int32Array(count).fill(ABSENT);
  const ends = new Int32Array(count).fill(ABSENT);
  const weights = new Float64Array(count);
  const partners = new Map<number, number[]>();
  const incoming = new Map<number, number>();
  const heads = new Int32Array(code.loops.length);
  const tails = new Int32Array(code.loops.length);
  code.items.forEach((item, i) => {
    if (item.kind === 'loop') heads[item.loop] = 2 * i;
    if (item.kind === 'end') tails[item.loop] = 2 * i + 1;
  });
  let loop = -1;
  const cover = (virtual: number, from: number, to: number): void => {
    if (starts[virtual] === ABSENT || from < starts[virtual]) starts[virtual] = from;
    if (to > ends[virtual]) ends[virtual] = to;
  };
  code.items.forEach((item, i) => {
    if (item.kind === 'loop') loop = item.loop;
    else if (item.kind === 'end') loop = code.loops[item.loop].parent;
    if (item.kind !== 'op') return;
    const weight = LOOP_WEIGHT ** Math.min(MAX_DEPTH, loop < 0 ? 0 : code.loops[loop].depth);
    eachRegister(item, (n, reads, writes) => {
      if (n < FIRST_VIRTUAL) {
        if (reads) incoming.set(n, 2 * i);
        return;
      }
      const virtual = n - FIRST_VIRTUAL;
      weights[virtual] += weight;
      cover(virtual, reads || !writes ? 2 * i : 2 * i + 1, writes ? 2 * i + 1 : 2 * i);
      const birth = code.birthOf(n);
      for (let l = loop; l >= 0 && !(l <= birth && birth <= code.loops[l].last); l = code.loops[l].parent) {
        cover(virtual, heads[l], tails[l]);
      }
    });
    if (item.name !== 'mov' && item.name !== 'vmovaps') return;
    const [into, from] = item.operands;
    if (!isRegister(into) || !isRegister(from) || into.n < FIRST_VIRTUAL || from.n < FIRST_VIRTUAL) return;
    addPartner(partners, into.n - FIRST_VIRTUAL, from.n - FIRST_VIRTUAL);
    addPartner(partners, from.n - FIRST_VIRTUAL, into.n - FIRST_VIRTUAL);
  });
  return { starts, ends, weights, partners, arguments: incoming };
}

function addPartner(partners: Map<number, number[]>, of: number, partner: number): void {
  const known = partners.get(of);
  if (known) known.push(partner);
  else partners.set(of, [partner]);
}

/** The lives that one machine register already holds, disjoint and sorted. */
class Occupancy {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  /** The number of lives that end before `start`. */
  #before(start: number): number {
    let [low, high] = [0, this.#ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends[middle] < start) low = middle + 1;
      else high = middle;
    }
    return low;
  }
  isFree(start: number, end: number): boolean {
    const next = this.#before(start);
    return next === this.#starts.length || this.#starts[next] > end;
  }
  take(start: number, end: number): void {
    const next = this.#before(start);
    this.#starts.splice(next, 0, start);
    this.#ends.splice(next, 0, end);
  }
}

export function allocate(code: Code): Assignment {
  const lives = findLives(code);
  const { starts, ends, weights, partners } = lives;
  const places = new Int32Array(code.virtuals).fill(ABSENT);
  const isPlaced = new Uint8Array(code.virtuals);
  const files: Readonly<Record<RegisterClass, readonly number[]>> = { general: GENERAL, vector: VECTOR };
  const occupied: Readonly<Record<RegisterClass, readonly Occupancy[]>> = {
    general: Array.from({ length: 16 }, () => new Occupancy()),
    vector: Array.from({ length: 16 }, () => new Occupancy()),
  };
  for (const [n, end] of lives.arguments) occupied.general[n].take(0, end);
  const priorities = weights.map((weight, v) => weight / (ends[v] - starts[v] + 4));
  const order = Array.from(weights.keys())
    .filter((v) => starts[v] !== ABSENT)
    .sort((a, b) => priorities[b] - priorities[a] || starts[a] - starts[b]);
  let slotBytes = 0;
  for (const virtual of order) {
    const registerClass = code.classOf(virtual + FIRST_VIRTUAL);
    const [start, end] = [starts[virtual], ends[virtual]];
    const free = (n: number): boolean => occupied[registerClass][n].isFree(start, end);
    const hint = partners.get(virtual)?.find((p) => isPlaced[p] && !isSlot(places[p]) && free(places[p]));
    const register = hint === undefined ? files[registerClass].find(free) : places[hint];
    isPlaced[virtual] = 1;
    if (register !== undefined) {
      occupied[registerClass][register].take(start, end);
      places[virtual] = register;
      continue;
    }
    const bytes = registerClass === 'vector' ? 32 : 8;
    slotBytes = Math.ceil(slotBytes / bytes) * bytes;
    places[virtual] = -1 - slotBytes;
    slotBytes += bytes;
  }
  return {
    places,
    slotBytes,
    isVectorFree: (register, item) => occupied.vector[register].isFree(2 * item, 2 * item + 1),
  };
}
