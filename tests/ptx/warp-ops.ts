/**
 * Instructions that a warp runs together: shuffles, votes, matrix fragments. Each takes the lanes that are active and register file
 * offsets, and checks that the lanes it names are there.
 *
 * Fragments (PTX ISA, "Matrix Fragments for mma"): lane = 4·g + t. With e elements a register, register j of a holds row
 * g + 8·(j mod 2), columns t·e + 4·e·⌊j/2⌋ and on; register j of b rows t·e + 4·e·j and on, column g; c and d rows g and g + 8, columns
 * 2t and 2t + 1.
 */

import { bf16ToNumber, f16ToNumber, numberToF16 } from '../../src/core/float16.ts';
import { type Instruction, PtxError } from './parse.ts';
import { halfToNumber } from './values.ts';
import type { Warp } from './warp.ts';

const brain = Float64Array.from({ length: 65536 }, (_, bits) => bf16ToNumber(bits));
const half = Float64Array.from({ length: 65536 }, (_, bits) => f16ToNumber(bits));
const scratchF = new Float32Array(1);
const scratchI = new Int32Array(scratchF.buffer);

type Unpack = (bits: number, i: number) => number;
const UNPACK: Readonly<Record<string, { readonly bits: number; readonly read: Unpack }>> = {
  f16: { bits: 16, read: (r, i) => half[(r >>> (16 * i)) & 65535] },
  bf16: { bits: 16, read: (r, i) => brain[(r >>> (16 * i)) & 65535] },
  tf32: {
    bits: 32,
    read: (r) => {
      scratchI[0] = r & ~0x1fff;
      return scratchF[0];
    },
  },
  s8: { bits: 8, read: (r, i) => (r << (24 - 8 * i)) >> 24 },
  u8: { bits: 8, read: (r, i) => (r >>> (8 * i)) & 255 },
};

const a = new Float64Array(16 * 64);
const b = new Float64Array(64 * 8);

/** d := a·b + c for a 16×k, b k×8. Offsets are those of registers in the warp's 32-bit file. */
export function mma(
  w: Warp,
  ins: Instruction,
  d: readonly number[],
  ra: readonly number[],
  rb: readonly number[],
  rc: readonly number[],
): void {
  const shape = ins.mods.find((m) => /^m\d+n8k\d+$/.test(m)) ?? '';
  const [, m, kText] = /^m(\d+)n8k(\d+)$/.exec(shape) ?? [];
  const [td, ta, tb, tc] = ins.mods.slice(-4);
  const [ua, ub] = [UNPACK[ta], UNPACK[tb]];
  if (m !== '16' || !ua || !ub) throw new PtxError(`mma of ${shape} ${ta} is not supported`);
  const k = Number(kText);
  const e = 32 / ua.bits;
  if (ra.length !== (16 * k) / (32 * e) || rb.length !== (8 * k) / (32 * e))
    throw new PtxError(`mma ${shape}: wrong number of registers`);
  for (let lane = 0; lane < 32; lane++) {
    const g = lane >> 2;
    const t = lane & 3;
    for (let j = 0; j < ra.length; j++) {
      const bits = w.I[ra[j] + lane];
      for (let i = 0; i < e; i++) a[(g + 8 * (j & 1)) * k + t * e + i + (j >> 1) * 4 * e] = ua.read(bits, i);
    }
    for (let j = 0; j < rb.length; j++) {
      const bits = w.I[rb[j] + lane];
      for (let i = 0; i < e; i++) b[(t * e + i + j * 4 * e) * 8 + g] = ub.read(bits, i);
    }
  }
  for (let lane = 0; lane < 32; lane++) {
    const g = lane >> 2;
    const t = lane & 3;
    for (let i = 0; i < 4; i++) {
      const row = g + 8 * (i >> 1);
      const column = 2 * t + (i & 1);
      let sum = 0;
      for (let x = 0; x < k; x++) sum += a[row * k + x] * b[x * 8 + column];
      if (tc === 's32') w.I[d[i] + lane] = sum + w.I[rc[i] + lane];
      else if (td === 'f32') w.F[d[i] + lane] = sum + w.F[rc[i] + lane];
      else {
        const shift = 16 * (i & 1);
        const c = halfToNumber[(w.I[rc[i >> 1] + lane] >>> shift) & 65535];
        w.I[d[i >> 1] + lane] = (w.I[d[i >> 1] + lane] & ~(65535 << shift)) | (numberToF16(sum + c) << shift);
      }
    }
  }
}

/**
 * An operand of wgmma in shared memory, k contiguous: in rows of 128 bytes with the 128-byte swizzle, or without swizzle as core matrices of
 * 8 rows by 16 bytes, the leading dimension apart along k, the stride apart along rows.
 */
function matrixReader(w: Warp, descriptor: bigint, unpack: Unpack): (row: number, k: number) => number {
  const start = Number(descriptor & 0x3fffn) * 16;
  const stride = Number((descriptor >> 32n) & 0x3fffn) * 16;
  const { shared } = w.block;
  const swizzle = descriptor >> 62n;
  if (swizzle === 0n) {
    const leading = Number((descriptor >> 16n) & 0x3fffn) * 16;
    return (row, k) => {
      const at = start + Math.floor(row / 8) * stride + (row % 8) * 16 + Math.floor(k / 8) * leading + (k % 8) * 2;
      return unpack(shared.i16[shared.readFreely(at, 2) >> 1], 0);
    };
  }
  if (swizzle !== 1n) throw new PtxError('wgmma: only the swizzle of 128 bytes is supported, or none');
  return (row, k) => {
    const linear = start + Math.floor(row / 8) * stride + (row % 8) * 128 + k * 2;
    const at = shared.readFreely(linear ^ (((linear >> 7) & 7) << 4), 2);
    return unpack(shared.i16[at >> 1], 0);
  };
}

/** What a warp of a warpgroup adds to its 16 rows of d, when the products are waited for. */
export function wgmma(w: Warp, ins: Instruction, d: readonly number[], a: bigint, b: bigint, adds: boolean): void {
  const [, nText] = /m64n(\d+)k16/.exec(ins.text) ?? [];
  const type = ins.mods.at(-1) as string;
  const unpack = UNPACK[type];
  const n = Number(nText);
  if (unpack?.bits !== 16 || d.length !== n / 2) throw new PtxError(`${ins.op} ${ins.mods.join('.')} is not supported`);
  const [readA, readB] = [matrixReader(w, a, unpack.read), matrixReader(w, b, unpack.read)];
  const first = 16 * (w.index % 4);
  const rows = Array.from({ length: 16 }, (_, r) => Array.from({ length: 16 }, (_v, k) => readA(first + r, k)));
  const columns = Array.from({ length: n }, (_, c) => Array.from({ length: 16 }, (_v, k) => readB(c, k)));
  for (let lane = 0; lane < 32; lane++) {
    for (let i = 0; i < d.length; i++) {
      const row = rows[(lane >> 2) + 8 * ((i >> 1) & 1)];
      const column = columns[8 * (i >> 2) + 2 * (lane & 3) + (i & 1)];
      let sum = adds ? w.F[d[i] + lane] : 0;
      for (let k = 0; k < 16; k++) sum += row[k] * column[k];
      w.F[d[i] + lane] = sum;
    }
  }
}

/** Rows of 8 halves at the addresses of lanes 8i to 8i + 7 become register i; a lane gets two of row lane / 4, or of a column. */
export function ldmatrix(w: Warp, d: readonly number[], addresses: Float64Array, transposed: boolean): void {
  const shared = w.block.shared;
  for (let i = 0; i < d.length; i++) {
    const rows = Array.from({ length: 8 }, (_, r) => shared.read(addresses[8 * i + r], 16, w.base + 8 * i + r) >> 1);
    for (let lane = 0; lane < 32; lane++) {
      const g = lane >> 2;
      const t = 2 * (lane & 3);
      const [low, high] = transposed
        ? [shared.i16[rows[t] + g], shared.i16[rows[t + 1] + g]]
        : [shared.i16[rows[g] + t], shared.i16[rows[g] + t + 1]];
      w.I[d[i] + lane] = low | (high << 16);
    }
  }
}

export function stmatrix(w: Warp, s: readonly number[], addresses: Float64Array, transposed: boolean): void {
  const shared = w.block.shared;
  for (let i = 0; i < s.length; i++) {
    const rows = Array.from({ length: 8 }, (_, r) => shared.write(addresses[8 * i + r], 16, w.base + 8 * i + r) >> 1);
    for (let lane = 0; lane < 32; lane++) {
      const g = lane >> 2;
      const t = 2 * (lane & 3);
      const bits = w.I[s[i] + lane];
      if (transposed) {
        shared.i16[rows[t] + g] = bits & 65535;
        shared.i16[rows[t + 1] + g] = bits >>> 16;
      } else {
        shared.i16[rows[g] + t] = bits & 65535;
        shared.i16[rows[g] + t + 1] = bits >>> 16;
      }
    }
  }
}

/** The lane that each lane reads, -1 where it is outside its segment. PTX ISA, shfl.sync. */
export function shuffleSource(mode: string, lane: number, by: number, c: number): { from: number; inside: boolean } {
  const segment = (c >> 8) & 31;
  const clamp = c & 31;
  const max = (lane & segment) | (clamp & ~segment);
  const min = lane & segment;
  let from = lane;
  let inside = true;
  if (mode === 'up') {
    from = lane - (by & 31);
    inside = from >= max;
  } else if (mode === 'down') {
    from = lane + (by & 31);
    inside = from <= max;
  } else if (mode === 'bfly') {
    from = lane ^ (by & 31);
    inside = from <= max;
  } else {
    from = min | (by & 31 & ~segment);
    inside = from <= max;
  }
  return { from: inside ? from : lane, inside };
}

export function reduceLanes(op: string, values: readonly number[], isUnsigned: boolean): number {
  const f: Readonly<Record<string, (x: number, y: number) => number>> = {
    add: (x, y) => (x + y) | 0,
    min: isUnsigned ? (x, y) => Math.min(x >>> 0, y >>> 0) | 0 : (x, y) => Math.min(x, y),
    max: isUnsigned ? (x, y) => Math.max(x >>> 0, y >>> 0) | 0 : (x, y) => Math.max(x, y),
    and: (x, y) => x & y,
    or: (x, y) => x | y,
    xor: (x, y) => x ^ y,
  };
  return values.reduce(f[op]);
}
