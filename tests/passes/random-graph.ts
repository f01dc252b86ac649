/**
 * Random graphs of the operators that the passes know something about: neutral constants, views, batch normalisation behind
 * convolutions, repeated expressions, sizes computed from shapes, half precision. Every choice comes from a list of numbers, so
 * that a failing graph shrinks.
 */
import fc from 'fast-check';
import type { DType } from '../../src/core/dtype.ts';
import { elements, type StaticShape } from '../../src/core/shape.ts';
import { fromNumbers, type TensorType } from '../../src/core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../../src/graph/build.ts';
import type { Graph } from '../../src/graph/ir.ts';
import { OPS } from '../../src/ops/all.ts';
import { randomTensor } from '../random.ts';

interface Site {
  readonly b: GraphBuilder;
  readonly x: string;
  /** Another value; it may have any shape. */
  readonly y: string;
  readonly dtype: DType;
  readonly shape: StaticShape;
  readonly choice: number;
}

type Step = (site: Site) => string;

const i64 = (b: GraphBuilder, values: readonly number[]): string =>
  b.constant(fromNumbers('i64', [values.length], values));
const rotated = <T>(list: readonly T[], by: number): T[] => list.map((_, i) => list[(i + by) % list.length]);
const typeOf = (b: GraphBuilder, name: string): TensorType => b.type(name) as TensorType;

/** A constant that broadcasts to the value: full, one a channel, one for all; random, all 0 or all 1. */
function operand({ b, dtype, shape, choice }: Site): string {
  const shapes = [shape, shape.map((d, i) => (i === 1 ? d : 1)), [], shape.slice(-1)];
  const picked = shapes[choice % 4];
  const count = elements(picked);
  switch ((choice >> 2) % 4) {
    case 0:
      return b.constant(fromNumbers(dtype, picked, new Array(count).fill(1)));
    case 1:
      return b.constant(fromNumbers(dtype, picked, new Array(count).fill(0)));
    default:
      return b.constant(randomTensor(dtype, picked, choice % 5, [0.5, 1.5]));
  }
}

function convolution(site: Site): string {
  const { b, x, dtype, shape, choice } = site;
  if (shape.length < 3 || elements(shape) === 0) return x;
  const channels = 1 + (choice % 3);
  const weight = randomTensor(dtype, [channels, shape[1], ...shape.slice(2).map(() => 1)], choice);
  const inputs = [x, b.constant(weight), ...(choice % 2 ? [b.constant(randomTensor(dtype, [channels], choice))] : [])];
  return b.node('Conv', inputs)[0];
}

function normalization({ b, x, dtype, shape, choice }: Site): string {
  if (shape.length < 2) return x;
  const vector = (seed: number, low: number) => b.constant(randomTensor(dtype, [shape[1]], choice + seed, [low, 2]));
  return b.node('BatchNormalization', [x, vector(1, 0.5), vector(2, -2), vector(3, -2), vector(4, 0.5)])[0];
}

/** Reshape to a shape that the graph computes from the value's own. */
function computedReshape({ b, x, shape }: Site): string {
  if (shape.length === 0) return x;
  const [dims] = b.node('Shape', [x]);
  const [first] = b.node('Gather', [dims, i64(b, [0])]);
  const [target] = b.node('Concat', [first, i64(b, [-1])], { attrs: { axis: 0 } });
  return elements(shape) === 0 ? x : b.node('Reshape', [x, target])[0];
}

const STEPS: readonly Step[] = [
  ({ b, x }) => b.node('Relu', [x])[0],
  ({ b, x }) => b.node('Identity', [x])[0],
  ({ b, x }) => b.node('Dropout', [x])[0],
  ({ b, x, dtype }) => b.node('Cast', [x], { attrs: { to: dtype } })[0],
  (site) => site.b.node('Mul', [site.x, operand(site)])[0],
  (site) => site.b.node('Add', [operand(site), site.x])[0],
  (site) => site.b.node('Sub', [site.x, operand(site)])[0],
  ({ b, x, shape, choice }) => b.node('Transpose', [x], { attrs: { perm: rotated([...shape.keys()], choice) } })[0],
  ({ b, x, choice, shape }) => b.node('Flatten', [x], { attrs: { axis: choice % (shape.length + 1) } })[0],
  ({ b, x, shape, choice }) =>
    b.node('Reshape', [x, i64(b, rotated(shape, choice))], { attrs: { allowzero: true } })[0],
  ({ b, x, choice, shape }) => b.node('Unsqueeze', [x, i64(b, [choice % (shape.length + 1)])])[0],
  ({ b, x, y, dtype }) =>
    typeOf(b, y).dtype === dtype && String(typeOf(b, y).shape) === String(typeOf(b, x).shape)
      ? b.node('Add', [x, y])[0]
      : x,
  ({ b, x, shape, choice }) =>
    shape.length === 0 ? x : b.node('Concat', choice % 2 ? [x] : [x, x], { attrs: { axis: 0 } })[0],
  ({ b, x, shape }) => b.node('Expand', [x, i64(b, shape)])[0],
  convolution,
  normalization,
  (site) => normalization({ ...site, x: convolution(site), shape: typeOf(site.b, convolution(site)).shape }),
  computedReshape,
];

/** Values larger than this are not built upon. */
const MAX_ELEMENTS = 512;

function build(dtype: DType, shape: StaticShape, picks: readonly (readonly [number, number, number])[]): Graph {
  const b = graphBuilder('random', OPS);
  const values = [b.input('x', dtype, shape)];
  for (const [step, value, choice] of picks) {
    // Recent values are likelier, which makes chains.
    const x = values[Math.max(0, values.length - 1 - (value % 3))];
    const type = typeOf(b, x);
    if (elements(type.shape) > MAX_ELEMENTS || type.shape.length > 5) continue;
    const y = values[value % values.length];
    values.push(STEPS[step % STEPS.length]({ b, x, y, dtype, shape: type.shape, choice }));
  }
  for (const name of new Set([values.at(-1) as string, values[Math.floor(values.length / 2)]])) {
    if (name !== 'x') b.output(name);
  }
  const graph = b.finish();
  return graph.outputs.length > 0 ? graph : build(dtype, shape, [[0, 0, 0]]);
}

export const randomGraph: fc.Arbitrary<Graph> = fc
  .tuple(
    fc.constantFrom<DType>('f32', 'f32', 'f16'),
    fc.array(fc.constantFrom(0, 1, 2, 3, 3), { minLength: 1, maxLength: 4 }),
    fc.array(fc.tuple(fc.nat(STEPS.length - 1), fc.nat(20), fc.nat(63)), { minLength: 1, maxLength: 14 }),
  )
  .map(([dtype, shape, picks]) => build(dtype, shape, picks));
