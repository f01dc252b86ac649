/**
 * e^x for x <= 0 on vectors, in half of the operations that any x takes: what weights of softmax are.
 *
 *     t = x · log2 e + 1.5·2^23 + 127      adding so large a number rounds: the last bits of t are n + 127, n = round(x · log2 e)
 *     r = x - n · ln 2                     ln 2 in two parts, of which n · hi is exact
 *     e^x = 2^n · P(r)                     2^n is t's bits moved to where floats have their exponent
 *
 * P is the polynomial of degree 6 of least relative error on |r| <= ln 2 / 2, 1.8e-8 with its coefficients rounded (found by reweighted least
 * squares). Below -87.7, where floats become subnormal, n + 127 is 0 and the result is exactly 0, of -inf too. NaN stays NaN.
 */
import type { Asm, Reg } from './asm.ts';

const ROUNDING = 1.5 * 2 ** 23 + 127;
const LN2_HI = 0.693359375;
/** -127 · ln 2: n is -127 there and bits that are moved are 0. */
const LEAST = -127 * Math.LN2;
const COEFFICIENTS = [
  0.001384364441037178, 0.008374163880944252, 0.04166800156235695, 0.16666431725025177, 0.4999999403953552, 1, 1,
];

export interface ExpConstants {
  readonly log2e: Reg;
  readonly rounding: Reg;
  readonly least: Reg;
  readonly ln2: readonly [Reg, Reg];
  readonly coefficients: readonly Reg[];
}

/** Registers for what every vector needs: to be made before the loops. */
export function expConstants(asm: Asm): ExpConstants {
  const held = (value: number): Reg => {
    const reg = asm.reg('vf32');
    asm.move(reg, asm.const('vf32', Math.fround(value)));
    return reg;
  };
  return {
    log2e: held(Math.LOG2E),
    rounding: held(ROUNDING),
    least: held(LEAST),
    ln2: [held(-LN2_HI), held(LN2_HI - Math.LN2)],
    coefficients: COEFFICIENTS.map(held),
  };
}

/** e^x, x no greater than 0; into a fresh register. */
export function expOfNegative(asm: Asm, x: Reg, c: ExpConstants): Reg {
  const from = (start: Reg): Reg => {
    const reg = asm.reg('vf32');
    asm.move(reg, start);
    return reg;
  };
  const bounded = asm.bounded('max', x, c.least);
  const t = from(c.rounding);
  asm.fma(t, bounded, c.log2e);
  const n = asm.op('sub', [t, c.rounding]);
  const r = from(bounded);
  for (const part of c.ln2) asm.fma(r, n, part);
  const sum = c.coefficients.slice(1).reduce((p, coefficient) => {
    const next = from(coefficient);
    asm.fma(next, p, r);
    return next;
  }, c.coefficients[0]);
  const power = asm.bitcast('vf32', asm.op('shl', [asm.bitcast('vi32', t), asm.const('i32', 23)]));
  return asm.op('mul', [sum, power]);
}
