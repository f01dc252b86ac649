/**
 * What a tap of a depthwise convolution costs, by the operands' dtype: how an input and a weight are loaded, and their product added.
 *
 * Bytes come into lanes of 32 bits, whose upper half is 0 or the sign; weights are words whose upper half is 0, so a dot product of the
 * two halves is the product, exact, and no sum of two can overflow. Behind the last whole vector it is ordinary arithmetic.
 */
import { DTYPES, type DType } from '../../core/dtype.ts';
import type { Asm, MemType, Reg } from './asm.ts';
import { LANE_MEMORY } from './vector-ops.ts';

export type SumDType = 'f32' | 'i32';

export interface TapProducts {
  /** Of sums. */
  readonly dtype: SumDType;
  /** Of an input's element. */
  readonly bytes: number;
  input(asm: Asm, isVector: boolean, base: Reg, byteOffset: number): Reg;
  weight(asm: Asm, isVector: boolean, base: Reg, byteOffset: number): Reg;
  add(asm: Asm, sum: Reg, input: Reg, weight: Reg): void;
}

const FLOATS: TapProducts = {
  dtype: 'f32',
  bytes: 4,
  input: (asm, isVector, base, byteOffset) => asm.load(isVector ? 'vf32' : 'f32', base, byteOffset),
  weight: (asm, isVector, base, byteOffset) => asm.load(isVector ? 'vf32' : 'f32', base, byteOffset),
  add: (asm, sum, input, weight) => asm.fma(sum, input, weight),
};

const ofBytes = (dtype: 'i8' | 'u8'): TapProducts => ({
  dtype: 'i32',
  bytes: DTYPES[dtype].bytes,
  input: (asm, isVector, base, byteOffset) =>
    asm.load(isVector ? (LANE_MEMORY[dtype] as MemType) : dtype, base, byteOffset),
  // A word's lower half is the weight.
  weight: (asm, isVector, base, byteOffset) => asm.load(isVector ? 'vi32' : 'i16', base, byteOffset),
  add: (asm, sum, input, weight) => {
    if (sum.type === 'vi32') asm.dotPairs(sum, input, weight);
    else asm.op('add', [sum, asm.op('mul', [input, weight])], sum);
  },
});

const BY_DTYPE: Partial<Readonly<Record<DType, TapProducts>>> = { i8: ofBytes('i8'), u8: ofBytes('u8') };
export const tapProducts = (input: DType): TapProducts => BY_DTYPE[input] ?? FLOATS;
