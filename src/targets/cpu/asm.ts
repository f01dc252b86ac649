/**
 * The vector assembler that CPU targets share: typed virtual registers, a vector of 32-bit lanes, structured control flow.
 *
 * Templates and the loop-nest emitter write each kernel once against this interface; wasm implements it over WebAssembly (4 lanes,
 * locals as registers), x64 over machine code (8 or 16 lanes). Nothing above it names an instruction of a machine.
 *
 * A kernel is a function (begin: i32, end: i32, one ptr a buffer): it does the tiles [begin, end).
 */

/** ptr is an address (i32 in wasm, 64-bit natively); vf32 and vi32 are vectors of `lanes` lanes; bool values are i32 0 or 1, vector masks vi32. */
export type RegType = 'i32' | 'i64' | 'f32' | 'f64' | 'ptr' | 'vf32' | 'vi32';
export interface Reg {
  readonly id: number;
  readonly type: RegType;
}

/**
 * What lies in memory: loads widen to the register type (i8…u16, bool to i32), stores narrow. splat32 loads one f32 into all lanes.
 * lanesi8 and lanesu8 are a byte a lane, of which a store keeps the lowest 8 bits; pairsi8 are two bytes a lane, each widened to the 16
 * bits of a half; spreadi8 and spreadu8 are 8 bytes widened so, the same in each group of four lanes.
 */
export type MemType =
  | 'i8'
  | 'u8'
  | 'i16'
  | 'u16'
  | 'i32'
  | 'i64'
  | 'f32'
  | 'f64'
  | 'vf32'
  | 'vi32'
  | 'splatf32'
  | 'splati32'
  | 'lanesi8'
  | 'lanesu8'
  | 'pairsi8'
  | 'spreadi8'
  | 'spreadu8';

/** The type of args[0] selects the form (i32.add, f32x4.add, …). Comparisons give i32, on vectors a vi32 mask of all ones or zeros. */
export type AsmOp =
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'div_u'
  | 'rem'
  | 'rem_u'
  | 'min'
  | 'max'
  | 'neg'
  | 'abs'
  | 'sqrt'
  | 'floor'
  | 'ceil'
  | 'trunc'
  | 'nearest'
  | 'eq'
  | 'ne'
  | 'lt'
  | 'le'
  | 'gt'
  | 'ge'
  | 'lt_u'
  | 'gt_u'
  | 'and'
  | 'or'
  | 'xor'
  | 'not'
  | 'shl'
  | 'shr'
  | 'shr_u';

export interface ConvertOptions {
  readonly unsigned?: boolean;
  /** The float is less than 2^31, or NaN: too large a number needs no care. */
  readonly isBelow?: boolean;
}

export interface Asm {
  /** 32-bit lanes of a vector. */
  readonly lanes: number;
  /** Vector registers of the machine; templates size their tiles by it. */
  readonly vectorRegisters: number;
  /** begin, end, then one ptr a buffer in the kernel's order. */
  readonly params: readonly Reg[];

  /** A constant; on vector types the same in all lanes. */
  const(type: RegType, value: number | bigint): Reg;
  /** A fresh register of a type, undefined until written: for accumulators and loop counters. */
  reg(type: RegType): Reg;
  move(into: Reg, from: Reg): void;
  op(op: AsmOp, args: readonly Reg[], into?: Reg): Reg;
  /** acc = a·b + acc, with one rounding where the machine can. All f32, f64 or all vf32. */
  fma(acc: Reg, a: Reg, b: Reg): void;
  /** a·b + c as a vf32 of its own, with one rounding where the machine can. */
  multiplyAdd(a: Reg, b: Reg, c: Reg): Reg;
  /** acc + Σ of the four products in each lane: bytes of a unsigned, of b signed. Exact, wrapping. Only where the tactic asked for it. */
  dotBytes(acc: Reg, a: Reg, b: Reg): void;
  /** acc + Σ of the two products of signed 16-bit halves in each lane, wrapping. */
  dotPairs(acc: Reg, a: Reg, b: Reg): void;
  /** Lane i (0 to 3) of each group of four, in all four. */
  repeatLane(x: Reg, lane: number): Reg;
  /** Groups of four lanes, each pair with its places exchanged. Vectors of four lanes have no pair. */
  swapFours(x: Reg): Reg;
  /** cond (i32, or a vi32 mask with vector a and b) ? a : b; both are evaluated. */
  select(cond: Reg, a: Reg, b: Reg, into?: Reg): Reg;
  /** max: x < limit ? limit : x, min: x > limit ? limit : x, on vf32; NaN and zeros of either sign stay as x has them. */
  bounded(op: 'min' | 'max', x: Reg, limit: Reg): Reg;
  /** Numeric conversion to another register type of as many lanes: float to int truncates and saturates, i64 to i32 wraps, i32 to i64 extends the sign. */
  convert(to: RegType, x: Reg, options?: ConvertOptions): Reg;
  /** vf32 that is NaN or within i32 to vi32, to nearest, ties to even; of NaN only the lowest 8 bits are told: they are 0. */
  nearestByte(x: Reg): Reg;
  /** Same bits: i32 and f32, i64 and f64, vi32 and vf32. */
  bitcast(to: RegType, x: Reg): Reg;
  /** All lanes the scalar x (f32 to vf32, i32 to vi32). */
  splat(x: Reg): Reg;
  /** vi32: first, first + 1, … by lane. */
  count(first: number): Reg;
  /** Lane i of a vector, i a constant. */
  extract(x: Reg, lane: number): Reg;
  /** x with lane i replaced; into a fresh register unless given. */
  insert(x: Reg, lane: number, value: Reg, into?: Reg): Reg;
  /** All lanes combined into a scalar. */
  horizontal(op: 'add' | 'mul' | 'min' | 'max', x: Reg): Reg;

  /** base + index·scale + byteOffset, as a ptr. index is i32. */
  address(base: Reg, index: Reg, scale: number): Reg;
  load(type: MemType, base: Reg, byteOffset: number, into?: Reg): Reg;
  store(type: MemType, base: Reg, byteOffset: number, value: Reg): void;
  /** Asks for the cache line to come to the second-level cache meanwhile, where the machine can be asked. Of any address: it never faults. */
  prefetch(base: Reg, byteOffset: number): void;

  /**
   * for (i = from; i < to; i += step) body(i). step is a positive constant; from and to are i32 and read once. `goesOn` is asked at the
   * start of each round: the loop ends where it is 0.
   */
  loop(from: Reg, to: Reg, step: number, body: (i: Reg) => void, goesOn?: (i: Reg) => Reg): void;
  /** body n times, n known; unrolled by the caller if at all. */
  repeat(count: number, body: () => void): void;
  if(cond: Reg, then: () => void, otherwise?: () => void): void;
}
