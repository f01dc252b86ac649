/**
 * Reductions over axes: ReduceSum, Mean, Max, Min, Prod, L1, L2, SumSquare, LogSum, LogSumExp.
 *
 *     y[kept] = finish(fold over the reduced dims of value(x), how many)
 *
 * A row of REDUCTIONS is one operator: what is folded of an element and what becomes of the fold. Axes are an input of the newest
 * forms and must be known when the engine is built; older forms had them as an attribute.
 */
import { DTYPES, type DType, isBigInt, isFloat } from '../core/dtype.ts';
import { Bug } from '../core/errors.ts';
import { addDims, type Dim, elements, maxDims, minDims, mulDims, type Shape, type StaticShape } from '../core/shape.ts';
import { encodeScalar, type Tensor, type TensorType, toNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { binaryFn, identity, type ScalarFn2 } from '../loop/arithmetic.ts';
import { add, binary, cast, constant, div, like, local, mul, select, sub, unary } from '../loop/expr.ts';
import type { Expr, ReduceOp } from '../loop/ir.ts';
import { attrToInput, checkAxes, dimsInput, i64Vector, intsInput, intsOf } from './dims.ts';
import { scalarFunction } from './elementwise.ts';
import { type AttrsOf, bool, defineOp, type KernelContext, type KernelSpec, type Op, type OpCase } from './op.ts';
import { assign, dimOffsets, inputRow, otherDims, reduceRow } from './rows.ts';

const ATTRS = { keepdims: bool(true), noop_with_empty_axes: bool(false) } as const;
type ReduceAttrs = AttrsOf<typeof ATTRS>;

interface Reduction {
  readonly name: string;
  readonly op: ReduceOp;
  value?(x: Expr): Expr;
  finish?(fold: Expr, count: number): Expr;
  /** The fold is of floats whatever the input is. */
  readonly inFloat?: boolean;
  /** The row's maximum is subtracted from each element first and added to the result, which keeps exp in range. */
  readonly shifted?: boolean;
  /** The fold of sizes, where it is one of them. */
  readonly dims?: (a: Dim, b: Dim) => Dim;
  readonly cases?: readonly OpCase[];
}

const REDUCTIONS: readonly Reduction[] = [
  { name: 'ReduceSum', op: 'add', dims: addDims },
  { name: 'ReduceMean', op: 'add', finish: (fold, count) => div(fold, like(fold, count)) },
  { name: 'ReduceMax', op: 'max', dims: maxDims },
  { name: 'ReduceMin', op: 'min', dims: minDims },
  { name: 'ReduceProd', op: 'mul', dims: mulDims },
  { name: 'ReduceL1', op: 'add', value: (x) => unary('abs', x) },
  {
    name: 'ReduceL2',
    op: 'add',
    value: (x) => mul(x, x),
    finish: (fold) => unary('sqrt', fold),
    inFloat: true,
  },
  { name: 'ReduceSumSquare', op: 'add', value: (x) => mul(x, x) },
  { name: 'ReduceLogSum', op: 'add', finish: (fold) => unary('log', fold), inFloat: true },
  {
    name: 'ReduceLogSumExp',
    op: 'add',
    value: (x) => unary('exp', x),
    finish: (fold) => unary('log', fold),
    inFloat: true,
    shifted: true,
  },
];

/** The dims to reduce, given the axes input's value where there is one: no axes means all dims, or none with noop_with_empty_axes. */
export function reducedDims(
  axes: readonly number[] | undefined,
  attrs: { noop_with_empty_axes: boolean },
  rank: number,
): number[] {
  if (!axes || axes.length === 0) return attrs.noop_with_empty_axes ? [] : otherDims(rank, []);
  return axes.map((a) => (a < 0 ? a + rank : a));
}

const reducedShape = (shape: Shape, dims: readonly number[], keepdims: boolean): Dim[] =>
  shape.flatMap((d, i) => (!dims.includes(i) ? [d] : keepdims ? [1] : []));

function inferReduce(ctx: InferContext<ReduceAttrs>) {
  const { dtype, shape } = ctx.input(0);
  const axes = intsInput(ctx, 1);
  if (ctx.inputs[1] && !axes)
    ctx.fail('the axes are computed while running', 'they must be known when the engine is built');
  if (axes) checkAxes(ctx, axes, shape.length);
  return [{ dtype, shape: reducedShape(shape, reducedDims(axes, ctx.attrs, shape.length), ctx.attrs.keepdims) }];
}

/** One number of a vector of sizes. */
function reduceDims({ dims: fold }: Reduction, ctx: InferContext<ReduceAttrs>): Shape | undefined {
  const dims = ctx.input(0).shape.length === 1 ? dimsInput(ctx, 0) : undefined;
  const all = reducedDims(intsInput(ctx, 1), ctx.attrs, 1).length === 1;
  return fold && dims && all && dims.length > 0 ? [dims.reduce(fold)] : undefined;
}

/** The fold of each row, floats in f64 and integers exactly in their width. */
function evalReduce(r: Reduction, x: Tensor, dims: readonly number[], out: TensorType): Tensor {
  const work = isFloat(x.dtype) ? 'f64' : foldType(r, x.dtype);
  const values = isBigInt(work) ? (x.data as BigInt64Array) : toNumbers(x);
  const steps = dimOffsets(x.shape, dims);
  const combine = binaryFn(r.op, work) as ScalarFn2;
  const value = scalarFunction(work, (element) => r.value?.(element) ?? element);
  const finish = scalarFunction(work, (fold) => r.finish?.(fold, steps.length) ?? fold);
  const data = new DTYPES[out.dtype].array(elements(out.shape)) as Float64Array;
  for (const [i, row] of dimOffsets(x.shape, otherDims(x.shape.length, dims)).entries()) {
    const shift = r.shifted ? largestFinite(values as ArrayLike<number>, row, steps) : 0;
    let fold = identity(r.op, work);
    for (const step of steps) {
      const element = values[row + step];
      fold = combine(fold, value(r.shifted ? (element as number) - shift : element));
    }
    const result = finish(fold);
    data[i] = encodeScalar(out.dtype, r.shifted ? (result as number) + shift : result) as number;
  }
  return { ...out, data };
}

/** The maximum of a row, 0 where it is infinite or there is none. */
function largestFinite(values: ArrayLike<number>, row: number, steps: readonly number[] | Int32Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (const step of steps) max = Math.max(max, values[row + step]);
  return Number.isFinite(max) ? max : 0;
}

/** The dtype that a reduction folds in: bool as u8, whose bounds are false and true, and floats for those that need them. */
function foldType(r: Reduction, dtype: DType): DType {
  if (dtype === 'bool') return 'u8';
  return r.inFloat && !isFloat(dtype) ? 'f64' : dtype;
}

function lowerReduce(r: Reduction, ctx: KernelContext<ReduceAttrs>): KernelSpec {
  const { shape, dtype } = ctx.input(0);
  const axesValue = ctx.inputs[1] && ctx.constant(1);
  if (ctx.inputs[1] && !axesValue) throw new Bug('reduce-axes', `${r.name} lowers with axes that are not constant`);
  const dims = reducedDims(axesValue && intsOf(axesValue), ctx.attrs, shape.length);
  const { axes, coords } = ctx.outputAxes(0);
  const outer = inputCoords(shape, dims, coords, ctx.attrs.keepdims);
  const work = foldType(r, dtype);
  const at = (row: { readonly coords: readonly Expr[] }) => cast(work, ctx.load(0, row.coords));
  const { value = (x) => x, finish = (x) => x } = r;
  const [max, shift, fold] = ['max', 'shift', 'fold'].map((hint) => ctx.fresh(hint));
  const row = inputRow(ctx, shape, dims, outer);
  const count = dims.reduce((n, d) => n * shape[d], 1);
  if (!r.shifted) {
    const result = finish(local(fold, work), count);
    return {
      form: { kind: 'reduce' },
      axes,
      body: [reduceRow(fold, r.op, row, value(at(row))), ctx.store(0, coords, cast(dtype, result))],
    };
  }
  const maxRow = inputRow(ctx, shape, dims, outer);
  const largest = local(max, work);
  const bounded = binary('lt', unary('abs', largest), constant(work, Number.POSITIVE_INFINITY));
  const offset = local(shift, work);
  return {
    form: { kind: 'reduce' },
    axes,
    body: [
      reduceRow(max, 'max', maxRow, at(maxRow)),
      assign(shift, select(bounded, largest, constant(work, 0))),
      reduceRow(fold, r.op, row, value(sub(at(row), offset))),
      ctx.store(0, coords, cast(dtype, add(finish(local(fold, work), count), offset))),
    ],
  };
}

/** Coordinates in the input of an output element; the reduced dims, which a row's axes will run along, are 0. */
export function inputCoords(
  shape: StaticShape,
  dims: readonly number[],
  coords: readonly Expr[],
  keepdims: boolean,
): readonly Expr[] {
  let next = 0;
  return shape.map((_, d) => {
    if (!dims.includes(d)) return coords[next++];
    if (keepdims) next++;
    return constant('i32', 0);
  });
}

const reduceCase = (
  name: string,
  shape: number[],
  axes: number[] | undefined,
  attrs: OpCase['attrs'] = {},
): OpCase => ({
  name,
  attrs,
  // Positive, so that logarithms and products stay in range.
  inputs: [{ dtype: 'f32', shape, range: [0.25, 1.75] }, ...(axes ? [{ constant: i64Vector(axes) }] : [])],
});
const CASES: readonly OpCase[] = [
  reduceCase('last', [3, 5, 7], [-1]),
  reduceCase('first, dropped', [3, 5, 7], [0], { keepdims: false }),
  reduceCase('spatial', [2, 5, 7, 3], [2, 3]),
  reduceCase('outer and inner, dropped', [2, 5, 7, 3], [3, 0], { keepdims: false }),
  reduceCase('all', [2, 3, 5], undefined, { keepdims: false }),
  reduceCase('all kept', [2, 3, 5], undefined),
  reduceCase('a dim of 1', [4, 1, 3], [1], { keepdims: false }),
  reduceCase('no axes, no work', [2, 3], [], { noop_with_empty_axes: true }),
  reduceCase('scalar', [], undefined),
  { name: 'i32', inputs: [{ dtype: 'i32', shape: [3, 4], range: [1, 5] }, { constant: i64Vector([1]) }] },
  { name: 'i64', inputs: [{ dtype: 'i64', shape: [3, 4], range: [1, 5] }, { constant: i64Vector([0]) }] },
  {
    name: 'i64 beyond 53 bits',
    inputs: [
      { dtype: 'i64', shape: [2, 2], data: BigInt64Array.of(2n ** 60n + 1n, 3n, 5n, 7n) },
      { constant: i64Vector([1]) },
    ],
  },
  { name: 'f64', inputs: [{ dtype: 'f64', shape: [5, 3], range: [0.5, 2] }, { constant: i64Vector([1]) }] },
];

const defineReduction = (r: Reduction): Op =>
  defineOp({
    name: r.name,
    onnx: { since: 1, upgrade: (node, ctx) => attrToInput(node, ctx, 'axes', 1) },
    attrs: ATTRS,
    inputs: [1, 2],
    infer: inferReduce,
    ...(r.dims && { inferDims: (ctx: InferContext<ReduceAttrs>) => reduceDims(r, ctx) }),
    eval: ([x, axes], attrs, [out]) => [
      evalReduce(r, x!, reducedDims(axes && intsOf(axes), attrs, x!.shape.length), out),
    ],
    lower: { kind: 'kernel', layout: 'any', streams: r.shifted ? [] : [0], build: (ctx) => lowerReduce(r, ctx) },
    cases: [...CASES, ...(r.cases ?? [])],
  });

export const REDUCE_OPS: readonly Op[] = REDUCTIONS.map(defineReduction);
