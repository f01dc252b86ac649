/**
 * Shape and Size: a tensor's dims and their product, as i64. Known before running wherever the shape is; the input is never read.
 */
import { elements, type Shape } from '../core/shape.ts';
import { fromNumbers } from '../core/tensor.ts';
import { binary, constant, index, select } from '../loop/expr.ts';
import { product } from './dims.ts';
import { defineOp, int, type OpCase } from './op.ts';

/** Dims [start, end) of a shape, both counted from the end where negative and clamped. */
const dimRange = (shape: Shape, start: number, end: number | undefined): Shape =>
  shape.slice(start, end ?? shape.length);

const shapeCase = (shape: readonly number[], attrs: OpCase['attrs'] = {}): OpCase => ({
  name: `[${shape}] ${JSON.stringify(attrs)}`,
  attrs,
  inputs: [{ dtype: 'f32', shape }],
});

const shape = defineOp({
  name: 'Shape',
  onnx: { since: 1 },
  attrs: { start: int(0), end: int.optional },
  inputs: [1, 1],
  infer: (ctx) => [{ dtype: 'i64', shape: [dimRange(ctx.input(0).shape, ctx.attrs.start, ctx.attrs.end).length] }],
  inferDims: (ctx) => dimRange(ctx.input(0).shape, ctx.attrs.start, ctx.attrs.end),
  eval([x], { start, end }, [out]) {
    return [fromNumbers('i64', out.shape, dimRange(x!.shape, start, end) as readonly number[])];
  },
  lower: {
    kind: 'index',
    read(ctx, _, [i]) {
      const dims = dimRange(ctx.input(0).shape, ctx.attrs.start, ctx.attrs.end).map((d) =>
        constant('i64', d as number),
      );
      return dims.reduceRight((rest, d, at) => select(binary('eq', i, index(at)), d, rest), constant('i64', 0));
    },
  },
  cases: [
    shapeCase([2, 3, 5]),
    shapeCase([]),
    shapeCase([0, 7]),
    shapeCase([2, 3, 5], { start: 1 }),
    shapeCase([2, 3, 5], { start: -2, end: -1 }),
    shapeCase([2, 3, 5], { start: -9, end: 9 }),
    shapeCase([2, 3, 5], { start: 2, end: 1 }),
    { name: 'i64', inputs: [{ dtype: 'i64', shape: [3] }] },
  ],
});

const size = defineOp({
  name: 'Size',
  onnx: { since: 1 },
  attrs: {},
  inputs: [1, 1],
  infer: () => [{ dtype: 'i64', shape: [] }],
  inferDims: (ctx) => [product(ctx.input(0).shape)],
  eval: ([x]) => [fromNumbers('i64', [], [elements(x!.shape)])],
  lower: { kind: 'index', read: (ctx) => constant('i64', elements(ctx.input(0).shape)) },
  cases: [shapeCase([2, 3, 5]), shapeCase([]), shapeCase([0, 7])],
});

export const SIZE_OPS = [shape, size];
