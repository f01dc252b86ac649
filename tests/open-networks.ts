/**
 * Networks with open sizes, their profiles and the shapes to run them at: what depends on sizes in different ways. Windows, means, reshapes
 * that merge and split, slices from the end, concatenation along what is open, shape arithmetic, positions.
 */
import { expect } from 'vitest';
import { elements, type StaticShape, sym } from '../src/core/shape.ts';
import { fromNumbers, type Tensor, toNumbers } from '../src/core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../src/graph/build.ts';
import type { Graph } from '../src/graph/ir.ts';
import type { ShapeProfile } from '../src/graph/profiles.ts';
import { OPS } from '../src/ops/all.ts';
import { random } from './random-kernel.ts';

export const i64 = (b: GraphBuilder, ...values: number[]) => b.constant(fromNumbers('i64', [values.length], values));
export const draw = (seed: number, shape: StaticShape): Tensor => {
  const rnd = random(seed);
  return fromNumbers(
    'f32',
    shape,
    Float64Array.from({ length: elements(shape) }, () => rnd.next() * 2 - 1),
  );
};

export function network(name: string, make: (b: GraphBuilder) => readonly string[]): Graph {
  const b = graphBuilder(name, OPS);
  for (const output of make(b)) b.output(output);
  return b.finish();
}

export const one = (b: GraphBuilder, op: string, inputs: readonly string[], attrs = {}): string =>
  b.node(op, inputs, { attrs })[0];

/** Strided and padded windows, pooling, a residual, a mean over all positions, a classifier. */
export const convolutions = network('convolutions', (b) => {
  const x = b.input('x', 'f32', [sym('n'), 3, sym('h'), sym('w')]);
  const conv = (from: string, to: number, input: string, stride: number, size = 3, group = 1) => {
    const weight = b.constant(draw(to + size, [to, from === 'g' ? 1 : Number(b.type(input).shape[1]), size, size]));
    const pad = (size - 1) / 2;
    return one(b, 'Conv', [input, weight], {
      strides: [stride, stride],
      pads: [pad, pad, pad, pad],
      group,
      auto_pad: 'NOTSET',
    });
  };
  const a = one(b, 'Relu', [conv('', 16, x, 2)]);
  const p = one(b, 'MaxPool', [a], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
  const c = one(b, 'Add', [conv('', 16, p, 1), p]);
  const d = one(b, 'Concat', [conv('g', 16, c, 1, 3, 16), c, conv('', 24, c, 1, 1)], { axis: 1 });
  const mean = one(b, 'Flatten', [one(b, 'GlobalAveragePool', [d])], { axis: 1 });
  const weight = b.constant(draw(9, [56, 10]));
  return [one(b, 'Gemm', [mean, weight]), one(b, 'AveragePool', [d], { kernel_shape: [2, 2], strides: [1, 1] })];
});

/**
 * Every kind of window with an open height and width: depthwise ones of several sizes, strides, dilations and pads, of which columns before
 * and behind those inside are none, some or all; a first layer of short runs; rows that end within a register tile; Winograd's method.
 */
const windows = network('windows', (b) => {
  const x = b.input('x', 'f32', [sym('n'), 3, sym('h'), sym('w')]);
  const conv = (input: string, to: number, size: number, group: number, attrs: Readonly<Record<string, unknown>>) => {
    const from = Number(b.type(input).shape[1]);
    const weight = b.constant(draw(to + 7 * size, [to, from / group, size, size]));
    return one(b, 'Conv', [input, weight], { group, strides: [1, 1], dilations: [1, 1], ...attrs, auto_pad: 'NOTSET' });
  };
  const first = one(b, 'Relu', [conv(x, 35, 3, 1, { pads: [1, 1, 1, 1] })]);
  const depthwise = [
    conv(first, 35, 3, 35, { pads: [1, 1, 1, 1] }),
    conv(first, 35, 3, 35, { pads: [0, 0, 1, 1], strides: [2, 2] }),
    conv(first, 35, 5, 35, { pads: [2, 2, 2, 2] }),
    conv(first, 35, 3, 35, { pads: [2, 2, 2, 2], dilations: [2, 2] }),
    conv(first, 35, 7, 35, { pads: [3, 3, 3, 3], strides: [4, 4] }),
    conv(first, 35, 2, 35, { pads: [0, 0, 0, 0] }),
  ];
  const wide = one(b, 'Relu', [conv(depthwise[0], 64, 1, 1, { pads: [0, 0, 0, 0] })]);
  const square = one(b, 'Add', [conv(wide, 64, 3, 1, { pads: [1, 1, 1, 1] }), wide]);
  return [...depthwise.slice(1), conv(square, 20, 3, 1, { pads: [1, 1, 1, 1], strides: [2, 2] })];
});

/** What exporters write around attention: Shape, Gather, Concat, Reshape; heads split and joined; a mask; layer normalisation. */
export const attention = network('attention', (b) => {
  const ids = b.input('ids', 'i64', [sym('n'), sym('s')]);
  const mask = b.input('mask', 'f32', [sym('n'), sym('s')]);
  const table = b.constant(draw(1, [50, 24]));
  const positions = b.constant(draw(2, [1, 64, 24]));
  const size = (axis: number) =>
    one(b, 'Gather', [one(b, 'Shape', [ids]), b.constant(fromNumbers('i64', [], [axis]))], { axis: 0 });
  const vector = (value: string) => one(b, 'Unsqueeze', [value, i64(b, 0)]);
  const here = one(b, 'Slice', [positions, i64(b, 0), vector(size(1)), i64(b, 1)]);
  const x = one(b, 'Add', [one(b, 'Gather', [table, ids], { axis: 0 }), here]);
  const heads = (seed: number) => {
    const flat = one(b, 'MatMul', [x, b.constant(draw(seed, [24, 24]))]);
    const shape = one(b, 'Concat', [vector(size(0)), vector(size(1)), i64(b, 3, 8)], { axis: 0 });
    return one(b, 'Transpose', [one(b, 'Reshape', [flat, shape])], { perm: [0, 2, 1, 3] });
  };
  const keys = one(b, 'Transpose', [heads(4)], { perm: [0, 1, 3, 2] });
  const scores = one(b, 'MatMul', [heads(3), keys]);
  const bias = one(b, 'Unsqueeze', [mask, i64(b, 1, 2)]);
  const weights = one(b, 'Softmax', [one(b, 'Add', [scores, bias])], { axis: -1 });
  const mixed = one(b, 'Transpose', [one(b, 'MatMul', [weights, heads(5)])], { perm: [0, 2, 1, 3] });
  const joined = one(b, 'Reshape', [mixed, one(b, 'Concat', [vector(size(0)), i64(b, -1, 24)], { axis: 0 })]);
  const ones = b.constant(fromNumbers('f32', [24], Array(24).fill(1)));
  const normal = one(b, 'LayerNormalization', [one(b, 'Add', [joined, x]), ones]);
  const rows = one(b, 'Reshape', [normal, i64(b, -1, 24)]);
  const last = one(b, 'Gather', [normal, b.constant(fromNumbers('i64', [], [-1]))], { axis: 1 });
  return [normal, one(b, 'MatMul', [rows, b.constant(draw(6, [24, 5]))]), one(b, 'ReduceMean', [last, i64(b, 0)])];
});

/** Parts that begin where an open size ends; slices and reversals from the end; positions; a mask by positions; sums along. */
export const places = network('places', (b) => {
  const x = b.input('x', 'f32', [sym('s'), 6]);
  const y = b.input('y', 'f32', [sym('t'), 6]);
  const both = one(b, 'Concat', [x, y, one(b, 'Neg', [x])], { axis: 0 });
  const tail = one(b, 'Slice', [both, i64(b, -3), i64(b, 2 ** 31), i64(b, 0)]);
  const turned = one(b, 'Slice', [x, i64(b, -1), i64(b, -(2 ** 31)), i64(b, 0), i64(b, -1)]);
  const size = one(b, 'Squeeze', [one(b, 'Shape', [x], { start: 0, end: 1 })]);
  const scalar = (value: number) => b.constant(fromNumbers('i64', [], [value]));
  const range = one(b, 'Cast', [one(b, 'Range', [scalar(0), size, scalar(1)])], { to: 'f32' });
  const causal = one(b, 'Trilu', [one(b, 'MatMul', [x, one(b, 'Transpose', [x], { perm: [1, 0] })])], { upper: false });
  const grown = one(b, 'Expand', [one(b, 'ReduceMax', [y, i64(b, 0)]), one(b, 'Shape', [x])]);
  return [
    both,
    tail,
    one(b, 'Mul', [turned, one(b, 'Unsqueeze', [range, i64(b, 1)])]),
    one(b, 'Softmax', [causal], { axis: 0 }),
    one(b, 'CumSum', [one(b, 'Add', [grown, x]), scalar(0)]),
    one(b, 'Reshape', [both, i64(b, 3, -1)]),
  ];
});

export interface Case {
  readonly graph: Graph;
  /** Templates that some step is to run by on a CPU. */
  readonly templates?: readonly string[];
  readonly threads?: number;
  readonly profile: ShapeProfile;
  readonly runs: readonly Readonly<Record<string, StaticShape>>[];
}
export const CASES: readonly Case[] = [
  {
    graph: convolutions,
    profile: { x: { min: [1, 3, 8, 8], opt: [2, 3, 33, 40], max: [3, 3, 64, 50] } },
    runs: [
      [3, 3, 64, 50],
      [1, 3, 8, 8],
      [2, 3, 33, 40],
      [3, 3, 17, 49],
      [1, 3, 63, 9],
    ].map((x) => ({ x })),
  },
  {
    graph: windows,
    templates: ['depthwise', 'panels', 'winograd'],
    threads: 3,
    profile: { x: { min: [1, 3, 2, 2], opt: [1, 3, 23, 29], max: [3, 3, 31, 41] } },
    runs: [
      [3, 3, 31, 41],
      [1, 3, 2, 2],
      [1, 3, 23, 29],
      [2, 3, 3, 37],
      [1, 3, 29, 5],
      [3, 3, 11, 13],
      [2, 3, 31, 16],
      [1, 3, 2, 41],
    ].map((x) => ({ x })),
  },
  {
    graph: attention,
    profile: {
      ids: { min: [1, 1], opt: [1, 32], max: [4, 64] },
      mask: { min: [1, 1], opt: [1, 32], max: [4, 64] },
    },
    runs: [
      [4, 64],
      [1, 32],
      [1, 1],
      [3, 17],
      [2, 31],
      [4, 1],
    ].map((s) => ({ ids: s, mask: s })),
  },
  {
    graph: places,
    profile: { x: { min: [2, 6], opt: [10, 6], max: [40, 6] }, y: { min: [1, 6], opt: [5, 6], max: [30, 6] } },
    runs: [
      [40, 30],
      [2, 1],
      [10, 5],
      [13, 30],
      [39, 2],
    ].map(([s, t]) => ({ x: [s, 6], y: [t, 6] })),
  },
];

export function inputsFor(
  graph: Graph,
  shapes: Readonly<Record<string, StaticShape>>,
  seed: number,
): Record<string, Tensor> {
  return Object.fromEntries(
    graph.inputs.map((name, i) => {
      const shape = shapes[name];
      const rnd = random(seed + i);
      const isFloat = graph.values.get(name)?.dtype === 'f32';
      const values = Array.from({ length: elements(shape) }, () => (isFloat ? rnd.next() * 2 - 1 : rnd.below(50)));
      return [name, fromNumbers(isFloat ? 'f32' : 'i64', shape, values)];
    }),
  );
}

export function expectClose(got: ArrayLike<number>, want: Tensor, label: string, tolerance = 2e-5): void {
  const numbers = toNumbers(want);
  expect(got.length, label).toBe(numbers.length);
  let scale = 1;
  for (let i = 0; i < numbers.length; i++) scale = Math.max(scale, Math.abs(numbers[i]));
  for (let i = 0; i < numbers.length; i++)
    if (!(Math.abs(got[i] - numbers[i]) <= tolerance * scale))
      expect.fail(`${label}[${i}] is ${got[i]}, expected ${numbers[i]}`);
}
