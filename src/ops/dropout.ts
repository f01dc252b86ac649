/**
 * Dropout, which does nothing at inference; its mask, where somebody wants it, is all true.
 *
 * Opset 7 has the ratio as an attribute, opset 12 as an input, with `training_mode` beside it; the ratio has no effect here.
 */
import { elements } from '../core/shape.ts';
import { fromNumbers, scalarTensor } from '../core/tensor.ts';
import { attrToInput } from './dims.ts';
import { defineOp, int } from './op.ts';

const dropout = defineOp({
  name: 'Dropout',
  onnx: {
    since: 7,
    upgrade: (node, ctx) => attrToInput(node, ctx, 'ratio', 1, ([ratio]) => scalarTensor('f32', ratio)),
  },
  attrs: { seed: int.optional },
  inputs: [1, 3],
  traits: { exactInputs: [1] },
  outputs: 2,
  infer(ctx) {
    const x = ctx.input(0);
    if (ctx.inputs[2]) {
      const training = ctx.constant(2) ?? ctx.fail('training_mode must be known before running');
      if (training.data[0]) ctx.fail('training_mode is on', 'export the model for inference');
    }
    return [x, { dtype: 'bool' as const, shape: x.shape }].slice(0, ctx.outputCount);
  },
  eval: ([x], _, outputs) =>
    outputs.map((out, i) =>
      i === 0 ? x! : fromNumbers('bool', out.shape, new Uint8Array(elements(out.shape)).fill(1)),
    ),
  expand(b, node) {
    const [x] = node.inputs;
    const { loc } = node;
    const y = b.node('Identity', [x], { loc });
    if (!node.outputs[1]) return node.outputs.length > 1 ? [...y, ''] : y;
    const shape = b.node('Shape', [x], { loc });
    return [...y, ...b.node('Expand', [b.constant(scalarTensor('bool', 1)), shape[0]], { loc })];
  },
  cases: [
    { name: 'output', inputs: [{ dtype: 'f32', shape: [3, 7] }] },
    { name: 'mask', inputs: [{ dtype: 'f32', shape: [3, 7] }, { constant: scalarTensor('f32', 0.25) }], outputs: 2 },
    {
      name: 'training_mode off',
      attrs: { seed: 1 },
      inputs: [
        { dtype: 'f32', shape: [1, 5] },
        { constant: scalarTensor('f32', 0.5) },
        { constant: scalarTensor('bool', 0) },
      ],
      outputs: 2,
    },
    { name: 'empty', inputs: [{ dtype: 'f32', shape: [0] }], outputs: 2 },
    { name: 'f16', inputs: [{ dtype: 'f16', shape: [5] }] },
  ],
});

export const DROPOUT_OPS = [dropout];
