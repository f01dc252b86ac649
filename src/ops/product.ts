/**
 * The float64 matrix product behind the `eval` of convolutions and matrix multiplications.
 *
 * Both operands are row-major with k innermost, so every dot product walks two contiguous rows. Tiles of 4 by 2 dot products
 * share their loads and keep eight sums in registers; a JavaScript engine runs that near one multiply-add a nanosecond.
 * Each sum is taken in order of k, so a result does not depend on which tile computed it.
 */
import { type Tensor, toNumbers } from '../core/tensor.ts';

/** Rows of k numbers inside a larger array: row i starts at `start + i · k`. */
export interface Rows {
  readonly data: Float64Array;
  readonly start: number;
  readonly count: number;
}

/** Where sums go: element (i, j) lies at `start + i · rowStride + j · columnStride`. */
export interface Sums {
  readonly data: Float64Array;
  readonly start: number;
  readonly rowStride: number;
  readonly columnStride: number;
}

/** The elements as a Float64Array; a copy unless the tensor is f64. */
export const toFloat64 = (t: Tensor): Float64Array =>
  t.data instanceof Float64Array ? t.data : new Float64Array(toNumbers(t));

/** out[i, j] = sum over p < k of a[i, p] · b[j, p]. */
export function multiplyRows(a: Rows, b: Rows, k: number, out: Sums): void {
  const tiledRows = a.count - (a.count % 4);
  const tiledColumns = b.count - (b.count % 2);
  for (let i = 0; i < tiledRows; i += 4) {
    for (let j = 0; j < tiledColumns; j += 2) multiplyTile(a, i, b, j, k, out);
    for (let j = tiledColumns; j < b.count; j++) for (let r = i; r < i + 4; r++) dot(a, r, b, j, k, out);
  }
  for (let i = tiledRows; i < a.count; i++) for (let j = 0; j < b.count; j++) dot(a, i, b, j, k, out);
}

function multiplyTile(a: Rows, i: number, b: Rows, j: number, k: number, out: Sums): void {
  const x = a.data;
  const y = b.data;
  const a0 = a.start + i * k;
  const a1 = a0 + k;
  const a2 = a1 + k;
  const a3 = a2 + k;
  const b0 = b.start + j * k;
  const b1 = b0 + k;
  let s00 = 0;
  let s01 = 0;
  let s10 = 0;
  let s11 = 0;
  let s20 = 0;
  let s21 = 0;
  let s30 = 0;
  let s31 = 0;
  for (let p = 0; p < k; p++) {
    const y0 = y[b0 + p];
    const y1 = y[b1 + p];
    const x0 = x[a0 + p];
    s00 += x0 * y0;
    s01 += x0 * y1;
    const x1 = x[a1 + p];
    s10 += x1 * y0;
    s11 += x1 * y1;
    const x2 = x[a2 + p];
    s20 += x2 * y0;
    s21 += x2 * y1;
    const x3 = x[a3 + p];
    s30 += x3 * y0;
    s31 += x3 * y1;
  }
  const { data, rowStride: row, columnStride: column } = out;
  const o = out.start + i * row + j * column;
  data[o] = s00;
  data[o + column] = s01;
  data[o + row] = s10;
  data[o + row + column] = s11;
  data[o + 2 * row] = s20;
  data[o + 2 * row + column] = s21;
  data[o + 3 * row] = s30;
  data[o + 3 * row + column] = s31;
}

function dot(a: Rows, i: number, b: Rows, j: number, k: number, out: Sums): void {
  const x = a.data;
  const y = b.data;
  const ai = a.start + i * k;
  const bj = b.start + j * k;
  let sum = 0;
  for (let p = 0; p < k; p++) sum += x[ai + p] * y[bj + p];
  out.data[out.start + i * out.rowStride + j * out.columnStride] = sum;
}
