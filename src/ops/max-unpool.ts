/**
 * MaxUnpool: the inverse of MaxPool's positions. Every element goes to the place in a larger picture that `indices` names; the rest is 0.
 *
 * Indices count through the whole tensor of the output's shape, as MaxPool gives them for an input of that shape; a plane's elements
 * stay in that plane.
 */
import { elements, type StaticShape } from '../core/shape.ts';
import { type Tensor, zeros } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { add, axis, binary, cast, constant, index, like, max, min, mul, sub } from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import { dimsInput, i64Vector, intsOf } from './dims.ts';
import { type AttrsOf, defineOp, ints, type KernelContext, type KernelSpec, type Op, type OpCase } from './op.ts';
import { checkPosition } from './position.ts';

const ATTRS = { kernel_shape: ints.required, pads: ints.optional, strides: ints.optional } as const;
type UnpoolAttrs = AttrsOf<typeof ATTRS>;

function inferUnpool(ctx: InferContext<UnpoolAttrs>) {
  const [x, indices] = [ctx.input(0), ctx.input(1)];
  const { kernel_shape, pads, strides } = ctx.attrs;
  const rank = x.shape.length - 2;
  if (kernel_shape.length !== rank) ctx.fail(`kernel_shape has ${kernel_shape.length} sizes, the input ${rank}`);
  if (indices.dtype !== 'i64' || indices.shape.length !== x.shape.length) {
    ctx.fail('the indices must be i64, of the shape of the input');
  }
  const given = ctx.inputs[2]
    ? (dimsInput(ctx, 2) ?? x.shape.map((_, d) => (d < 2 ? x.shape[d] : ctx.freshDim('unpooled'))))
    : undefined;
  const spatial = x.shape.slice(2).map((size, d) => {
    const padding = (pads?.[d] ?? 0) + (pads?.[rank + d] ?? 0);
    return typeof size === 'number'
      ? (size - 1) * (strides?.[d] ?? 1) + kernel_shape[d] - padding
      : ctx.freshDim('unpooled');
  });
  return [{ dtype: x.dtype, shape: given ?? [x.shape[0], x.shape[1], ...spatial] }];
}

function evalUnpool(x: Tensor, indices: Tensor, dtype: Tensor['dtype'], shape: StaticShape): Tensor {
  const y = zeros(dtype, shape);
  intsOf(indices).forEach((at, i) => {
    y.data[checkPosition('MaxUnpool', at, y.data.length)] = x.data[i] as never;
  });
  return y;
}

/** One point a plane: zeros, then the elements in order. */
function buildUnpool(ctx: KernelContext<UnpoolAttrs>): KernelSpec {
  const from = ctx.input(0).shape;
  const { dtype, shape } = ctx.outputs[0];
  const plane = elements(shape.slice(2));
  const { axes, coords } = ctx.outputAxes(0, [0, 1]);
  const [n, c] = coords;
  const loops = (sizes: StaticShape, kind: 'for' | 'scan', body: (at: readonly Expr[]) => Stmt[]): readonly Stmt[] => {
    const names = sizes.map(() => ctx.fresh('p'));
    return names.reduceRight<readonly Stmt[]>(
      (inner, name, d) => [{ kind, axis: { name, extent: sizes[d] }, body: inner }],
      body(names.map(axis)),
    );
  };
  const fill = loops(shape.slice(2), 'for', (at) => [ctx.store(0, [n, c, ...at], constant(dtype, 0))]);
  const start = mul(add(mul(n, index(shape[1])), c), index(plane));
  const place = loops(from.slice(2), 'scan', (at) => {
    const given = ctx.load(1, [n, c, ...at]);
    const inPlane = sub(given, cast('i64', start));
    let rest = cast('i32', min(max(inPlane, like(inPlane, 0)), like(inPlane, plane - 1)));
    const to: Expr[] = [];
    for (const size of shape.slice(2).toReversed()) {
      to.unshift(binary('mod', rest, index(size)));
      rest = binary('floordiv', rest, index(size));
    }
    return [ctx.store(0, [n, c, ...to], ctx.load(0, [n, c, ...at]))];
  });
  return { form: { kind: 'routine', name: 'unpool' }, axes, body: [...fill, ...place] };
}

const unpoolCase = (name: string, at: readonly number[], rest: Partial<OpCase> = {}, size?: number[]): OpCase => ({
  name,
  attrs: { kernel_shape: [2, 2], strides: [2, 2] },
  inputs: [
    { dtype: 'f32', shape: [1, 2, 2, 2] },
    { constant: { dtype: 'i64', shape: [1, 2, 2, 2], data: BigInt64Array.from(at, BigInt) } },
    ...(size ? [{ constant: i64Vector(size) }] : []),
  ],
  ...rest,
});

const maxUnpool = defineOp({
  name: 'MaxUnpool',
  onnx: { since: 9 },
  attrs: ATTRS,
  inputs: [2, 3],
  infer: inferUnpool,
  eval: ([x, indices], _, [out]) => [evalUnpool(x!, indices!, out.dtype, out.shape)],
  lower: { kind: 'kernel', layout: 'row-major', streams: [], rereads: true, build: buildUnpool },
  cases: [
    unpoolCase('two planes', [5, 7, 13, 15, 16, 19, 24, 31]),
    unpoolCase('to a given shape', [6, 8, 16, 18, 25, 29, 37, 49], {}, [1, 2, 5, 5]),
  ],
});

export const MAX_UNPOOL_OPS: readonly Op[] = [maxUnpool];
