/**
 * BatchNormalization: y = (x − mean) / √(variance + epsilon) · scale + bias, channel by channel.
 *
 * With training_mode mean and variance are the batch's own, and outputs 1 and 2 the given ones moved toward them; networks that
 * standardise their weights (NFNet) have it at inference.
 *
 * It expands to x · s + t. Where the statistics are constants, s and t are computed here in float64 and rounded once each, so that
 * folding them into a convolution later costs no accuracy; otherwise they are nodes.
 */
import type { Shape, StaticShape } from '../core/shape.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import type { Attrs, Node } from '../graph/ir.ts';
import type { InferContext } from '../graph/semantics.ts';
import { i64Vector } from './dims.ts';
import { withoutLegacyHints } from './legacy-broadcast.ts';
import { type AttrsOf, bool, defineOp, float, type OpCase, type RawNode, type UpgradeContext } from './op.ts';
import { toFloat64 } from './product.ts';

const ATTRS = { epsilon: float(1e-5), momentum: float(0.9), training_mode: bool(false) } as const;
type BatchAttrs = AttrsOf<typeof ATTRS>;

/** y = x · factor + shift, one of each a channel. */
interface ChannelScale {
  readonly factor: Float64Array;
  readonly shift: Float64Array;
}

/** factor = scale / √(variance + epsilon), shift = bias − mean · factor. */
function channelScale([scale, bias, mean, variance]: readonly Float64Array[], epsilon: number): ChannelScale {
  const factor = scale.map((x, c) => x / Math.sqrt(variance[c] + epsilon));
  return { factor, shift: factor.map((f, c) => bias[c] - mean[c] * f) };
}

/** The elements of each channel of each sample: [from, to) of the tensor's. */
function eachPlane(shape: StaticShape, visit: (channel: number, from: number, to: number) => void): void {
  const [batch, channels = 1, ...spatial] = shape;
  const inner = spatial.reduce((n, d) => n * d, 1);
  for (let plane = 0; plane < batch * channels; plane++) visit(plane % channels, plane * inner, (plane + 1) * inner);
}

/** Mean and variance of each channel. */
function batchStatistics(x: Tensor): readonly [mean: Float64Array, variance: Float64Array] {
  const values = toFloat64(x);
  const channels = x.shape[1] ?? 1;
  const averages = (term: (value: number, channel: number) => number): Float64Array => {
    const sums = new Float64Array(channels);
    eachPlane(x.shape, (channel, from, to) => {
      for (let i = from; i < to; i++) sums[channel] += term(values[i], channel);
    });
    return sums.map((sum) => sum / (values.length / channels));
  };
  const mean = averages((value) => value);
  return [mean, averages((value, channel) => (value - mean[channel]) ** 2)];
}

const batchNormalization = defineOp({
  name: 'BatchNormalization',
  onnx: { since: 6, upgrade: upgradeBatchNormalization },
  attrs: ATTRS,
  inputs: [5, 5],
  outputs: 3,
  infer(ctx) {
    checkStatistics(ctx);
    return [ctx.input(0), ctx.input(3), ctx.input(4)].slice(0, ctx.outputCount);
  },
  eval([x, scale, bias, ...given], { epsilon, momentum, training_mode }, outputs) {
    const own = training_mode ? batchStatistics(x!) : given.map((t) => toFloat64(t!));
    const { factor, shift } = channelScale([toFloat64(scale!), toFloat64(bias!), ...own], epsilon);
    const values = toFloat64(x!);
    const y = new Float64Array(values.length);
    eachPlane(x!.shape, (channel, from, to) => {
      for (let i = from; i < to; i++) y[i] = values[i] * factor[channel] + shift[channel];
    });
    const moved = given.map((t, i) => toFloat64(t!).map((v, c) => v * momentum + own[i][c] * (1 - momentum)));
    return outputs.map(({ dtype, shape }, i) => fromNumbers(dtype, shape, i === 0 ? y : moved[i - 1]));
  },
  channelAffine(ctx) {
    const statistics = [1, 2, 3, 4].map((i) => ctx.constant(i));
    if (ctx.attrs.training_mode || ctx.input(0).shape.length < 2 || !statistics.every((t) => t !== undefined))
      return undefined;
    const { factor, shift } = channelScale(statistics.map(toFloat64), ctx.attrs.epsilon);
    return { input: 0, axis: 1, scale: factor, shift };
  },
  expand(b, node, attrs, types) {
    const { epsilon } = attrs;
    const { dtype, shape } = types[0]!;
    const dims = channelDims(shape);
    if (attrs.training_mode) return expandTraining(b, node, attrs, shape);
    const statistics = node.inputs.slice(1).map((name) => b.constantValue(name));
    if (statistics.every((t) => t !== undefined)) {
      const { factor, shift } = channelScale(statistics.map(toFloat64), epsilon);
      const constant = (values: Float64Array) =>
        b.constant(
          fromNumbers(
            dtype,
            dims.map((d) => (d < 0 ? values.length : d)),
            values,
          ),
        );
      const [scaled] = b.node('Mul', [node.inputs[0], constant(factor)]);
      return b.node('Add', [scaled, constant(shift)]);
    }
    const [scale, bias, mean, variance] = node.inputs.slice(1).map((name) => perChannel(b, name, dims));
    const [safe] = b.node('Add', [variance, b.constant(fromNumbers(b.type(variance).dtype, [], [epsilon]))]);
    const [deviation] = b.node('Sqrt', [safe]);
    const [centred] = b.node('Sub', [node.inputs[0], mean]);
    const [unit] = b.node('Div', [centred, deviation]);
    const [scaled] = b.node('Mul', [unit, scale]);
    return b.node('Add', [scaled, bias]);
  },
  cases: cases(),
});

/** With the statistics of the batch, as nodes. */
function expandTraining(
  b: GraphBuilder,
  node: Node,
  { epsilon, momentum }: BatchAttrs,
  shape: Shape,
): readonly string[] {
  const one = (op: string, inputs: readonly string[], attrs: Attrs = {}): string => b.node(op, inputs, { attrs })[0];
  const scalar = (like: string, value: number): string => b.constant(fromNumbers(b.type(like).dtype, [], [value]));
  const [x, scale, bias, ...given] = node.inputs;
  const dims = channelDims(shape);
  const axes = b.constant(i64Vector([...shape.keys()].filter((d) => d !== 1)));
  const mean = one('ReduceMean', [x, axes]);
  const centred = one('Sub', [x, mean]);
  const variance = one('ReduceMean', [one('Mul', [centred, centred]), axes]);
  const deviation = one('Sqrt', [one('Add', [variance, scalar(variance, epsilon)])]);
  const scaled = one('Mul', [one('Div', [centred, deviation]), perChannel(b, scale, dims)]);
  const y = one('Add', [scaled, perChannel(b, bias, dims)]);
  const moved = [mean, variance].map((own, i) => {
    const kept = one('Mul', [given[i], scalar(given[i], momentum)]);
    return one('Add', [
      kept,
      one('Mul', [one('Reshape', [own, b.constant(i64Vector([-1]))]), scalar(own, 1 - momentum)]),
    ]);
  });
  return [y, ...moved].slice(0, node.outputs.length);
}

/** The target shape that lines a vector of channels up with dim 1: [-1, 1, 1…]. */
export const channelDims = (shape: Shape): number[] => (shape.length < 2 ? [-1] : [-1, ...shape.slice(2).map(() => 1)]);

/** A vector of channels, reshaped to broadcast along dim 1. */
export const perChannel = (b: GraphBuilder, vector: string, dims: readonly number[]): string =>
  dims.length === 1 ? vector : b.node('Reshape', [vector, b.constant(i64Vector(dims))])[0];

function checkStatistics(ctx: InferContext<BatchAttrs>): void {
  const { shape } = ctx.input(0);
  if (ctx.outputCount > 1 && !ctx.attrs.training_mode) ctx.fail('only the first output is computed at inference');
  if (shape.length === 0) ctx.fail('the input must have at least one dim');
  const channels = shape.length === 1 ? 1 : shape[1];
  for (let i = 1; i < 5; i++) {
    const vector = ctx.input(i).shape;
    if (vector.length !== 1) ctx.fail(`input ${i} has rank ${vector.length}, expected a vector`);
    if (typeof vector[0] === 'number' && typeof channels === 'number' && vector[0] !== channels) {
      ctx.fail(`input ${i} has ${vector[0]} elements, the input ${channels} channels`);
    }
  }
}

/** Before opset 9 there was `spatial`, whose 0 meant statistics for every pixel; opset 14 dropped the outputs that only training fills. */
function upgradeBatchNormalization(node: RawNode, ctx: UpgradeContext): RawNode {
  const { spatial, ...attrs } = ctx.opset < 7 ? withoutLegacyHints(node.attrs) : node.attrs;
  if (spatial === 0 || spatial === false) ctx.fail('spatial = 0 is not supported');
  return { ...node, attrs };
}

function cases(): OpCase[] {
  const make = (name: string, shape: number[], attrs: OpCase['attrs'] = {}): OpCase => {
    const vector = { dtype: 'f32', shape: [shape[1]] } as const;
    return {
      name,
      attrs,
      inputs: [{ dtype: 'f32', shape }, vector, vector, vector, { ...vector, range: [0.1, 2] }],
    };
  };
  return [
    make('rank 2', [5, 7]),
    make('rank 3', [2, 3, 5]),
    make('rank 4', [2, 7, 5, 3], { epsilon: 1e-3 }),
    make('one channel', [1, 1, 4, 4]),
    make('rank 5', [1, 3, 2, 3, 2]),
    { ...make('of the batch', [2, 3, 5], { training_mode: true }), outputs: 3 },
    { ...make('of the batch, statistics moved', [3, 2, 4, 5], { training_mode: true, momentum: 0.8 }), outputs: 3 },
  ];
}

export const BATCH_NORMALIZATION_OPS = [batchNormalization];
