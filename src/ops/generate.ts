/**
 * Operators whose elements come from coordinates rather than from an input: ConstantOfShape, Range, OneHot.
 */
import { type DType, isBigInt, isFloat } from '../core/dtype.ts';
import { type Dim, elements } from '../core/shape.ts';
import {
  decodeScalar,
  encodeScalar,
  fromNumbers,
  scalarTensor,
  type Tensor,
  toNumbers,
  zeros,
} from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { add, binary, cast, constant, index, like, mul, select } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { checkAxis, dimsInput, i64Vector, intsInput, vectorLength } from './dims.ts';
import { defineOp, int, type OpCase, tensorAttr } from './op.ts';

const shapeCase = (shape: readonly number[], value?: Tensor): OpCase => ({
  name: `[${shape}] ${value?.dtype ?? 'default'}`,
  ...(value && { attrs: { value } }),
  inputs: [{ constant: i64Vector(shape) }],
});
const oneElement = (dtype: DType, value: number): Tensor => fromNumbers(dtype, [1], [value]);

const constantOfShape = defineOp({
  name: 'ConstantOfShape',
  onnx: { since: 9 },
  attrs: { value: tensorAttr(oneElement('f32', 0)) },
  inputs: [1, 1],
  infer(ctx) {
    const { value } = ctx.attrs;
    if (value.data.length !== 1) ctx.fail(`value has ${value.data.length} elements, expected 1`);
    const shape =
      dimsInput(ctx, 0) ?? Array.from({ length: vectorLength(ctx, 0) }, () => ctx.freshDim('constant_of_shape'));
    return [{ dtype: value.dtype, shape }];
  },
  inferDims(ctx) {
    const { value } = ctx.attrs;
    const shape = intsInput(ctx, 0);
    if (!shape || shape.length > 1 || isFloat(value.dtype)) return undefined;
    return Array<Dim>(shape[0] ?? 1).fill(Number(value.data[0]));
  },
  eval(_, { value }, [out]) {
    const result = zeros(out.dtype, out.shape);
    (result.data as Float32Array).fill(value.data[0] as number);
    return [result];
  },
  lower: {
    kind: 'index',
    read: (ctx) => constant(ctx.outputs[0].dtype, decodeScalar(ctx.attrs.value.dtype, ctx.attrs.value.data[0])),
  },
  cases: [
    shapeCase([2, 3]),
    shapeCase([]),
    shapeCase([0, 5], oneElement('i64', 7)),
    shapeCase([3], oneElement('i64', -1)),
    shapeCase([7], oneElement('bool', 1)),
    shapeCase([1, 2, 1], oneElement('f16', 1.5)),
    shapeCase([4], oneElement('u8', 200)),
  ],
});

/** ceil((limit - start) / delta), exact for integers. */
function rangeLength([start, limit, delta]: readonly Tensor[]): number {
  const [a, b, d] = [start.data[0], limit.data[0], delta.data[0]];
  if (typeof a === 'bigint' && typeof b === 'bigint' && typeof d === 'bigint') {
    const span = b - a;
    const count = span / d + (span % d !== 0n && span < 0n === d < 0n ? 1n : 0n);
    return Math.max(0, Number(count));
  }
  const [x, y, z] = [start, limit, delta].map((t) => toNumbers(t)[0]);
  return Math.max(0, Math.ceil((y - x) / z));
}

function rangeDim(ctx: InferContext<unknown>): Dim {
  const bounds = [0, 1, 2].map((i) => ctx.constant(i));
  if (bounds.every((t) => t !== undefined)) {
    if (Number(bounds[2].data[0]) === 0) ctx.fail('delta is 0');
    return rangeLength(bounds);
  }
  const [start, limit, delta] = [0, 1, 2].map((i) => dimsInput(ctx, i)?.[0]);
  return start === 0 && delta === 1 && limit !== undefined ? limit : ctx.freshDim('range');
}

const rangeCase = (dtype: DType, start: number, limit: number, delta: number): OpCase => ({
  name: `${dtype} ${start} to ${limit} by ${delta}`,
  inputs: [start, limit, delta].map((value) => ({ constant: fromNumbers(dtype, [], [value]) })),
});

const range = defineOp({
  name: 'Range',
  onnx: { since: 11 },
  attrs: {},
  inputs: [3, 3],
  traits: { exactInputs: 'all' },
  infer(ctx) {
    const { dtype } = ctx.input(0);
    if ([1, 2].some((i) => ctx.input(i).dtype !== dtype)) ctx.fail('the inputs must have one element type');
    return [{ dtype, shape: [rangeDim(ctx)] }];
  },
  eval([start, , delta], _, [out]) {
    const result = zeros(out.dtype, out.shape);
    const exact = isBigInt(out.dtype);
    const [first, step] = [start!, delta!].map((t) => decodeScalar(t.dtype, t.data[0]));
    for (let i = 0; i < result.data.length; i++) {
      const value = exact ? BigInt(first) + BigInt(i) * BigInt(step) : Number(first) + i * Number(step);
      result.data[i] = encodeScalar(out.dtype, value) as never;
    }
    return [result];
  },
  lower: {
    kind: 'index',
    read(ctx, _, [i]) {
      const scalar = (input: number): Expr =>
        ctx.load(
          input,
          ctx.input(input).shape.map(() => index(0)),
        );
      return add(scalar(0), mul(cast(ctx.outputs[0].dtype, i), scalar(2)));
    },
  },
  cases: [
    rangeCase('i64', 0, 7, 1),
    rangeCase('i64', 10, -3, -4),
    rangeCase('i64', 3, 3, 1),
    rangeCase('i32', 5, 1, 2),
    rangeCase('f32', 0, 1, 0.125),
    rangeCase('f32', 2.5, -1, -0.75),
    rangeCase('f64', 1, 4, 0.5),
  ],
});

const oneHotCase = (
  name: string,
  indices: OpCase['inputs'][number],
  depth: number,
  dtype: DType,
  axis?: number,
): OpCase => ({
  name,
  ...(axis !== undefined && { attrs: { axis } }),
  inputs: [indices, { constant: scalarTensor('i64', BigInt(depth)) }, fromNumbers(dtype, [2], [2, 5])],
});

const axisOfResult = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

/** Indices from [-depth, depth) choose where the "on" value stands along `axis`; others give "off" throughout. */
const oneHot = defineOp({
  name: 'OneHot',
  onnx: { since: 9 },
  attrs: { axis: int(-1) },
  inputs: [3, 3],
  infer(ctx) {
    const { shape } = ctx.input(0);
    const axis = checkAxis(ctx, ctx.attrs.axis, shape.length + 1);
    const depth = ctx.constant(1);
    const size = depth ? Math.trunc(toNumbers(depth)[0]) : (dimsInput(ctx, 1)?.[0] ?? ctx.freshDim('one_hot'));
    if (typeof size === 'number' && size < 1) ctx.fail(`depth is ${size}`);
    return [{ dtype: ctx.input(2).dtype, shape: shape.toSpliced(axis, 0, size) }];
  },
  eval([indices, , values], attrs, [out]) {
    const result = zeros(out.dtype, out.shape);
    const axis = axisOfResult(attrs.axis, out.shape.length);
    const depth = out.shape[axis];
    const post = elements(out.shape.slice(axis + 1));
    (result.data as Float32Array).fill(values!.data[0] as number);
    Array.from(toNumbers(indices!), Math.trunc).forEach((at, i) => {
      if (at < -depth || at >= depth) return;
      const position = at < 0 ? at + depth : at;
      result.data[(Math.floor(i / post) * depth + position) * post + (i % post)] = values!.data[1] as never;
    });
    return [result];
  },
  lower: {
    kind: 'index',
    read(ctx, _, coords) {
      const axis = axisOfResult(ctx.attrs.axis, coords.length);
      const depth = ctx.outputs[0].shape[axis];
      const loaded = ctx.load(0, coords.toSpliced(axis, 1));
      const at = isFloat(loaded.dtype) ? cast('i32', loaded) : loaded;
      const here = cast(at.dtype, coords[axis]);
      const fromEnd = binary('eq', add(at, like(at, depth)), here);
      const on = binary('or', binary('eq', at, here), fromEnd);
      return select(on, ctx.load(2, [index(1)]), ctx.load(2, [index(0)]));
    },
  },
  cases: [
    oneHotCase('last axis', { dtype: 'i64', shape: [3, 5], range: [0, 6] }, 7, 'f32'),
    oneHotCase('first axis, negative and beyond', fromNumbers('i64', [5], [-1, 3, 99, -99, 0]), 4, 'f32', 0),
    oneHotCase('middle axis', { dtype: 'i64', shape: [2, 3], range: [-4, 3] }, 4, 'f32', 1),
    oneHotCase('i64 values', { dtype: 'i64', shape: [4], range: [0, 2] }, 3, 'i64', -2),
    oneHotCase('i32 indices', { dtype: 'i32', shape: [1], range: [0, 2] }, 3, 'f32'),
    oneHotCase('f32 indices', fromNumbers('f32', [4], [0, 2, -1, 5]), 3, 'f32'),
    oneHotCase('empty', { dtype: 'i64', shape: [0] }, 3, 'f32'),
  ],
});

export const GENERATE_OPS = [constantOfShape, range, oneHot];
