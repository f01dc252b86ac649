import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DTYPES, type DType, isSmallInt, storageOf } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { addDims, type Dim, mulDims, sym } from '../core/shape.ts';
import { fromNumbers, type Tensor, type ValueType, wrapSmall } from '../core/tensor.ts';
import type { Attrs, AttrValue, Graph, Node } from './ir.ts';
import { parseGraph } from './parse.ts';
import { printGraph } from './print.ts';

const oddName = fc.oneof(
  fc.constantFrom(
    '_',
    'input',
    'const',
    'graph',
    'output',
    'extern',
    'nan',
    'a b',
    '"',
    "it's",
    '\\',
    '495',
    '',
    'a\nb',
  ),
  fc.string({ unit: 'binary', maxLength: 8 }),
  fc.stringMatching(/^[a-z/][a-z0-9/.]{0,6}$/),
);
const number = fc.oneof(fc.integer(), fc.double(), fc.constantFrom(-0, Number.NaN, Infinity, -Infinity, 5e-324));
const dim: fc.Arbitrary<Dim> = fc
  .array(
    fc.tuple(
      oddName.filter((n) => n !== ''),
      fc.integer({ min: -3, max: 3 }),
    ),
    { maxLength: 3 },
  )
  .chain((terms) =>
    fc
      .integer({ min: -5, max: 300 })
      .map((constant) => terms.reduce<Dim>((d, [n, k]) => addDims(d, mulDims(k, sym(n))), constant)),
  );
const dtype = fc.constantFrom(...(Object.keys(DTYPES) as DType[]));
const valueType: fc.Arbitrary<ValueType> = fc.record({ dtype, shape: fc.array(dim, { maxLength: 4 }) });

/** Elements from raw bits, so that every NaN payload and subnormal comes up. bool holds 0 and 1 only, small dtypes what their bits can. */
const tensor: fc.Arbitrary<Tensor> = fc.tuple(dtype, fc.array(fc.nat(3), { maxLength: 3 })).chain(([type, shape]) => {
  const count = shape.reduce((n, d) => n * d, 1);
  const bytes = count * DTYPES[type].bytes;
  return fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((raw) => {
    const data = new DTYPES[type].array(new Uint8Array(raw).buffer);
    const { bits = 8 } = DTYPES[type];
    if (type === 'bool') return { dtype: type, shape, data: (data as Uint8Array).map((b) => b & 1) };
    const inBits = (v: number): number => (isSmallInt(type) ? wrapSmall(type, v) : v & (2 ** bits - 1));
    return { dtype: type, shape, data: storageOf(type) === type ? data : (data as Uint8Array).map(inBits) };
  });
});

/** A record of what the text form must keep; its graphs need not make sense. */
const graphOfDepth = (depth: number): fc.Arbitrary<Graph> => {
  const attr: fc.Arbitrary<AttrValue> = fc.oneof(
    number,
    fc.string({ unit: 'binary' }),
    fc.boolean(),
    fc.array(number),
    fc.array(oddName),
    tensor,
    ...(depth > 0 ? [graphOfDepth(depth - 1)] : []),
  );
  const attrs: fc.Arbitrary<Attrs> = fc.dictionary(oddName, attr, { maxKeys: 3, noNullPrototype: true });
  const node: fc.Arbitrary<Node> = fc.record(
    {
      op: oddName,
      inputs: fc.array(oddName, { maxLength: 3 }),
      outputs: fc.array(oddName, { minLength: 1, maxLength: 2 }),
      attrs,
      loc: fc.array(oddName, { maxLength: 2 }),
    },
    { noNullPrototype: true },
  );
  return fc
    .record({
      name: oddName,
      inputs: fc.uniqueArray(oddName, { maxLength: 3 }),
      outputs: fc.array(oddName, { maxLength: 2 }),
      constants: fc.array(fc.tuple(oddName, tensor), { maxLength: 3 }),
      nodes: fc.array(node, { maxLength: 3 }),
      types: fc.array(valueType, { minLength: 3, maxLength: 9 }),
    })
    .map(({ name, inputs, outputs, constants, nodes, types }) => {
      const values = new Map<string, ValueType>();
      const draw = (): ValueType => types[values.size % types.length];
      for (const input of inputs) values.set(input, draw());
      for (const output of nodes.flatMap((n) => n.outputs)) if (output !== '') values.set(output, draw());
      const kept = new Map(constants.filter(([constant]) => !values.has(constant)));
      for (const [constant, { dtype, shape }] of kept) values.set(constant, { dtype, shape });
      return { name, inputs, outputs, values, constants: kept, nodes };
    });
};

/** vitest compares NaNs as equal whatever their bits, so tensors are compared by their bytes too. */
function tensorBits(graph: Graph): unknown[] {
  const bits = (t: Tensor): number[] => [...new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength)];
  const ofAttr = (value: AttrValue): unknown => {
    if (typeof value !== 'object' || Array.isArray(value)) return null;
    if ('nodes' in value) return tensorBits(value);
    return 'data' in value ? bits(value) : null;
  };
  return [
    ...[...graph.constants.values()].map(bits),
    ...graph.nodes.map((node) => Object.values(node.attrs).map(ofAttr)),
  ];
}

const example: Graph = {
  name: 'net',
  inputs: ['x'],
  outputs: ['y'],
  values: new Map<string, ValueType>([
    ['x', { dtype: 'f32', shape: [addDims(mulDims(2, sym('n')), -1), 3] }],
    ['w', { dtype: 'f16', shape: [3] }],
    ['big', { dtype: 'i64', shape: [20] }],
    ['y', { dtype: 'f32', shape: [sym('floor((n)/(2))'), 7] }],
  ]),
  constants: new Map([
    ['w', fromNumbers('f16', [3], [1, 2.5, Number.NaN])],
    [
      'big',
      fromNumbers(
        'i64',
        [20],
        Array.from({ length: 20 }, (_, i) => i),
      ),
    ],
  ]),
  nodes: [
    {
      op: 'com.microsoft.Mix',
      inputs: ['x', '', 'w', 'big'],
      outputs: ['', 'y'],
      attrs: { strides: [2, 2], mode: 'same "upper"', alpha: Number.NEGATIVE_INFINITY, on: true },
      loc: ['/stem/conv', 'node 2'],
    },
  ],
};

describe('printGraph and parseGraph', () => {
  it('print what a reader expects', () => {
    expect(printGraph(example)).toBe(
      [
        'graph net {',
        '  input x: f32[2*n-1,3]',
        '  const w: f16[3] = {1, 2.5, nan}',
        '  const big: i64[20] = extern',
        '  _, y: f32["floor((n)/(2))",7] = com.microsoft.Mix(x, _, w, big) {strides=[2, 2], mode="same \\"upper\\"", alpha=-inf, on=true} loc(/stem/conv, "node 2")',
        '  output y',
        '}',
      ].join('\n'),
    );
  });

  it('resolve large constants by name and type', () => {
    const big = example.constants.get('big') as Tensor;
    expect(parseGraph(printGraph(example), () => big)).toEqual(example);
    expect(() => parseGraph(printGraph(example))).toThrow(/"big" are not in the text/);
    expect(() => parseGraph(printGraph(example), () => fromNumbers('i64', [1], [1]))).toThrow(
      /is i64\[20\] in the graph/,
    );
  });

  it('give back every graph to the bit', () => {
    fc.assert(
      fc.property(graphOfDepth(1), (graph) => {
        const back = parseGraph(printGraph(graph, { inlineElements: 30 }));
        expect(back).toEqual(graph);
        expect(tensorBits(back)).toEqual(tensorBits(graph));
      }),
      { numRuns: 400 },
    );
  });

  it('refuse texts that are no graph, naming the line', () => {
    for (const [text, message] of [
      ['', /line 1: expected "graph", found the end/],
      ['graph g {\n  input x f32[1]\n}', /line 2: expected ":", found "f32"/],
      ['graph g {\n  input x: f33[1]\n}', /line 2: expected a dtype/],
      ['graph g {\n  const c: f32[3] = {1, 2}\n}', /3 elements before this, not 2/],
      ['graph g {\n  const c: f32[1000000000] = {}\n}', /1000000000 elements/],
      ['graph g {\n  const c: i64[1] = {1.5}\n}', /an integer, not 1.5/],
      ['graph g {\n  output y output z\n}', /the end of the line/],
      ['graph g {\n  §\n}', /a name, a number or a mark/],
      ['graph g {\n} more', /expected the end/],
      [`${'graph g { y: f32[] = Op() {body='.repeat(60)}`, /50 graphs inside/],
    ] as const) {
      expect(() => parseGraph(text), text).toThrow(message);
      expect(() => parseGraph(text), text).toThrow(ModelError);
    }
  });

  it('refuse or read every mutation of a good text, never anything else', () => {
    const text = printGraph(example, { inlineElements: 30 });
    fc.assert(
      fc.property(fc.nat(text.length), fc.nat(5), fc.string({ maxLength: 3 }), (at, drop, put) => {
        try {
          parseGraph(text.slice(0, at) + put + text.slice(at + drop));
        } catch (error) {
          expect(error).toBeInstanceOf(ModelError);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('read long strings', () => {
    const long: Graph = { ...example, name: 'x'.repeat(20_000_000) };
    expect(parseGraph(`graph "${long.name} " {\n}`).name).toHaveLength(20_000_001);
  });
});
