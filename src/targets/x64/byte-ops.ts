/**
 * Bytes as operands: loads and stores that widen or narrow to 32-bit lanes, and dot products of the bytes (or halves) of a lane.
 *
 * VNNI's vpdpbusd and vpdpwssd add to 32-bit sums without saturation (Intel's manual, volume 2, VPDPBUSD, VPDPWSSD); vpmaddwd's sum of
 * two products of 16 bits overflows only where all four factors are -2^15. Which VNNI the processor has decides the encoding.
 */
import type { MemType, Reg } from '../cpu/asm.ts';
import { VNNI } from '../cpu/vector-machine.ts';
import type { Params } from '../target.ts';
import type { Builder } from './builder.ts';
import { imm, type Memory } from './encode.ts';

/** 'evex': AVX512-VNNI; 'vex': AVX-VNNI. */
export type Vnni = 'evex' | 'vex' | undefined;
/** What a tactic was made for. */
export const vnniOf = ({ vnni }: Params): Vnni =>
  vnni === VNNI.avx512vnni ? 'evex' : vnni === VNNI.avxvnni ? 'vex' : undefined;
export type ByteType = Extract<MemType, 'lanesi8' | 'lanesu8' | 'pairsi8' | 'spreadi8' | 'spreadu8'>;

const BYTE_TYPES: ReadonlySet<MemType> = new Set<ByteType>(['lanesi8', 'lanesu8', 'pairsi8', 'spreadi8', 'spreadu8']);
export const isByteType = (type: MemType): type is ByteType => BYTE_TYPES.has(type);

export function loadBytes(b: Builder, type: ByteType, from: Memory, into: Reg | undefined): Reg {
  const result = b.result('vi32', into);
  const isWide = b.lanes === 16;
  switch (type) {
    case 'lanesi8':
      b.emit(isWide ? 'vpmovsxbd_z' : 'vpmovsxbd', b.into(result), from);
      break;
    case 'lanesu8':
      b.emit(isWide ? 'vpmovzxbd_z' : 'vpmovzxbd', b.into(result), from);
      break;
    case 'pairsi8':
      b.emit('vpmovsxbw', b.into(result), from);
      break;
    case 'spreadi8':
    case 'spreadu8': {
      const eight = b.into(b.reg('f32'));
      b.emit('vpbroadcastq', eight, from);
      b.emit(type === 'spreadi8' ? 'vpmovsxbw' : 'vpmovzxbw', b.into(result), eight);
      break;
    }
    default:
      return type satisfies never;
  }
  return result;
}

/** The lowest byte of each lane: one instruction of AVX-512, else a shuffle to the front of each half, and the two joined. */
export function storeLanes(b: Builder, to: Memory, value: Reg): void {
  const source = b.use(value);
  if (b.lanes === 16) {
    b.emit('vpmovdb', to, source);
    return;
  }
  const lowest = b.into(b.reg('vi32'));
  b.emit('vpshufb', lowest, source, b.pool('vi32', 0x0c080400, b.lanes));
  const [upper, joined] = [b.into(b.reg('f32')), b.into(b.reg('f32'))];
  b.emit('vextractf128', upper, lowest, imm(1));
  b.emit('vunpcklps', joined, { kind: 'xmm', n: lowest.n }, upper);
  b.emit('vmovq_mr', to, joined);
}

/** acc + Σ of products of the two halves in each lane. */
export function dotPairs(b: Builder, vnni: Vnni, acc: Reg, x: Reg, y: Reg): void {
  if (vnni) {
    b.emit(vnni === 'evex' ? 'vpdpwssd' : 'vpdpwssd_vex', b.into(acc), b.use(x), b.source(y));
    return;
  }
  const products = b.into(b.reg('vi32'));
  b.emit('vpmaddwd', products, b.use(x), b.source(y));
  b.emit('vpaddd', b.into(acc), b.into(acc), products);
}
