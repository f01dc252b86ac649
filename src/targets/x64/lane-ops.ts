/** Lanes of vectors: all from a scalar, one out, one in, all joined into one. */
import type { Reg } from '../cpu/asm.ts';
import type { Builder } from './builder.ts';
import { imm, type Register } from './encode.ts';

const LANES_OF_HALF = 4;
const asXmm = ({ n }: Register): Register => ({ kind: 'xmm', n });

/** f32 to vf32, i32 to vi32. */
export function splat(b: Builder, x: Reg): Reg {
  const type = x.type === 'f32' ? 'vf32' : 'vi32';
  const known = b.known(x);
  if (known !== undefined) return b.constant(type, known);
  const result = b.reg(type);
  if (x.type === 'f32') b.emit('vbroadcastss', b.into(result), b.into(x));
  else {
    const inVector = b.into(b.reg('f32'));
    b.emit('vmovd', inVector, { kind: 'r32', n: x.id });
    b.emit('vpbroadcastd', b.into(result), inVector);
  }
  return result;
}

export function extractLane(b: Builder, x: Reg, lane: number): Reg {
  const result = b.reg(x.type === 'vf32' ? 'f32' : 'i32');
  let half = asXmm(b.use(x));
  if (lane >= LANES_OF_HALF) {
    const upper = b.into(b.reg('f32'));
    b.emit('vextractf128', upper, { kind: 'ymm', n: half.n }, imm(1));
    half = upper;
  }
  const within = lane % LANES_OF_HALF;
  if (x.type === 'vi32') {
    if (within === 0) b.emit('vmovd_mr', b.into(result), half);
    else b.emit('vpextrd', b.into(result), half, imm(within));
  } else if (within === 0) b.copy(result.id, half.n, 'f32');
  else b.emit('vpermilps', b.into(result), half, imm(within * 0b01010101));
  return result;
}

export function insertLane(b: Builder, x: Reg, lane: number, value: Reg, into: Reg | undefined): Reg {
  const result = b.result(x.type, into);
  const everywhere = splat(b, value);
  b.emit('vblendps', b.into(result), b.use(x), b.source(everywhere), imm(1 << lane));
  return result;
}

/** Halves, then pairs, then neighbours: three steps of `join`, which works on all lanes. */
export function horizontal(b: Builder, x: Reg, join: (x: Reg, y: Reg) => Reg): Reg {
  const upper = b.reg(x.type);
  b.emit('vextractf128', asXmm(b.into(upper)), b.use(x), imm(1));
  let out = join(x, upper);
  for (const order of [0b01001110, 0b10110001]) {
    const swapped = b.reg(x.type);
    b.emit('vpermilps', b.into(swapped), b.into(out), imm(order));
    out = join(out, swapped);
  }
  return extractLane(b, out, 0);
}
