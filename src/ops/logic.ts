/**
 * Operators of two inputs, with broadcasting, on truth and on bits: comparisons, And, Or, Xor, the bitwise ones, BitShift.
 */
import { DTYPES, type DType } from '../core/dtype.ts';
import { type Dim, dimsEqual } from '../core/shape.ts';
import { fromNumbers, tensor } from '../core/tensor.ts';
import { binary, like, select } from '../loop/expr.ts';
import type { BinaryOp, Expr } from '../loop/ir.ts';
import { binaryCases } from './arithmetic.ts';
import { dimwise } from './dims.ts';
import { ANY, defineElementwise, INTEGERS, NUMERIC } from './elementwise.ts';
import { broadcastSince1 } from './legacy-broadcast.ts';
import { type Op, type OpCase, requiredOneOf } from './op.ts';

const bool: readonly DType[] = ['bool'];

/** name, first opset, operation, dtypes, whether f(a, b) = f(b, a), whether the result is bool. */
const ROWS: readonly (readonly [string, number, BinaryOp, readonly DType[], boolean, boolean])[] = [
  ['Equal', 1, 'eq', ANY, true, true],
  ['Greater', 1, 'gt', NUMERIC, false, true],
  ['GreaterOrEqual', 12, 'ge', NUMERIC, false, true],
  ['Less', 1, 'lt', NUMERIC, false, true],
  ['LessOrEqual', 12, 'le', NUMERIC, false, true],
  ['And', 1, 'and', bool, true, true],
  ['Or', 1, 'or', bool, true, true],
  ['Xor', 1, 'xor', bool, true, true],
  ['BitwiseAnd', 18, 'bitand', INTEGERS, true, false],
  ['BitwiseOr', 18, 'bitor', INTEGERS, true, false],
  ['BitwiseXor', 18, 'bitxor', INTEGERS, true, false],
];

/** Values of which many are equal, NaN among them, so that no comparison is always true or false. */
const ties: OpCase = {
  name: 'ties and NaN',
  inputs: [
    fromNumbers('f32', [5, 1], [0, -1, Number.NaN, 2, Number.NEGATIVE_INFINITY]),
    fromNumbers('f32', [6], [-0, -1, Number.NaN, 2.5, Number.POSITIVE_INFINITY, 2]),
  ],
};
const exact: OpCase = {
  name: 'i64 beyond 2^53',
  inputs: [
    tensor('i64', [2], BigInt64Array.of(2n ** 53n + 1n, 2n ** 53n)),
    tensor('i64', [], BigInt64Array.of(2n ** 53n)),
  ],
};

/** 1 or 0 where two sizes are equal or cannot be; a symbolic size is never negative. */
function equalDims(a: Dim, b: Dim): Dim | undefined {
  if (dimsEqual(a, b)) return 1;
  const [x, y] = [a, b].map((d) => typeof d === 'number');
  if (x && y) return 0;
  return (x && (a as number) < 0) || (y && (b as number) < 0) ? 0 : undefined;
}

const fromRow = ([name, since, op, dtypes, commutative, toBool]: (typeof ROWS)[number]): Op =>
  defineElementwise({
    name,
    onnx: since === 1 ? broadcastSince1 : { since },
    attrs: {},
    inputs: [2, 2],
    accepts: () => dtypes,
    ...(toBool && { result: (): DType => 'bool' }),
    expr: ([a, b]) => binary(op, a, b),
    ...(op === 'eq' && { inferDims: dimwise(equalDims) }),
    traits: { commutative },
    cases: [...binaryCases(dtypes), ...(dtypes.includes('f32') ? [ties, exact] : [])],
  });

const shiftCase = (direction: string, dtype: DType): OpCase => ({
  name: `${direction} ${dtype}`,
  attrs: { direction },
  inputs: [fromNumbers(dtype, [2, 3], [1, 2, 4, 100, -56, -1]), fromNumbers(dtype, [3], [0, 1, 5])],
});
const tooFarCase = (direction: string, dtype: DType): OpCase => ({
  name: `${direction} ${dtype}, by its width and more, and by less than 0`,
  attrs: { direction },
  inputs: [
    fromNumbers(dtype, [2, 1], [100, -56]),
    fromNumbers(dtype, [4], [8 * DTYPES[dtype].bytes - 1, 8 * DTYPES[dtype].bytes, 120, -1]),
  ],
});

/** The shift, where the amount is one; else what the sign alone leaves: -1 of a negative number to the right, or 0. */
function shift(a: Expr, b: Expr, direction: 'shl' | 'shr'): Expr {
  const bits = 8 * DTYPES[a.dtype].bytes;
  const signed = DTYPES[a.dtype].kind === 'int';
  const below = binary('lt', b, like(b, bits));
  const inside = signed ? binary('and', binary('ge', b, like(b, 0)), below) : below;
  const rest = signed && direction === 'shr' ? binary('shr', a, like(a, bits - 1)) : like(a, 0);
  return select(inside, binary(direction, a, select(inside, b, like(b, 0))), rest);
}

const bitShift = defineElementwise({
  name: 'BitShift',
  onnx: { since: 11, formSince: (_, [dtype]) => (dtype && DTYPES[dtype].kind === 'int' ? 28 : 11) },
  attrs: { direction: requiredOneOf('LEFT', 'RIGHT') },
  inputs: [2, 2],
  accepts: () => INTEGERS,
  expr: ([a, b], { direction }) => shift(a, b, direction === 'LEFT' ? 'shl' : 'shr'),
  cases: [
    ...INTEGERS.flatMap((dtype) =>
      ['LEFT', 'RIGHT'].flatMap((direction) => [shiftCase(direction, dtype), tooFarCase(direction, dtype)]),
    ),
    { name: 'empty', attrs: { direction: 'LEFT' }, inputs: [fromNumbers('u8', [0], []), fromNumbers('u8', [1], [1])] },
  ],
});

export const LOGIC_OPS: readonly Op[] = [...ROWS.map(fromRow), bitShift];
