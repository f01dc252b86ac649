/**
 * Cast: elements as another dtype. BitCast: their bits as another. Float to integer truncates; what does not fit saturates (ONNX leaves it open);
 * integer to integer wraps; anything to bool is `!= 0`. `saturate` and `round_mode` concern 8-bit floats, which have no dtype here.
 */
import { DTYPES, type DType } from '../core/dtype.ts';
import { fromNumbers } from '../core/tensor.ts';
import { bitcast, cast } from '../loop/expr.ts';
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

const bitCastCase = (from: DType, to: DType, values: readonly number[]): OpCase => ({
  name: `${from} to ${to}`,
  attrs: { to },
  inputs: [fromNumbers(from, [values.length], values)],
});

/** Targets that compute in f32 hold values of these dtypes in it: between nodes they have no bits of their own. */
const WITHOUT_BITS: readonly DType[] = ['f16', 'bf16'];
const isReal = (dtype: DType): boolean => dtype === 'f32' || dtype === 'f64';

/** The bits of each element as they stand, read as another dtype of the same width. */
const bitCast = defineElementwise({
  name: 'BitCast',
  onnx: { since: 26 },
  attrs: { to: dtypeAttr.required },
  inputs: [1, 1],
  accepts: () => ANY.filter((dtype) => !WITHOUT_BITS.includes(dtype)),
  shape(ctx) {
    const { dtype, shape } = ctx.input(0);
    const { to } = ctx.attrs;
    const [from, wanted] = [dtype, to].map((d) => 8 * DTYPES[d].bytes);
    if (from !== wanted) ctx.fail(`${dtype} has ${from} bits and ${to} has ${wanted}`);
    if (WITHOUT_BITS.includes(to)) ctx.fail(`the bits of ${to} are not supported`);
    return shape;
  },
  result: (_, { to }) => to,
  expr([x], { to }) {
    // Integers of one width wrap into each other, and a float has the bits of the signed one.
    const signed: DType = DTYPES[to].bytes === 4 ? 'i32' : 'i64';
    if (isReal(x.dtype)) return cast(to, bitcast(signed, x));
    return isReal(to) ? bitcast(to, cast(signed, x)) : cast(to, x);
  },
  identity: () => 0,
  cases: [
    bitCastCase('f32', 'i32', [1.5, -0, 3e38, 1e-40]),
    bitCastCase('i32', 'f32', [0x3fc00000, -(2 ** 31), 0x7f7fffff]),
    bitCastCase('u8', 'i8', [0, 127, 128, 255]),
    bitCastCase('i16', 'u16', [-1, 5, -(2 ** 15)]),
    bitCastCase('f64', 'i64', [Math.PI, -2]),
    bitCastCase('u64', 'i64', [2 ** 40]),
    bitCastCase('u32', 'f32', [0x40490fdb, 0x80000000]),
    bitCastCase('f64', 'u64', [-1.25]),
    bitCastCase('i64', 'f64', [2 ** 62]),
    bitCastCase('bool', 'u8', [0, 1]),
  ],
});

export const CAST_OPS = [castOp, bitCast];
