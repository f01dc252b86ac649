/**
 * Cast and CastLike: elements as another dtype. Float to integer truncates; what does not fit saturates (ONNX leaves it open);
 * integer to integer wraps; anything to bool is `!= 0`. `saturate` and `round_mode` concern 8-bit floats, which have no dtype here.
 */
import type { DType } from '../core/dtype.ts';
import { fromNumbers } from '../core/tensor.ts';
import { cast } from '../loop/expr.ts';
import { dimsInput } from './dims.ts';
import { ANY, defineElementwise } from './elementwise.ts';
import { bool, dtypeAttr, type OpCase, oneOf } from './op.ts';

/** Bounds that fit both dtypes, so that every implementation must agree. */
const between = (from: DType, to: DType): readonly [number, number] =>
  from.startsWith('u') || to.startsWith('u') ? [0, 100] : [-100, 100];

const pairs: readonly (readonly [DType, DType])[] = [
  ...ANY.flatMap((dtype): [DType, DType][] => [
    [dtype, 'f32'],
    ['f32', dtype],
  ]),
  ['i64', 'i32'],
  ['i32', 'i64'],
  ['u8', 'i8'],
  ['f64', 'i64'],
  ['f16', 'f64'],
  ['bool', 'i64'],
];

const castCases: readonly OpCase[] = [
  ...pairs.map(
    ([from, to]): OpCase => ({
      name: `${from} to ${to}`,
      attrs: { to },
      inputs: [
        from === 'bool' ? { dtype: from, shape: [3, 7] } : { dtype: from, shape: [3, 7], range: between(from, to) },
      ],
    }),
  ),
  { name: 'scalar', attrs: { to: 'i64' }, inputs: [fromNumbers('f32', [], [-2.7])] },
  { name: 'empty', attrs: { to: 'i32' }, inputs: [{ dtype: 'f32', shape: [0, 2] }] },
  { name: 'i64 wraps', attrs: { to: 'i32' }, inputs: [fromNumbers('i64', [3], [2 ** 31, 2 ** 32 + 5, -1])] },
  { name: 'f16 rounds to even', attrs: { to: 'f16' }, inputs: [fromNumbers('f32', [4], [2049, 2051, 65519, 1e-8])] },
];

const castOp = defineElementwise({
  name: 'Cast',
  onnx: { since: 6 },
  attrs: { to: dtypeAttr.required, saturate: bool(true), round_mode: oneOf('up', 'down', 'nearest') },
  inputs: [1, 1],
  accepts: () => ANY,
  result: (_, { to }) => to,
  expr: ([x], { to }) => cast(to, x),
  identity: () => 0,
  inferDims: (ctx) => (ctx.attrs.to === 'i64' || ctx.attrs.to === 'i32' ? dimsInput(ctx, 0) : undefined),
  cases: castCases,
});

const castLike = defineElementwise({
  name: 'CastLike',
  onnx: { since: 15 },
  attrs: { saturate: bool(true), round_mode: oneOf('up', 'down', 'nearest') },
  inputs: [2, 2],
  accepts: () => ANY,
  shares: () => false,
  result: ([, like]) => like,
  shape: (ctx) => ctx.input(0).shape,
  // The second operand's elements are never read: only its dtype counts.
  expr: ([x], _, out) => cast(out, x),
  identity: () => 0,
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
  ],
});

export const CAST_OPS = [castOp, castLike];
