/**
 * QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear. They expand into arithmetic that fuses into its neighbours.
 */
import { DTYPES, type DType } from '../core/dtype.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { defineComposite } from './composite.ts';
import { bool, dtypeAttr, int, type Op, type OpCase, type Quantization } from './op.ts';
import {
  alongTensor,
  checkDType,
  checkScale,
  dequantize,
  type Granularity,
  QUANTIZED,
  quantize,
  roundTo,
} from './quantization.ts';

const AXIS_ATTRS = {
  axis: int(1),
  block_size: int(0),
  output_dtype: dtypeAttr.optional,
} as const;

const SCALES: readonly DType[] = ['f32', 'f16', 'bf16'];

const vector = (dtype: DType, values: readonly number[]): Tensor => fromNumbers(dtype, [values.length], values);
const single = (dtype: DType, value: number): Tensor => fromNumbers(dtype, [], [value]);
const ZERO_POINTS = {
  i8: -3,
  u8: 128,
  i16: 1000,
  u16: 32768,
  i4: -3,
  u4: 8,
  i2: -1,
  u2: 2,
  f8e4m3fn: 0,
  f8e5m2: 0.5,
  f4e2m1: 0,
} as const;
const SMALL_QUANTIZED = QUANTIZED.slice(4);

const granularity = (attrs: { readonly axis: number; readonly block_size: number }): Granularity => ({
  axis: attrs.axis,
  blockSize: attrs.block_size,
});

/** Scale and zero point where they are known, per tensor or per index of an axis. */
function known(ctx: InferContext<{ readonly axis: number; readonly block_size: number }>): Quantization | undefined {
  const scale = ctx.constant(1);
  const zeroPoint = ctx.inputs[2] && ctx.constant(2);
  if (!scale || (ctx.inputs[2] && !zeroPoint) || ctx.attrs.block_size > 0) return undefined;
  const { axis } = ctx.attrs;
  return { scale, zeroPoint, axis: axis < 0 ? axis + ctx.input(0).shape.length : axis };
}

export const quantizeLinear = defineComposite({
  name: 'QuantizeLinear',
  onnx: { since: 10 },
  // `precision` is that of the division, which is f32 here.
  attrs: { ...AXIS_ATTRS, saturate: bool(true), precision: dtypeAttr.optional },
  inputs: [2, 3],
  rounding: 'each',
  infer(ctx) {
    const x = ctx.input(0);
    checkDType(ctx, 0, [...SCALES, 'i32']);
    checkDType(ctx, 1, [...SCALES, 'i32', 'f8e8m0']);
    checkDType(ctx, 2, QUANTIZED);
    checkScale(ctx, x.shape, ctx.input(1).shape, granularity(ctx.attrs));
    const { output_dtype: wanted } = ctx.attrs;
    const dtype = ctx.inputs[2]?.dtype ?? wanted ?? 'u8';
    if (wanted && wanted !== dtype) ctx.fail(`output_dtype is ${wanted}, the zero point is ${dtype}`);
    if (!QUANTIZED.includes(dtype)) ctx.fail(`output_dtype is ${dtype}, expected one of ${QUANTIZED.join(', ')}`);
    return [{ dtype, shape: x.shape }];
  },
  quantizes: known,
  write({ w, input, type, types, attrs }) {
    const place = (i: number): string => alongTensor(w, input(i), type(0).shape, granularity(attrs));
    const to = types[2]?.dtype ?? attrs.output_dtype ?? 'u8';
    return [quantize(w, input(0), place(1), types[2] ? place(2) : '', to, attrs.saturate)];
  },
  cases: quantizeCases(),
});

export const dequantizeLinear = defineComposite({
  name: 'DequantizeLinear',
  onnx: { since: 10 },
  attrs: AXIS_ATTRS,
  inputs: [2, 3],
  rounding: 'each',
  infer(ctx) {
    const q = ctx.input(0);
    checkDType(ctx, 0, [...QUANTIZED, 'i32']);
    checkDType(ctx, 1, [...SCALES, 'f8e8m0']);
    checkDType(ctx, 2, [q.dtype]);
    checkScale(ctx, q.shape, ctx.input(1).shape, granularity(ctx.attrs));
    const dtype = ctx.attrs.output_dtype ?? ctx.input(1).dtype;
    if (!SCALES.includes(dtype)) ctx.fail(`output_dtype is ${dtype}, expected one of ${SCALES.join(', ')}`);
    return [{ dtype, shape: q.shape }];
  },
  dequantizes: known,
  write({ w, input, type, types, attrs }) {
    const place = (i: number): string => alongTensor(w, input(i), type(0).shape, granularity(attrs));
    const y = dequantize(w, input(0), place(1), types[2] ? place(2) : '');
    return [w.cast(y, attrs.output_dtype ?? type(1).dtype)];
  },
  cases: dequantizeCases(),
});

/** scale = (max − min) / 255 and zeroPoint = round(−min / scale), over a range that includes 0; a tensor of zeros has scale 1. */
const dynamicQuantizeLinear = defineComposite({
  name: 'DynamicQuantizeLinear',
  onnx: { since: 11 },
  attrs: {},
  inputs: [1, 1],
  outputs: 3,
  rounding: 'each',
  infer(ctx) {
    checkDType(ctx, 0, ['f32']);
    const outputs = [
      { dtype: 'u8', shape: ctx.input(0).shape },
      { dtype: 'f32', shape: [] },
      { dtype: 'u8', shape: [] },
    ] as const;
    return outputs.slice(0, ctx.outputCount);
  },
  write({ w, node, input }) {
    const zero = w.scalar('f32', 0);
    const extreme = (reduce: string, bound: string): string =>
      w.node(bound, [w.node(reduce, [input(0)], { keepdims: false }), zero]);
    const low = extreme('ReduceMin', 'Min');
    const range = w.sub(extreme('ReduceMax', 'Max'), low);
    const step = w.div(range, w.scalar('f32', 255));
    const scale = w.node('Where', [w.node('Equal', [range, zero]), w.scalar('f32', 1), step]);
    const zeroPoint = roundTo(w, w.div(w.sub(zero, low), scale), '', 'u8');
    return [quantize(w, input(0), scale, zeroPoint, 'u8'), scale, zeroPoint].slice(0, node.outputs.length);
  },
  cases: [
    { name: 'both signs', inputs: [{ dtype: 'f32', shape: [3, 7], range: [-3, 5] }], outputs: 3 },
    { name: 'positive', inputs: [{ dtype: 'f32', shape: [2, 3, 5], range: [1, 5] }], outputs: 3 },
    { name: 'negative', inputs: [{ dtype: 'f32', shape: [11], range: [-5, -1] }], outputs: 3 },
    { name: 'zeros', inputs: [fromNumbers('f32', [4], [0, 0, 0, 0])], outputs: 3 },
    { name: 'one element', inputs: [{ dtype: 'f32', shape: [1] }], outputs: 3 },
  ],
});

/** Values that every element type of the row has. */
function rangeOf(dtype: DType): readonly [number, number] {
  const { min, max } = DTYPES[dtype];
  return [Math.max(Number(min), -9), Math.min(Number(max), 9)];
}

function quantizeCases(): readonly OpCase[] {
  const ties = fromNumbers('f32', [2, 6], [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1e9, -1e9, 300, -300, 0, 127.4]);
  const x = { dtype: 'f32', shape: [2, 3, 5], range: [-9, 9] } as const;
  const blocks = { dtype: 'f32', shape: [2, 4, 5], range: [0.1, 2] } as const;
  return [
    ...SMALL_QUANTIZED.map(
      (dtype): OpCase => ({
        name: `${dtype}, no zero point`,
        inputs: [x, single('f32', 0.7)],
        attrs: { output_dtype: dtype },
      }),
    ),
    {
      name: 'f8e4m3fn without saturation',
      inputs: [ties, single('f32', 1), single('f8e4m3fn', 0)],
      attrs: { saturate: false },
    },
    {
      name: 'i4 by blocks, the last one short',
      inputs: [
        { ...x, shape: [2, 7, 3] },
        { ...blocks, shape: [2, 3, 3] },
        { dtype: 'i4', shape: [2, 3, 3], range: [-8, 7] },
      ],
      attrs: { axis: 1, block_size: 3 },
    },
    {
      name: 'f8e5m2 with scales of f8e8m0',
      inputs: [x, vector('f8e8m0', [0.25, 1, 4])],
      attrs: { axis: 1, output_dtype: 'f8e5m2' },
    },
    ...(['i8', 'u8', 'i16', 'u16', 'i4', 'u4', 'i2', 'u2', 'f8e4m3fn', 'f8e5m2', 'f4e2m1'] as const).map(
      (dtype): OpCase => ({
        name: `${dtype}, ties and saturation`,
        inputs: [ties, single('f32', 1), single(dtype, ZERO_POINTS[dtype])],
      }),
    ),
    { name: 'no zero point', inputs: [x, single('f32', 0.05)] },
    { name: 'vector of one scale', inputs: [x, vector('f32', [0.05]), vector('i8', [2])] },
    {
      name: 'per axis',
      inputs: [x, vector('f32', [0.1, 0.03, 2]), vector('u8', [0, 128, 255])],
      attrs: { axis: 1 },
    },
    { name: 'last axis', inputs: [x, { dtype: 'f32', shape: [5], range: [0.1, 1] }], attrs: { axis: -1 } },
    {
      name: 'blocks',
      inputs: [{ ...x, shape: [2, 8, 5] }, blocks, { dtype: 'i8', shape: [2, 4, 5] }],
      attrs: { axis: 1, block_size: 2 },
    },
    { name: 'output_dtype', inputs: [x, single('f32', 0.01)], attrs: { output_dtype: 'i16' } },
    { name: 'f16', inputs: [{ dtype: 'f16', shape: [3, 7], range: [-9, 9] }, single('f16', 0.25), single('u8', 7)] },
    { name: 'i32', inputs: [{ dtype: 'i32', shape: [11], range: [-90, 90] }, single('f32', 0.5), single('i8', 1)] },
    { name: 'empty', inputs: [{ dtype: 'f32', shape: [0, 3] }, single('f32', 1), single('u8', 0)] },
  ];
}

function dequantizeCases(): readonly OpCase[] {
  return [
    ...SMALL_QUANTIZED.map(
      (dtype): OpCase => ({
        name: dtype,
        inputs: [{ dtype, shape: [3, 7], range: rangeOf(dtype) }, single('f32', 0.3)],
      }),
    ),
    {
      name: 'u4 by blocks with zero points',
      inputs: [
        { dtype: 'u4', shape: [7, 2], range: [0, 15] },
        { dtype: 'f16', shape: [3, 2], range: [0.1, 2] },
        { constant: fromNumbers('u4', [3, 2], [0, 15, 8, 7, 1, 2]) },
      ],
      attrs: { axis: 0, block_size: 3 },
    },
    {
      name: 'f8e5m2 with a zero point',
      inputs: [{ dtype: 'f8e5m2', shape: [5] }, single('f32', 2), single('f8e5m2', 0.5)],
    },
    {
      name: 'f4e2m1 with scales of f8e8m0',
      inputs: [
        { dtype: 'f4e2m1', shape: [6, 2], range: [-6, 6] },
        { constant: fromNumbers('f8e8m0', [2, 2], [0.5, 4, 1, 2]) },
      ],
      attrs: { axis: 0, block_size: 3, output_dtype: 'f32' },
    },
    ...(['i8', 'u8', 'i16', 'u16', 'i4', 'u4', 'i2', 'u2', 'f8e4m3fn', 'f8e5m2', 'f4e2m1'] as const).map(
      (dtype): OpCase => ({
        name: `${dtype} with a zero point`,
        inputs: [
          { dtype, shape: [3, 7], range: rangeOf(dtype) },
          single('f32', 0.125),
          single(dtype, ZERO_POINTS[dtype]),
        ],
      }),
    ),
    { name: 'i32', inputs: [{ dtype: 'i32', shape: [2, 5], range: [-90000, 90000] }, single('f32', 1e-3)] },
    {
      name: 'per axis',
      inputs: [
        { dtype: 'i8', shape: [2, 3, 5], range: [-128, 127] },
        vector('f32', [0.1, 0.03, 2]),
        { constant: vector('i8', [0, -128, 127]) },
      ],
    },
    {
      name: 'first axis, zero points of 0',
      inputs: [{ dtype: 'u8', shape: [2, 3] }, { dtype: 'f32', shape: [2] }, { constant: vector('u8', [0, 0]) }],
      attrs: { axis: 0 },
    },
    {
      name: 'blocks',
      inputs: [
        { dtype: 'i8', shape: [6, 2] },
        { dtype: 'f32', shape: [2, 2] },
        { dtype: 'i8', shape: [2, 2] },
      ],
      attrs: { axis: 0, block_size: 3 },
    },
    { name: 'f16', inputs: [{ dtype: 'u8', shape: [13] }, single('f16', 0.3), single('u8', 3)] },
    { name: 'empty', inputs: [{ dtype: 'i8', shape: [3, 0] }, single('f32', 1)] },
  ];
}

export const QUANTIZE_LINEAR_OPS: readonly Op[] = [quantizeLinear, dequantizeLinear, dynamicQuantizeLinear];
