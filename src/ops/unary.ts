/**
 * Elementwise operators of one input, as rows: name, first opset, dtypes, expression.
 * The activations, which are compositions and mostly have parameters, are in activation.ts.
 */
import type { DType } from '../core/dtype.ts';
import { fromNumbers, tensor } from '../core/tensor.ts';
import { binary, constant, div, like, unary } from '../loop/expr.ts';
import type { Expr, UnaryOp } from '../loop/ir.ts';
import { defineElementwise, FLOATS, INTEGERS, NUMERIC, SIGNED } from './elementwise.ts';
import { bool, type Op, type OpCase } from './op.ts';

interface UnaryRow {
  readonly name: string;
  readonly since: number;
  readonly dtypes: readonly DType[];
  readonly expr: UnaryOp | ((x: Expr) => Expr);
  /** Range of the cases' values; [-4, 4] where not given. */
  readonly range?: readonly [number, number];
  readonly result?: DType;
  /** Where it moves what lies outside to an end. */
  readonly clips?: readonly [low: number, high: number];
  readonly cases?: readonly OpCase[];
}

const SIGNED_NUMERIC = [...FLOATS, ...SIGNED];
const specials = fromNumbers(
  'f32',
  [7],
  [0, -0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1, -1],
);
const halves = fromNumbers('f32', [9], [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 1e30, -3.7]);
const extremes = tensor('i64', [3], BigInt64Array.of(2n ** 62n + 1n, -(2n ** 63n) + 1n, -1n));

const ROWS: readonly UnaryRow[] = [
  {
    name: 'Relu',
    since: 6,
    dtypes: SIGNED_NUMERIC,
    expr: (x) => binary('max', x, like(x, 0)),
    clips: [0, Number.POSITIVE_INFINITY],
    cases: [{ name: 'specials', inputs: [specials] }],
  },
  { name: 'Sigmoid', since: 6, dtypes: FLOATS, expr: sigmoid, range: [-20, 20] },
  { name: 'Tanh', since: 6, dtypes: FLOATS, expr: 'tanh' },
  { name: 'Erf', since: 9, dtypes: FLOATS, expr: 'erf' },
  { name: 'Exp', since: 6, dtypes: FLOATS, expr: 'exp' },
  { name: 'Log', since: 6, dtypes: FLOATS, expr: 'log', range: [0.01, 9] },
  { name: 'Sqrt', since: 6, dtypes: FLOATS, expr: 'sqrt', range: [0, 9] },
  {
    name: 'Neg',
    since: 6,
    dtypes: SIGNED_NUMERIC,
    expr: 'neg',
    cases: [{ name: 'i64 beyond 2^53', inputs: [extremes] }],
  },
  {
    name: 'Abs',
    since: 6,
    dtypes: NUMERIC,
    expr: 'abs',
    cases: [{ name: 'i64 beyond 2^53', inputs: [extremes] }],
  },
  { name: 'Floor', since: 6, dtypes: FLOATS, expr: 'floor', cases: [{ name: 'halves', inputs: [halves] }] },
  { name: 'Ceil', since: 6, dtypes: FLOATS, expr: 'ceil', cases: [{ name: 'halves', inputs: [halves] }] },
  { name: 'Round', since: 11, dtypes: FLOATS, expr: 'round', cases: [{ name: 'halves', inputs: [halves] }] },
  { name: 'Sign', since: 9, dtypes: NUMERIC, expr: 'sign' },
  { name: 'Reciprocal', since: 6, dtypes: FLOATS, expr: (x) => div(like(x, 1), x), range: [0.5, 4] },
  { name: 'Not', since: 1, dtypes: ['bool'], expr: 'not' },
  {
    name: 'IsNaN',
    since: 9,
    dtypes: FLOATS,
    expr: 'isnan',
    result: 'bool',
    cases: [{ name: 'specials', inputs: [specials] }],
  },
  { name: 'Sin', since: 7, dtypes: FLOATS, expr: 'sin' },
  { name: 'Cos', since: 7, dtypes: FLOATS, expr: 'cos' },
  { name: 'Tan', since: 7, dtypes: FLOATS, expr: 'tan', range: [-1.3, 1.3] },
  { name: 'Asin', since: 7, dtypes: FLOATS, expr: 'asin', range: [-1, 1] },
  { name: 'Acos', since: 7, dtypes: FLOATS, expr: 'acos', range: [-1, 1] },
  { name: 'Atan', since: 7, dtypes: FLOATS, expr: 'atan' },
  { name: 'Sinh', since: 9, dtypes: FLOATS, expr: 'sinh' },
  { name: 'Cosh', since: 9, dtypes: FLOATS, expr: 'cosh' },
  { name: 'Asinh', since: 9, dtypes: FLOATS, expr: 'asinh' },
  { name: 'Acosh', since: 9, dtypes: FLOATS, expr: 'acosh', range: [1, 9] },
  { name: 'Atanh', since: 9, dtypes: FLOATS, expr: 'atanh', range: [-0.9, 0.9] },
  { name: 'BitwiseNot', since: 18, dtypes: INTEGERS, expr: 'bitnot' },
];

/** 1 / (1 + e^-x); e^-x may overflow to infinity, which gives the right 0. */
export function sigmoid(x: Expr): Expr {
  return div(like(x, 1), binary('add', like(x, 1), unary('exp', unary('neg', x))));
}

/**
 * f32 over shapes with 0, 1, primes and a scalar; each other dtype once. A lone element is its own scale in comparisons, so it is
 * drawn from the upper half of the range, where no function here is a small difference of large numbers.
 */
export function unaryCases(
  dtypes: readonly DType[],
  [low, high]: readonly [number, number] = [-4, 4],
): readonly OpCase[] {
  const [first, ...rest] = dtypes;
  const one = (dtype: DType, shape: readonly number[]): OpCase => {
    const range = [shape.every((d) => d === 1) ? (low + high) / 2 : low, high] as const;
    const name = `${dtype} [${shape}]`;
    return { name, inputs: [dtype === 'bool' || dtype.startsWith('u') ? { dtype, shape } : { dtype, shape, range }] };
  };
  return [...[[], [1], [0, 3], [7], [2, 3, 37]].map((s) => one(first, s)), ...rest.map((d) => one(d, [3, 11]))];
}

const fromRow = (row: UnaryRow): Op =>
  defineElementwise({
    name: row.name,
    onnx: { since: row.since },
    attrs: {},
    inputs: [1, 1],
    accepts: () => row.dtypes,
    result: ([x]) => row.result ?? x,
    ...(row.clips && { clips: () => row.clips }),
    expr: ([x]) => (typeof row.expr === 'string' ? unary(row.expr, x) : row.expr(x)),
    cases: [...unaryCases(row.dtypes, row.range), ...(row.cases ?? [])],
  });

const isInf = defineElementwise({
  name: 'IsInf',
  onnx: { since: 10 },
  attrs: { detect_negative: bool(true), detect_positive: bool(true) },
  inputs: [1, 1],
  accepts: () => FLOATS,
  result: () => 'bool',
  expr([x], { detect_negative, detect_positive }) {
    if (detect_negative && detect_positive) return unary('isinf', x);
    if (!detect_negative && !detect_positive) return constant('bool', 0);
    return binary('and', unary('isinf', x), binary(detect_negative ? 'lt' : 'gt', x, like(x, 0)));
  },
  cases: [
    { name: 'both', inputs: [specials] },
    { name: 'negative', inputs: [specials], attrs: { detect_positive: false } },
    { name: 'positive', inputs: [specials], attrs: { detect_negative: false } },
    { name: 'neither', inputs: [specials], attrs: { detect_negative: false, detect_positive: false } },
    { name: 'f64', inputs: [{ dtype: 'f64', shape: [5] }] },
    { name: 'f16', inputs: [fromNumbers('f16', [3], [1e9, -1e9, 3])] },
  ],
});

export const UNARY_OPS: readonly Op[] = [...ROWS.map(fromRow), isInf];
