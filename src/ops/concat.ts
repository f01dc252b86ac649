/**
 * Concat and Split: tensors side by side along one axis, and back.
 *
 * Split before opset 13 has its sizes as an attribute; before opset 18 the number of parts is the number of outputs.
 */
import { DTYPES, type TypedArray } from '../core/dtype.ts';
import { addDims, type Dim, elements, printShape, type Shape, type StaticShape } from '../core/shape.ts';
import { zeros } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { add, index } from '../loop/expr.ts';
import { attrToInput, checkAxis, dimsInput, i64Vector, intsInput } from './dims.ts';
import { defineOp, int, type OpCase } from './op.ts';

const axisOf = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

/** `part` written into (or read from) `whole` at `start` along the axis, in runs of contiguous elements. */
function copyRuns(
  whole: TypedArray,
  wholeShape: StaticShape,
  part: TypedArray,
  partShape: StaticShape,
  axis: number,
  start: number,
  direction: 'in' | 'out',
): void {
  const inner = elements(partShape.slice(axis + 1));
  const run = partShape[axis] * inner;
  const outer = elements(partShape.slice(0, axis));
  for (let o = 0; o < outer; o++) {
    const at = (o * wholeShape[axis] + start) * inner;
    if (direction === 'in') whole.set(part.subarray(o * run, (o + 1) * run) as never, at);
    else part.set(whole.subarray(at, at + run) as never, o * run);
  }
}

const concat = defineOp({
  name: 'Concat',
  onnx: { since: 4 },
  attrs: { axis: int.required },
  inputs: [1, Number.POSITIVE_INFINITY],
  infer(ctx) {
    const types = ctx.inputs.map((_, i) => ctx.input(i));
    const [first] = types;
    const axis = checkAxis(ctx, ctx.attrs.axis, first.shape.length);
    let size: Dim = 0;
    const shape = [...first.shape];
    for (const t of types) {
      if (t.dtype !== first.dtype) ctx.fail('the inputs must have one element type');
      if (t.shape.length !== first.shape.length) ctx.fail('the inputs must have one rank');
      t.shape.forEach((d, i) => {
        if (i === axis) size = addDims(size, d);
        else if (typeof shape[i] !== 'number') shape[i] = d;
        else if (typeof d === 'number' && d !== shape[i]) {
          ctx.fail(`${printShape(t.shape)} does not fit ${printShape(first.shape)} outside axis ${axis}`);
        }
      });
    }
    return [{ dtype: first.dtype, shape: shape.with(axis, size) }];
  },
  inferDims(ctx) {
    const parts = ctx.inputs.map((_, i) => dimsInput(ctx, i));
    return parts.every((p): p is Shape => p !== undefined) ? parts.flat() : undefined;
  },
  eval(inputs, attrs, [out]) {
    const result = zeros(out.dtype, out.shape);
    const axis = axisOf(attrs.axis, out.shape.length);
    let start = 0;
    for (const part of inputs) {
      copyRuns(result.data, out.shape, part!.data, part!.shape, axis, start, 'in');
      start += part!.shape[axis];
    }
    return [result];
  },
  identity: (ctx) => (ctx.inputs.length === 1 ? 0 : undefined),
  lower: { kind: 'concat', axis: (attrs, rank) => axisOf(attrs.axis, rank) },
  cases: [
    {
      name: 'channels',
      attrs: { axis: 1 },
      inputs: [
        [2, 3, 5],
        [2, 1, 5],
        [2, 7, 5],
      ].map((shape) => ({ dtype: 'f32', shape })),
    },
    {
      name: 'negative axis',
      attrs: { axis: -1 },
      inputs: [
        [3, 5],
        [3, 2],
      ].map((shape) => ({ dtype: 'f32', shape })),
    },
    { name: 'one', attrs: { axis: 0 }, inputs: [{ dtype: 'f32', shape: [3] }] },
    {
      name: 'empty parts',
      attrs: { axis: 0 },
      inputs: [
        [0, 2],
        [3, 2],
        [0, 2],
      ].map((shape) => ({ dtype: 'f32', shape })),
    },
    { name: 'i64', attrs: { axis: 0 }, inputs: [[1], [2], [1]].map((shape) => ({ dtype: 'i64', shape })) },
    {
      name: 'f16',
      attrs: { axis: 0 },
      inputs: [
        [1, 3],
        [2, 3],
      ].map((shape) => ({ dtype: 'f16', shape })),
    },
    {
      name: 'bool',
      attrs: { axis: 1 },
      inputs: [
        [2, 3],
        [2, 2],
      ].map((shape) => ({ dtype: 'bool', shape })),
    },
  ],
});

/** Sizes of the parts: as given, or ceil(size / count) each with a smaller last one. */
function partSizes(ctx: InferContext<{ readonly num_outputs: number | undefined }>, size: Dim): readonly Dim[] {
  const count = ctx.outputCount;
  if (ctx.inputs[1]) {
    const given = intsInput(ctx, 1);
    if (!given) return Array.from({ length: count }, () => ctx.freshDim('split'));
    if (given.length !== count) ctx.fail(`${given.length} sizes are given for ${count} outputs`);
    const sum = given.reduce((a, b) => a + b, 0);
    if (given.some((d) => d < 0) || (typeof size === 'number' && sum !== size)) {
      ctx.fail(`the sizes [${given.join(',')}] do not add up to ${printShape([size])}`);
    }
    return given;
  }
  const parts = ctx.attrs.num_outputs ?? count;
  if (parts !== count) ctx.fail(`num_outputs is ${parts} but the node has ${count} outputs`);
  if (typeof size !== 'number') {
    if (count === 1) return [size];
    return Array.from({ length: count }, () => ctx.freshDim('split'));
  }
  const chunk = Math.ceil(size / count);
  const last = size - chunk * (count - 1);
  if (last < 0) ctx.fail(`${count} parts of ${chunk} do not fit a dim of ${size}`);
  return Array.from({ length: count }, (_, i) => (i < count - 1 ? chunk : last));
}

const splitCase = (
  name: string,
  shape: readonly number[],
  axis: number,
  sizes: readonly number[] | number,
): OpCase => ({
  name,
  attrs: typeof sizes === 'number' ? { axis, num_outputs: sizes } : { axis },
  outputs: typeof sizes === 'number' ? sizes : sizes.length,
  inputs: [{ dtype: 'f32', shape }, ...(typeof sizes === 'number' ? [] : [{ constant: i64Vector(sizes) }])],
});

const split = defineOp({
  name: 'Split',
  onnx: {
    since: 2,
    upgrade(node, ctx) {
      const moved = ctx.opset < 13 ? attrToInput(node, ctx, 'split', 1) : node;
      if (ctx.opset >= 18 || moved.inputs[1]) return moved;
      return { ...moved, attrs: { ...moved.attrs, num_outputs: moved.outputs.length } };
    },
  },
  attrs: { axis: int(0), num_outputs: int.optional },
  inputs: [1, 2],
  outputs: Number.POSITIVE_INFINITY,
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    const axis = checkAxis(ctx, ctx.attrs.axis, shape.length);
    return partSizes(ctx, shape[axis]).map((size) => ({ dtype, shape: shape.with(axis, size) }));
  },
  eval([x], attrs, outputs) {
    const axis = axisOf(attrs.axis, x!.shape.length);
    let start = 0;
    return outputs.map(({ dtype, shape }) => {
      const data = new DTYPES[dtype].array(elements(shape));
      copyRuns(x!.data, x!.shape, data, shape, axis, start, 'out');
      start += shape[axis];
      return { dtype, shape, data };
    });
  },
  lower: {
    kind: 'index',
    read(ctx, output, coords) {
      const axis = axisOf(ctx.attrs.axis, coords.length);
      const start = ctx.outputs.slice(0, output).reduce((sum, t) => sum + t.shape[axis], 0);
      return ctx.load(0, coords.with(axis, add(coords[axis], index(start))));
    },
  },
  cases: [
    splitCase('equal', [2, 6, 5], 1, 3),
    splitCase('smaller last', [7, 2], 0, 3),
    splitCase('sizes', [3, 11], -1, [2, 0, 9]),
    splitCase('one', [5], 0, 1),
    splitCase('empty', [0, 3], 0, [0, 0]),
  ],
});

export const CONCAT_OPS = [concat, split];
