/**
 * Layer normalisations that onnxruntime's optimisers fuse with what stands before them: a residual sum, or the sum of embeddings.
 *
 *     SkipLayerNormalization            LayerNormalization(x + skip + bias)      output 3 is the sum
 *     SkipSimplifiedLayerNormalization  the same over RMSNormalization
 *     EmbedLayerNormalization           LayerNormalization(words[ids] + positions[i] + segments[ids])
 *
 * SimplifiedLayerNormalization is RMSNormalization by another name, in the default domain.
 * https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
 */
import type { Dim, Shape } from '../core/shape.ts';
import { broadcastShapes, printShape, shapesEqual } from '../core/shape.ts';
import { fromNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { defineComposite, type Expansion } from './composite.ts';
import { checkAxis, checkFloats } from './dims.ts';
import { checkLastDim, MICROSOFT } from './microsoft-activation.ts';
import { float, int, type Op, type OpCase } from './op.ts';

const lastDimToOne = (shape: Shape): Dim[] => shape.map((d, i) => (i === shape.length - 1 ? 1 : d));

/** LayerNormalization with the outputs that are wanted: the result, mean and 1 / deviation. */
function normalized(x: Expansion<{ epsilon: number }>, sum: string, scale: string, bias: string): readonly string[] {
  const wanted = [true, x.wants(1), x.wants(2)];
  const count = wanted.lastIndexOf(true) + 1;
  const outputs = wanted.slice(0, count).map((want) => (want ? x.b.fresh('normalized') : ''));
  return x.b.node('LayerNormalization', [sum, scale, bias], { attrs: { axis: -1, epsilon: x.attrs.epsilon }, outputs });
}

function checkSkip(ctx: InferContext<unknown>): void {
  const { shape } = ctx.input(0);
  const skip = ctx.input(1).shape;
  const to = broadcastShapes(shape, skip);
  if (!to || !shapesEqual(to, shape))
    ctx.fail(`the skip ${printShape(skip)} does not broadcast to ${printShape(shape)}`);
}

const skipOutputs = (ctx: InferContext<unknown>) => {
  const x = ctx.input(0);
  const statistics = { dtype: 'f32', shape: lastDimToOne(x.shape) } as const;
  return [x, statistics, statistics, x].slice(0, ctx.outputCount);
};

const skipCase = (name: string, shape: number[], more: readonly (number[] | undefined)[], outputs = 1): OpCase => ({
  name,
  outputs,
  inputs: [shape, ...more].map((s) => s && ({ dtype: 'f32', shape: s } as const)),
});

const skipLayerNormalization = defineComposite({
  name: 'SkipLayerNormalization',
  onnx: MICROSOFT,
  attrs: { epsilon: float(1e-12) },
  inputs: [3, 5],
  outputs: 4,
  rounding: 'once',
  infer(ctx) {
    checkFloats(ctx);
    checkSkip(ctx);
    for (const i of [2, 3, 4]) checkLastDim(ctx, i, ctx.input(0).shape);
    return skipOutputs(ctx);
  },
  write(x) {
    const { w, input, node } = x;
    const residual = w.add(input(0), input(1));
    const sum = input(4) === '' ? residual : w.add(residual, input(4));
    const [y, mean = '', inverse = ''] = normalized(x, sum, input(2), input(3));
    return [y, mean, inverse, sum].slice(0, node.outputs.length);
  },
  cases: [
    skipCase('scale and shift', [2, 3, 8], [[2, 3, 8], [8], [8]]),
    skipCase('with bias', [1, 5, 7], [[1, 5, 7], [7], [7], [7]]),
    skipCase('no shift', [2, 3, 5], [[2, 3, 5], [5]]),
    skipCase('skip without batch', [2, 3, 5], [[3, 5], [5], [5]]),
  ],
});

const skipSimplifiedLayerNormalization = defineComposite({
  name: 'SkipSimplifiedLayerNormalization',
  onnx: MICROSOFT,
  attrs: { epsilon: float(1e-12) },
  inputs: [3, 4],
  outputs: 4,
  rounding: 'once',
  infer(ctx) {
    checkFloats(ctx);
    checkSkip(ctx);
    for (const i of [2, 3]) checkLastDim(ctx, i, ctx.input(0).shape);
    if (ctx.outputCount > 1 && ctx.outputCount < 4) ctx.fail('mean and deviation are given in training only');
    return skipOutputs(ctx);
  },
  write({ w, input, node, attrs }) {
    const residual = w.add(input(0), input(1));
    const sum = input(3) === '' ? residual : w.add(residual, input(3));
    const y = w.node('RMSNormalization', [sum, input(2)], { axis: -1, epsilon: attrs.epsilon });
    return [y, '', '', sum].slice(0, node.outputs.length);
  },
  cases: [skipCase('scale', [2, 3, 8], [[2, 3, 8], [8]]), skipCase('with bias', [1, 5, 7], [[1, 5, 7], [7], [7]])],
});

const simplifiedLayerNormalization = defineComposite({
  name: 'SimplifiedLayerNormalization',
  onnx: { since: 1 },
  attrs: { axis: int(-1), epsilon: float(1e-5), stash_type: int(1) },
  inputs: [2, 2],
  outputs: 1,
  rounding: 'once',
  infer(ctx) {
    checkFloats(ctx);
    checkAxis(ctx, ctx.attrs.axis, ctx.input(0).shape.length);
    return [ctx.input(0)];
  },
  write: ({ w, input, attrs }) => [w.node('RMSNormalization', [input(0), input(1)], attrs)],
  cases: [
    skipCase('tokens', [2, 3, 8], [[8]]),
    { ...skipCase('two dims', [2, 3, 5], [[3, 5]]), attrs: { axis: 1, epsilon: 1e-3 } },
  ],
});

/** Output 1, how many tokens of each row the mask keeps, is 0 without a mask. */
const embedLayerNormalization = defineComposite({
  name: 'EmbedLayerNormalization',
  onnx: MICROSOFT,
  attrs: { epsilon: float(1e-12), mask_index_type: int(0) },
  inputs: [7, 9],
  outputs: 3,
  rounding: 'once',
  infer(ctx) {
    const { shape: ids } = ctx.input(0);
    const words = ctx.input(2);
    if (ids.length !== 2) ctx.fail(`the ids have rank ${ids.length}, expected 2`);
    for (const i of [2, 3, 4])
      if (ctx.inputs[i] && ctx.input(i).shape.length !== 2) ctx.fail(`input ${i} must be a table`);
    for (const i of [5, 6]) checkLastDim(ctx, i, words.shape);
    const embedded = { dtype: words.dtype, shape: [...ids, words.shape[1]] };
    return [embedded, { dtype: 'i32' as const, shape: [ids[0]] }, embedded].slice(0, ctx.outputCount);
  },
  write(x) {
    const { w, input, node, type, types } = x;
    const [batch, length] = type(0).shape;
    const first = w.slice(input(3), 0, 0, length);
    const positions = types[8] ? w.node('Gather', [input(3), input(8)]) : w.reshape(first, [1, ...w.type(first).shape]);
    const placed = w.add(w.node('Gather', [input(2), input(0)]), positions);
    const sum = types[4] && types[1] ? w.add(placed, w.node('Gather', [input(4), input(1)])) : placed;
    const y = w.node('LayerNormalization', [sum, input(5), input(6)], { axis: -1, epsilon: x.attrs.epsilon });
    const kept = types[7]
      ? w.node('ReduceSum', [input(7), w.ints([1])], { keepdims: false })
      : w.constant(fromNumbers('i32', [batch], new Array<number>(batch).fill(0)));
    return [y, x.wants(1) ? kept : '', sum].slice(0, node.outputs.length);
  },
  cases: embedCases(),
});

function embedCases(): readonly OpCase[] {
  const ids = (range: readonly [number, number]) => ({ dtype: 'i32', shape: [2, 3], range }) as const;
  const table = (rows: number) => ({ dtype: 'f32', shape: [rows, 8] }) as const;
  const vector = { dtype: 'f32', shape: [8] } as const;
  return [
    {
      name: 'words and positions',
      inputs: [ids([0, 6]), undefined, table(7), table(5), undefined, vector, vector],
      outputs: 2,
    },
    {
      name: 'segments, mask, sum',
      inputs: [ids([0, 6]), ids([0, 1]), table(7), table(5), table(2), vector, vector, ids([0, 1])],
      attrs: { epsilon: 1e-6 },
      outputs: 3,
    },
    {
      name: 'positions given',
      inputs: [ids([0, 6]), ids([0, 1]), table(7), table(5), table(2), vector, vector, undefined, ids([0, 4])],
      outputs: 2,
    },
  ];
}

export const MICROSOFT_NORMALIZATION_OPS: readonly Op[] = [
  skipLayerNormalization,
  skipSimplifiedLayerNormalization,
  simplifiedLayerNormalization,
  embedLayerNormalization,
];
