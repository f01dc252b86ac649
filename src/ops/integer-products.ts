/**
 * Products of integers with zero points, summed in i32: MatMulInteger, ConvInteger, and with scales QLinearMatMul and QLinearConv.
 *
 *     y = Σ (a − zeroPointA) · (b − zeroPointB)        QLinear…: round(y · scaleA · scaleB / scaleY) + zeroPointY
 *
 * Sums are exact (they wrap as i32 does). Zero points are subtracted before, so that padding stands for the number 0.
 */
import type { DType } from '../core/dtype.ts';
import { elements, printShape, type Shape, type StaticShape } from '../core/shape.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { byteConv, byteMatMul } from './byte-products.ts';
import { defineComposite } from './composite.ts';
import { CONV_ATTRS, type ConvAttrs, convShape } from './conv.ts';
import { matMulShape } from './matmul.ts';
import type { NodeWriter } from './node-writer.ts';
import type { Op, OpCase } from './op.ts';
import { BYTES, centred, checkDType, roundTo } from './quantization.ts';

const scalar = (dtype: DType, value: number): Tensor => fromNumbers(dtype, [], [value]);
/** Known bytes, all over their range. */
const weights = (dtype: 'i8' | 'u8', shape: StaticShape): OpCase['inputs'][number] => {
  const low = dtype === 'i8' ? -128 : 0;
  const values = Array.from({ length: elements(shape) }, (_, i) => low + ((i * 89 + 7) % 256));
  return { constant: fromNumbers(dtype, shape, values) };
};
/** An input of a case whose sums stay small. */
const drawn = (dtype: 'i8' | 'u8', shape: StaticShape): OpCase['inputs'][number] => ({
  dtype,
  shape,
  range: dtype === 'i8' ? [-60, 60] : [0, 120],
});

/** A parameter with one element, or one for each row of the left operand: a vector stands for [rows, 1]. */
function perRow(w: NodeWriter, parameter: string): string {
  const { shape } = w.type(parameter);
  if (elements(shape) === 1) return w.reshape(parameter, []);
  return shape.length === 1 ? w.reshape(parameter, [shape[0], 1]) : parameter;
}
/** A parameter with one element, or one for each column of the right operand. */
const perColumn = (w: NodeWriter, parameter: string): string =>
  elements(w.type(parameter).shape) === 1 ? w.reshape(parameter, []) : parameter;

/** Σ (a − zeroPointA) · (b − zeroPointB) in i32; zero points may be ''. */
export function integerMatMul(w: NodeWriter, a: string, b: string, zeroPointA: string, zeroPointB: string): string {
  const ofBytes = byteMatMul(w, { q: a, zeroPoint: zeroPointA }, { q: b, zeroPoint: zeroPointB });
  if (ofBytes !== undefined) return ofBytes;
  const left = centred(w, a, zeroPointA && perRow(w, zeroPointA));
  return w.matmul(left, centred(w, b, zeroPointB && perColumn(w, zeroPointB)));
}

const matMulInteger = defineComposite({
  name: 'MatMulInteger',
  onnx: { since: 10 },
  attrs: {},
  inputs: [2, 4],
  rounding: 'each',
  infer(ctx) {
    checkDType(ctx, 0, BYTES);
    checkDType(ctx, 1, BYTES);
    checkDType(ctx, 2, [ctx.input(0).dtype]);
    checkDType(ctx, 3, [ctx.input(1).dtype]);
    return [{ dtype: 'i32', shape: matMulShape(ctx, ctx.input(0).shape, ctx.input(1).shape) }];
  },
  write: ({ w, input }) => [integerMatMul(w, input(0), input(1), input(2), input(3))],
  cases: matMulIntegerCases(),
});

const qLinearMatMul = defineComposite({
  name: 'QLinearMatMul',
  onnx: { since: 10 },
  attrs: {},
  inputs: [8, 8],
  rounding: 'each',
  infer(ctx) {
    for (const i of [0, 3, 7]) checkDType(ctx, i, BYTES);
    for (const [q, zeroPoint] of [
      [0, 2],
      [3, 5],
    ])
      checkDType(ctx, zeroPoint, [ctx.input(q).dtype]);
    return [{ dtype: ctx.input(7).dtype, shape: matMulShape(ctx, ctx.input(0).shape, ctx.input(3).shape) }];
  },
  write({ w, input, type }) {
    const [a, scaleA, zeroA, b, scaleB, zeroB, scaleY, zeroY] = [0, 1, 2, 3, 4, 5, 6, 7].map(input);
    const sum = integerMatMul(w, a, b, zeroA, zeroB);
    const f32 = (x: string): string => w.cast(x, 'f32');
    const scale = w.div(w.mul(f32(perRow(w, scaleA)), f32(perColumn(w, scaleB))), f32(perRow(w, scaleY)));
    return [roundTo(w, w.mul(f32(sum), scale), perRow(w, zeroY), type(7).dtype)];
  },
  cases: qLinearMatMulCases(),
});

const convInteger = defineComposite({
  name: 'ConvInteger',
  onnx: { since: 10 },
  attrs: CONV_ATTRS,
  inputs: [2, 4],
  rounding: 'each',
  infer(ctx) {
    checkDType(ctx, 0, BYTES);
    checkDType(ctx, 1, BYTES);
    checkDType(ctx, 2, [ctx.input(0).dtype]);
    checkDType(ctx, 3, [ctx.input(1).dtype]);
    const weight = ctx.input(1).shape;
    checkChannelVector(ctx, 3, weight);
    return [{ dtype: 'i32', shape: convShape(ctx, ctx.input(0).shape, weight) }];
  },
  write: ({ w, input, attrs }) => [
    integerConv(w, { x: input(0), weight: input(1), zeroX: input(2), zeroW: input(3), bias: '' }, attrs),
  ],
  cases: convIntegerCases(),
});

/** Throws through ctx.fail unless input i is one element or one for each output channel. */
function checkChannelVector(ctx: InferContext<unknown>, i: number, weight: Shape): void {
  const shape = ctx.inputs[i]?.shape;
  if (!shape || shape.every((d) => d === 1)) return;
  const isVector =
    shape.length === 1 && (typeof shape[0] !== 'number' || typeof weight[0] !== 'number' || shape[0] === weight[0]);
  if (!isVector) ctx.fail(`input ${i} is ${printShape(shape)}, expected one element or one for each output channel`);
}

/** A parameter with one element, or one for each output channel, against a tensor whose dim `channel` of `rank` they lie along. */
function perChannel(w: NodeWriter, parameter: string, channel: number, rank: number): string {
  const { shape } = w.type(parameter);
  const count = elements(shape);
  if (count === 1) return w.reshape(parameter, []);
  return w.reshape(parameter, [count, ...new Array<number>(rank - channel - 1).fill(1)]);
}

/** Operands with their zero points, which may be ''; `bias` is i32 or ''. */
interface ConvOperands {
  readonly x: string;
  readonly zeroX: string;
  readonly weight: string;
  readonly zeroW: string;
  readonly bias: string;
}

/** A bias of one element for all channels as a vector. */
function everyChannel(w: NodeWriter, bias: string, weight: string): string {
  const [channels] = w.type(weight).shape;
  return w.expand(w.reshape(bias, [elements(w.type(bias).shape)]), [channels]);
}

function integerConv(w: NodeWriter, { x, zeroX, weight, zeroW, bias }: ConvOperands, attrs: ConvAttrs): string {
  const ofBytes = byteConv(w, { q: x, zeroPoint: zeroX }, { q: weight, zeroPoint: zeroW }, attrs, bias);
  if (ofBytes !== undefined) return ofBytes;
  const rank = w.type(weight).shape.length;
  const left = centred(w, x, zeroX && perChannel(w, zeroX, 0, rank));
  const right = centred(w, weight, zeroW && perChannel(w, zeroW, 0, rank));
  return w.node('Conv', bias === '' ? [left, right] : [left, right, w.reshape(bias, [w.type(weight).shape[0]])], attrs);
}

const qLinearConv = defineComposite({
  name: 'QLinearConv',
  onnx: { since: 10 },
  attrs: CONV_ATTRS,
  inputs: [8, 9],
  rounding: 'each',
  infer(ctx) {
    for (const i of [0, 3, 7]) checkDType(ctx, i, BYTES);
    checkDType(ctx, 2, [ctx.input(0).dtype]);
    checkDType(ctx, 5, [ctx.input(3).dtype]);
    checkDType(ctx, 8, ['i32']);
    const weight = ctx.input(3).shape;
    for (const i of [4, 5, 8]) checkChannelVector(ctx, i, weight);
    return [{ dtype: ctx.input(7).dtype, shape: convShape(ctx, ctx.input(0).shape, weight) }];
  },
  write({ w, attrs, input, type }) {
    const [x, scaleX, zeroX, weight, scaleW, zeroW, scaleY, zeroY, bias] = [0, 1, 2, 3, 4, 5, 6, 7, 8].map(input);
    const rank = type(0).shape.length;
    const channels = (parameter: string): string => perChannel(w, parameter, 1, rank);
    const biased = integerConv(w, { x, zeroX, weight, zeroW, bias: bias && everyChannel(w, bias, weight) }, attrs);
    const scale = w.div(w.mul(channels(scaleX), channels(scaleW)), channels(scaleY));
    return [roundTo(w, w.mul(w.cast(biased, 'f32'), scale), channels(zeroY), type(7).dtype)];
  },
  cases: qLinearConvCases(),
});

function matMulIntegerCases(): readonly OpCase[] {
  return [
    { name: 'u8 by i8', inputs: [drawn('u8', [5, 7]), drawn('i8', [7, 3]), scalar('u8', 12), scalar('i8', -3)] },
    { name: 'no zero points', inputs: [drawn('u8', [3, 17]), drawn('u8', [17, 1])] },
    { name: 'only of b', inputs: [drawn('u8', [2, 3]), drawn('u8', [3, 4]), undefined, scalar('u8', 9)] },
    {
      name: 'zero point a column',
      inputs: [drawn('u8', [3, 4]), drawn('i8', [4, 2]), scalar('u8', 5), fromNumbers('i8', [2], [-7, 4])],
    },
    {
      name: 'batch',
      inputs: [drawn('u8', [2, 1, 3, 5]), drawn('i8', [3, 5, 2]), scalar('u8', 1), { constant: scalar('i8', 0) }],
    },
    { name: 'known b', inputs: [drawn('u8', [5, 37]), weights('i8', [37, 18])] },
    {
      name: 'known b, zero points, one of them known',
      inputs: [drawn('i8', [2, 3, 19]), weights('u8', [19, 33]), scalar('i8', -5), { constant: scalar('u8', 128) }],
    },
    {
      name: 'known b that does not fit i8',
      inputs: [drawn('u8', [3, 9]), weights('u8', [9, 4]), scalar('u8', 3), { constant: scalar('u8', 100) }],
    },
    { name: 'long sums', inputs: [drawn('u8', [1, 1031]), drawn('i8', [1031, 1]), scalar('u8', 200)] },
    { name: 'empty', inputs: [drawn('u8', [0, 3]), drawn('u8', [3, 2])] },
  ];
}

function qLinearMatMulCases(): readonly OpCase[] {
  const make = (name: string, a: StaticShape, b: StaticShape, signed = false): OpCase => ({
    name,
    inputs: [
      drawn('u8', a),
      scalar('f32', 0.0066),
      scalar('u8', 113),
      drawn(signed ? 'i8' : 'u8', b),
      scalar('f32', 0.00705),
      scalar(signed ? 'i8' : 'u8', signed ? -4 : 114),
      scalar('f32', 0.0107),
      scalar('u8', 118),
    ],
  });
  const [a, scaleA, zeroA, b, , , scaleY, zeroY] = make('', [3, 4], [4, 2], true).inputs;
  return [
    make('2-d', [2, 4], [4, 3]),
    make('batch', [2, 3, 5], [2, 5, 7], true),
    {
      name: 'scale and zero point a column',
      inputs: [
        a,
        scaleA,
        zeroA,
        b,
        fromNumbers('f32', [2], [0.01, 0.2]),
        fromNumbers('i8', [2], [3, -9]),
        scaleY,
        zeroY,
      ],
    },
  ];
}

function convIntegerCases(): readonly OpCase[] {
  return [
    {
      name: 'padded, zero point of the input',
      inputs: [drawn('u8', [1, 2, 5, 4]), drawn('u8', [3, 2, 3, 3]), scalar('u8', 11)],
      attrs: { pads: [1, 1, 1, 1] },
    },
    {
      name: 'both zero points, strides and groups',
      inputs: [drawn('u8', [2, 4, 7, 5]), drawn('u8', [6, 2, 3, 2]), scalar('u8', 7), scalar('u8', 3)],
      attrs: { strides: [2, 1], group: 2, dilations: [1, 2] },
    },
    { name: 'no zero points', inputs: [drawn('u8', [1, 3, 4, 4]), drawn('u8', [5, 3, 1, 1])] },
    {
      name: 'known weights, padded with a zero point that only running tells',
      inputs: [drawn('u8', [1, 17, 6, 5]), weights('i8', [19, 17, 3, 3]), scalar('u8', 11)],
      attrs: { pads: [1, 0, 1, 2] },
    },
    {
      name: 'known weights with a zero point, few channels',
      inputs: [
        drawn('i8', [2, 3, 7, 9]),
        {
          constant: fromNumbers(
            'i8',
            [5, 3, 3, 3],
            Array.from({ length: 135 }, (_, i) => ((i * 37) % 120) - 60),
          ),
        },
        { constant: scalar('i8', -9) },
        { constant: scalar('i8', -4) },
      ],
      attrs: { strides: [2, 1], auto_pad: 'SAME_UPPER' },
    },
    {
      name: 'known depthwise weights',
      inputs: [drawn('u8', [1, 18, 7, 5]), weights('i8', [18, 1, 3, 3])],
      attrs: { group: 18, pads: [1, 1, 1, 1] },
    },
    { name: 'same', inputs: [drawn('u8', [1, 1, 5, 5]), drawn('u8', [1, 1, 2, 2])], attrs: { auto_pad: 'SAME_LOWER' } },
  ];
}

function qLinearConvCases(): readonly OpCase[] {
  const make = (
    name: string,
    x: StaticShape,
    weight: StaticShape,
    more: Partial<OpCase> & { perChannel?: boolean; bias?: boolean },
  ): OpCase => {
    const channels = weight[0];
    const of = (dtype: 'f32' | 'i8', low: number, step: number): Tensor =>
      more.perChannel
        ? fromNumbers(
            dtype,
            [channels],
            Array.from({ length: channels }, (_, c) => low + c * step),
          )
        : scalar(dtype, low);
    return {
      name,
      attrs: more.attrs ?? {},
      inputs: [
        drawn('u8', x),
        scalar('f32', 0.0036),
        scalar('u8', 100),
        drawn('i8', weight),
        of('f32', 0.0017, 0.003),
        of('i8', 0, 0),
        scalar('f32', 0.0162),
        scalar('u8', 123),
        ...(more.bias ? [{ dtype: 'i32', shape: [channels], range: [-9000, 9000] } as const] : []),
      ],
    };
  };
  return [
    make('pointwise', [1, 3, 7, 5], [4, 3, 1, 1], {}),
    make('padded, bias, scales a channel', [2, 3, 6, 5], [5, 3, 3, 3], {
      attrs: { pads: [1, 1, 1, 1], strides: [2, 1] },
      perChannel: true,
      bias: true,
    }),
    known(make('known weights, bias', [1, 20, 6, 7], [17, 20, 3, 3], { attrs: { pads: [1, 1, 1, 1] }, bias: true })),
    known(make('known weights a channel', [1, 8, 9, 5], [33, 8, 1, 1], { perChannel: true })),
    make('depthwise', [1, 4, 9, 7], [4, 1, 3, 3], { attrs: { group: 4, pads: [1, 0, 1, 0] }, bias: true }),
    make('1-d dilated', [1, 2, 19], [3, 2, 3], { attrs: { dilations: [3] }, perChannel: true }),
  ];
}

/** All but the input of a convolution is known, as in a model. */
function known(c: OpCase): OpCase {
  const constant = (x: OpCase['inputs'][number]): OpCase['inputs'][number] => (x && 'data' in x ? { constant: x } : x);
  const weight = c.inputs[3];
  const drawnWeight = weight && 'range' in weight ? weights('i8', weight.shape) : weight;
  return { ...c, inputs: c.inputs.map((x, i) => (i === 3 ? drawnWeight : constant(x))) };
}

export const INTEGER_PRODUCT_OPS: readonly Op[] = [matMulInteger, qLinearMatMul, convInteger, qLinearConv];
