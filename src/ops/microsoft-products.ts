/**
 * Matrix products and convolutions that onnxruntime's optimisers fuse with what stands around them: FusedMatMul, TransposeMatMul,
 * FusedGemm, FusedConv, NhwcConv. They expand into the plain operators; fusion is Hotrod's own business.
 * https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
 */
import type { Shape } from '../core/shape.ts';
import type { InferContext } from '../graph/semantics.ts';
import { defineComposite } from './composite.ts';
import { CONV_ATTRS, convShape } from './conv.ts';
import { checkFloats } from './dims.ts';
import { matMulShape } from './matmul.ts';
import { MICROSOFT } from './microsoft-activation.ts';
import { activate, isActivation } from './named-activation.ts';
import { bool, float, floats, type Op, type OpCase, string } from './op.ts';

/**
 * Dims of an operand in the order of a plain product, as a permutation. transBatch moves the first dim behind the others of the batch,
 * trans swaps the last two.
 */
function productOrder(rank: number, trans: boolean, transBatch: boolean): number[] {
  const order = Array.from({ length: rank }, (_, d) => d);
  if (rank < 2) return order;
  const moved = transBatch ? [...order.slice(1, rank - 1), 0, rank - 1] : order;
  return trans ? [...moved.slice(0, -2), moved[rank - 1], moved[rank - 2]] : moved;
}

const MATMUL_ATTRS = {
  alpha: float(1),
  transA: bool(false),
  transB: bool(false),
  transBatchA: bool(false),
  transBatchB: bool(false),
} as const;

const fusedMatMul = (name: string, cases: readonly OpCase[]): Op =>
  defineComposite({
    name,
    onnx: MICROSOFT,
    attrs: MATMUL_ATTRS,
    inputs: [2, 2],
    rounding: 'once',
    infer(ctx) {
      checkFloats(ctx);
      const { transA, transB, transBatchA, transBatchB } = ctx.attrs;
      const ordered = (i: number, trans: boolean, transBatch: boolean): Shape => {
        const { shape } = ctx.input(i);
        return productOrder(shape.length, trans, transBatch).map((d) => shape[d]);
      };
      return [
        {
          dtype: ctx.input(0).dtype,
          shape: matMulShape(ctx, ordered(0, transA, transBatchA), ordered(1, transB, transBatchB)),
        },
      ];
    },
    write({ w, input, type, attrs }) {
      const ordered = (i: number, trans: boolean, transBatch: boolean): string =>
        w.transpose(input(i), productOrder(type(i).shape.length, trans, transBatch));
      const product = w.matmul(
        ordered(0, attrs.transA, attrs.transBatchA),
        ordered(1, attrs.transB, attrs.transBatchB),
      );
      return [attrs.alpha === 1 ? product : w.mul(product, w.scalar(w.type(product).dtype, attrs.alpha))];
    },
    cases,
  });

const fusedGemm = defineComposite({
  name: 'FusedGemm',
  onnx: MICROSOFT,
  attrs: {
    alpha: float(1),
    beta: float(1),
    transA: bool(false),
    transB: bool(false),
    activation: string.required,
    activation_alpha: float.optional,
    activation_beta: float.optional,
    activation_gamma: float.optional,
  },
  inputs: [2, 3],
  rounding: 'once',
  infer(ctx) {
    checkFloats(ctx);
    const [a, b] = [ctx.input(0).shape, ctx.input(1).shape];
    if (a.length !== 2 || b.length !== 2) ctx.fail('both operands must have rank 2');
    checkActivation(ctx, ctx.attrs.activation);
    const { transA, transB } = ctx.attrs;
    const shape = matMulShape(ctx, transA ? [a[1], a[0]] : a, transB ? [b[1], b[0]] : b);
    return [{ dtype: ctx.input(0).dtype, shape }];
  },
  write({ w, input, attrs }) {
    const { alpha, beta, transA, transB, activation: name } = attrs;
    const y = w.node('Gemm', [input(0), input(1), input(2)], { alpha, beta, transA, transB });
    return [activate(w, y, { name, parameters: [attrs.activation_alpha, attrs.activation_beta] })];
  },
  cases: [
    {
      name: 'transposed, LeakyRelu',
      attrs: { transB: true, alpha: 0.5, activation: 'LeakyRelu', activation_alpha: 0.25 },
      inputs: [[3, 5], [7, 5], [7]].map((shape) => ({ dtype: 'f32', shape })),
    },
    {
      name: 'Relu, no addend',
      attrs: { transA: true, activation: 'Relu' },
      inputs: [
        [5, 3],
        [5, 2],
      ].map((shape) => ({ dtype: 'f32', shape })),
    },
  ],
});

function checkActivation(ctx: Pick<InferContext, 'fail'>, name: string): void {
  if (name !== '' && !isActivation(name)) ctx.fail(`activation "${name}" is not known`);
}

const fusedConv = defineComposite({
  name: 'FusedConv',
  onnx: MICROSOFT,
  attrs: { ...CONV_ATTRS, activation: string(''), activation_params: floats.optional },
  inputs: [2, 4],
  rounding: 'once',
  infer(ctx) {
    checkFloats(ctx);
    checkActivation(ctx, ctx.attrs.activation);
    return [{ dtype: ctx.input(0).dtype, shape: convShape(ctx, ctx.input(0).shape, ctx.input(1).shape) }];
  },
  write({ w, input, types, attrs }) {
    const { activation: name, activation_params: parameters = [], ...conv } = attrs;
    const y = w.node('Conv', [input(0), input(1), input(2)], conv);
    const sum = types[3] ? w.add(y, input(3)) : y;
    return [name === '' ? sum : activate(w, sum, { name, parameters })];
  },
  cases: [
    fusedConvCase('Relu', { activation: 'Relu' }, true),
    fusedConvCase('Clip and residual', { activation: 'Clip', activation_params: [-0.5, 1] }, true, true),
    fusedConvCase('HardSigmoid', { activation: 'HardSigmoid', activation_params: [0.3, 0.4] }, false),
  ],
});

function fusedConvCase(name: string, attrs: OpCase['attrs'], bias: boolean, residual = false): OpCase {
  const input = (shape: number[]) => ({ dtype: 'f32', shape }) as const;
  return {
    name,
    attrs: { ...attrs, pads: [1, 1, 1, 1], kernel_shape: [3, 3] },
    inputs: [
      input([1, 2, 5, 4]),
      input([3, 2, 3, 3]),
      bias ? input([3]) : undefined,
      ...(residual ? [input([1, 3, 5, 4])] : []),
    ],
  };
}

/** [n, channels, space…] to [n, space…, channels], and back. */
const toLast = (rank: number): number[] => [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1];
const toFirst = (rank: number): number[] => [0, rank - 1, ...Array.from({ length: rank - 2 }, (_, i) => i + 1)];

const nhwcConv = defineComposite({
  name: 'NhwcConv',
  onnx: MICROSOFT,
  attrs: CONV_ATTRS,
  inputs: [2, 3],
  rounding: 'once',
  infer(ctx) {
    checkFloats(ctx);
    const order = (shape: Shape, to: (rank: number) => number[]): Shape => to(shape.length).map((d) => shape[d]);
    const [x, weight] = [0, 1].map((i) => order(ctx.input(i).shape, toFirst));
    return [{ dtype: ctx.input(0).dtype, shape: order(convShape(ctx, x, weight), toLast) }];
  },
  write({ w, input, type, attrs }) {
    const rank = type(0).shape.length;
    const [x, weight] = [0, 1].map((i) => w.transpose(input(i), toFirst(rank)));
    return [w.transpose(w.node('Conv', [x, weight, input(2)], attrs), toLast(rank))];
  },
  cases: [
    {
      name: 'padded',
      attrs: { pads: [1, 1, 1, 1], strides: [2, 1] },
      inputs: [[1, 5, 4, 2], [3, 3, 3, 2], [3]].map((shape) => ({ dtype: 'f32', shape })),
    },
  ],
});

const matMulCase = (a: number[], b: number[], attrs: OpCase['attrs'] = {}): OpCase => ({
  name: `[${a}] x [${b}] ${JSON.stringify(attrs)}`,
  attrs,
  inputs: [a, b].map((shape) => ({ dtype: 'f32', shape })),
});

export const MICROSOFT_PRODUCT_OPS: readonly Op[] = [
  fusedMatMul('FusedMatMul', [
    matMulCase([2, 3, 5], [2, 5, 4]),
    matMulCase([2, 5, 3], [2, 4, 5], { transA: true, transB: true, alpha: 0.125 }),
    matMulCase([3, 2, 5], [3, 2, 4], { transBatchA: true, transBatchB: true, transA: true }),
  ]),
  fusedMatMul('TransposeMatMul', [matMulCase([5, 3], [5, 4], { transA: true, alpha: 2 })]),
  fusedGemm,
  fusedConv,
  nhwcConv,
];
