/** The builder and inference on real operators: what a layer may be, what is known of values, and how errors read. */
import { describe, expect, it } from 'vitest';
import { ModelError } from '../../src/core/errors.ts';
import { addDims, mulDims, printShape, sym } from '../../src/core/shape.ts';
import { fromNumbers, scalarTensor } from '../../src/core/tensor.ts';
import { graphBuilder } from '../../src/graph/build.ts';
import { inferGraph } from '../../src/graph/infer.ts';
import type { Graph } from '../../src/graph/ir.ts';
import { verifyGraph } from '../../src/graph/verify.ts';
import { OPS } from '../../src/ops/all.ts';
import { defineOp } from '../../src/ops/op.ts';

const i64 = (...values: number[]) => fromNumbers('i64', [values.length], values);

/** The error's code and message. */
function failure(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof ModelError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'nothing was thrown';
}

describe('graphBuilder', () => {
  it('builds a graph that verifies, with defaults filled in and names given', () => {
    const b = graphBuilder('net', OPS);
    const x = b.input('x', 'f32', [1, 3, 8, 8]);
    const w = b.constant(fromNumbers('f32', [4, 3, 3, 3], new Array(108).fill(0.5)), 'w');
    const [y] = b.node('Conv', [x, w, '', ''], { loc: ['/conv'] });
    const [z] = b.node('Relu', [y], { outputs: ['z'] });
    b.output(z);
    const graph = b.finish();
    verifyGraph(graph, OPS);
    expect(graph.nodes.map(({ op, inputs, outputs, loc }) => ({ op, inputs, outputs, loc }))).toEqual([
      { op: 'Conv', inputs: ['x', 'w'], outputs: ['Conv'], loc: ['/conv'] },
      { op: 'Relu', inputs: ['Conv'], outputs: ['z'], loc: ['Relu#1'] },
    ]);
    expect(graph.nodes[0].attrs).toMatchObject({ group: 1, auto_pad: 'NOTSET' });
    expect(b.type('z')).toEqual({ dtype: 'f32', shape: [1, 4, 6, 6] });
  });

  it('gives fresh names that stay free until they are used', () => {
    const b = graphBuilder('net', OPS);
    b.input('x', 'f32', [2]);
    expect([b.fresh('x'), b.fresh('x'), b.fresh('y')]).toEqual(['x_1', 'x_2', 'y']);
    b.node('Relu', ['x'], { outputs: ['x_1'] });
    b.constant(i64(1), 'y');
    expect(failure(() => b.node('Relu', ['x'], { outputs: ['x_1'] }))).toMatch(/^model-invalid: .*exists already/);
  });

  it('says what is wrong with a layer', () => {
    const b = graphBuilder('net', OPS);
    b.input('x', 'f32', [2, 3]);
    b.input('n', 'i64', [4]);
    const w = b.constant(fromNumbers('f32', [4], [1, 2, 3, 4]), 'w');
    const cases: readonly [() => unknown, RegExp][] = [
      [() => b.node('NoSuchOp', ['x'], { loc: ['/a'] }), /^onnx-unsupported: NoSuchOp "\/a": operator NoSuchOp is not/],
      [() => b.node('Relu', ['x', 'x']), /^model-invalid: Relu "Relu#0": has 2 inputs, Relu takes 1$/],
      [() => b.node('Add', ['x']), /has 1 inputs, Add takes 2$/],
      [() => b.node('Concat', [], { attrs: { axis: 0 } }), /has 0 inputs, Concat takes 1 or more$/],
      [() => b.node('Relu', ['x'], { outputs: ['a', 'b'] }), /has 2 outputs, Relu gives 1$/],
      [() => b.node('Relu', ['missing']), /input "missing" is not a value known here/],
      [() => b.node('Relu', ['']), /Relu takes 1/],
      [
        () => b.node('Add', ['', 'x']),
        /^shape-mismatch: Add "Add#0": input 0 is missing \(inputs: absent, "x" f32\[2,3\]\)/,
      ],
      [() => b.node('Add', ['x', w]), /do not broadcast \(inputs: "x" f32\[2,3\], "w" f32\[4\] constant\)/],
      [
        () => b.node('Flatten', ['x'], { attrs: { axes: 1 } }),
        /^model-invalid: Flatten "Flatten#0": unknown attribute "axes"/,
      ],
      [() => b.node('Concat', ['x']), /attribute "axis" is missing/],
      [() => b.input('x', 'f32', []), /input "x" of graph "net": a value with this name exists already/],
      [() => b.output('nothing'), /has no value "nothing"/],
      [() => b.type('nothing'), /has no value "nothing"/],
    ];
    for (const [run, message] of cases) expect(failure(run)).toMatch(message);
    // A layer that failed leaves nothing behind.
    expect(b.node('Add', ['x', 'x'], { outputs: ['y'] })).toEqual(['y']);
    b.output('y');
    expect(failure(() => b.output('y'))).toMatch(/is an output of graph "net" already/);
    verifyGraph(b.finish(), OPS);
  });

  it('lists every operator that is missing', () => {
    const graph: Graph = {
      name: 'net',
      inputs: ['x'],
      outputs: ['y'],
      values: new Map([['x', { dtype: 'f32', shape: [1] }]]),
      constants: new Map(),
      nodes: ['Nope', 'Relu', 'my.domain.Op', 'Nope'].map((op, i) => ({
        op,
        inputs: ['x'],
        outputs: [`y${i}`],
        attrs: {},
        loc: [`/n${i}`],
      })),
    };
    try {
      inferGraph(graph, OPS);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(ModelError);
      expect((error as ModelError).message).toContain('Nope, my.domain.Op');
      expect((error as ModelError).details).toEqual(['Nope "/n0"', 'my.domain.Op "/n2"', 'Nope "/n3"']);
    }
  });
});

describe('what is known before running', () => {
  it('reaches through shape arithmetic, with symbols and with numbers', () => {
    const b = graphBuilder('net', OPS);
    b.input('x', 'f32', [sym('n'), 6, 4]);
    const [dims] = b.node('Shape', ['x']);
    const at = (i: number) => b.node('Gather', [dims, b.constant(i64(i))])[0];
    const [area] = b.node('Mul', [at(1), at(2)]);
    const [target] = b.node('Concat', [at(0), area], { attrs: { axis: 0 } });
    const [flat] = b.node('Reshape', ['x', target]);
    const [double] = b.node('Mul', [at(0), b.constant(i64(2))]);
    const [wide] = b.node('Concat', [double, b.constant(i64(-1))], { attrs: { axis: 0 } });
    const [halves] = b.node('Reshape', ['x', wide]);
    expect(b.constantValue(area)).toEqual(i64(24));
    expect(b.constantValue(target)).toBeUndefined();
    expect(printShape(b.type(flat).shape)).toBe('[n,24]');
    expect(printShape(b.type(halves).shape)).toBe('[2*n,12]');
  });

  it('includes small float values, which exporters use for the sizes of a resize', () => {
    const b = graphBuilder('net', OPS);
    b.input('x', 'f32', [1, 3, 5]);
    const [float] = b.node('Cast', b.node('Shape', ['x']), { attrs: { to: 'f32' } });
    const [scaled] = b.node('Mul', [float, b.constant(scalarTensor('f32', 1.5))]);
    const [sizes] = b.node('Cast', b.node('Floor', [scaled]), { attrs: { to: 'i64' } });
    expect(b.constantValue(sizes)).toEqual(i64(1, 4, 7));
  });

  it('leaves large values and impure operators alone', () => {
    let calls = 0;
    const counter = defineOp({
      name: 'Counter',
      onnx: { since: 1 },
      attrs: {},
      inputs: [0, 0],
      infer: () => [{ dtype: 'i64', shape: [] }],
      eval: () => [scalarTensor('i64', ++calls)],
      traits: { impure: true },
      cases: [],
    });
    const b = graphBuilder('net', new Map([...OPS, [counter.key, counter]]));
    expect(b.constantValue(b.node('Counter', [])[0])).toBeUndefined();
    expect(calls).toBe(0);
    const [large] = b.node('ConstantOfShape', [b.constant(i64(1 << 20, 1 << 20))]);
    expect(b.constantValue(large)).toBeUndefined();
    expect(b.type(large).shape).toEqual([1 << 20, 1 << 20]);
  });

  it('names a size that only running tells after its value', () => {
    const b = graphBuilder('net', OPS);
    b.input('x', 'f32', [4]);
    b.input('to', 'i64', [2]);
    const [y] = b.node('Reshape', ['x', 'to'], { outputs: ['y'] });
    const [first, second] = b.type(y).shape;
    expect(first).toEqual(sym('reshape(y)'));
    expect(second).toEqual(sym('reshape(y, 2)'));
    expect(addDims(first, mulDims(-1, second))).not.toBe(0);
  });
});
