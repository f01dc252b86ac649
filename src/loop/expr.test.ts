import { expect, test } from 'vitest';
import type { Scalar } from '../core/dtype.ts';
import { binaryFn } from './arithmetic.ts';
import { binary, index } from './expr.ts';
import type { BinaryOp } from './ir.ts';

const OPS: readonly BinaryOp[] = [
  'add',
  'sub',
  'mul',
  'div',
  'floordiv',
  'mod',
  'rem',
  'min',
  'max',
  'lt',
  'le',
  'gt',
  'ge',
  'eq',
  'ne',
];
const VALUES = [-(2 ** 31), 2 ** 31 - 1, -65536, -7, -1, 0, 1, 2, 3, 46341];

test.each(OPS)('%s of index constants folds to what it computes', (op) => {
  for (const a of VALUES)
    for (const b of VALUES) {
      const folded = binary(op, index(a), index(b));
      if (folded.kind !== 'const') {
        expect([op, b], 'only a division by 0 stays').toEqual([expect.stringMatching(/div|mod|rem/), 0]);
        continue;
      }
      expect(folded.value, `${a} ${op} ${b}`).toBe(binaryFn(op, 'i32')?.(a, b) as Scalar);
    }
});
