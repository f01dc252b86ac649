/**
 * Operators of com.microsoft on quantised tensors, which onnxruntime's quantiser writes in the QOperator form. Each is its float operator
 * between dequantised inputs and a quantised output; products of matrices are summed in integers.
 * https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
 */
import type { DType } from '../core/dtype.ts';
import { addDims, type Dim, printShape, type Shape } from '../core/shape.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import { defineComposite } from './composite.ts';
import { checkAxis } from './dims.ts';
import { broadcastAll } from './elementwise.ts';
import { INTEGER_PRODUCT_OPS, integerMatMul } from './integer-products.ts';
import { matMulShape } from './matmul.ts';
import { MICROSOFT } from './microsoft-activation.ts';
import type { NodeWriter } from './node-writer.ts';
import { type AttrSpecs, type AttrsOf, bool, float, int, type Op } from './op.ts';
import { BYTES, checkDType, dequantize, quantize, roundTo } from './quantization.ts';
import { dequantizeLinear, QUANTIZE_LINEAR_OPS, quantizeLinear } from './quantize-linear.ts';

/** A scale or zero point of one element as a scalar; '' stays ''. */
const single = (w: NodeWriter, parameter: string): string => (parameter === '' ? '' : w.reshape(parameter, []));

/** The number that a quantised tensor stands for; its scale and zero point are single. */
const real = (w: NodeWriter, q: string, scale: string, zeroPoint: string): string =>
  dequantize(w, q, single(w, scale), single(w, zeroPoint));
const quantized = (w: NodeWriter, x: string, scale: string, zeroPoint: string, to: DType): string =>
  quantize(w, x, single(w, scale), single(w, zeroPoint), to);

/** Inputs a, scale, zero point; b, scale, zero point; scale and zero point of the result. */
const elementwise = (name: string, op: string): Op =>
  defineComposite({
    name,
    onnx: MICROSOFT,
    attrs: {},
    inputs: [7, 8],
    rounding: 'each',
    infer(ctx) {
      const { dtype } = ctx.input(0);
      checkDType(ctx, 0, BYTES);
      for (const i of [2, 3, 5, 7]) checkDType(ctx, i, [dtype]);
      return [{ dtype, shape: broadcastAll(ctx, [ctx.input(0), ctx.input(3)]) }];
    },
    write({ w, input, type }) {
      const [a, b] = [real(w, input(0), input(1), input(2)), real(w, input(3), input(4), input(5))];
      return [quantized(w, w.node(op, [a, b]), input(6), input(7), type(0).dtype)];
    },
    cases: (['u8', 'i8'] as const).map((dtype) => ({
      name: dtype,
      inputs: [
        { dtype, shape: [2, 3, 5] },
        scalar('f32', 0.031),
        scalar(dtype, 3),
        { dtype, shape: [5] },
        scalar('f32', 0.017),
        scalar(dtype, 1),
        scalar('f32', 0.043),
        scalar(dtype, 7),
      ],
    })),
  });

interface UnaryRow<S extends AttrSpecs> {
  readonly name: string;
  readonly attrs: S;
  /** The float operator on x. */
  write(w: NodeWriter, x: string, attrs: AttrsOf<S>): string;
}

/** Inputs x, scale, zero point, and scale and zero point of the result. */
const unary = <S extends AttrSpecs>({ name, attrs, write }: UnaryRow<S>): Op =>
  defineComposite<S>({
    name,
    onnx: MICROSOFT,
    attrs,
    inputs: [4, 5],
    rounding: 'each',
    infer(ctx) {
      const x = ctx.input(0);
      checkDType(ctx, 0, BYTES);
      for (const i of [2, 4]) checkDType(ctx, i, [x.dtype]);
      return [x];
    },
    write: ({ w, input, type, attrs: given }) => [
      quantized(w, write(w, real(w, input(0), input(1), input(2)), given), input(3), input(4), type(0).dtype),
    ],
    cases: [
      {
        name: 'u8',
        inputs: [
          { dtype: 'u8', shape: [3, 17], range: [0, 255] },
          scalar('f32', 0.05),
          scalar('u8', 120),
          scalar('f32', 0.0077),
          scalar('u8', 4),
        ],
      },
    ],
  });

const globalAveragePool = defineComposite({
  name: 'QLinearGlobalAveragePool',
  onnx: MICROSOFT,
  attrs: { channels_last: bool(false) },
  inputs: [5, 5],
  rounding: 'each',
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    checkDType(ctx, 0, BYTES);
    for (const i of [2, 4]) checkDType(ctx, i, [dtype]);
    if (shape.length < 3) ctx.fail(`the input has rank ${shape.length}, expected at least 3`);
    const spatial = spatialDims(shape.length, ctx.attrs.channels_last);
    return [{ dtype, shape: shape.map((d, i): Dim => (spatial.includes(i) ? 1 : d)) }];
  },
  write({ w, input, type, attrs }) {
    const { dtype, shape } = type(0);
    const axes = w.ints(spatialDims(shape.length, attrs.channels_last));
    const mean = w.node('ReduceMean', [real(w, input(0), input(1), input(2)), axes], { keepdims: true });
    return [quantized(w, mean, input(3), input(4), dtype)];
  },
  cases: [false, true].map((channels_last) => ({
    name: channels_last ? 'channels last' : 'channels first',
    attrs: { channels_last },
    inputs: [
      { dtype: 'u8', shape: [2, 3, 5, 4], range: [0, 255] },
      scalar('f32', 0.05),
      scalar('u8', 120),
      scalar('f32', 0.011),
      scalar('u8', 100),
    ],
  })),
});

const spatialDims = (rank: number, channelsLast: boolean): number[] =>
  Array.from({ length: rank - 2 }, (_, i) => i + (channelsLast ? 1 : 2));

/** Inputs: scale and zero point of the result, then each part with its own. */
const concat = defineComposite({
  name: 'QLinearConcat',
  onnx: MICROSOFT,
  attrs: { axis: int.required },
  inputs: [5, Number.POSITIVE_INFINITY],
  rounding: 'each',
  infer(ctx) {
    const { dtype, shape } = ctx.input(2);
    const axis = checkAxis(ctx, ctx.attrs.axis, shape.length);
    const parts = partsOf(ctx.inputs.length).map((i) => ctx.input(i).shape);
    checkDType(ctx, 2, BYTES);
    const odd = parts.find((part) => part.length !== shape.length);
    if (odd) ctx.fail(`${printShape(odd)} and ${printShape(shape)} do not join`);
    return [{ dtype, shape: shape.with(axis, parts.map((part) => part[axis]).reduce(addDims)) as Shape }];
  },
  write({ w, input, node, type, attrs }) {
    const { dtype } = type(2);
    const parts = partsOf(node.inputs.length).map((i) =>
      quantized(w, real(w, input(i), input(i + 1), input(i + 2)), input(0), input(1), dtype),
    );
    return [w.node('Concat', parts, { axis: attrs.axis })];
  },
  cases: [
    {
      name: 'two parts',
      attrs: { axis: 1 },
      inputs: [
        scalar('f32', 0.04),
        scalar('u8', 11),
        { dtype: 'u8', shape: [2, 3, 2] },
        scalar('f32', 0.05),
        scalar('u8', 3),
        { dtype: 'u8', shape: [2, 1, 2] },
        scalar('f32', 0.013),
        scalar('u8', 0),
      ],
    },
  ],
});

/** Numbers of the inputs that are joined. */
const partsOf = (inputs: number): number[] => Array.from({ length: Math.floor((inputs - 2) / 3) }, (_, i) => 2 + 3 * i);

/** A parameter of one element as a scalar, of several one for each column. */
const perColumn = (w: NodeWriter, parameter: string): string =>
  w.type(parameter).shape.every((d) => d === 1) ? w.reshape(parameter, []) : parameter;

/** Σ (a − zeroPointA) · (b − zeroPointB) · scaleA · scaleB + bias, in f32. */
const matMulIntegerToFloat = defineComposite({
  name: 'MatMulIntegerToFloat',
  onnx: MICROSOFT,
  attrs: {},
  inputs: [4, 7],
  rounding: 'each',
  uses: INTEGER_PRODUCT_OPS,
  infer(ctx) {
    for (const i of [0, 1]) checkDType(ctx, i, BYTES);
    for (const i of [2, 3, 6]) checkDType(ctx, i, ['f32']);
    return [{ dtype: 'f32', shape: matMulShape(ctx, ctx.input(0).shape, ctx.input(1).shape) }];
  },
  write({ w, input }) {
    const sum = integerMatMul(w, input(0), input(1), input(4), input(5));
    const y = w.mul(w.cast(sum, 'f32'), w.mul(single(w, input(2)), perColumn(w, input(3))));
    return [input(6) === '' ? y : w.add(y, input(6))];
  },
  cases: [
    {
      name: 'zero points and bias',
      inputs: [
        { dtype: 'u8', shape: [3, 5] },
        { dtype: 'i8', shape: [5, 2] },
        scalar('f32', 0.05),
        { dtype: 'f32', shape: [2], range: [0.01, 0.1] },
        scalar('u8', 3),
        fromNumbers('i8', [2], [1, -2]),
        { dtype: 'f32', shape: [2] },
      ],
    },
    {
      name: 'scales alone',
      inputs: [
        { dtype: 'u8', shape: [2, 3, 5] },
        { dtype: 'u8', shape: [5, 4] },
        scalar('f32', 0.05),
        scalar('f32', 0.2),
      ],
    },
  ],
});

/** As MatMulIntegerToFloat, a being quantised by its own range first. */
const dynamicQuantizeMatMul = defineComposite({
  name: 'DynamicQuantizeMatMul',
  onnx: MICROSOFT,
  attrs: {},
  inputs: [3, 5],
  rounding: 'each',
  uses: [...QUANTIZE_LINEAR_OPS, ...INTEGER_PRODUCT_OPS],
  infer(ctx) {
    for (const i of [0, 2, 4]) checkDType(ctx, i, ['f32']);
    checkDType(ctx, 1, BYTES);
    return [{ dtype: 'f32', shape: matMulShape(ctx, ctx.input(0).shape, ctx.input(1).shape) }];
  },
  write({ w, b, input }) {
    const [q, scale, zeroPoint] = b.node('DynamicQuantizeLinear', [input(0)], {
      outputs: ['quantized', 'scale', 'zero_point'].map((hint) => b.fresh(hint)),
    });
    const sum = integerMatMul(w, q, input(1), zeroPoint, input(3));
    const y = w.mul(w.cast(sum, 'f32'), w.mul(scale, perColumn(w, input(2))));
    return [input(4) === '' ? y : w.add(y, input(4))];
  },
  cases: [
    {
      name: 'zero point and bias',
      inputs: [
        { dtype: 'f32', shape: [3, 5] },
        { dtype: 'i8', shape: [5, 2] },
        { dtype: 'f32', shape: [2], range: [0.01, 0.1] },
        fromNumbers('i8', [2], [1, -2]),
        { dtype: 'f32', shape: [2] },
      ],
    },
    {
      name: 'scale alone',
      inputs: [{ dtype: 'f32', shape: [2, 5] }, { dtype: 'u8', shape: [5, 4] }, scalar('f32', 0.2)],
    },
  ],
});

/** Inputs a, scale, zero point; b, scale, zero point; c as i32; scale and zero point of the result, without which it is f32. */
const qGemm = defineComposite({
  name: 'QGemm',
  onnx: MICROSOFT,
  attrs: { alpha: float(1), transA: bool(false), transB: bool(false) },
  inputs: [6, 9],
  rounding: 'each',
  uses: INTEGER_PRODUCT_OPS,
  infer(ctx) {
    for (const i of [0, 3, 8]) checkDType(ctx, i, BYTES);
    checkDType(ctx, 6, ['i32']);
    const [a, b] = [ctx.input(0).shape, ctx.input(3).shape];
    if (a.length !== 2 || b.length !== 2) ctx.fail('both operands must have rank 2');
    const { transA, transB } = ctx.attrs;
    const shape = matMulShape(ctx, transA ? [a[1], a[0]] : a, transB ? [b[1], b[0]] : b);
    return [{ dtype: ctx.inputs[8]?.dtype ?? 'f32', shape }];
  },
  write({ w, input, types, attrs }) {
    const turned = (x: string, swap: boolean): string => (swap ? w.transpose(x, [1, 0]) : x);
    const product = integerMatMul(
      w,
      turned(input(0), attrs.transA),
      turned(input(3), attrs.transB),
      input(2),
      input(5),
    );
    const sum = w.cast(types[6] ? w.add(product, input(6)) : product, 'f32');
    const scale = w.mul(w.mul(single(w, input(1)), perColumn(w, input(4))), w.scalar('f32', attrs.alpha));
    if (!types[8]) return [w.mul(sum, scale)];
    return [roundTo(w, w.mul(sum, w.div(scale, single(w, input(7)))), single(w, input(8)), types[8].dtype)];
  },
  cases: [false, true].map((asFloat) => ({
    name: asFloat ? 'to f32' : 'quantised, transposed',
    attrs: asFloat ? { alpha: 0.5 } : { transB: true },
    inputs: [
      { dtype: 'u8', shape: [3, 5] },
      scalar('f32', 0.05),
      scalar('u8', 4),
      { dtype: 'i8', shape: asFloat ? [5, 2] : [2, 5] },
      { dtype: 'f32', shape: [2], range: [0.01, 0.1] },
      fromNumbers('i8', [2], [0, 0]),
      { dtype: 'i32', shape: [2], range: [-90, 90] },
      ...(asFloat ? [] : [scalar('f32', 0.017), scalar('u8', 100)]),
    ],
  })),
});

/** The operator of the default domain as older exporters wrote it; blocks and output_dtype came later. */
const asMicrosoft = (op: Op): Op => ({
  ...op,
  key: `${MICROSOFT.domain}.${op.name}`,
  onnx: MICROSOFT,
  cases: op.cases.filter(({ name }) => /^([iu](8|16)|per axis)/.test(name)),
});

function scalar(dtype: DType, value: number): Tensor {
  return fromNumbers(dtype, [], [value]);
}

export const MICROSOFT_QUANTIZED_OPS: readonly Op[] = [
  asMicrosoft(quantizeLinear),
  asMicrosoft(dequantizeLinear),
  elementwise('QLinearAdd', 'Add'),
  elementwise('QLinearMul', 'Mul'),
  unary({ name: 'QLinearSigmoid', attrs: {}, write: (w, x) => w.node('Sigmoid', [x]) }),
  unary({
    name: 'QLinearLeakyRelu',
    attrs: { alpha: float(0.01) },
    write: (w, x, attrs) => w.node('LeakyRelu', [x], attrs),
  }),
  globalAveragePool,
  concat,
  matMulIntegerToFloat,
  dynamicQuantizeMatMul,
  qGemm,
];
