/** Binding of open sizes, evaluation, verification and edits, on graphs of real operators. */
import { describe, expect, it } from 'vitest';
import { Bug, ModelError } from '../../src/core/errors.ts';
import { addDims, mulDims, type Shape, sym } from '../../src/core/shape.ts';
import { fromNumbers, type Tensor } from '../../src/core/tensor.ts';
import { bindShapes } from '../../src/graph/bind.ts';
import { graphBuilder } from '../../src/graph/build.ts';
import { evalGraph } from '../../src/graph/eval.ts';
import type { Graph, Node } from '../../src/graph/ir.ts';
import { editGraph, freshNamesFor, nodeUses, producersOf, usersOf } from '../../src/graph/rewrite.ts';
import { rewriteNodes } from '../../src/graph/rewrite-nodes.ts';
import { verifyGraph } from '../../src/graph/verify.ts';
import { OPS } from '../../src/ops/all.ts';
import { defineOp } from '../../src/ops/op.ts';

const f32 = (shape: readonly number[], values: readonly number[]): Tensor => fromNumbers('f32', shape, values);
const messageOf = (run: () => unknown): string => {
  try {
    run();
    return 'nothing was thrown';
  } catch (error) {
    if (error instanceof ModelError || error instanceof Bug) return `${error.code}: ${error.message}`;
    throw error;
  }
};

/** y = relu(x + c) · x, z = relu(x + c); x may have any shape that fits c. */
function example(shape: Shape): Graph {
  const b = graphBuilder('example', OPS);
  const x = b.input('x', 'f32', shape);
  const [sum] = b.node('Add', [x, b.constant(f32([3], [1, -2, 3]), 'c')], { outputs: ['sum'], loc: ['/sum'] });
  const [z] = b.node('Relu', [sum], { outputs: ['z'], loc: ['/relu'] });
  const [y] = b.node('Mul', [z, x], { outputs: ['y'], loc: ['/mul'] });
  b.output(y);
  b.output(z);
  return b.finish();
}

describe('bindShapes', () => {
  const open = (): Graph => {
    const b = graphBuilder('open', OPS);
    b.input('x', 'f32', [sym('n'), 3, sym('h')]);
    b.input('y', 'f32', [addDims(mulDims(2, sym('n')), 1), 3, 1]);
    const [y] = b.node('Relu', ['x'], { outputs: ['z'] });
    b.output(y);
    b.output(b.node('Relu', ['y'], { outputs: ['w'] })[0]);
    return b.finish();
  };

  it('binds named sizes wherever they stand, and open ones to 1 with a warning each', () => {
    const warnings: string[] = [];
    const bound = bindShapes(open(), OPS, { x: [4, 3, 5] }, (w) => warnings.push(w));
    expect(bound.values.get('z')?.shape).toEqual([4, 3, 5]);
    expect(bound.values.get('w')?.shape).toEqual([9, 3, 1]);
    expect(warnings).toEqual([]);
    const ones = bindShapes(open(), OPS, {}, (w) => warnings.push(w));
    expect(ones.values.get('w')?.shape).toEqual([3, 3, 1]);
    expect(warnings).toEqual([
      'input "x" f32[n,3,h]: no size is given for "n", using 1',
      'input "x" f32[n,3,h]: no size is given for "h", using 1',
    ]);
  });

  it('refuses what contradicts the model', () => {
    const cases: readonly [Record<string, number[]>, RegExp][] = [
      [{ q: [1] }, /^input-unknown: a shape is given for "q"/],
      [{ x: [1, 3] }, /^shape-mismatch: .*is \[1,3\], with 2 dims; the model has "x" f32\[n,3,h\]/],
      [{ x: [1, 4, 5] }, /^shape-mismatch: .*dim 1 of the model's "x" f32\[n,3,h\] is 3/],
      [{ x: [1.5, 3, 5] }, /^option-invalid: .*has the size 1.5/],
      [{ x: [-1, 3, 5] }, /^option-invalid/],
      [{ x: [2, 3, 5], y: [4, 3, 1] }, /^shape-mismatch: .*dim 0 of the model's "y" f32\[2\*n\+1,3,1\] is 5/],
    ];
    for (const [shapes, message] of cases)
      expect(messageOf(() => bindShapes(open(), OPS, shapes, () => {}))).toMatch(message);
  });

  it('says which inputs disagree about a size', () => {
    const b = graphBuilder('two', OPS);
    b.input('a', 'f32', [sym('n')]);
    b.input('b', 'f32', [sym('n')]);
    b.output(b.node('Add', ['a', 'b'])[0]);
    const graph = b.finish();
    expect(messageOf(() => bindShapes(graph, OPS, { a: [2], b: [3] }, () => {}))).toMatch(
      /size "n" is 3 in the shape given for input "b" and 2 in the one for "a"/,
    );
  });

  it('reports a shape that a layer cannot take', () => {
    expect(messageOf(() => bindShapes(example([sym('n')]), OPS, { x: [4] }, () => {}))).toMatch(
      /^shape-mismatch: Add "\/sum"/,
    );
  });
});

describe('evalGraph', () => {
  const x = f32([2, 3], [1, 2, -3, -4, 5, 6]);

  it('computes outputs, binds open sizes, and shows every value once', () => {
    const seen: string[] = [];
    const run = (graph: Graph) =>
      evalGraph(graph, OPS, new Map([['x', x]]), { onValue: (name, _, node) => seen.push(`${node.op} ${name}`) });
    const outputs = run(example([2, 3]));
    expect([...outputs.keys()]).toEqual(['y', 'z']);
    expect(outputs.get('z')).toEqual(f32([2, 3], [2, 0, 0, 0, 3, 9]));
    expect(outputs.get('y')).toEqual(f32([2, 3], [2, 0, -0, -0, 15, 54]));
    expect(seen).toEqual(['Add sum', 'Relu z', 'Mul y']);
    expect(run(example([sym('n'), 3]))).toEqual(outputs);
  });

  it('computes sizes that only running tells', () => {
    const b = graphBuilder('dynamic', OPS);
    b.input('x', 'f32', [2, 3]);
    b.input('to', 'i64', [1]);
    const [flat] = b.node('Reshape', ['x', 'to']);
    b.output(b.node('Relu', [flat], { outputs: ['y'] })[0]);
    const y = evalGraph(
      b.finish(),
      OPS,
      new Map([
        ['x', x],
        ['to', fromNumbers('i64', [1], [-1])],
      ]),
    ).get('y');
    expect(y).toEqual(f32([6], [1, 2, 0, 0, 5, 6]));
  });

  it('refuses wrong inputs', () => {
    const graph = example([2, 3]);
    const cases: readonly [ReadonlyMap<string, Tensor>, RegExp][] = [
      [new Map(), /^input-missing: input "x" f32\[2,3\]/],
      [
        new Map([
          ['x', x],
          ['q', x],
        ]),
        /^input-unknown: "q"/,
      ],
      [
        new Map([['x', f32([3, 2], [1, 2, 3, 4, 5, 6])]]),
        /^input-mismatch: input "x" is f32\[3,2\], the model takes f32\[2,3\]/,
      ],
      [new Map([['x', fromNumbers('f16', [2, 3], [1, 2, 3, 4, 5, 6])]]), /^input-mismatch/],
    ];
    for (const [inputs, message] of cases) expect(messageOf(() => evalGraph(graph, OPS, inputs))).toMatch(message);
  });

  it('reports an operator whose eval and infer disagree as a Bug', () => {
    const liar = defineOp({
      name: 'Liar',
      onnx: { since: 1 },
      attrs: {},
      inputs: [1, 1],
      infer: (ctx) => [ctx.input(0)],
      eval: () => [f32([1], [0])],
      cases: [],
    });
    const ops = new Map([...OPS, [liar.key, liar]]);
    const b = graphBuilder('lie', ops);
    b.input('x', 'f32', [2, 3]);
    b.output(b.node('Liar', ['x'], { loc: ['/liar'] })[0]);
    const graph = b.finish();
    expect(messageOf(() => evalGraph(graph, ops, new Map([['x', x]])))).toMatch(
      /^eval-type: eval of Liar "\/liar" gave f32\[1\] for output 0, inferred was f32\[2,3\]/,
    );
  });
});

describe('verifyGraph', () => {
  const graph = example([2, 3]);
  const [sum, relu, mul] = graph.nodes;
  const withNodes = (...nodes: readonly Node[]): Graph => ({ ...graph, nodes });
  const withType = (name: string, shape: Shape): Graph => ({
    ...graph,
    values: new Map([...graph.values, [name, { dtype: 'f32', shape }]]),
  });

  it('accepts what the builder makes', () => {
    verifyGraph(graph, OPS);
    verifyGraph(example([sym('n'), 3]), OPS);
  });

  it('marks each problem under its line', () => {
    expect(messageOf(() => verifyGraph(withNodes(relu, sum, mul), OPS, 'shuffle'))).toContain(
      [
        '  z: f32[2,3] = Relu(sum) loc(/relu)',
        '  ^ "sum" is not defined before this',
        '  ^ Relu "/relu": input "sum" is not a value known here',
      ].join('\n'),
    );
    expect(messageOf(() => verifyGraph(withNodes(relu, sum, mul), OPS, 'shuffle'))).toContain(
      'after shuffle has 2 problems',
    );
  });

  it('finds every kind of damage', () => {
    const cases: readonly [Graph, RegExp][] = [
      [withNodes(sum, relu, mul, { ...mul, outputs: ['z'] }), /\^ "z" is defined already/],
      [withNodes(sum, relu, { ...mul, inputs: ['z', 'gone'] }), /\^ "gone" is not defined before this/],
      [withNodes(sum, relu), /output y\n {2}\^ "y" is not defined/],
      [withType('z', [2, 4]), /\^ "z" is f32\[2,4\], inferred is f32\[2,3\]/],
      [withType('z', [sym('n'), 3]), /\^ "z" is f32\[n,3\], inferred is f32\[2,3\]/],
      [withType('c', [4]), /const c: .*\n {2}\^ "c" has type f32\[4\]/],
      [withType('stray', [1]), /\}\n {2}\^ the type of "stray" belongs to no value/],
      [withNodes(sum, { ...relu, op: 'Nope' }, mul), /\^ no operator Nope/],
      [withNodes(sum, { ...relu, attrs: { odd: 1 } }, mul), /\^ unknown attribute "odd"/],
      [withNodes(sum, { ...relu, op: 'Softmax', attrs: {} }, mul), /\^ attribute "axis" is not filled in/],
      [{ ...graph, outputs: ['y', 'y'] }, /\^ "y" is an output already/],
      [{ ...graph, values: new Map([...graph.values].filter(([name]) => name !== 'sum')) }, /\^ "sum" has no type/],
    ];
    for (const [broken, message] of cases) {
      expect(messageOf(() => verifyGraph(broken, OPS))).toMatch(message);
      expect(() => verifyGraph(broken, OPS)).toThrow(Bug);
    }
  });
});

describe('rewriting', () => {
  const graph = example([2, 3]);
  const [sum, relu, mul] = graph.nodes;
  const x = f32([2, 3], [1, 2, -3, -4, 5, 6]);
  const run = (g: Graph) => evalGraph(g, OPS, new Map([['x', x]]));

  it('looks up users, producers and free names', () => {
    expect(usersOf(graph).get('x')).toEqual([sum, mul]);
    expect(usersOf(graph).get('y')).toBeUndefined();
    expect(producersOf(graph).get('z')).toBe(relu);
    const fresh = freshNamesFor(graph);
    expect([fresh('z'), fresh('z'), fresh('new')]).toEqual(['z_1', 'z_2', 'new']);
  });

  it('counts what a graph in an attribute takes from outside as a use, and renames it there', () => {
    const body: Graph = {
      name: 'body',
      inputs: ['i'],
      outputs: ['o'],
      values: new Map(),
      constants: new Map(),
      nodes: [{ op: 'Add', inputs: ['i', 'sum'], outputs: ['o'], attrs: {}, loc: [] }],
    };
    const loop: Node = { op: 'Loop', inputs: ['x'], outputs: ['l'], attrs: { body }, loc: [] };
    expect(nodeUses(loop)).toEqual(['x', 'sum']);
    const edited = editGraph({ ...graph, nodes: [...graph.nodes, loop] }, { uses: new Map([['sum', 'x']]) });
    expect(nodeUses(edited.nodes.at(-1) as Node)).toEqual(['x']);
  });

  it('removes, inserts and redirects, sharing what stays', () => {
    const negate: Node = { op: 'Neg', inputs: ['sum'], outputs: ['neg'], attrs: {}, loc: ['/neg'] };
    const type = graph.values.get('sum');
    const edited = editGraph(graph, {
      nodes: new Map([[relu, [negate, { ...relu, inputs: ['neg'] }]]]),
      types: new Map([['neg', type as NonNullable<typeof type>]]),
    });
    verifyGraph(edited, OPS);
    expect(edited.nodes.map((node) => node.op)).toEqual(['Add', 'Neg', 'Relu', 'Mul']);
    expect(edited.nodes[0]).toBe(sum);
    expect(run(edited).get('z')).toEqual(f32([2, 3], [0, 0, 0, 3, 0, 0]));

    const without = editGraph(graph, { nodes: new Map([[sum, []]]), uses: new Map([['sum', 'x']]) });
    verifyGraph(without, OPS);
    expect(without.constants.size).toBe(0);
    expect(run(without).get('z')).toEqual(f32([2, 3], [1, 2, 0, 0, 5, 6]));
  });

  it('keeps the names of outputs: by renaming where it can, by a copy where it cannot', () => {
    const renamed = editGraph(graph, { nodes: new Map([[relu, []]]), uses: new Map([['z', 'sum']]) });
    verifyGraph(renamed, OPS);
    expect(renamed.nodes.map((node) => [node.op, ...node.outputs])).toEqual([
      ['Add', 'z'],
      ['Mul', 'y'],
    ]);

    const copied = editGraph(graph, {
      uses: new Map([
        ['z', 'x'],
        ['y', 'x'],
      ]),
    });
    verifyGraph(copied, OPS);
    expect(
      copied.nodes.filter((node) => node.op === 'Identity').map((node) => [...node.inputs, ...node.outputs]),
    ).toEqual([
      ['x', 'y'],
      ['x', 'z'],
    ]);
    expect(run(copied).get('y')).toEqual(x);
  });

  it('follows chains and refuses circles', () => {
    const chained = editGraph(graph, {
      uses: new Map([
        ['sum', 'c'],
        ['c', 'x'],
      ]),
    });
    expect(chained.nodes[1].inputs).toEqual(['x']);
    const circle = new Map([
      ['sum', 'z'],
      ['z', 'sum'],
    ]);
    expect(() => editGraph(graph, { uses: circle })).toThrow(Bug);
  });

  it('lets a rule build replacements, which take over names', () => {
    const rewritten = rewriteNodes(graph, OPS, (node, b) =>
      node.op === 'Relu' ? b.node('Max', [node.inputs[0], b.constant(f32([], [0]))], { loc: node.loc }) : undefined,
    );
    verifyGraph(rewritten, OPS);
    expect(rewritten.nodes.map((node) => [node.op, ...node.outputs])).toEqual([
      ['Add', 'sum'],
      ['Max', 'z'],
      ['Mul', 'y'],
    ]);
    expect(rewritten.nodes[0]).toBe(sum);
    expect(run(rewritten)).toEqual(run(graph));
    expect(rewriteNodes(graph, OPS, () => undefined)).toBe(graph);
  });

  it('refuses a replacement of another type', () => {
    expect(() => rewriteNodes(graph, OPS, (node) => (node.op === 'Relu' ? ['c'] : undefined))).toThrow(
      /Relu "\/relu" gives f32\[2,3\], its replacement f32\[3\]/,
    );
  });
});
