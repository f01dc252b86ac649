/**
 * Control flow whose conditions only running tells, and Scan: written out as nodes that select.
 */
import { describe, expect, test } from 'vitest';
import {
  type AttrInit,
  bool,
  f32,
  type GraphInit,
  graphAttr,
  i64,
  int,
  node,
  output,
  protoBytes,
} from '../../tests/model-protos.ts';
import { ModelError } from '../core/errors.ts';
import { fromNumbers, toNumbers } from '../core/tensor.ts';
import { evalGraph } from '../graph/eval.ts';
import { OPS } from '../ops/all.ts';
import { readOnnx } from './read.ts';

/** Output values of the model for an x of this shape. */
function run(graph: GraphInit, shape: number[], x: number[], opset = 21): number[][] {
  const read = readOnnx(protoBytes(graph, {}, opset), { ops: OPS });
  const results = evalGraph(read, OPS, new Map([['x', fromNumbers('f32', shape, x)]]));
  return [...results.values()].map((value) => Array.from(toNumbers(value)));
}
function errorOf(graph: GraphInit): ModelError {
  try {
    readOnnx(protoBytes(graph), { ops: OPS });
  } catch (error) {
    if (error instanceof ModelError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}
const ints = (name: string, ...values: number[]): AttrInit => ({ name, type: 7, ints: values.map(BigInt) });

describe('If on what only running tells', () => {
  const branch = (...nodes: GraphInit['node'] & object): GraphInit => ({ node: nodes, output: output('r') });
  const positive = [node('ReduceSum: x -> sum', [int('keepdims', 0)]), node('Greater: sum zero -> c')];
  const zero = { name: 'zero', dataType: 1, floatData: [0] };
  const choose = (yes: GraphInit, no: GraphInit): GraphInit => ({
    input: [f32('x', 3)],
    initializer: [zero],
    node: [
      ...positive,
      node('If: c -> y', [graphAttr('then_branch', yes), graphAttr('else_branch', no)], { name: '/if' }),
    ],
    output: output('y'),
  });

  test('is a choice between the results of both branches', () => {
    const graph = choose(branch(node('Neg: x -> r')), branch(node('Add: x x -> r')));
    expect(run(graph, [3], [1, 2, -1])).toEqual([[-1, -2, 1]]);
    expect(run(graph, [3], [1, -2, -1])).toEqual([[2, -4, -2]]);
  });
  test('takes a condition of one element', () => {
    const graph: GraphInit = {
      input: [f32('x', 1)],
      node: [
        node('Cast: x -> c', [int('to', 9)]),
        node('ReduceSum: x -> s', [int('keepdims', 0)]),
        node('If: c -> y', [
          graphAttr('then_branch', branch(node('Neg: s -> r'))),
          graphAttr('else_branch', branch(node('Identity: s -> r'))),
        ]),
      ],
      output: output('y'),
    };
    expect(run(graph, [1], [3])).toEqual([[-3]]);
  });
  test('of different shapes it gives the one that is taken', () => {
    const graph = choose(branch(node('Neg: x -> r')), branch(node('ReduceSum: x -> r')));
    expect(run(graph, [3], [1, 2, 3])).toEqual([[-1, -2, -3]]);
    expect(run(graph, [3], [1, -2, -3])).toEqual([[-4]]);
  });
  test('is refused where the branches give different ranks', () => {
    const error = errorOf(choose(branch(node('Neg: x -> r')), branch(node('ReduceSum: x -> r', [int('keepdims', 0)]))));
    expect(error.code).toBe('onnx-unsupported');
    expect(error.message).toMatch(
      /If "\/if": its condition "c" is only known when the model runs, .* differs in shape: \[3\] and \[\]/,
    );
  });
});

describe('Loop that ends when only running tells', () => {
  /** v doubles while its sum stays below 10. */
  const body: GraphInit = {
    input: [{ name: 'i' }, { name: 'go' }, { name: 'v' }],
    node: [
      node('Add: v v -> w'),
      node('ReduceSum: w -> sum', [int('keepdims', 0)]),
      node('Less: sum ten -> on'),
      node('Neg: w -> minus'),
    ],
    output: output('on', 'w', 'minus'),
  };
  const loop = (trips: number, outputs = 'y'): GraphInit => ({
    input: [f32('x', 2)],
    initializer: [i64('trips', [trips], []), bool('yes', true), { name: 'ten', dataType: 1, floatData: [10] }],
    node: [node(`Loop: trips yes x -> ${outputs}`, [graphAttr('body', body)], { name: '/loop' })],
    output: output('y'),
  });

  test('keeps its values after the last iteration', () => {
    expect(run(loop(6), [2], [1, 1])).toEqual([[8, 8]]);
    expect(run(loop(6), [2], [50, 1])).toEqual([[100, 2]]);
    expect(run(loop(2), [2], [1, 0])).toEqual([[4, 0]]);
  });
  test('is refused without a bound, and where what it collects has no known length', () => {
    for (const graph of [loop(2 ** 40), loop(6, '_ y')]) {
      const error = errorOf(graph);
      expect(error.code).toBe('onnx-unsupported');
      expect(error.message).toMatch(/Loop "\/loop": its .* is only known when the model runs/);
    }
  });
});

describe('Scan', () => {
  /** s' = s + e, collecting s'. */
  const body: GraphInit = {
    input: [{ name: 's' }, { name: 'e' }],
    node: [node('Add: s e -> t'), node('Identity: t -> out')],
    output: output('t', 'out'),
  };
  const scan = (attrs: AttrInit[], length: number | string = 2): GraphInit => ({
    input: [f32('x', length, 3)],
    initializer: [{ name: 'zero', dataType: 1, floatData: [0] }],
    node: [node('Scan: zero x -> last all', [graphAttr('body', body), int('num_scan_inputs', 1), ...attrs])],
    output: output('last', 'all'),
  });
  const x = [1, 2, 3, 4, 5, 6];

  test('runs over the first axis', () => {
    expect(run(scan([]), [2, 3], x)).toEqual([
      [5, 7, 9],
      [1, 2, 3, 5, 7, 9],
    ]);
  });
  test('runs over another axis, from its end, stacking along another and from its end', () => {
    const attrs = [
      ints('scan_input_axes', -1),
      ints('scan_input_directions', 1),
      ints('scan_output_axes', 1),
      ints('scan_output_directions', 1),
    ];
    // Columns 3,6 · 2,5 · 1,4: sums 3,6 · 5,11 · 6,15, the last in front.
    expect(run(scan(attrs), [2, 3], x)).toEqual([
      [6, 15],
      [6, 5, 3, 15, 11, 6],
    ]);
  });
  test('is refused where the axis is open', () => {
    expect(errorOf(scan([], 'n')).message).toMatch(
      /Scan "Scan#0": the size of "x" along axis 0, which it scans, is not known/,
    );
  });
});
