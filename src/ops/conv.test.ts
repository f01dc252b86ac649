import { describe, expect, it } from 'vitest';
import { ModelError } from '../core/errors.ts';
import { sym } from '../core/shape.ts';
import { fromNumbers, type Tensor, toNumbers } from '../core/tensor.ts';
import { addConstant, inferNode, noFacts } from '../graph/infer.ts';
import type { Attrs, Node } from '../graph/ir.ts';
import type { InferContext } from '../graph/semantics.ts';
import { OPS } from './all.ts';
import type { ChannelAffine, Op } from './op.ts';

const ramp = (shape: readonly number[], scale = 0.1): Tensor => {
  const count = shape.reduce((n, d) => n * d, 1);
  return fromNumbers(
    'f32',
    shape,
    Array.from({ length: count }, (_, i) => scale * Math.cos(3 * i + 1)),
  );
};
const op = (name: string): Op => OPS.get(name) as Op;
const attrsOf = (name: string, raw: Attrs): Attrs =>
  op(name).completeAttrs(raw, (message) => {
    throw new Error(message);
  });

function infer(name: string, shapes: readonly (readonly (number | ReturnType<typeof sym>)[])[], raw: Attrs = {}) {
  const facts = noFacts();
  for (const [i, shape] of shapes.entries()) facts.types.set(`in${i}`, { dtype: 'f32', shape });
  const inputs = shapes.map((_, i) => `in${i}`);
  const node: Node = { op: name, inputs, outputs: ['y'], attrs: attrsOf(name, raw), loc: ['/stem/conv'] };
  return inferNode(node, op(name), facts)[0].shape;
}

describe('inference', () => {
  it('keeps open sizes', () => {
    const shape = infer(
      'Conv',
      [
        [sym('n'), 3, sym('h'), 224],
        [8, 3, 3, 3],
      ],
      { pads: [1, 1, 1, 1], strides: [1, 2] },
    );
    expect(shape).toEqual([sym('n'), 8, sym('h'), 112]);
  });

  it.each([
    [
      [
        [1, 3, 8, 8],
        [4, 4, 3, 3],
      ],
      {},
      'Conv "/stem/conv": input has 3 channels, weight expects 4 (group 1)',
    ],
    [
      [
        [1, 4, 8, 8],
        [3, 2, 3, 3],
      ],
      { group: 2 },
      '3 output channels do not split into 2 groups',
    ],
    [
      [
        [1, 3, 8, 8],
        [4, 3, 3],
      ],
      {},
      'the weight has rank 3, the input 4',
    ],
    [[[1, 3, 8, 8], [4, 3, 3, 3], [5]], {}, 'the bias must be a vector of 4 elements'],
    [
      [
        [1, 3, 8, 8],
        [4, 3, 3, 3],
      ],
      { kernel_shape: [5, 5] },
      'kernel_shape is [5,5], the weight has [3,3]',
    ],
  ])('refuses %j %j', (shapes, attrs, message) => {
    expect(() => infer('Conv', shapes, attrs)).toThrow(ModelError);
    expect(() => infer('Conv', shapes, attrs)).toThrow(message);
  });
});

describe('taking in a scale and shift a channel', () => {
  const affine: ChannelAffine = {
    axis: 1,
    scale: Float64Array.of(2, -0.5, 0.25, 3, 1, 7),
    shift: Float64Array.of(0, 1, -2, 0.5, 4, -1),
  };

  /** The node's result with absorbed constants, and its result scaled and shifted afterwards. */
  function both(name: string, tensors: readonly Tensor[], raw: Attrs = {}, outputAffine = affine) {
    const facts = noFacts();
    facts.types.set('in0', tensors[0]);
    for (const [i, t] of tensors.slice(1).entries()) addConstant(facts, `in${i + 1}`, t);
    const attrs = attrsOf(name, raw);
    const inputs = tensors.map((_, i) => `in${i}`);
    const types = inferNode({ op: name, inputs, outputs: ['y'], attrs, loc: ['y'] }, op(name), facts);
    const out = types as { dtype: 'f32'; shape: number[] }[];
    const ctx = { attrs, inputs: tensors, constant: (i: number) => (i === 0 ? undefined : tensors[i]) };
    const constants = op(name).absorbAffine?.(ctx as unknown as InferContext<never>, outputAffine);
    const replaced = [0, 1, 2].map((i) => constants?.get(i) ?? tensors[i]);
    const [y] = op(name).eval(tensors, attrs, out);
    const inner = y.shape.slice(2).reduce((n, d) => n * d, 1);
    const expected = Array.from(toNumbers(y), (v, i) => {
      const c = Math.floor(i / inner) % y.shape[1];
      return v * outputAffine.scale[c] + outputAffine.shift[c];
    });
    return { constants, actual: Array.from(toNumbers(op(name).eval(replaced, attrs, out)[0])), expected };
  }

  it.each<[string, Tensor[], Attrs]>([
    ['Conv', [ramp([2, 3, 5, 5]), ramp([6, 3, 3, 3]), ramp([6])], {}],
    ['Conv', [ramp([1, 3, 4, 4]), ramp([6, 3, 1, 1])], {}],
    ['Conv', [ramp([1, 6, 4, 4]), ramp([6, 1, 3, 3])], { group: 6 }],
    ['Gemm', [ramp([3, 5]), ramp([6, 5]), ramp([6])], { transB: true }],
    ['Gemm', [ramp([3, 5]), ramp([5, 6])], {}],
  ])('%s gives the scaled and shifted result', (name, tensors, attrs) => {
    const { constants, actual, expected } = both(name, tensors, attrs);
    expect(constants).toBeDefined();
    for (let i = 0; i < expected.length; i++) expect(actual[i]).toBeCloseTo(expected[i], 5);
  });

  it('refuses other axes and weights that are not constant', () => {
    const tensors = [ramp([2, 3, 5, 5]), ramp([6, 3, 3, 3])];
    expect(both('Conv', tensors, {}, { ...affine, axis: 2 }).constants).toBeUndefined();
    const ctx = { attrs: attrsOf('Conv', {}), inputs: tensors, constant: () => undefined };
    expect(op('Conv').absorbAffine?.(ctx as unknown as InferContext<never>, affine)).toBeUndefined();
  });
});
