/**
 * Unsigned division by a constant as a multiplication, after T. Granlund and P. Montgomery, "Division by Invariant Integers using
 * Multiplication" (1994).
 *
 * For 0 <= x < 2^31 and d >= 2 that is no power of two, with l = ⌈log2 d⌉ and m = ⌈2^(31+l) / d⌉ < 2^32:
 *
 *     ⌊x / d⌋ = ⌊x·m / 2^(31+l)⌋ = (high word of x·m) >> (l - 1)      since (m·d - 2^(31+l))·x < 2^l·2^31
 */
import type { PtxKernel, Reg } from './ptx.ts';

/** ⌊x / divisor⌋ for x in [0, 2^31). */
export function divideBy(k: PtxKernel, x: Reg, divisor: number): Reg {
  if (divisor === 1) return x;
  const bits = Math.ceil(Math.log2(divisor));
  if (2 ** bits === divisor) return k.op('shr.u32', x, bits);
  const multiplier = (2n ** BigInt(31 + bits) + BigInt(divisor) - 1n) / BigInt(divisor);
  const high = k.op('mul.hi.u32', x, multiplier);
  return bits === 1 ? high : k.op('shr.u32', high, bits - 1);
}

/** x mod divisor for x in [0, 2^31). */
export function remainderBy(k: PtxKernel, x: Reg, divisor: number): Reg {
  if (divisor === 1) return k.op('mov.u32', 0);
  if (Number.isInteger(Math.log2(divisor))) return k.op('and.b32', x, divisor - 1);
  return k.op('mad.lo.s32', divideBy(k, x, divisor), -divisor, x);
}
