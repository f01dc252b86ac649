/**
 * Weights arranged for tensor cores: for each batch and column a row of k in the order of the plan, padded with zeros to whole steps,
 * so that a tile of b is rows of 128 bytes that lie one behind the other, and k's tail needs no guard.
 */
import type { TypedArray } from '../../core/dtype.ts';
import { Bug } from '../../core/errors.ts';
import { type PackedAxis, type Packing, packedElements, type RowsPacking } from '../../engine/engine.ts';
import type { Axis } from '../../loop/ir.ts';
import { coefOf } from './gemm-plan.ts';
import { type GemmShape, STEP_BYTES } from './gemm-tiles.ts';

export function rowsPacking({ plan, steps, elementBytes, dtype }: GemmShape): RowsPacking {
  const along = (axes: readonly Axis[]): PackedAxis[] =>
    axes.map((x) => ({ extent: x.extent, stride: coefOf(plan.b, x.name) }));
  return {
    kind: 'rows',
    rows: along([...plan.batch, ...plan.n]),
    k: along(plan.k),
    offset: plan.b.constant,
    pitch: (steps * STEP_BYTES) / elementBytes,
    tf32: dtype === 'f32',
  };
}

/** `data` begins at the first element of the operand's buffer. */
export function packRows(data: TypedArray, packing: Packing): TypedArray {
  if (packing.kind !== 'rows') throw new Bug('cuda-packing', `packing ${packing.kind} is no rows`);
  const rows = offsets(packing.rows, packing.offset);
  const k = offsets(packing.k, 0);
  const out = new (data.constructor as new (length: number) => TypedArray)(packedElements(packing));
  for (let r = 0; r < rows.length; r++) {
    for (let i = 0, at = r * packing.pitch; i < k.length; i++) out[at + i] = data[rows[r] + k[i]];
  }
  if (packing.tf32) roundToTf32(out);
  return out;
}

function offsets(axes: readonly PackedAxis[], first: number): Int32Array {
  let table = Int32Array.of(first);
  for (const { extent, stride } of axes) {
    const outer = table;
    table = new Int32Array(outer.length * extent);
    for (let i = 0, at = 0; i < outer.length; i++) for (let j = 0; j < extent; j++) table[at++] = outer[i] + j * stride;
  }
  return table;
}

/** 10 bits of mantissa, ties away from zero; what overflows becomes infinite, NaN stays. */
function roundToTf32(data: TypedArray): void {
  const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
  for (let i = 0; i < bits.length; i++) {
    if ((bits[i] & 0x7f800000) !== 0x7f800000) bits[i] = (bits[i] + 0x1000) & ~0x1fff;
  }
}
