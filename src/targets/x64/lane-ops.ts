/** Lanes of vectors: all from a scalar, one out, one in, all joined into one. */
import type { Reg } from '../cpu/asm.ts';
import type { Builder } from './builder.ts';
import { imm, type Register } from './encode.ts';

const LANES_OF_XMM = 4;
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
  if (lane >= LANES_OF_XMM) {
    const part = b.into(b.reg('f32'));
    const extract = b.lanes === 16 ? 'vextractf32x4' : 'vextractf128';
    b.emit(extract, part, { kind: b.vectorKind, n: half.n }, imm(Math.floor(lane / LANES_OF_XMM)));
    half = part;
  }
  const within = lane % LANES_OF_XMM;
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
  if (b.lanes === 16) {
    const mask = b.mask();
    b.emit('kmovw', mask, b.use(b.constant('i32', 1 << lane)));
    b.emit('vblendmps', b.into(result), b.use(x), b.source(everywhere), mask);
    return result;
  }
  b.emit('vblendps', b.into(result), b.use(x), b.source(everywhere), imm(1 << lane));
  return result;
}

/** Halves, then pairs, then neighbours: steps of `join`, which works on all lanes, though only the lower ones count. */
export function horizontal(b: Builder, x: Reg, join: (x: Reg, y: Reg) => Reg): Reg {
  let out = x;
  if (b.lanes === 16) {
    const upper = b.reg(x.type);
    b.emit('vextractf64x4', { kind: 'ymm', n: upper.id }, b.use(x), imm(1));
    out = join(x, upper);
  }
  const second = b.reg(x.type);
  const [register, lower] = [b.into(second), b.use(out)];
  if (b.lanes === 16) b.emit('vextractf32x4', asXmm(register), lower, imm(1));
  else b.emit('vextractf128', asXmm(register), lower, imm(1));
  out = join(out, second);
  for (const order of [0b01001110, 0b10110001]) {
    const swapped = b.reg(x.type);
    b.emit('vpermilps', b.into(swapped), b.into(out), imm(order));
    out = join(out, swapped);
  }
  return extractLane(b, out, 0);
}
