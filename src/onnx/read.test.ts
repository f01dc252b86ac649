/**
 * The reader on models made field by field: forms that no writer of ours makes.
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
  type ModelInit,
  node,
  output,
  protoBytes,
} from '../../tests/model-protos.ts';
import { ModelError } from '../core/errors.ts';
import { printShape } from '../core/shape.ts';
import { fromNumbers, toNumbers } from '../core/tensor.ts';
import { evalGraph } from '../graph/eval.ts';
import type { Graph } from '../graph/ir.ts';
import { OPS } from '../ops/all.ts';
import { describeOnnx } from './describe.ts';
import { NEWEST_OPSET } from './opsets.ts';
import { readOnnx } from './read.ts';

const read = (graph: GraphInit, more: Partial<ModelInit> = {}, opset = 21): Graph =>
  readOnnx(protoBytes(graph, more, opset), { ops: OPS });
const errorOf = (work: () => unknown): ModelError => {
  try {
    work();
  } catch (error) {
    if (error instanceof ModelError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
};
const run = (graph: Graph, x: number[]): number[] => {
  const [result] = evalGraph(graph, OPS, new Map([['x', fromNumbers('f32', [x.length], x)]])).values();
  return Array.from(toNumbers(result));
};
const opsOf = (graph: Graph): string[] => graph.nodes.map((n) => n.op);
const x4 = { input: [f32('x', 4)], output: output('y') };

describe('inputs and constants', () => {
  test('dims are numbers, names, sums of names, or get a name', () => {
    const graph = read({
      input: [f32('x', 'n', 3, undefined, 'past + 2*new - 1', -1, 'a/b'), f32('z', 'n')],
      node: [node('Relu: x -> y')],
      output: output('y'),
    });
    expect(printShape(graph.values.get('x')!.shape)).toBe('[n,3,x_2,2*new+past-1,x_4,a_b]');
    expect(graph.inputs).toEqual(['x', 'z']);
  });
  test('an initializer that is also an input is a constant', () => {
    const graph = read({
      input: [f32('x', 1), f32('w', 1)],
      initializer: [{ name: 'w', dims: [1n], dataType: 1, floatData: [3] }],
      node: [node('Add: x w -> y')],
      output: output('y'),
    });
    expect(graph.inputs).toEqual(['x']);
    expect([...graph.constants.keys()]).toEqual(['w']);
  });
  test('Constant nodes are constants, exact in every spelling', () => {
    const spellings: AttrInit[] = [
      { name: 'value', type: 4, t: i64('', [7]) },
      { name: 'value_int', type: 2, i: 2n ** 62n + 1n },
      { name: 'value_ints', type: 7, ints: [1n, -(2n ** 63n)] },
      { name: 'value_float', type: 1, f: 0.5 },
      { name: 'value_floats', type: 6, floats: [1.5, -2] },
    ];
    const graph = read({
      node: spellings.map((attr, i) => node(`Constant: -> c${i}`, [attr])),
      output: output('c0', 'c1', 'c2', 'c3', 'c4'),
    });
    expect(graph.nodes).toEqual([]);
    expect([...graph.constants.values()].map((t) => [t.dtype, t.shape, [...t.data]])).toEqual([
      ['i64', [1], [7n]],
      ['i64', [], [2n ** 62n + 1n]],
      ['i64', [2], [1n, -(2n ** 63n)]],
      ['f32', [], [0.5]],
      ['f32', [2], [1.5, -2]],
    ]);
  });
  test('what the outputs do not need is dropped, unsupported or not', () => {
    const graph = read({
      ...x4,
      initializer: [{ name: 'unused', dims: [1n], dataType: 8 }],
      node: [node('Relu: x -> y'), node('NoSuchOperator: x -> z'), node('Neg: x -> w')],
    });
    expect(opsOf(graph)).toEqual(['Relu']);
    expect(graph.constants.size).toBe(0);
  });
});

describe('order', () => {
  test('nodes out of order are sorted, others stay', () => {
    const graph = read({ ...x4, node: [node('Neg: b -> y'), node('Relu: x -> a'), node('Abs: a -> b')] });
    expect(opsOf(graph)).toEqual(['Relu', 'Abs', 'Neg']);
  });
  test('a cycle names its nodes', () => {
    const error = errorOf(() =>
      read({
        ...x4,
        node: [
          node('Add: x c -> a', [], { name: 'first' }),
          node('Abs: a -> b'),
          node('Neg: b -> c'),
          node('Relu: c -> y'),
        ],
      }),
    );
    expect(error.code).toBe('model-invalid');
    expect(error.message).toMatch(/cycle/);
    expect(error.details).toEqual(expect.arrayContaining(['Add "first"', 'Abs "Abs#1"', 'Neg "Neg#2"']));
    expect(error.details).toHaveLength(3);
  });
  test('a chain deeper than the call stack is sorted', () => {
    const length = 12_000;
    const nodes = Array.from({ length }, (_, i) => node(`Neg: v${i} -> v${i + 1}`)).reverse();
    const graph = read({ input: [f32('v0', 1)], node: nodes, output: output(`v${length}`) });
    expect(graph.nodes).toHaveLength(length);
  });
});

describe('local functions', () => {
  const fn = {
    domain: 'my',
    name: 'Scaled',
    input: ['a', 'b'],
    output: ['r'],
    attribute: ['axis'],
    opsetImport: [{ version: 18n }],
  };
  const opsetImport = [{ version: 21n }, { domain: 'my', version: 1n }];

  test('are inlined with values of their own, parameters and defaults bound', () => {
    const functions = [
      {
        ...fn,
        attributeProto: [int('keep', 0)],
        node: [
          node('Neg: a -> t'),
          node('Softmax: t -> s', [{ name: 'axis', type: 2, refAttrName: 'axis' }]),
          node('Add: s b -> r'),
        ],
      },
    ];
    const graph = read(
      {
        input: [f32('x', 2, 2)],
        node: [
          node('Scaled: x x -> m', [int('axis', 0)], { domain: 'my', name: 'one' }),
          node('Scaled: m x -> y', [], { domain: 'my', name: 'two' }),
        ],
        output: output('y'),
      },
      { functions, opsetImport },
    );
    expect(graph.nodes.map((n) => [n.op, n.inputs, n.outputs, n.loc[0]])).toEqual([
      ['Neg', ['x'], ['one/t'], 'one/Neg#0'],
      ['Softmax', ['one/t'], ['one/s'], 'one/Softmax#1'],
      ['Add', ['one/s', 'x'], ['m'], 'one/Add#2'],
      ['Neg', ['m'], ['two/t'], 'two/Neg#0'],
      ['Softmax', ['two/t'], ['two/s'], 'two/Softmax#1'],
      ['Add', ['two/s', 'x'], ['y'], 'two/Add#2'],
    ]);
    expect(graph.nodes.filter((n) => n.op === 'Softmax').map((n) => n.attrs.axis)).toEqual([0, -1]);
  });
  test('may hand an input through, and call each other', () => {
    const functions = [
      { ...fn, name: 'Outer', node: [node('Inner: a -> r', [], { domain: 'my' })], input: ['a'] },
      { ...fn, name: 'Inner', node: [], input: ['i'], output: ['i'] },
    ];
    const graph = read({ ...x4, node: [node('Outer: x -> y', [], { domain: 'my' })] }, { functions, opsetImport });
    expect(graph.nodes.map((n) => [n.op, n.inputs, n.outputs])).toEqual([['Identity', ['x'], ['y']]]);
  });
  test('that call themselves are refused', () => {
    const functions = [{ ...fn, node: [node('Scaled: a b -> r', [], { domain: 'my' })] }];
    const error = errorOf(() =>
      read({ ...x4, node: [node('Scaled: x x -> y', [], { domain: 'my' })] }, { functions, opsetImport }),
    );
    expect(error.message).toMatch(/function Scaled calls itself/);
  });
  test('that stand for exponentially many nodes are refused, soon', () => {
    const functions = Array.from({ length: 40 }, (_, i) => ({
      ...fn,
      name: `F${i}`,
      input: ['a'],
      node: [node(`F${i + 1}: a -> t`, [], { domain: 'my' }), node(`F${i + 1}: t -> r`, [], { domain: 'my' })],
    }));
    functions.push({ ...fn, name: 'F40', input: ['a'], node: [node('Neg: a -> r')] });
    const error = errorOf(() =>
      read({ ...x4, node: [node('F0: x -> y', [], { domain: 'my' })] }, { functions, opsetImport }),
    );
    expect(error.message).toMatch(/over 100000 nodes/);
  });
});

describe('control flow on what is known', () => {
  const branch = (op: string): GraphInit => ({ node: [node(`${op}: x -> r`)], output: output('r') });

  test.each([
    [true, 'Neg'],
    [false, 'Abs'],
  ])('If %s is its branch', (condition, op) => {
    const graph = read({
      ...x4,
      initializer: [bool('c', condition)],
      node: [
        node('If: c -> t', [graphAttr('then_branch', branch('Neg')), graphAttr('else_branch', branch('Abs'))]),
        node('Relu: t -> y'),
      ],
    });
    expect(opsOf(graph)).toEqual([op, 'Identity', 'Relu']);
    expect(run(graph, [-1, 2, -3, 4])).toEqual(op === 'Neg' ? [1, 0, 3, 0] : [1, 2, 3, 4]);
  });
  test('Loop runs as often as it says, carrying values and stacking what it collects', () => {
    const body: GraphInit = {
      input: [{ name: 'i' }, { name: 'go' }, { name: 'v' }],
      node: [
        node('Cast: i -> fi', [int('to', 1)]),
        node('Add: v fi -> w'),
        node('Identity: go -> on'),
        node('Mul: w w -> square'),
      ],
      output: output('on', 'w', 'square'),
    };
    const graph = read({
      input: [f32('x', 2)],
      initializer: [i64('trips', [3], [])],
      node: [
        node('Loop: trips _ x -> last squares', [graphAttr('body', body)]),
        node('ReduceSum: squares -> sum', [int('keepdims', 0)]),
        node('Add: last sum -> y'),
      ],
      output: output('y'),
    });
    // x+0, x+0+1, x+0+1+2 and the sum of their squares.
    const x = [1, 10];
    const sum = [1, 10, 2, 11, 4, 13].reduce((s, v) => s + v * v, 0);
    expect(run(graph, x)).toEqual([x[0] + 3 + sum, x[1] + 3 + sum]);
  });
  test('Loop ends where its condition, known by then, says so', () => {
    const body: GraphInit = {
      input: [{ name: 'i' }, { name: 'go' }, { name: 'v' }],
      initializer: [i64('two', [2], [])],
      node: [node('Less: i two -> on'), node('Neg: v -> w')],
      output: output('on', 'w'),
    };
    const graph = read({
      ...x4,
      initializer: [i64('trips', [100], []), bool('yes', true)],
      node: [node('Loop: trips yes x -> y', [graphAttr('body', body)])],
    });
    expect(opsOf(graph).filter((op) => op === 'Neg')).toHaveLength(3);
  });
  test('sequences are lists while the model is read', () => {
    const body: GraphInit = {
      input: [{ name: 'i' }, { name: 'go' }, { name: 's' }],
      node: [node('SequenceInsert: s x -> t'), node('Identity: go -> on')],
      output: output('on', 't'),
    };
    const graph = read({
      ...x4,
      initializer: [i64('trips', [3], []), i64('at', [-1], [])],
      node: [
        node('SequenceEmpty: -> empty'),
        node('Loop: trips _ empty -> full', [graphAttr('body', body)]),
        node('SequenceErase: full at -> two'),
        node('SequenceAt: two at -> last'),
        node('ConcatFromSequence: two -> both', [int('axis', 0), int('new_axis', 1)]),
        node('SequenceLength: two -> n'),
        node('Cast: n -> fn', [int('to', 1)]),
        node('ReduceSum: both -> sum', [int('keepdims', 0)]),
        node('Add: sum fn -> a'),
        node('Add: a last -> y'),
      ],
    });
    // Twice 1+2+3+4, and 2 elements, and the last element.
    expect(run(graph, [1, 2, 3, 4])).toEqual([23, 24, 25, 26]);
  });
  test('a loop without end is refused, soon', () => {
    const body: GraphInit = {
      input: [{ name: 'i' }, { name: 'go' }, { name: 'v' }],
      node: [],
      output: output('go', 'v'),
    };
    const graph = {
      ...x4,
      initializer: [bool('yes', true)],
      node: [node('Loop: _ yes x -> y', [graphAttr('body', body)])],
    };
    expect(errorOf(() => read(graph)).message).toMatch(/over 100000 nodes/);
  });
});

describe('problems', () => {
  test('all unsupported operators are listed, each with its nodes, and other problems too', () => {
    const error = errorOf(() =>
      read({
        input: [f32('x', 4), { name: 'untyped' }],
        initializer: [{ name: 'w', dims: [3n], dataType: 1, floatData: [1] }],
        node: [
          node('Foo: x -> a', [], { name: '/foo1' }),
          node('Foo: a -> b', [], { name: '/foo2' }),
          node('Bar: b -> c', [], { domain: 'com.example' }),
          node('Relu: c -> d'),
          node('Add: x w -> e'),
          node('Add: untyped d -> f'),
        ],
        output: output('d', 'e', 'f', 'missing'),
      }),
    );
    expect(error.code).toBe('onnx-unsupported');
    expect(error.details).toEqual([
      expect.stringMatching(/^operator Foo is not supported \(nodes "\/foo1", "\/foo2"\)$/),
      expect.stringMatching(/^operator com\.example\.Bar is not supported \(node "Bar#2"\)$/),
      expect.stringMatching(/input "untyped" has no type/),
      expect.stringMatching(/initializer "w": f32\[3\] has 1 elements of data/),
      expect.stringMatching(/"missing"/),
    ]);
    expect(error.message).toMatch(/^5 problems/);
  });
  test('a message names some of many nodes, the details all', () => {
    const nodes = Array.from({ length: 9 }, (_, i) => node(`Foo: x -> y${i}`, [], { name: `/${i}` }));
    const error = errorOf(() =>
      read({ input: [f32('x', 1)], node: nodes, output: nodes.map((n) => ({ name: n.output![0] })) }),
    );
    expect(error.message).toMatch(/"\/3" and 5 more\)/);
    expect(error.details[0]).toMatch(/"\/8"/);
  });
  test.each([
    ['a value that is defined twice', { ...x4, node: [node('Relu: x -> y'), node('Neg: x -> y')] }, 'model-invalid'],
    ['an input that nothing defines', { ...x4, node: [node('Add: x nowhere -> y')] }, 'model-invalid'],
    [
      'an input without a shape',
      {
        input: [{ name: 'x', type: { value: { case: 'tensorType', value: { elemType: 1 } } } }],
        node: [node('Relu: x -> y')],
        output: output('y'),
      },
      'shape-unknown',
    ],
    [
      'an input of strings',
      {
        input: [{ name: 'x', type: { value: { case: 'tensorType', value: { elemType: 8, shape: {} } } } }],
        node: [node('Relu: x -> y')],
        output: output('y'),
      },
      'onnx-unsupported',
    ],
    [
      'an input that is a sequence',
      {
        input: [{ name: 'x', type: { value: { case: 'sequenceType', value: {} } } }],
        node: [node('Relu: x -> y')],
        output: output('y'),
      },
      'onnx-unsupported',
    ],
    ['no outputs', { input: [f32('x', 1)] }, 'model-invalid'],
    [
      'shapes that do not fit',
      { input: [f32('x', 2), f32('z', 3)], node: [node('Add: x z -> y')], output: output('y') },
      'shape-mismatch',
    ],
    ['an unknown attribute', { ...x4, node: [node('Relu: x -> y', [int('colour', 1)])] }, 'model-invalid'],
    [
      'a sparse initializer',
      { ...x4, sparseInitializer: [{ values: { name: 'w' } }], node: [node('Add: x w -> y')] },
      'onnx-unsupported',
    ],
  ] as const)('%s', (_name, graph, code) => {
    expect(errorOf(() => read(graph as unknown as GraphInit)).code).toBe(code);
  });
  test('opsets: too old is refused, too new is a warning, an operator before its time is unsupported', () => {
    const relu = { ...x4, node: [node('Relu: x -> y')] };
    expect(read(relu, {}, 6).nodes).toMatchObject([{ op: 'Relu' }]);
    expect(errorOf(() => read(relu, {}, 5))).toMatchObject({
      code: 'onnx-unsupported',
      message: expect.stringMatching(/since opset 6, the model has 5/),
    });
    expect(errorOf(() => read(relu, { opsetImport: [] }))).toMatchObject({
      message: expect.stringMatching(/since opset 6, the model has/),
    });
    const functions = [{ domain: 'my', name: 'F', opsetImport: [{ version: 0n }] }];
    expect(errorOf(() => read(relu, { functions }))).toMatchObject({ message: expect.stringMatching(/opset 0,/) });
    expect(errorOf(() => read(relu, { opsetImport: [{ domain: 'my', version: 9n }] })).message).toMatch(
      /the model has 0/,
    );
    const warnings: string[] = [];
    readOnnx(protoBytes(relu, {}, NEWEST_OPSET + 1), { ops: OPS, onWarning: (w) => warnings.push(w) });
    expect(warnings).toEqual([expect.stringMatching(new RegExp(`opset ${NEWEST_OPSET + 1}`))]);
    expect(errorOf(() => read({ ...x4, node: [node('Gelu: x -> y')] }, {}, 19)).message).toMatch(
      /exists since opset 20, the model has 19/,
    );
  });
});

test('a description needs no operators', () => {
  const graph = {
    ...x4,
    name: 'net',
    initializer: [i64('w', [1, 2, 3])],
    node: [node('Foo: x -> a'), node('Foo: a -> b'), node('Relu: b -> y')],
  };
  expect(describeOnnx(protoBytes(graph, { producerName: 'tool', producerVersion: '2' }))).toEqual({
    kind: 'onnx',
    name: 'net',
    irVersion: 10,
    producer: 'tool 2',
    opsets: { 'ai.onnx': 21 },
    inputs: [{ name: 'x', dtype: 'f32', shape: [4] }],
    outputs: [{ name: 'y', dtype: 'unknown', shape: undefined }],
    operators: [
      { op: 'Foo', count: 2 },
      { op: 'Relu', count: 1 },
    ],
    nodes: 3,
    functions: 0,
    parameters: 3,
    parameterBytes: 24,
    externalFiles: [],
  });
});
