/**
 * NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: for each element of a target, minus the (log-softmax) score of its class.
 *
 *     loss[n, d…] = −weight[t] · x[n, t, d…]  with t = target[n, d…]; 0 where t is ignore_index
 *     mean: Σ loss / Σ weight[t] over the targets that count
 */

import { dimsEqual, printShape, type Shape } from '../core/shape.ts';
import type { ValueType } from '../core/tensor.ts';
import { fromNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { defineComposite, type Expansion } from './composite.ts';
import { checkFloatInputs } from './dims.ts';
import { type AttrsOf, int, type Op, type OpCase, oneOf } from './op.ts';
import { checkDType } from './quantization.ts';

const ATTRS = { ignore_index: int.optional, reduction: oneOf('mean', 'sum', 'none') } as const;
type LossAttrs = AttrsOf<typeof ATTRS>;

/** The type of the loss: a scalar, or without reduction one for each target. */
function lossType(ctx: InferContext<LossAttrs>): ValueType {
  checkFloatInputs(ctx, [0, 2]);
  checkDType(ctx, 1, ['i64', 'i32']);
  const { dtype, shape } = ctx.input(0);
  const target = ctx.input(1).shape;
  if (shape.length < 2) ctx.fail(`the scores have rank ${shape.length}, expected at least 2`);
  const wanted: Shape = [shape[0], ...shape.slice(2)];
  const fits =
    wanted.length === target.length &&
    wanted.every((d, i) => typeof d !== 'number' || typeof target[i] !== 'number' || dimsEqual(d, target[i]));
  if (!fits) ctx.fail(`the target is ${printShape(target)}, expected ${printShape(wanted)}`);
  if (ctx.inputs[2] && ctx.inputs[2].shape.length !== 1) ctx.fail('the weights must be a vector of one a class');
  return { dtype, shape: ctx.attrs.reduction === 'none' ? wanted : [] };
}

/** The loss from scores that are logarithms of probabilities already. */
function writeLoss(x: Expansion<LossAttrs>, scores: string): string {
  const { w, attrs, types } = x;
  const { dtype, shape } = w.type(scores);
  const target = x.type(1);
  const zero = w.scalar(dtype, 0);
  const zeroClass = w.scalar(target.dtype, 0);
  const { ignore_index: ignored, reduction } = attrs;
  const ignore = ignored === undefined ? undefined : w.node('Equal', [x.input(1), w.scalar(target.dtype, ignored)]);
  // An ignored class may be out of range: it is read as class 0, and comes to nothing.
  const classes = ignore ? w.node('Where', [ignore, zeroClass, x.input(1)]) : x.input(1);
  const column = w.reshape(classes, [shape[0], 1, ...shape.slice(2)]);
  const picked = w.reshape(w.node('GatherElements', [scores, column], { axis: 1 }), target.shape);
  const ones = (): string => w.expand(w.scalar(dtype, 1), target.shape);
  const chosen = types[2] ? w.node('Gather', [x.input(2), classes]) : undefined;
  const weights = ignore ? w.node('Where', [ignore, zero, chosen ?? ones()]) : chosen;
  const loss = w.node('Neg', [weights ? w.mul(picked, weights) : picked]);
  if (reduction === 'none') return loss;
  if (reduction === 'mean' && !weights) return w.node('ReduceMean', [loss], { keepdims: false });
  const sum = (value: string): string => w.node('ReduceSum', [value], { keepdims: false });
  return reduction === 'sum' ? sum(loss) : w.div(sum(loss), sum(weights as string));
}

const negativeLogLikelihoodLoss = defineComposite({
  name: 'NegativeLogLikelihoodLoss',
  onnx: { since: 12 },
  attrs: ATTRS,
  inputs: [2, 3],
  rounding: 'once',
  infer: (ctx) => [lossType(ctx)],
  write: (x) => [writeLoss(x, x.input(0))],
  cases: lossCases(1),
});

const softmaxCrossEntropyLoss = defineComposite({
  name: 'SoftmaxCrossEntropyLoss',
  onnx: { since: 12 },
  attrs: ATTRS,
  inputs: [2, 3],
  outputs: 2,
  rounding: 'once',
  infer: (ctx) => [lossType(ctx), ctx.input(0)].slice(0, ctx.outputCount),
  write(x) {
    const scores = x.w.node('LogSoftmax', [x.input(0)], { axis: 1 });
    return [writeLoss(x, scores), scores].slice(0, x.node.outputs.length);
  },
  cases: lossCases(2),
});

function lossCases(outputs: number): readonly OpCase[] {
  const scores = { dtype: 'f32', shape: [3, 5], range: [-3, -0.1] } as const;
  const spatial = { dtype: 'f32', shape: [2, 5, 3, 2], range: [-3, -0.1] } as const;
  const target = fromNumbers('i64', [3], [4, 0, 2]);
  const weights = { dtype: 'f32', shape: [5], range: [0.1, 1] } as const;
  const places = { dtype: 'i64', shape: [2, 3, 2], range: [0, 4] } as const;
  return [
    { name: 'mean', inputs: [scores, target] },
    { name: 'sum, weights', inputs: [scores, target, weights], attrs: { reduction: 'sum' } },
    { name: 'none, spatial', inputs: [spatial, places], attrs: { reduction: 'none' } },
    { name: 'mean, weights, ignored', inputs: [spatial, places, weights], attrs: { ignore_index: 1 } },
    {
      name: 'ignored class out of range',
      inputs: [scores, fromNumbers('i64', [3], [4, -7, 2])],
      attrs: { ignore_index: -7 },
    },
    { name: 'i32 target', inputs: [scores, fromNumbers('i32', [3], [1, 0, 3])], attrs: { reduction: 'sum' } },
  ].map((c) => ({ ...c, outputs }) as OpCase);
}

export const LOSS_OPS: readonly Op[] = [negativeLogLikelihoodLoss, softmaxCrossEntropyLoss];
