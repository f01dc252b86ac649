/**
 * Random shapes and parameters for the operators that sum: definition, lowering (in two layouts) and onnxruntime must agree.
 * fast-check prints seed and path of a failure, and the smallest case it shrinks to.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { fromNumbers } from '../src/core/tensor.ts';
import { evalGraph } from '../src/graph/eval.ts';
import { OPS } from '../src/ops/all.ts';
import type { Op, OpCase } from '../src/ops/op.ts';
import { drawCase, type Layout, runLowering } from './lowering-harness.ts';
import { runGraph } from './onnxruntime.ts';
import { caseGraph, difference, tolerance } from './op-cases.ts';

type Row = Omit<OpCase, 'name'>;

const int = (min: number, max: number) => fc.integer({ min, max });
const list = <T>(length: number, item: fc.Arbitrary<T>) => fc.array(item, { minLength: length, maxLength: length });
const f32 = (shape: readonly number[]) => ({ dtype: 'f32', shape }) as const;
const rank = int(1, 3);

/** A window along one dim that fits its input; pads are smaller than the kernel, as onnxruntime wants. */
const windowDim = fc
  .record({
    kernel: int(1, 4),
    stride: int(1, 3),
    dilation: int(1, 2),
    room: int(0, 6),
    begin: int(0, 3),
    end: int(0, 3),
  })
  .map(({ kernel, stride, dilation, room, begin, end }) => {
    const padBegin = Math.min(begin, kernel - 1);
    const padEnd = Math.min(end, kernel - 1);
    const span = (kernel - 1) * dilation + 1;
    return { kernel, stride, dilation, padBegin, padEnd, size: Math.max(1, span - padBegin - padEnd) + room };
  });
const windowAttrs = (window: readonly { stride: number; dilation: number; padBegin: number; padEnd: number }[]) => ({
  strides: window.map((w) => w.stride),
  dilations: window.map((w) => w.dilation),
  pads: [...window.map((w) => w.padBegin), ...window.map((w) => w.padEnd)],
});
const windowed = rank.chain((n) => fc.record({ batch: int(1, 2), channels: int(1, 3), window: list(n, windowDim) }));

const pooled = (extra: fc.Arbitrary<Record<string, boolean>>): fc.Arbitrary<Row> =>
  fc.tuple(windowed, extra).map(([{ batch, channels, window }, attrs]) => ({
    attrs: { ...windowAttrs(window), kernel_shape: window.map((w) => w.kernel), ...attrs },
    inputs: [f32([batch, channels, ...window.map((w) => w.size)])],
  }));

const convolution = (weight: 'out, in' | 'in, out') =>
  fc
    .tuple(windowed, fc.record({ group: int(1, 3), outPerGroup: int(1, 3), bias: fc.boolean() }))
    .map(([{ batch, channels, window }, { group, outPerGroup, bias }]): Row => {
      const [input, output] = [channels * group, outPerGroup * group];
      const filters = weight === 'out, in' ? [output, channels] : [input, outPerGroup];
      const space = window.map((w) => w.size + (weight === 'in, out' ? 1 : 0));
      return {
        attrs: { ...windowAttrs(window), group },
        inputs: [
          f32([batch, input, ...space]),
          f32([...filters, ...window.map((w) => w.kernel)]),
          ...(bias ? [f32([output])] : []),
        ],
      };
    });

/** A shape and one that broadcasts with it. */
const batches = int(0, 2).chain((n) =>
  fc.record({ dims: list(n, int(1, 3)), a: list(n, fc.boolean()), b: list(n, fc.boolean()), skip: int(0, n) }),
);

const shapeAndAxes = int(1, 4).chain((n) =>
  fc.record({ shape: list(n, int(1, 6)), axes: fc.shuffledSubarray([...Array(n).keys()], { minLength: 1 }) }),
);

const reduced: fc.Arbitrary<Row> = fc.tuple(shapeAndAxes, fc.boolean()).map(([{ shape, axes }, keepdims]) => ({
  attrs: { keepdims },
  inputs: [{ ...f32(shape), range: [0.5, 1.5] }, { constant: fromNumbers('i64', [axes.length], axes) }],
}));
const alongAxis: fc.Arbitrary<Row> = shapeAndAxes.map(({ shape, axes }) => ({
  attrs: { axis: axes[0] - shape.length },
  inputs: [f32(shape)],
}));

const GENERATORS: { readonly [op: string]: fc.Arbitrary<Row> } = {
  Conv: convolution('out, in'),
  // Pads of a transposed convolution cut the output, which must keep an element.
  ConvTranspose: convolution('in, out').filter((row) => outputIsPositive(row)),
  // onnxruntime's maximum of no taps is the lowest finite float, the definition's is minus infinity.
  MaxPool: pooled(fc.record({ ceil_mode: fc.boolean() })).filter((row) => everyWindowTouches(row)),
  AveragePool: pooled(fc.record({ ceil_mode: fc.boolean(), count_include_pad: fc.boolean() })),
  MatMul: fc.tuple(batches, int(1, 9), int(1, 9), int(1, 9)).map(([{ dims, a, b, skip }, m, n, k]) => ({
    inputs: [
      f32([...dims.map((d, i) => (a[i] ? d : 1)), m, k]),
      f32([...dims.map((d, i) => (b[i] ? d : 1)).slice(skip), k, n]),
    ],
  })),
  Gemm: fc
    .record({
      m: int(1, 9),
      n: int(1, 9),
      k: int(1, 9),
      transA: fc.boolean(),
      transB: fc.boolean(),
      rows: fc.boolean(),
    })
    .map(({ m, n, k, transA, transB, rows }) => ({
      attrs: { transA, transB, alpha: 0.5, beta: 2 },
      inputs: [f32(transA ? [k, m] : [m, k]), f32(transB ? [n, k] : [k, n]), f32(rows ? [m, 1] : [n])],
    })),
  ReduceSum: reduced,
  ReduceMax: reduced,
  ReduceLogSumExp: reduced,
  Softmax: alongAxis,
  LogSoftmax: alongAxis,
  ArgMax: alongAxis,
  LayerNormalization: shapeAndAxes
    .filter(({ shape, axes }) => shape.slice(axes[0]).reduce((n, d) => n * d, 1) > 1)
    .map(({ shape, axes }) => ({
      attrs: { axis: axes[0] },
      inputs: [f32(shape), f32(shape.slice(axes[0])), f32(shape.slice(axes[0]))],
    })),
};

function outputIsPositive({ attrs, inputs }: Row): boolean {
  const { strides, dilations, pads } = attrs as { strides: number[]; dilations: number[]; pads: number[] };
  const [x, w] = inputs as readonly { readonly shape: readonly number[] }[];
  return strides.every((stride, d) => {
    const span = (x.shape[2 + d] - 1) * stride + (w.shape[2 + d] - 1) * dilations[d] + 1;
    return span - pads[d] - pads[d + strides.length] > 0;
  });
}

/** Where the input is as wide as the gap between taps, every window that pads allow has a tap inside. */
function everyWindowTouches({ attrs, inputs }: Row): boolean {
  const { dilations } = attrs as { dilations: number[] };
  const [x] = inputs as readonly { readonly shape: readonly number[] }[];
  return dilations.every((dilation, d) => x.shape[2 + d] >= dilation);
}

const LAYOUTS: readonly Layout[] = ['row-major', 'channels-last'];

for (const [key, rows] of Object.entries(GENERATORS)) {
  it(key, async () => {
    const op = OPS.get(key) as Op;
    await fc.assert(
      fc.asyncProperty(rows, int(0, 1000), async (row, seed) => {
        const c: OpCase = { name: 'random', ...row };
        const { graph, inputs } = caseGraph(op, c, OPS, seed);
        const [expected] = evalGraph(graph, OPS, inputs).values();
        const theirs = (await runGraph(graph, inputs, OPS)).get(graph.outputs[0]);
        if (!theirs) throw new Error('onnxruntime gave no output');
        expect(difference(theirs, expected), 'onnxruntime').toBeLessThanOrEqual(tolerance(expected.dtype, c));
        const drawn = drawCase(op, c, seed);
        const [defined] = op.eval(drawn.inputs, drawn.attrs, drawn.outputs);
        for (const layout of LAYOUTS) {
          expect(difference(runLowering(drawn, layout)[0], defined), layout).toBeLessThanOrEqual(
            tolerance(defined.dtype, c),
          );
        }
      }),
      { numRuns: 25 },
    );
  });
}
