/**
 * LayerNormalization and RMSNormalization over the dims from `axis` on, InstanceNormalization over the spatial dims, GroupNormalization
 * over groups of channels.
 *
 * The first three are one kernel each; GroupNormalization expands to an instance normalisation of its groups.
 */
import { broadcastShapes, type Dim, printShape, shapesEqual } from '../core/shape.ts';
import { fromNumbers, type Tensor, type TensorType } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { add, index, mul } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { channelDims, perChannel } from './batch-normalization.ts';
import { checkAxis, checkFloats, i64Vector } from './dims.ts';
import { walkBroadcast } from './elementwise.ts';
import { normalizeRows, normalizeRowsKernel } from './norm-rows.ts';
import { defineOp, float, int, type KernelContext, type Op, type OpCase } from './op.ts';
import { toFloat64 } from './product.ts';
import { otherDims } from './rows.ts';

/** The dims from `axis` on. */
const trailingDims = (axis: number, rank: number): number[] => otherDims(rank, []).slice(axis < 0 ? axis + rank : axis);

/** values · scale + bias, both broadcast to the result. */
function scaleAndShift(values: Float64Array, scale: Tensor, bias: Tensor | undefined, out: TensorType): Tensor {
  const factors = toFloat64(scale);
  const shifts = bias ? toFloat64(bias) : Float64Array.of(0);
  const y = new Float64Array(values.length);
  walkBroadcast(out.shape, [scale.shape, bias?.shape ?? []], (i, [factor, shift]) => {
    y[i] = values[i] * factors[factor] + shifts[shift];
  });
  return fromNumbers(out.dtype, out.shape, y);
}

/** x · input 1 + input 2 (where there is one), both broadcast to the output. */
const scaledAndShifted =
  (ctx: KernelContext<unknown>) =>
  (x: Expr, coords: readonly Expr[]): Expr => {
    const element = (i: number): Expr | undefined => {
      const shape = ctx.inputs[i]?.shape;
      const lead = coords.length - (shape?.length ?? 0);
      return (
        shape &&
        ctx.load(
          i,
          shape.map((extent, d) => (extent === 1 ? index(0) : coords[d + lead])),
        )
      );
    };
    const bias = element(2);
    const scaled = mul(x, element(1) as Expr);
    return bias ? add(scaled, bias) : scaled;
  };

function checkBroadcasts(ctx: InferContext<unknown>, inputs: readonly number[]): void {
  const { shape } = ctx.input(0);
  for (const i of inputs) {
    const other = ctx.inputs[i]?.shape;
    if (!other) continue;
    const to = broadcastShapes(shape, other);
    if (!to || !shapesEqual(to, shape))
      ctx.fail(`input ${i} ${printShape(other)} does not broadcast to ${printShape(shape)}`);
  }
}

const TRAILING_ATTRS = {
  axis: int(-1),
  epsilon: float(1e-5),
  /** The precision of the statistics; they are in float64 or the machine's own here. */
  stash_type: int(1),
} as const;

const rowCase = (
  name: string,
  shape: number[],
  scale: number[],
  bias?: number[],
  attrs: OpCase['attrs'] = {},
): OpCase => ({
  name,
  attrs,
  inputs: [shape, scale, ...(bias ? [bias] : [])].map((s) => ({ dtype: 'f32', shape: s }) as const),
});

const layerNormalization = defineOp({
  name: 'LayerNormalization',
  onnx: { since: 17 },
  attrs: TRAILING_ATTRS,
  inputs: [2, 3],
  outputs: 3,
  infer(ctx) {
    checkFloats(ctx);
    const x = ctx.input(0);
    const axis = checkAxis(ctx, ctx.attrs.axis, x.shape.length);
    checkBroadcasts(ctx, [1, 2]);
    const statistics = { dtype: 'f32', shape: x.shape.map((d, i): Dim => (i < axis ? d : 1)) } as const;
    return [x, statistics, statistics].slice(0, ctx.outputCount);
  },
  eval([x, scale, bias], { axis, epsilon }, outputs) {
    const dims = trailingDims(axis, x!.shape.length);
    const rows = normalizeRows(toFloat64(x!), x!.shape, { dims, centred: true, epsilon });
    const statistics = [rows.mean, rows.inverseDeviation];
    return outputs.map((type, i) =>
      i === 0 ? scaleAndShift(rows.values, scale!, bias, type) : fromNumbers(type.dtype, type.shape, statistics[i - 1]),
    );
  },
  lower: {
    kind: 'kernel',
    layout: 'row-major',
    streams: [],
    build(ctx) {
      const dims = trailingDims(ctx.attrs.axis, ctx.outputs[0].shape.length);
      return normalizeRowsKernel(ctx, { dims, centred: true, epsilon: ctx.attrs.epsilon }, scaledAndShifted(ctx));
    },
  },
  cases: [
    rowCase('tokens', [2, 5, 64], [64], [64]),
    rowCase('no bias', [3, 17], [17]),
    rowCase('two trailing dims', [2, 3, 5, 7], [5, 7], [5, 7], { axis: -2 }),
    rowCase('whole tensor', [3, 4], [3, 4], [3, 4], { axis: 0 }),
    rowCase('scale broadcast within the row', [2, 4, 6], [1, 6], [4, 1], { axis: 1 }),
    rowCase('row of one', [4, 1], [1], [1]),
    { ...rowCase('statistics', [2, 3, 8], [8], [8], { epsilon: 1e-3 }), outputs: 3 },
    {
      name: 'large mean, small deviation',
      inputs: [
        { dtype: 'f64', shape: [2, 33], range: [1e6, 1e6 + 1] },
        { dtype: 'f64', shape: [33] },
        { dtype: 'f64', shape: [33] },
      ],
    },
  ],
});

const rmsNormalization = defineOp({
  name: 'RMSNormalization',
  onnx: { since: 23 },
  attrs: TRAILING_ATTRS,
  inputs: [2, 2],
  infer(ctx) {
    checkFloats(ctx);
    checkAxis(ctx, ctx.attrs.axis, ctx.input(0).shape.length);
    checkBroadcasts(ctx, [1]);
    return [ctx.input(0)];
  },
  eval([x, scale], { axis, epsilon }, [out]) {
    const dims = trailingDims(axis, x!.shape.length);
    const { values } = normalizeRows(toFloat64(x!), x!.shape, { dims, centred: false, epsilon });
    return [scaleAndShift(values, scale!, undefined, out)];
  },
  lower: {
    kind: 'kernel',
    layout: 'row-major',
    streams: [],
    build(ctx) {
      const dims = trailingDims(ctx.attrs.axis, ctx.outputs[0].shape.length);
      return normalizeRowsKernel(ctx, { dims, centred: false, epsilon: ctx.attrs.epsilon }, scaledAndShifted(ctx));
    },
  },
  cases: [
    rowCase('tokens', [2, 5, 32], [32]),
    rowCase('two trailing dims', [2, 3, 7], [3, 7], undefined, { axis: 1, epsilon: 1e-3 }),
    rowCase('row of one', [3, 1], [1]),
  ],
});

/** A vector for the channels, seen from the spatial elements: [C, 1, 1…]. */
const asChannels = (t: Tensor, rank: number): Tensor => ({
  ...t,
  shape: [t.shape[0], ...new Array<number>(rank - 2).fill(1)],
});

function checkChannelVectors(ctx: InferContext<unknown>, lengths: readonly Dim[]): void {
  for (const i of [1, 2]) {
    const { shape } = ctx.input(i);
    const fits =
      shape.length === 1 &&
      (typeof shape[0] !== 'number' || lengths.some((n) => typeof n !== 'number' || n === shape[0]));
    if (!fits) ctx.fail(`input ${i} is ${printShape(shape)}, expected a vector of ${printShape(lengths.slice(0, 1))}`);
  }
}

const instanceNormalization = defineOp({
  name: 'InstanceNormalization',
  onnx: { since: 6 },
  attrs: { epsilon: float(1e-5) },
  inputs: [3, 3],
  infer(ctx) {
    checkFloats(ctx);
    const { shape } = ctx.input(0);
    if (shape.length < 3) ctx.fail(`the input has rank ${shape.length}, expected at least 3`);
    checkChannelVectors(ctx, [shape[1]]);
    return [ctx.input(0)];
  },
  eval([x, scale, bias], { epsilon }, [out]) {
    const rank = out.shape.length;
    const dims = trailingDims(2, rank);
    const { values } = normalizeRows(toFloat64(x!), out.shape, { dims, centred: true, epsilon });
    return [scaleAndShift(values, asChannels(scale!, rank), asChannels(bias!, rank), out)];
  },
  lower: {
    kind: 'kernel',
    layout: 'any',
    streams: [],
    build(ctx) {
      const dims = trailingDims(2, ctx.outputs[0].shape.length);
      return normalizeRowsKernel(ctx, { dims, centred: true, epsilon: ctx.attrs.epsilon }, (x, coords) =>
        add(mul(x, ctx.load(1, [coords[1]])), ctx.load(2, [coords[1]])),
      );
    },
  },
  cases: [
    rowCase('2-d', [2, 3, 5, 7], [3], [3]),
    rowCase('1-d', [1, 4, 11], [4], [4], { epsilon: 1e-2 }),
    rowCase('3-d, one channel', [2, 1, 3, 2, 5], [1], [1]),
  ],
});

const groupNormalization = defineOp({
  name: 'GroupNormalization',
  onnx: { since: 18 },
  attrs: { epsilon: float(1e-5), num_groups: int.required, stash_type: int(1) },
  inputs: [3, 3],
  infer(ctx) {
    checkFloats(ctx);
    const { shape } = ctx.input(0);
    const { num_groups: groups } = ctx.attrs;
    if (shape.length < 2) ctx.fail(`the input has rank ${shape.length}, expected at least 2`);
    if (groups < 1 || (typeof shape[1] === 'number' && shape[1] % groups !== 0)) {
      ctx.fail(`${printShape([shape[1]])} channels do not split into ${groups} groups`);
    }
    // Opset 18 had one scale a group; opset 21 has one a channel. Their lengths tell them apart.
    checkChannelVectors(ctx, [shape[1], groups]);
    return [ctx.input(0)];
  },
  eval([x, scale, bias], { epsilon, num_groups: groups }, [out]) {
    const [batch, channels] = out.shape;
    const grouped = [batch, groups, out.shape.slice(1).reduce((n, d) => n * d, 1) / groups];
    const { values } = normalizeRows(toFloat64(x!), grouped, { dims: [2], centred: true, epsilon });
    const [factors, shifts] = [scale!, bias!].map((t) => asChannels(everyChannel(t, channels), out.shape.length));
    return [scaleAndShift(values, factors, shifts, out)];
  },
  expand(b, node, { epsilon, num_groups: groups }, types) {
    const { dtype, shape } = types[0]!;
    const [x, scale, bias] = node.inputs;
    const perGroup = types[1]!.shape[0] === groups;
    const groupVector = (value: number) =>
      b.constant(fromNumbers(dtype, [groups], new Array<number>(groups).fill(value)));
    const [grouped] = b.node('Reshape', [x, b.constant(i64Vector([0, groups, -1]))]);
    const [unit] = b.node(
      'InstanceNormalization',
      [grouped, perGroup ? scale : groupVector(1), perGroup ? bias : groupVector(0)],
      { attrs: { epsilon } },
    );
    const [dims] = b.node('Shape', [x]);
    const normalized = b.node('Reshape', [unit, dims]);
    if (perGroup) return normalized;
    const [scaled] = b.node('Mul', [normalized[0], perChannel(b, scale, channelDims(shape))]);
    return b.node('Add', [scaled, perChannel(b, bias, channelDims(shape))]);
  },
  cases: [
    rowCase('groups of 2', [2, 6, 3, 5], [6], [6], { num_groups: 3 }),
    rowCase('one group', [1, 4, 7], [4], [4], { num_groups: 1, epsilon: 1e-3 }),
    rowCase('a group a channel', [2, 3, 4, 4], [3], [3], { num_groups: 3 }),
  ],
});

/** A vector of groups stretched to one of channels. */
function everyChannel(t: Tensor, channels: number): Tensor {
  const values = toFloat64(t);
  const stretched = Float64Array.from(
    { length: channels },
    (_, c) => values[Math.floor((c * values.length) / channels)],
  );
  return fromNumbers(t.dtype, [channels], stretched);
}

export const NORMALIZATION_OPS: readonly Op[] = [
  layerNormalization,
  rmsNormalization,
  instanceNormalization,
  groupNormalization,
];
