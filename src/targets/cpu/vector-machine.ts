/**
 * The vectors of the machine that tactics are chosen for, from the names of its features. Parameters keep the number of lanes, so an
 * engine's tactics say what they were made for.
 */
import { Bug } from '../../core/errors.ts';
import type { Asm } from './asm.ts';

export interface VectorMachine {
  readonly lanes: number;
  /** Vector registers that code may use. */
  readonly registers: number;
  /** Multiply-adds of vectors a cycle. Of 512 bits some processors do two, but none that has AVX-512 less than one. */
  readonly multiplyAdds: number;
  /** Loads of vectors and splats a cycle beside them. */
  readonly loads: number;
  /** A compiler behind the assembler moves all loads of a block before its arithmetic, so that they are live together. */
  readonly loadsFirst: boolean;
  /** Steps of k in a round of a tile's loop: where the loop's own instructions take the place of multiply-adds, more than one. */
  readonly unroll: number;
}

/** 128 bits are WebAssembly's: V8 keeps one of sixteen registers, and schedules. On Intel's processors two of four integer units are also those of 512-bit multiply-adds. */
const MACHINES: readonly VectorMachine[] = [
  { lanes: 4, registers: 15, multiplyAdds: 2, loads: 2, loadsFirst: true, unroll: 1 },
  { lanes: 8, registers: 16, multiplyAdds: 2, loads: 2, loadsFirst: false, unroll: 1 },
  { lanes: 16, registers: 32, multiplyAdds: 1, loads: 0.8, loadsFirst: false, unroll: 2 },
];

/** Lanes that tactics may have, the most first: what has vectors of 512 bits has those of 256 too. */
export const lanesOf = (features: readonly string[]): readonly number[] =>
  features.includes('avx512f') ? [16, 8] : features.includes('avx2') ? [8] : [4];

/** By the feature, what a tactic's parameter `vnni` is where it uses the dot products that only that feature brings. */
export const VNNI = { avx512vnni: 1, avxvnni: 2 } as const;

/** That parameter for vectors of so many lanes; 0: no such instruction. */
export function vnniFor(lanes: number, features: readonly string[]): number {
  if (features.includes('avx512vnni') && features.includes('avx512f')) return VNNI.avx512vnni;
  return lanes === 8 && features.includes('avxvnni') ? VNNI.avxvnni : 0;
}

const LARGE_TILE = 24;

export function vectorMachine(lanes: number): VectorMachine {
  const machine = MACHINES.find((m) => m.lanes === lanes);
  if (!machine) throw new Bug('cpu-lanes', `no machine has vectors of ${lanes} lanes`);
  return machine;
}

/** In how many rounds a tile of so many vectors makes its steps of k. The smaller ones of last rows are made seldom, and their code counts too. */
export function unrollOf(lanes: number, vectors: number, steps: number): number {
  const { unroll } = vectorMachine(lanes);
  return vectors >= LARGE_TILE && steps % unroll === 0 ? unroll : 1;
}

/** Throws Bug where a tactic was made for vectors of another width. */
export function checkLanes(asm: Asm, lanes: number): void {
  if (asm.lanes !== lanes) throw new Bug('cpu-lanes', `a tactic for ${lanes} lanes on vectors of ${asm.lanes}`);
}
