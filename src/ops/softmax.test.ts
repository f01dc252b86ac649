import { describe, expect, it } from 'vitest';
import { fromNumbers, toNumbers } from '../core/tensor.ts';
import { graphBuilder } from '../graph/build.ts';
import { evalGraph } from '../graph/eval.ts';
import { OPS } from './all.ts';
import type { UpgradeContext } from './op.ts';

/** Evaluates a node as a model of an older opset has it, upgraded as the reader does. */
function evalUpgraded(name: string, shape: readonly number[], attrs: { axis?: number }) {
  const b = graphBuilder('upgraded', OPS);
  const x = b.input('x', 'f32', shape);
  const ctx: UpgradeContext = {
    opset: 11,
    constant: (value) => b.constant(value),
    node: (op, inputs, a) => b.node(op, inputs, { attrs: a ?? {} })[0],
    known: () => undefined,
    shape: (input) => b.type(input).shape,
    rank: (input) => b.type(input).shape.length,
    dtype: (input) => b.type(input).dtype,
    fail(message) {
      throw new Error(message);
    },
  };
  const node = OPS.get(name)!.onnx.upgrade!({ inputs: [x], outputs: ['y'], attrs }, ctx);
  b.node(node.op ?? name, node.inputs, { attrs: node.attrs, outputs: node.outputs });
  b.output('y');
  const graph = b.finish();
  const count = shape.reduce((n, d) => n * d, 1);
  const input = fromNumbers(
    'f32',
    shape,
    Array.from({ length: count }, (_, i) => Math.sin(7 * i) * 3),
  );
  const y = evalGraph(graph, OPS, new Map([['x', input]])).get('y')!;
  return { input: Array.from(toNumbers(input)), y, ops: graph.nodes.map((n) => n.op) };
}

/** Softmax over rows of `length` neighbouring elements. */
function softmaxRows(x: readonly number[], length: number): number[] {
  return x.map((value, i) => {
    const row = x.slice(i - (i % length), i - (i % length) + length);
    return Math.exp(value) / row.reduce((sum, v) => sum + Math.exp(v), 0);
  });
}

describe('the form before opset 13', () => {
  it.each([
    { shape: [2, 3, 5], attrs: {}, row: 15 },
    { shape: [2, 3, 5], attrs: { axis: 0 }, row: 30 },
    { shape: [2, 3, 5], attrs: { axis: -1 }, row: 5 },
    { shape: [2, 3, 5], attrs: { axis: 3 }, row: 1 },
    { shape: [2, 7, 1, 1], attrs: { axis: 1 }, row: 7 },
    { shape: [4, 1, 3], attrs: { axis: 1 }, row: 3 },
  ])('makes one row of all dims from the axis on: $shape $attrs', ({ shape, attrs, row }) => {
    const { input, y } = evalUpgraded('Softmax', shape, attrs);
    expect(y.shape).toEqual(shape);
    const expected = softmaxRows(input, row);
    for (let i = 0; i < expected.length; i++) expect(Number(y.data[i])).toBeCloseTo(expected[i], 6);
  });

  it('needs no reshape where one dim of the row is wider than 1', () => {
    expect(evalUpgraded('Softmax', [2, 7, 1, 1], {}).ops).toEqual(['Softmax']);
    expect(evalUpgraded('LogSoftmax', [1, 1, 6], {}).ops).toEqual(['LogSoftmax']);
  });

  it('marks one maximum a flattened row in Hardmax', () => {
    const { y } = evalUpgraded('Hardmax', [3, 2, 4], {});
    const marks = Array.from(toNumbers(y));
    const ones = [0, 1, 2].map((row) => marks.slice(8 * row, 8 * row + 8).filter((v) => v === 1).length);
    expect(ones).toEqual([1, 1, 1]);
  });
});

it('gives finite probabilities where exponentials would overflow', () => {
  const x = fromNumbers('f32', [1, 3], [1000, 999, -1000]);
  const [y] = OPS.get('Softmax')!.eval([x], { axis: -1 }, [x]);
  expect(Array.from(toNumbers(y)).every(Number.isFinite)).toBe(true);
  expect(Number(y.data[0])).toBeCloseTo(1 / (1 + Math.exp(-1)), 6);
});
