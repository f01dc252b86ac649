/**
 * MaxPool, AveragePool and LpPool, and their Global forms, whose window is the whole image.
 *
 * AveragePool divides by the taps inside the input, or inside the padded input with count_include_pad. MaxPool's second output is
 * the position of each maximum.
 */
import type { Dim } from '../core/shape.ts';
import type { ValueType } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { binary, div, like, mul, unary } from '../loop/expr.ts';
import { checkFloats } from './dims.ts';
import {
  evalMaxPositions,
  evalWindowFold,
  maxPositionKernel,
  type WindowFold,
  windowFoldKernel,
} from './fold-window.ts';
import {
  type AttrSpecs,
  type AttrsOf,
  bool,
  defineOp,
  int,
  ints,
  type KernelContext,
  type Op,
  type OpCase,
} from './op.ts';
import { staticWindow, WINDOW_ATTRS, type WindowDim, windowOutput } from './window.ts';

const POOL_ATTRS = { ...WINDOW_ATTRS, ceil_mode: bool(false), kernel_shape: ints.required } as const;
type PoolAttrs = AttrsOf<typeof POOL_ATTRS>;

const MAX: WindowFold = {
  op: 'max',
  value: (x) => x,
  finish: (fold) => fold,
  valueExpr: (x) => x,
  finishExpr: (fold) => fold,
  countPadding: false,
};
const mean = (countPadding: boolean): WindowFold => ({
  op: 'add',
  value: (x) => x,
  finish: (fold, count) => fold / count,
  valueExpr: (x) => x,
  finishExpr: (fold, count) => div(fold, count),
  countPadding,
});
/** (Σ |x|^p)^(1/p). */
const norm = (p: number): WindowFold => ({
  op: 'add',
  value: (x) => Math.abs(x) ** p,
  finish: (fold) => fold ** (1 / p),
  valueExpr: (x) => (p === 2 ? mul(x, x) : p === 1 ? unary('abs', x) : binary('pow', unary('abs', x), like(x, p))),
  finishExpr: (fold) => (p === 2 ? unary('sqrt', fold) : p === 1 ? fold : binary('pow', fold, like(fold, 1 / p))),
  countPadding: false,
});

function inferPool(ctx: InferContext<PoolAttrs>): ValueType {
  const { dtype, shape } = ctx.input(0);
  if (shape.length < 3 || shape.length > 5) ctx.fail(`the input has rank ${shape.length}, expected 3, 4 or 5`);
  const spatial = windowOutput({
    attrs: ctx.attrs,
    input: shape.slice(2),
    kernel: ctx.attrs.kernel_shape,
    ceilMode: ctx.attrs.ceil_mode,
    freshDim: (hint) => ctx.freshDim(hint),
    fail: (message, hint) => ctx.fail(message, hint),
  });
  return { dtype, shape: [shape[0], shape[1], ...spatial] };
}

const windowOf = (attrs: PoolAttrs, input: readonly number[], output: readonly number[]): WindowDim[] =>
  staticWindow(attrs, input.slice(2), attrs.kernel_shape, output.slice(2));
const kernelWindow = (ctx: KernelContext<PoolAttrs>): WindowDim[] =>
  windowOf(ctx.attrs, ctx.input(0).shape, ctx.outputs[0].shape);

const poolCase = (name: string, shape: number[], attrs: OpCase['attrs']): OpCase => ({
  name,
  attrs: attrs ?? {},
  inputs: [{ dtype: 'f32', shape }],
});
/** Shapes that every windowed pooling is tried on. */
const WINDOW_CASES: readonly OpCase[] = [
  poolCase('3x3 stride 2 padded', [1, 7, 9, 11], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }),
  poolCase('2x2', [2, 3, 6, 5], { kernel_shape: [2, 2], strides: [2, 2] }),
  poolCase('1x1', [1, 1, 3, 3], { kernel_shape: [1, 1] }),
  poolCase('asymmetric', [1, 2, 10, 13], { kernel_shape: [3, 4], strides: [1, 3], pads: [0, 1, 2, 2] }),
  poolCase('ceil mode', [1, 2, 8, 10], { kernel_shape: [3, 3], strides: [2, 3], ceil_mode: true }),
  poolCase('ceil mode without a window that starts in the padding', [1, 1, 4, 7], {
    kernel_shape: [2, 2],
    strides: [3, 2],
    pads: [0, 1, 1, 1],
    ceil_mode: true,
  }),
  poolCase('same upper', [1, 2, 7, 10], { kernel_shape: [4, 3], strides: [2, 2], auto_pad: 'SAME_UPPER' }),
  poolCase('same lower', [1, 2, 7, 10], { kernel_shape: [2, 3], auto_pad: 'SAME_LOWER' }),
  poolCase('1-d', [2, 3, 17], { kernel_shape: [5], strides: [2] }),
  poolCase('3-d', [1, 2, 5, 6, 7], { kernel_shape: [2, 3, 2], strides: [1, 2, 2], pads: [1, 0, 0, 0, 1, 1] }),
  poolCase('windows that start far outside', [1, 1, 600], {
    kernel_shape: [60],
    dilations: [10],
    strides: [10],
    pads: [50, 50],
  }),
  poolCase('dilated', [1, 2, 11, 9], { kernel_shape: [3, 2], dilations: [2, 3], pads: [1, 1, 2, 1] }),
];

const maxPool = defineOp({
  name: 'MaxPool',
  onnx: { since: 1 },
  attrs: { ...POOL_ATTRS, storage_order: int(0) },
  inputs: [1, 1],
  outputs: 2,
  infer(ctx) {
    const pooled = inferPool(ctx);
    return ctx.outputCount > 1 ? [pooled, { ...pooled, dtype: 'i64' }] : [pooled];
  },
  eval([x], attrs, outputs) {
    const window = windowOf(attrs, x!.shape, outputs[0].shape);
    const pooled = evalWindowFold(x!, window, MAX, outputs[0]);
    return outputs.length > 1
      ? [pooled, evalMaxPositions(x!, window, attrs.storage_order === 1, outputs[1])]
      : [pooled];
  },
  traits: { selects: true },
  lower: {
    kind: 'kernel',
    layout: 'channels-last',
    streams: [],
    build: (ctx) =>
      ctx.outputs[1]
        ? maxPositionKernel(ctx, kernelWindow(ctx), ctx.attrs.storage_order === 1)
        : windowFoldKernel(ctx, kernelWindow(ctx), MAX),
  },
  cases: [
    ...WINDOW_CASES,
    { name: 'u8', attrs: { kernel_shape: [2, 2] }, inputs: [{ dtype: 'u8', shape: [1, 3, 5, 4] }] },
    {
      name: 'positions',
      attrs: { kernel_shape: [3, 2], strides: [2, 1] },
      inputs: [{ dtype: 'f32', shape: [2, 3, 7, 5] }],
      outputs: 2,
    },
    {
      name: 'positions, column-major',
      attrs: { kernel_shape: [3, 3], pads: [1, 1, 1, 1], storage_order: 1 },
      inputs: [{ dtype: 'f32', shape: [1, 2, 6, 5] }],
      outputs: 2,
    },
  ],
});

const averagePool = defineOp({
  name: 'AveragePool',
  onnx: { since: 1 },
  attrs: { ...POOL_ATTRS, count_include_pad: bool(false) },
  inputs: [1, 1],
  infer(ctx) {
    checkFloats(ctx);
    return [inferPool(ctx)];
  },
  eval: ([x], attrs, [out]) => [
    evalWindowFold(x!, windowOf(attrs, x!.shape, out.shape), mean(attrs.count_include_pad), out),
  ],
  lower: {
    kind: 'kernel',
    layout: 'channels-last',
    streams: [],
    build: (ctx) => windowFoldKernel(ctx, kernelWindow(ctx), mean(ctx.attrs.count_include_pad)),
  },
  cases: [
    ...WINDOW_CASES,
    ...WINDOW_CASES.map((c) => ({
      ...c,
      name: `${c.name}, padding counted`,
      attrs: { ...c.attrs, count_include_pad: true },
    })),
  ],
});

const lpPool = defineOp({
  name: 'LpPool',
  onnx: { since: 2 },
  attrs: { ...POOL_ATTRS, p: int(2) },
  inputs: [1, 1],
  infer(ctx) {
    checkFloats(ctx);
    return [inferPool(ctx)];
  },
  eval: ([x], attrs, [out]) => [evalWindowFold(x!, windowOf(attrs, x!.shape, out.shape), norm(attrs.p), out)],
  lower: {
    kind: 'kernel',
    layout: 'channels-last',
    streams: [],
    build: (ctx) => windowFoldKernel(ctx, kernelWindow(ctx), norm(ctx.attrs.p)),
  },
  cases: [
    ...WINDOW_CASES,
    poolCase('p 1', [1, 2, 5, 5], { kernel_shape: [3, 3], p: 1 }),
    poolCase('p 3', [1, 2, 5, 5], { kernel_shape: [2, 3], p: 3 }),
  ],
});

/** The window that covers the image. */
const wholeImage = (input: readonly number[]): WindowDim[] =>
  input.slice(2).map((size) => ({
    input: size,
    output: 1,
    kernel: size,
    stride: 1,
    dilation: 1,
    padBegin: 0,
    padEnd: 0,
  }));

const defineGlobalPool = <S extends AttrSpecs>(
  name: string,
  since: number,
  attrs: S,
  foldOf: (attrs: AttrsOf<S>) => WindowFold,
): Op =>
  defineOp({
    name,
    onnx: { since },
    attrs,
    inputs: [1, 1],
    infer(ctx) {
      if (foldOf(ctx.attrs).op === 'add') checkFloats(ctx);
      const { dtype, shape } = ctx.input(0);
      if (shape.length < 3 || shape.length > 5) ctx.fail(`the input has rank ${shape.length}, expected 3, 4 or 5`);
      return [{ dtype, shape: shape.map((d, i): Dim => (i < 2 ? d : 1)) }];
    },
    eval: ([x], a, [out]) => [evalWindowFold(x!, wholeImage(x!.shape), foldOf(a), out)],
    lower: {
      kind: 'kernel',
      layout: 'channels-last',
      streams: [0],
      build: (ctx) => windowFoldKernel(ctx, wholeImage(ctx.input(0).shape), foldOf(ctx.attrs)),
    },
    cases: [
      poolCase('7x7', [1, 13, 7, 7], {}),
      poolCase('batch', [3, 2, 5, 1], {}),
      poolCase('1-d', [2, 3, 11], {}),
      poolCase('3-d', [1, 2, 3, 4, 5], {}),
      poolCase('one pixel', [2, 5, 1, 1], {}),
    ],
  });

export const POOL_OPS: readonly Op[] = [
  maxPool,
  averagePool,
  lpPool,
  defineGlobalPool('GlobalMaxPool', 1, {}, () => MAX),
  defineGlobalPool('GlobalAveragePool', 1, {}, () => mean(false)),
  defineGlobalPool('GlobalLpPool', 2, { p: int(2) }, ({ p }) => norm(p)),
];
