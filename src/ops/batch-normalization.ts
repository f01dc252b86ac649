/**
 * BatchNormalization at inference: y = (x − mean) / √(variance + epsilon) · scale + bias, channel by channel.
 *
 * It expands to x · s + t. Where the statistics are constants, s and t are computed here in float64 and rounded once each, so that
 * folding them into a convolution later costs no accuracy; otherwise they are nodes.
 */
import type { Shape } from '../core/shape.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import type { InferContext } from '../graph/semantics.ts';
import { i64Vector } from './dims.ts';
import { withoutLegacyHints } from './legacy-broadcast.ts';
import { type AttrsOf, bool, defineOp, float, type OpCase, type RawNode, type UpgradeContext } from './op.ts';
import { toFloat64 } from './product.ts';

const ATTRS = { epsilon: float(1e-5), momentum: float(0.9), training_mode: bool(false) } as const;

/** y = x · factor + shift, one of each a channel. */
interface ChannelScale {
  readonly factor: Float64Array;
  readonly shift: Float64Array;
}

/** factor = scale / √(variance + epsilon), shift = bias − mean · factor. */
function channelScale([scale, bias, mean, variance]: readonly Tensor[], epsilon: number): ChannelScale {
  const [s, b, m, v] = [scale, bias, mean, variance].map(toFloat64);
  const factor = s.map((x, c) => x / Math.sqrt(v[c] + epsilon));
  return { factor, shift: factor.map((f, c) => b[c] - m[c] * f) };
}

const batchNormalization = defineOp({
  name: 'BatchNormalization',
  onnx: { since: 6, upgrade: upgradeBatchNormalization },
  attrs: ATTRS,
  inputs: [5, 5],
  infer(ctx) {
    checkStatistics(ctx);
    return [ctx.input(0)];
  },
  eval([x, ...statistics], { epsilon }, [out]) {
    const { factor, shift } = channelScale(statistics as Tensor[], epsilon);
    const values = toFloat64(x!);
    const [batch, channels = 1, ...spatial] = out.shape;
    const inner = spatial.reduce((n, d) => n * d, 1);
    const y = new Float64Array(values.length);
    for (let plane = 0; plane < batch * channels; plane++) {
      const f = factor[plane % channels];
      const t = shift[plane % channels];
      for (let i = plane * inner; i < (plane + 1) * inner; i++) y[i] = values[i] * f + t;
    }
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  channelAffine(ctx) {
    const statistics = [1, 2, 3, 4].map((i) => ctx.constant(i));
    if (ctx.input(0).shape.length < 2 || !statistics.every((t) => t !== undefined)) return undefined;
    const { factor, shift } = channelScale(statistics, ctx.attrs.epsilon);
    return { input: 0, axis: 1, scale: factor, shift };
  },
  expand(b, node, { epsilon }, types) {
    const { dtype, shape } = types[0]!;
    const dims = channelDims(shape);
    const statistics = node.inputs.slice(1).map((name) => b.constantValue(name));
    if (statistics.every((t) => t !== undefined)) {
      const { factor, shift } = channelScale(statistics, epsilon);
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

/** The target shape that lines a vector of channels up with dim 1: [-1, 1, 1…]. */
export const channelDims = (shape: Shape): number[] => (shape.length < 2 ? [-1] : [-1, ...shape.slice(2).map(() => 1)]);

/** A vector of channels, reshaped to broadcast along dim 1. */
export const perChannel = (b: GraphBuilder, vector: string, dims: readonly number[]): string =>
  dims.length === 1 ? vector : b.node('Reshape', [vector, b.constant(i64Vector(dims))])[0];

function checkStatistics(ctx: InferContext<AttrsOf<typeof ATTRS>>): void {
  const { shape } = ctx.input(0);
  if (ctx.attrs.training_mode) ctx.fail('training_mode is not supported', 'export the model in evaluation mode');
  if (ctx.outputCount > 1) ctx.fail('only the first output is computed at inference');
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
  ];
}

export const BATCH_NORMALIZATION_OPS = [batchNormalization];
