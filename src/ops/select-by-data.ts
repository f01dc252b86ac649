/**
 * NonZero, Compress and Unique: which elements they give, and how many, the data decide.
 *
 * Sizes are known before running where the deciding input is a constant; then NonZero and Unique fold and Compress is a Gather. Otherwise
 * their output has an open size, which only evaluation can give: they have no kernel.
 */
import type { DType } from '../core/dtype.ts';
import { elements, rowMajorStrides, type StaticShape } from '../core/shape.ts';
import { decodeScalar, fromNumbers, type Tensor, zeros } from '../core/tensor.ts';
import { checkAxis, i64Vector, product } from './dims.ts';
import { bool, defineOp, int, type Op, type OpCase } from './op.ts';
import { dimOffsets, otherDims } from './rows.ts';

/** Row-major positions of the elements that are not zero. */
function nonZeroPositions(x: Tensor): number[] {
  const found: number[] = [];
  for (let i = 0; i < x.data.length; i++) if (Number(decodeScalar(x.dtype, x.data[i])) !== 0) found.push(i);
  return found;
}

const nonZero = defineOp({
  name: 'NonZero',
  onnx: { since: 9 },
  attrs: {},
  inputs: [1, 1],
  infer(ctx) {
    const { shape } = ctx.input(0);
    const known = ctx.constant(0);
    return [{ dtype: 'i64', shape: [shape.length, known ? nonZeroPositions(known).length : ctx.freshDim('nonzero')] }];
  },
  eval([x], _, [out]) {
    const positions = nonZeroPositions(x!);
    const strides = rowMajorStrides(x!.shape);
    const coords = strides.flatMap((stride, d) => positions.map((at) => Math.floor(at / stride) % x!.shape[d]));
    return [fromNumbers('i64', out.shape, coords)];
  },
  cases: [
    constantCase('matrix', fromNumbers('f32', [2, 3], [1, 0, -2, 0, 0, 3])),
    constantCase('bool', fromNumbers('bool', [5], [1, 0, 0, 1, 1])),
    constantCase('nothing', fromNumbers('i64', [2, 2], [0, 0, 0, 0])),
  ],
});

function constantCase(name: string, value: Tensor, rest: Partial<OpCase> = {}): OpCase {
  return { name, inputs: [{ constant: value }], ...rest };
}

/** Indices where the condition holds. */
const chosen = (condition: Tensor): number[] => nonZeroPositions(condition);

const compress = defineOp({
  name: 'Compress',
  onnx: { since: 9 },
  attrs: { axis: int.optional },
  inputs: [2, 2],
  infer(ctx) {
    const [x, condition] = [ctx.input(0), ctx.input(1)];
    if (condition.dtype !== 'bool' || condition.shape.length !== 1) ctx.fail('the condition must be a vector of bools');
    const known = ctx.constant(1);
    const count = known ? chosen(known).length : ctx.freshDim('compressed');
    if (ctx.attrs.axis === undefined) return [{ dtype: x.dtype, shape: [count] }];
    return [{ dtype: x.dtype, shape: x.shape.with(checkAxis(ctx, ctx.attrs.axis, x.shape.length), count) }];
  },
  eval([x, condition], attrs, [out]) {
    const shape = attrs.axis === undefined ? [x!.data.length] : x!.shape;
    const axis = attrs.axis === undefined ? 0 : attrs.axis < 0 ? attrs.axis + shape.length : attrs.axis;
    return [pickAlong(x!, shape, axis, chosen(condition!), out.shape)];
  },
  expand(b, node, attrs, [type]) {
    const condition = b.constantValue(node.inputs[1]);
    if (!condition || !type) return undefined;
    const { loc } = node;
    const at = b.constant(i64Vector(chosen(condition)));
    const flat = attrs.axis === undefined;
    const [x] = flat ? b.node('Reshape', [node.inputs[0], b.constant(i64Vector([-1]))], { loc }) : node.inputs;
    return b.node('Gather', [x, at], { attrs: { axis: attrs.axis ?? 0 }, loc });
  },
  cases: [
    ...[0, 1, -1].map(
      (axis): OpCase => ({
        name: `axis ${axis}`,
        attrs: { axis },
        inputs: [{ dtype: 'f32', shape: [3, 3] }, { constant: fromNumbers('bool', [3], [0, 1, 1]) }],
      }),
    ),
    {
      name: 'flattened, a short condition',
      inputs: [{ dtype: 'i64', shape: [3, 5] }, { constant: fromNumbers('bool', [7], [0, 1, 0, 0, 1, 1, 0]) }],
    },
  ],
});

/** The given positions along an axis of a tensor seen as `shape`. */
function pickAlong(
  x: Tensor,
  shape: StaticShape,
  axis: number,
  positions: readonly number[],
  out: StaticShape,
): Tensor {
  const y = zeros(x.dtype, out);
  const inner = elements(shape.slice(axis + 1));
  const outer = elements(shape.slice(0, axis));
  for (let o = 0; o < outer; o++) {
    positions.forEach((at, k) => {
      const from = (o * shape[axis] + at) * inner;
      y.data.set(x.data.subarray(from, from + inner) as never, (o * positions.length + k) * inner);
    });
  }
  return y;
}

interface Slices {
  /** Of each distinct slice: where it first stands, and how often. */
  readonly first: readonly number[];
  readonly counts: readonly number[];
  /** For each slice of the input, its number among the distinct ones. */
  readonly inverse: readonly number[];
}

/** Distinct slices along an axis (elements, where there is none), in order of value or of appearance. */
function distinct(x: Tensor, axis: number | undefined, sorted: boolean): Slices {
  const shape = axis === undefined ? [x.data.length] : x.shape;
  const at = axis === undefined ? 0 : axis < 0 ? axis + shape.length : axis;
  const starts = dimOffsets(shape, [at]);
  const within = dimOffsets(shape, otherDims(shape.length, [at]));
  const value = (slice: number, i: number) => decodeScalar(x.dtype, x.data[starts[slice] + within[i]]);
  const compare = (a: number, b: number): number => {
    for (let i = 0; i < within.length; i++) {
      const [p, q] = [value(a, i), value(b, i)];
      if (p < q) return -1;
      if (p > q) return 1;
    }
    return 0;
  };
  const byValue = Array.from(starts, (_, i) => i).sort((a, b) => compare(a, b) || a - b);
  const groups: number[][] = [];
  for (const slice of byValue) {
    const last = groups.at(-1);
    if (last && compare(last[0], slice) === 0) last.push(slice);
    else groups.push([slice]);
  }
  if (!sorted) groups.sort((a, b) => a[0] - b[0]);
  const inverse = new Array<number>(starts.length);
  groups.forEach((group, g) => {
    for (const slice of group) inverse[slice] = g;
  });
  return { first: groups.map(([slice]) => slice), counts: groups.map((group) => group.length), inverse };
}

const unique = defineOp({
  name: 'Unique',
  onnx: { since: 11 },
  attrs: { axis: int.optional, sorted: bool(true) },
  inputs: [1, 1],
  outputs: 4,
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    const axis = ctx.attrs.axis === undefined ? undefined : checkAxis(ctx, ctx.attrs.axis, shape.length);
    const known = ctx.constant(0);
    const count = known ? distinct(known, axis, ctx.attrs.sorted).first.length : ctx.freshDim('unique');
    const slices = axis === undefined ? product(shape) : shape[axis];
    const positions = { dtype: 'i64' as DType, shape: [count] };
    return [
      { dtype, shape: axis === undefined ? [count] : shape.with(axis, count) },
      positions,
      { ...positions, shape: [slices] },
      positions,
    ].slice(0, ctx.outputCount);
  },
  eval([x], { axis, sorted }, outputs) {
    const { first, counts, inverse } = distinct(x!, axis, sorted);
    const shape = axis === undefined ? [x!.data.length] : x!.shape;
    const at = axis === undefined ? 0 : axis < 0 ? axis + shape.length : axis;
    const picked = pickAlong(x!, shape, at, first, outputs[0].shape);
    return [picked, ...[first, inverse, counts].map(i64Vector)].slice(0, outputs.length);
  },
  cases: [
    constantCase('sorted', fromNumbers('f32', [6], [2, 1, 1, 3, 4, 3]), { outputs: 4 }),
    constantCase('in order of appearance', fromNumbers('i64', [6], [2, 1, 1, 3, 4, 3]), {
      outputs: 4,
      attrs: { sorted: false },
    }),
    constantCase('rows', fromNumbers('f32', [3, 3], [1, 0, 0, 1, 0, 0, 2, 3, 4]), { outputs: 4, attrs: { axis: 0 } }),
    constantCase('columns', fromNumbers('f32', [2, 4], [1, 0, 1, 0, 5, 2, 5, 2]), { outputs: 2, attrs: { axis: -1 } }),
  ],
});

export const SELECT_BY_DATA_OPS: readonly Op[] = [nonZero, compress, unique];
