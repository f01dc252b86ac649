/**
 * One run of k of a register tile over bytes: for each group of `step` bytes, rows × vectors dot products into i32 sums.
 *
 *     step 4, with VNNI:    a's 4 bytes in all lanes (u8, or i8 with the sign bit flipped: 128 more) · 4 bytes of b in each lane
 *     step 8, without:      a's 8 bytes as 16-bit halves, of which each pair in turn goes to all lanes · 2 bytes of b, widened, in each
 *
 * Both are exact. vpdpbusd adds four products to 32 bits without saturation; what 128 more of a signed a adds, 128 · Σ b, is
 * taken off by the sums' starts. Pairs of widened bytes are below 2·2^15 in magnitude, so vpmaddwd (and i32x4.dot_i16x8_s) cannot overflow.
 * The last group of a run ends where the run does, so nothing behind it is read: b is 0 there for what groups before it had.
 */
import type { BytesPacking } from '../../engine/engine.ts';
import type { Asm, Reg } from './asm.ts';

export interface ByteDot {
  readonly packing: BytesPacking;
  /** Whether a's bytes are signed. */
  readonly signed: boolean;
}

/** Where a step reads: each row of a, pointers that move along k, b's panel. Pointers are moved. */
export interface ByteReads {
  readonly rows: readonly { readonly pointer: Reg; readonly byteOffset: number }[];
  readonly moving: readonly Reg[];
  readonly panel: Reg;
}

/** Accumulators by row, then by vector of columns. */
export function emitByteSteps(asm: Asm, dot: ByteDot, reads: ByteReads, acc: readonly (readonly Reg[])[]): void {
  const { step, run, width } = dot.packing;
  const products = step === 4 ? quadProducts(asm, dot) : pairProducts;
  const whole = Math.floor(run / step);
  const bump = (pointer: Reg, bytes: number): void => {
    asm.op('add', [pointer, asm.const('ptr', bytes)], pointer);
  };
  const group = (back: number): void => {
    products(asm, dot, { ...reads, rows: reads.rows.map((r) => ({ ...r, byteOffset: r.byteOffset - back })) }, acc);
    bump(reads.panel, step * width);
  };
  const next = (): void => {
    group(0);
    for (const pointer of reads.moving) bump(pointer, step);
  };
  if (whole === 1 && run === step) group(0);
  else asm.loop(asm.const('i32', 0), asm.const('i32', whole), 1, next);
  if (run % step !== 0) group(step - (run % step));
}

type Products = (asm: Asm, dot: ByteDot, reads: ByteReads, acc: readonly (readonly Reg[])[]) => void;

const SIGN_BITS = 0x80808080 | 0;

function quadProducts(asm: Asm, { signed }: ByteDot): Products {
  const signs = asm.reg('vi32');
  if (signed) asm.move(signs, asm.const('vi32', SIGN_BITS));
  return (_asm, _dot, { rows, panel }, acc) => {
    const vectors = acc[0].map((_, v) => asm.load('vi32', panel, v * asm.lanes * 4));
    rows.forEach(({ pointer, byteOffset }, row) => {
      const bytes = asm.load('splati32', pointer, byteOffset);
      const unsigned = signed ? asm.op('xor', [bytes, signs]) : bytes;
      vectors.forEach((vector, v) => {
        asm.dotBytes(acc[row][v], unsigned, vector);
      });
    });
  };
}

const PAIRS = 4;

const pairProducts: Products = (asm, { signed, packing }, { rows, panel }, acc) => {
  const halves = rows.map(({ pointer, byteOffset }) => asm.load(signed ? 'spreadi8' : 'spreadu8', pointer, byteOffset));
  for (let pair = 0; pair < PAIRS; pair++) {
    const vectors = acc[0].map((_, v) => asm.load('pairsi8', panel, (pair * packing.width + v * asm.lanes) * 2));
    halves.forEach((x, row) => {
      const everywhere = asm.repeatLane(x, pair);
      vectors.forEach((vector, v) => {
        asm.dotPairs(acc[row][v], everywhere, vector);
      });
    });
  }
};
