/** CastLike: a Cast to the dtype of a second operand. */
import { fromNumbers } from '../core/tensor.ts';
import { defineComposite } from './composite.ts';
import { bool, oneOf } from './op.ts';

export const CAST_LIKE = defineComposite({
  name: 'CastLike',
  onnx: { since: 15 },
  attrs: { saturate: bool(true), round_mode: oneOf('up', 'down', 'nearest') },
  inputs: [2, 2],
  rounding: 'each',
  infer: (ctx) => [{ dtype: ctx.input(1).dtype, shape: ctx.input(0).shape }],
  // The second operand's elements are never read: only its dtype counts.
  write: ({ w, input, type, attrs }) => [w.node('Cast', [input(0)], { to: type(1).dtype, ...attrs })],
  cases: [
    {
      name: 'f32 like i64',
      inputs: [
        { dtype: 'f32', shape: [3, 7] },
        { dtype: 'i64', shape: [2] },
      ],
    },
    {
      name: 'i32 like f16',
      inputs: [
        { dtype: 'i32', shape: [5] },
        { dtype: 'f16', shape: [] },
      ],
    },
    {
      name: 'empty',
      inputs: [
        { dtype: 'u8', shape: [0] },
        { dtype: 'f32', shape: [1] },
      ],
    },
    { name: 'a scalar like a matrix', inputs: [fromNumbers('i64', [], [-3]), { dtype: 'f32', shape: [2, 3] }] },
  ],
});
