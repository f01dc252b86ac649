/**
 * Operators that rename dims and leave the elements where they are: Identity, Reshape, Flatten, Squeeze, Unsqueeze.
 *
 * All lower as aliases. Their results keep known dims (a shape computed by Shape, Concat, Reshape… stays symbolic).
 */
import { type Dim, dimsEqual, printShape, type Shape } from '../core/shape.ts';
import type { Tensor, TensorType, ValueType } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import {
  attrToInput,
  checkAxes,
  checkAxis,
  dimsInput,
  i64Vector,
  intsInput,
  product,
  quotient,
  vectorLength,
} from './dims.ts';
import { bool, defineOp, int, type OpCase } from './op.ts';

const alias = { kind: 'alias' } as const;
const sameElements = (
  [x]: readonly (Tensor | undefined)[],
  _attrs: unknown,
  [out]: readonly TensorType[],
): Tensor[] => [{ dtype: out.dtype, shape: out.shape, data: x!.data }];
const sameDims = (ctx: InferContext<unknown>): Shape | undefined => dimsInput(ctx, 0);
const withShape = (ctx: InferContext<unknown>, shape: Shape): readonly ValueType[] => [
  { dtype: ctx.input(0).dtype, shape },
];
const x = (...shape: number[]) => ({ dtype: 'f32', shape }) as const;
const vector = (...values: number[]) => ({ constant: i64Vector(values) });

const identity = defineOp({
  name: 'Identity',
  onnx: { since: 1 },
  attrs: {},
  inputs: [1, 1],
  infer: (ctx) => [ctx.input(0)],
  inferDims: sameDims,
  eval: sameElements,
  lower: alias,
  cases: [
    { name: 'f32', inputs: [x(2, 3, 5)] },
    { name: 'i64 scalar', inputs: [{ dtype: 'i64', shape: [] }] },
    { name: 'empty bool', inputs: [{ dtype: 'bool', shape: [0, 4] }] },
    { name: 'f16', inputs: [{ dtype: 'f16', shape: [7] }] },
  ],
});

const reshapeCase = (name: string, from: readonly number[], to: readonly number[], allowzero = false): OpCase => ({
  name,
  inputs: [x(...from), vector(...to)],
  attrs: { allowzero },
});

const reshape = defineOp({
  name: 'Reshape',
  onnx: { since: 5 },
  attrs: { allowzero: bool(false) },
  inputs: [2, 2],
  infer(ctx) {
    const { shape } = ctx.input(0);
    const target = dimsInput(ctx, 1);
    if (!target) {
      return withShape(
        ctx,
        Array.from({ length: vectorLength(ctx, 1) }, () => ctx.freshDim('reshape')),
      );
    }
    const dims = target.map((d, i): Dim => {
      if (d !== 0 || ctx.attrs.allowzero) return d;
      if (i >= shape.length) return ctx.fail(`0 at position ${i} copies a dim that the input does not have`);
      return shape[i];
    });
    const open = dims.indexOf(-1);
    if (open !== dims.lastIndexOf(-1)) ctx.fail(`${printShape(target)} has -1 more than once`);
    if (dims.some((d) => typeof d === 'number' && d < -1)) ctx.fail(`${printShape(target)} has a negative dim`);
    const misfit = () =>
      ctx.fail(`${printShape(shape)} does not fit ${printShape(target)}: the numbers of elements differ`);
    if (open >= 0) {
      const others = dims.toSpliced(open, 1);
      dims[open] = quotient(shape, others);
      // A dim of 0 leaves -1 without a meaning.
      if (others.includes(0) && !shape.includes(0)) misfit();
    }
    const from = product(shape);
    const to = product(dims);
    if (typeof from === 'number' && typeof to === 'number' && from !== to) misfit();
    return withShape(ctx, dims);
  },
  inferDims: sameDims,
  eval: sameElements,
  lower: alias,
  cases: [
    reshapeCase('plain', [2, 3, 4], [4, 6]),
    reshapeCase('0 copies, -1 is the rest', [2, 3, 4], [0, -1]),
    reshapeCase('more dims', [7, 6], [7, 2, -1, 1]),
    reshapeCase('to a scalar', [1], []),
    reshapeCase('from a scalar', [], [1, 1]),
    reshapeCase('empty', [0, 3], [3, 0], true),
    reshapeCase('empty, 0 copies', [3, 0, 5], [5, 0, 3]),
    { name: 'i64', inputs: [{ dtype: 'i64', shape: [3, 5] }, vector(-1)] },
  ],
});

const flatten = defineOp({
  name: 'Flatten',
  onnx: { since: 1 },
  attrs: { axis: int(1) },
  inputs: [1, 1],
  infer(ctx) {
    const { shape } = ctx.input(0);
    const axis = ctx.attrs.axis === shape.length ? shape.length : checkAxis(ctx, ctx.attrs.axis, shape.length);
    return withShape(ctx, [product(shape.slice(0, axis)), product(shape.slice(axis))]);
  },
  eval: sameElements,
  lower: alias,
  cases: [
    ...[0, 1, 3, -1, -2].map((axis): OpCase => ({ name: `axis ${axis}`, attrs: { axis }, inputs: [x(2, 3, 5)] })),
    { name: 'default', inputs: [x(2, 3, 1, 1)] },
    { name: 'empty', inputs: [x(0, 3)] },
    { name: 'f16', inputs: [{ dtype: 'f16', shape: [3, 1, 7] }] },
  ],
});

/** Squeeze and Unsqueeze took their axes as an attribute before opset 13. */
const axesUpgrade = { since: 1, upgrade: (node, ctx) => attrToInput(node, ctx, 'axes', 1) } satisfies Parameters<
  typeof defineOp
>[0]['onnx'];

const squeeze = defineOp({
  name: 'Squeeze',
  onnx: axesUpgrade,
  attrs: {},
  inputs: [1, 2],
  infer(ctx) {
    const { shape } = ctx.input(0);
    if (!ctx.inputs[1]) {
      return withShape(
        ctx,
        shape.filter((d) => d !== 1),
      );
    }
    const known = intsInput(ctx, 1) ?? ctx.fail('the axes must be known before running');
    const axes = checkAxes(ctx, known, shape.length);
    for (const a of axes) {
      if (typeof shape[a] === 'number' && !dimsEqual(shape[a], 1))
        ctx.fail(`axis ${a} has size ${shape[a]}, expected 1`);
    }
    return withShape(
      ctx,
      shape.filter((_, d) => !axes.includes(d)),
    );
  },
  inferDims: sameDims,
  eval: sameElements,
  lower: alias,
  cases: [
    { name: 'all', inputs: [x(1, 3, 1, 5)] },
    { name: 'some', inputs: [x(1, 3, 1, 5), vector(2)] },
    { name: 'negative axes', inputs: [x(1, 3, 1, 1), vector(-1, 0)] },
    { name: 'to a scalar', inputs: [{ dtype: 'i64', shape: [1] }, vector(0)] },
    { name: 'empty', inputs: [x(1, 0), vector(0)] },
  ],
});

const unsqueeze = defineOp({
  name: 'Unsqueeze',
  onnx: axesUpgrade,
  attrs: {},
  inputs: [2, 2],
  infer(ctx) {
    const { shape } = ctx.input(0);
    const known = intsInput(ctx, 1) ?? ctx.fail('the axes must be known before running');
    const rank = shape.length + known.length;
    const axes = checkAxes(ctx, known, rank);
    const rest = [...shape];
    return withShape(
      ctx,
      Array.from({ length: rank }, (_, d): Dim => (axes.includes(d) ? 1 : rest.shift()!)),
    );
  },
  inferDims: sameDims,
  eval: sameElements,
  lower: alias,
  cases: [
    { name: 'front', inputs: [x(3, 5), vector(0)] },
    { name: 'several, unordered', inputs: [x(3, 5), vector(4, 0, -3)] },
    { name: 'scalar', inputs: [{ dtype: 'i64', shape: [] }, vector(0)] },
    { name: 'empty', inputs: [x(0), vector(-1)] },
  ],
});

export const RESHAPE_OPS = [identity, reshape, flatten, squeeze, unsqueeze];
