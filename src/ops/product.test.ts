import fc from 'fast-check';
import { expect, it } from 'vitest';
import { multiplyRows } from './product.ts';

const matrix = (rows: number, k: number, phase: number): Float64Array =>
  Float64Array.from({ length: rows * k }, (_, i) => Math.round(9 * Math.sin(phase + i)));

it('gives every dot product of two sets of rows, in tiles and tails', () => {
  const size = fc.integer({ min: 0, max: 11 });
  fc.assert(
    fc.property(size, size, size, (m, n, k) => {
      const a = matrix(m + 1, k, 1);
      const b = matrix(n + 1, k, 2);
      const out = new Float64Array(m * n + 1).fill(Number.NaN);
      // The second row of each onwards; the result transposed, behind one element that must stay.
      const rows = { data: a, start: k, count: m };
      multiplyRows(rows, { data: b, start: k, count: n }, k, { data: out, start: 1, rowStride: 1, columnStride: m });
      expect(out[0]).toBeNaN();
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          let sum = 0;
          for (let p = 0; p < k; p++) sum += a[k + i * k + p] * b[k + j * k + p];
          expect(out[1 + j * m + i]).toBe(sum);
        }
      }
    }),
  );
});
