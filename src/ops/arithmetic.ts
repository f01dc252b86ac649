/**
 * Arithmetic of two or more inputs with broadcasting: Add, Sub, Mul, Div, Mod, Pow, PRelu, Min, Max, Sum, Mean.
 *
 * Integers wrap; integer Div truncates toward zero. Add, Sub, Mul and Div also work on known dims, which carries symbolic sizes
 * through the shape arithmetic that exporters write.
 */
import { type DType, isFloat } from '../core/dtype.ts';
import { addDims, type Dim, floorDivDims, maxDims, minDims, mulDims, shapesEqual, subDims } from '../core/shape.ts';
import { fromNumbers, scalarTensor, tensor, toNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { add, binary, cast, div, like, mul, select, unary } from '../loop/expr.ts';
import type { BinaryOp, Expr } from '../loop/ir.ts';
import { binaryAffine, neutralOperand, type ScaleShift } from './channel-affine.ts';
import { dimwise } from './dims.ts';
import { broadcastAll, defineElementwise, FLOATS, INTEGERS, NUMERIC } from './elementwise.ts';
import { broadcastSince1, slopeSince1 } from './legacy-broadcast.ts';
import { bool, type Op, type OpCase, type OpDef } from './op.ts';

/** Two inputs: equal shapes, broadcasts of each kind, empty, scalar; f32 over all of them, other dtypes once. */
export function binaryCases(dtypes: readonly DType[], range?: readonly [number, number]): readonly OpCase[] {
  const [first, ...rest] = dtypes;
  const one = (dtype: DType, a: readonly number[], b: readonly number[]): OpCase => ({
    name: `${dtype} [${a}] [${b}]`,
    inputs: [a, b].map((shape) => (range ? { dtype, shape, range } : { dtype, shape })),
  });
  const shapes: readonly (readonly [readonly number[], readonly number[]])[] = [
    [[], []],
    [[13], []],
    [
      [2, 3, 5],
      [2, 3, 5],
    ],
    [
      [2, 3, 1],
      [1, 37],
    ],
    [[7], [3, 1, 7]],
    [
      [0, 3],
      [1, 3],
    ],
  ];
  return [...shapes.map(([a, b]) => one(first, a, b)), ...rest.map((d) => one(d, [3, 11], [11]))];
}

/** Truncating as ONNX divides; symbolic dims are never negative, so floor and truncation agree on them. */
function divDims(a: Dim, b: Dim): Dim | undefined {
  if (b === 0) return undefined;
  if (typeof a === 'number' && typeof b === 'number') return Math.trunc(a / b);
  return typeof b === 'number' && b < 0 ? undefined : floorDivDims(a, b);
}

const wide = tensor('i64', [2], BigInt64Array.of(2n ** 53n + 1n, -(2n ** 62n)));

interface Arithmetic {
  readonly dims: (a: Dim, b: Dim) => Dim | undefined;
  /** x op neutral = x. */
  readonly neutral: number;
  /** x op c, and c op x, as a scale and a shift of x. */
  readonly right: ScaleShift;
  readonly left?: ScaleShift;
  readonly commutative?: boolean;
  readonly cases?: readonly OpCase[];
}

const arithmetic = (name: string, op: BinaryOp, row: Arithmetic): Op =>
  defineElementwise({
    name,
    onnx: broadcastSince1,
    attrs: {},
    inputs: [2, 2],
    accepts: () => NUMERIC,
    expr: ([a, b]) => binary(op, a, b),
    inferDims: dimwise(row.dims),
    identity: (ctx) => neutralOperand(ctx, row.neutral, row.commutative ?? false),
    channelAffine: (ctx) => binaryAffine(ctx, row.right, row.left),
    traits: { commutative: row.commutative ?? false },
    cases: row.cases ?? [...binaryCases(NUMERIC), { name: 'i64 beyond 2^53', inputs: [wide, scalarTensor('i64', 1)] }],
  });

const signedPairs = (dtype: DType, divisors: readonly number[]): OpCase['inputs'] => [
  fromNumbers(dtype, [4, 1], [7, -7, 8, -1]),
  fromNumbers(dtype, [divisors.length], divisors),
];

const division: readonly OpCase[] = [
  ...binaryCases(FLOATS, [0.5, 4]),
  ...INTEGERS.map(
    (dtype): OpCase => ({
      name: `${dtype}`,
      inputs: [
        { dtype, shape: [3, 11] },
        { dtype, shape: [11], range: [1, 9] },
      ],
    }),
  ),
  { name: 'i32 truncates', inputs: signedPairs('i32', [2, -2, 3]) },
  { name: 'i64 truncates', inputs: signedPairs('i64', [2, -2, 3]) },
];

const mod = defineElementwise({
  name: 'Mod',
  onnx: { since: 10 },
  attrs: { fmod: bool(false) },
  inputs: [2, 2],
  accepts: () => NUMERIC,
  expr: ([a, b], { fmod }) => binary(fmod ? 'rem' : 'mod', a, b),
  cases: [
    ...(['i32', 'i64', 'i8'] as const).flatMap((dtype): OpCase[] => [
      { name: `${dtype} sign of the divisor`, inputs: signedPairs(dtype, [3, -3, 5]) },
      { name: `${dtype} sign of the dividend`, inputs: signedPairs(dtype, [3, -3, 5]), attrs: { fmod: true } },
    ]),
    {
      name: 'u8',
      inputs: [
        { dtype: 'u8', shape: [13] },
        { dtype: 'u8', shape: [], range: [3, 9] },
      ],
    },
    ...(['f32', 'f64', 'f16'] as const).map(
      (dtype): OpCase => ({
        name: `${dtype} fmod`,
        attrs: { fmod: true },
        inputs: signedPairs(dtype, [2.5, -2.5, 0.75]),
      }),
    ),
    {
      name: 'empty',
      inputs: [
        { dtype: 'i32', shape: [0] },
        { dtype: 'i32', shape: [1] },
      ],
    },
  ],
});

/** Powers that need no pow, by exponent; others are pow. Integers go through f64, exact up to 2^53. */
const POWERS: ReadonlyMap<number, (x: Expr) => Expr> = new Map([
  [1, (x) => x],
  [2, (x) => mul(x, x)],
  [3, (x) => mul(mul(x, x), x)],
  [0.5, (x) => unary('sqrt', x)],
  [-1, (x) => div(like(x, 1), x)],
]);

const pow = defineElementwise({
  name: 'Pow',
  onnx: broadcastSince1,
  attrs: {},
  inputs: [2, 2],
  accepts: () => NUMERIC,
  shares: (i) => i === 0,
  expr([x, y]) {
    const short = y.kind === 'const' && isFloat(x.dtype) ? POWERS.get(Number(y.value)) : undefined;
    if (short) return short(x);
    if (isFloat(x.dtype)) return binary('pow', x, cast(x.dtype, y));
    const power = binary('pow', cast('f64', x), cast('f64', y));
    // An integer to an integer is one, or nearer to 0 than to 1: rounding makes up for a pow that is off by an ulp.
    return cast(x.dtype, isFloat(y.dtype) ? power : unary('round', power));
  },
  identity: (ctx) => neutralOperand(ctx, 1, false),
  cases: [
    ...binaryCases(['f32', 'f64', 'f16'], [0.5, 3]),
    ...[...POWERS.keys(), 0, 1.7].map(
      (p): OpCase => ({
        name: `f32 to ${p}`,
        inputs: [{ dtype: 'f32', shape: [3, 7], range: [0.25, 4] }, { constant: scalarTensor('f32', p) }],
      }),
    ),
    { name: 'negative base', inputs: [{ dtype: 'f32', shape: [7] }, fromNumbers('f32', [], [3])] },
    { name: 'f32 to i64', inputs: [{ dtype: 'f32', shape: [5] }, fromNumbers('i64', [5], [0, 1, 2, 3, -2])] },
    {
      name: 'i64 to negative',
      inputs: [fromNumbers('i64', [4], [2, -1, 1, 7]), fromNumbers('i64', [4], [-1, -3, -2, -1])],
    },
    { name: 'i32 to i32', inputs: [fromNumbers('i32', [4], [2, -3, 0, 5]), fromNumbers('i32', [4], [10, 3, 2, 0])] },
    { name: 'i64 to f32', inputs: [fromNumbers('i64', [3], [2, -3, 7]), fromNumbers('f32', [], [2])] },
  ],
});

const prelu = defineElementwise({
  name: 'PRelu',
  onnx: slopeSince1,
  attrs: {},
  inputs: [2, 2],
  accepts: () => NUMERIC,
  shape(ctx) {
    const [x, slope] = [ctx.input(0), ctx.input(1)];
    const both = broadcastAll(ctx, [x, slope]);
    if (!shapesEqual(both, x.shape)) ctx.fail('the slope must broadcast to the shape of the input');
    return x.shape;
  },
  expr: ([x, slope]) => select(binary('lt', x, like(x, 0)), mul(x, slope), x),
  cases: [
    {
      name: 'channels',
      inputs: [
        { dtype: 'f32', shape: [2, 3, 5] },
        { dtype: 'f32', shape: [3, 1] },
      ],
    },
    {
      name: 'scalar',
      inputs: [
        { dtype: 'f32', shape: [7] },
        { dtype: 'f32', shape: [1] },
      ],
    },
    {
      name: 'empty',
      inputs: [
        { dtype: 'f32', shape: [0, 3] },
        { dtype: 'f32', shape: [3] },
      ],
    },
    {
      name: 'f16',
      inputs: [
        { dtype: 'f16', shape: [3, 5] },
        { dtype: 'f16', shape: [5] },
      ],
    },
    {
      name: 'i32',
      inputs: [
        { dtype: 'i32', shape: [11] },
        { dtype: 'i32', shape: [] },
      ],
    },
  ],
});

const chain = (op: BinaryOp) => (args: readonly Expr[]) => args.reduce((a, b) => binary(op, a, b));

/** Any number of inputs, folded from the left. */
const variadic = (
  name: string,
  dtypes: readonly DType[],
  expr: (args: readonly Expr[]) => Expr,
  dims?: (a: Dim, b: Dim) => Dim,
  clips?: OpDef['clips'],
): Op =>
  defineElementwise({
    name,
    onnx: { since: 6 },
    ...(clips && { clips }),
    attrs: {},
    inputs: [1, Number.POSITIVE_INFINITY],
    accepts: () => dtypes,
    expr,
    ...(dims && { inferDims: dimwise((...all) => all.reduce(dims)) }),
    identity: (ctx) => (ctx.inputs.length === 1 ? 0 : undefined),
    cases: [
      ...binaryCases(dtypes),
      { name: 'one', inputs: [{ dtype: 'f32', shape: [3, 5] }] },
      { name: 'NaN', inputs: [fromNumbers('f32', [3], [1, Number.NaN, 2]), { dtype: 'f32', shape: [3] }] },
      { name: 'three', inputs: [[2, 1, 5], [3, 1], [5]].map((shape) => ({ dtype: 'f32', shape })) },
    ],
  });

/** Of two inputs the second, where it is one known number. */
function bound(ctx: InferContext): number | undefined {
  const known = ctx.inputs.length === 2 ? ctx.constant(1) : undefined;
  return known?.data.length === 1 ? Number(toNumbers(known)[0]) : undefined;
}
const below: OpDef['clips'] = (ctx) => {
  const high = bound(ctx as InferContext);
  return high === undefined ? undefined : [Number.NEGATIVE_INFINITY, high];
};
const above: OpDef['clips'] = (ctx) => {
  const low = bound(ctx as InferContext);
  return low === undefined ? undefined : [low, Number.POSITIVE_INFINITY];
};

export const ARITHMETIC_OPS: readonly Op[] = [
  arithmetic('Add', 'add', { dims: addDims, neutral: 0, right: (c) => [1, c], left: (c) => [1, c], commutative: true }),
  arithmetic('Sub', 'sub', { dims: subDims, neutral: 0, right: (c) => [1, -c], left: (c) => [-1, c] }),
  arithmetic('Mul', 'mul', { dims: mulDims, neutral: 1, right: (c) => [c, 0], left: (c) => [c, 0], commutative: true }),
  arithmetic('Div', 'div', { dims: divDims, neutral: 1, right: (c) => [1 / c, 0], cases: division }),
  mod,
  pow,
  prelu,
  variadic('Min', NUMERIC, chain('min'), minDims, below),
  variadic('Max', NUMERIC, chain('max'), maxDims, above),
  variadic('Sum', FLOATS, chain('add')),
  variadic('Mean', FLOATS, (args) => div(args.reduce(add), like(args[0], args.length))),
];
