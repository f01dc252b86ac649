/**
 * Cast: elements as another dtype. BitCast: their bits as another. Float to integer truncates; what does not fit saturates and NaN is 0 (ONNX
 * leaves both open); integer to integer wraps; anything to bool is `!= 0`. Float to integers of 4 and 2 bits rounds to nearest, ties to even,
 * and wraps, as ONNX's text on them has it.
 *
 * To floats of 8 bits `saturate` (on by default) decides on what is beyond the largest: it becomes that, or the infinity that f8e5m2 has, or
 * NaN. `round_mode` is f8e8m0's: up to the next power of two, down, or to the nearest with ties up.
 */
import { DTYPES, type DType, isFloat, isSmallFloat, isSmallInt } from '../core/dtype.ts';
import { MINIFLOATS, minifloatToNumber } from '../core/minifloat.ts';
import { decodeScalar, fromNumbers, type Tensor } from '../core/tensor.ts';
import { add, binary, bitcast, cast, constant, select, unary } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { dimsInput } from './dims.ts';
import { ANY, defineElementwise, SMALL } from './elementwise.ts';
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

/** Every bit pattern of a small dtype; `real` leaves NaN and infinities out. */
function everyElement(dtype: DType, real = false): Tensor {
  const { array, bits = 0, min } = DTYPES[dtype];
  const first = isFloat(dtype) ? 0 : Number(min);
  const all = Array.from({ length: 2 ** bits }, (_, i) => first + i);
  const kept = all.filter((v) => !real || Number.isFinite(Number(decodeScalar(dtype, v))));
  const data = new array(kept.length);
  data.set(kept as never);
  return { dtype, shape: [kept.length], data };
}

/** Ties, the ends of ranges, what is beyond them, and values that are none. */
const edges = fromNumbers(
  'f32',
  [57],
  [
    0,
    -0,
    1,
    -1,
    0.5,
    1.5,
    2.5,
    -2.5,
    3.5,
    0.25,
    0.75,
    1.25,
    1.75,
    5,
    -5,
    7,
    7.5,
    7.75,
    8,
    9,
    -8,
    -9,
    15.5,
    16,
    28,
    30,
    239,
    240,
    247,
    248,
    249,
    448,
    464,
    465,
    -465,
    480,
    57344,
    61439,
    61440,
    61441,
    -61440,
    65536,
    1e6,
    -1e6,
    1e38,
    3e38,
    1e-3,
    -1e-3,
    2 ** -9,
    2 ** -10,
    3 * 2 ** -11,
    2 ** -17,
    2 ** -127,
    3e-39,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
  ],
);

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
  ...SMALL.flatMap((to): OpCase[] => [
    { name: `f32 to ${to}, edges`, attrs: { to }, inputs: [edges] },
    { name: `f32 to ${to}`, attrs: { to }, inputs: [{ dtype: 'f32', shape: [3, 37], range: [-9, 9] }] },
    { name: `f16 to ${to}`, attrs: { to }, inputs: [{ dtype: 'f16', shape: [41], range: [-300, 300] }] },
    { name: `i64 to ${to}`, attrs: { to }, inputs: [{ dtype: 'i64', shape: [13], range: [-700, 700] }] },
    { name: `all of ${to} to f32`, attrs: { to: 'f32' }, inputs: [everyElement(to)] },
    { name: `all of ${to} to i32`, attrs: { to: 'i32' }, inputs: [everyElement(to, true)] },
    { name: `bool to ${to}`, attrs: { to }, inputs: [{ dtype: 'bool', shape: [3] }] },
  ]),
  ...(['f8e4m3fn', 'f8e4m3fnuz', 'f8e5m2', 'f8e5m2fnuz', 'f8e8m0'] as const).map(
    (to): OpCase => ({ name: `f32 to ${to} without saturation`, attrs: { to, saturate: false }, inputs: [edges] }),
  ),
  ...(['down', 'nearest'] as const).map(
    (round_mode): OpCase => ({
      name: `f32 to f8e8m0 ${round_mode}`,
      attrs: { to: 'f8e8m0', round_mode },
      inputs: [edges],
    }),
  ),
  { name: 'f8e5m2 to f8e4m3fn', attrs: { to: 'f8e4m3fn' }, inputs: [everyElement('f8e5m2')] },
  { name: 'f8e4m3fn to i4', attrs: { to: 'i4' }, inputs: [everyElement('f8e4m3fn', true)] },
  { name: 'u4 to i4', attrs: { to: 'i4' }, inputs: [everyElement('u4')] },
  { name: 'i4 to u2', attrs: { to: 'u2' }, inputs: [everyElement('i4')] },
  { name: 'f64 to f8e5m2', attrs: { to: 'f8e5m2' }, inputs: [{ dtype: 'f64', shape: [29], range: [-99999, 99999] }] },
  { name: 'f16 rounds to even', attrs: { to: 'f16' }, inputs: [fromNumbers('f32', [4], [2049, 2051, 65519, 1e-8])] },
];

interface Conversion {
  readonly saturate: boolean;
  readonly round_mode: string;
}

/** x as another dtype. */
export function convert(x: Expr, to: DType, { saturate, round_mode: mode }: Conversion): Expr {
  if (isSmallInt(to) && isFloat(x.dtype)) return cast(to, cast('i32', unary('round', computable(x))));
  if (to === 'f8e8m0') return toPowerOf2(x, saturate, mode);
  const saturated = cast(to, x);
  if (saturate || !(to in OVERFLOWS) || x.dtype === 'bool') return saturated;
  const real = cast('f32', x);
  const { limit, infinity } = OVERFLOWS[to as keyof typeof OVERFLOWS];
  const beyond = binary('ge', unary('abs', real), constant('f32', limit));
  const value = (v: number): Expr => constant(to, v);
  const instead = infinity
    ? select(binary('lt', real, constant('f32', 0)), value(Number.NEGATIVE_INFINITY), value(Number.POSITIVE_INFINITY))
    : value(Number.NaN);
  return select(beyond, instead, saturated);
}

const computable = (x: Expr): Expr => (isSmallFloat(x.dtype) ? cast('f32', x) : x);

/** From which magnitude on rounding would reach the number after the largest: half way, where the tie goes to the even one. */
const OVERFLOWS = Object.fromEntries(
  (['f8e4m3fn', 'f8e4m3fnuz', 'f8e5m2', 'f8e5m2fnuz'] as const).map((dtype) => {
    const { largest, infinity } = MINIFLOATS[dtype];
    const [last, before] = [largest, largest - 1].map((bits) => minifloatToNumber(dtype, bits));
    const half = last + (last - before) / 2;
    // An odd mantissa gives the tie away; an even one keeps it, and the limit is the next float32.
    const limit = largest % 2 === 1 ? half : half * (1 + 2 ** -23);
    return [dtype, { limit, infinity: infinity !== undefined }];
  }),
) as Readonly<Record<string, { readonly limit: number; readonly infinity: boolean }>>;

/** f8e8m0, 2^n: the mantissa of x is cleared where it rounds down, and carried into the exponent where it rounds up from half on. */
function toPowerOf2(x: Expr, saturate: boolean, mode: string): Expr {
  const real = cast('f32', x);
  const bits = bitcast('i32', real);
  const carried = mode === 'nearest' ? add(bits, constant('i32', 0x400000)) : bits;
  const cleared = bitcast('f32', binary('bitand', carried, constant('i32', 0x7f800000)));
  const isReal = binary('lt', unary('abs', real), constant('f32', Number.POSITIVE_INFINITY));
  const isNegative = binary('lt', real, constant('f32', 0));
  const rounded = mode === 'up' ? real : select(binary('and', isReal, unary('not', isNegative)), cleared, real);
  const power = cast('f8e8m0', rounded);
  if (saturate) return power;
  const { min, max } = DTYPES.f8e8m0;
  const inside = binary(
    'and',
    binary('ge', rounded, constant('f32', Number(min))),
    binary('le', rounded, constant('f32', Number(max))),
  );
  return select(inside, power, constant('f8e8m0', Number.NaN));
}

const castOp = defineElementwise({
  name: 'Cast',
  onnx: { since: 6 },
  attrs: { to: dtypeAttr.required, saturate: bool(true), round_mode: oneOf('up', 'down', 'nearest') },
  inputs: [1, 1],
  accepts: () => [...ANY, ...SMALL],
  result: (_, { to }) => to,
  expr: ([x], attrs) => convert(x, attrs.to, attrs),
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
