/**
 * Operators that count what they give, in counted form: their kernels against their definition on random data of random shapes, with
 * room for as much as there can be. What lies outside of the room that a result takes is nobody's.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { elements, rowMajorStrides, type StaticShape } from '../src/core/shape.ts';
import { fromNumbers, type Tensor, type TensorType } from '../src/core/tensor.ts';
import { inferContext, noFacts } from '../src/graph/infer.ts';
import type { Attrs, Node } from '../src/graph/ir.ts';
import { OPS } from '../src/ops/all.ts';
import { countedBounds, countedForm, countedNode } from '../src/ops/counted.ts';
import { runLowering } from './lowering-harness.ts';
import { random } from './random-kernel.ts';

/** Elements of the corner of a tensor that has this shape. */
function corner({ data, shape: room }: Tensor, shape: StaticShape): (number | bigint)[] {
  const [from, to] = [rowMajorStrides(room), rowMajorStrides(shape)];
  return Array.from({ length: elements(shape) }, (_, i) => {
    const coords = to.map((stride, d) => Math.floor(i / stride) % shape[d]);
    return data[coords.reduce((sum, c, d) => sum + c * from[d], 0)];
  });
}

/** `inputs` with the names of the node; all but the data to select are known while it is inferred. */
function check(key: string, attrs: Attrs, inputs: readonly Tensor[], outputs: number): void {
  const plain = OPS.get(key)!;
  const op = countedForm(plain);
  const names = inputs.map((_, i) => `i${i}`);
  const given: Node = {
    op: key,
    inputs: names,
    outputs: Array.from({ length: outputs }, (_, i) => `o${i}`),
    attrs: plain.completeAttrs(attrs, (message) => {
      throw new Error(message);
    }),
    loc: ['node'],
  };
  const facts = noFacts();
  for (const [i, { dtype, shape }] of inputs.entries()) facts.types.set(names[i], { dtype, shape });
  const most = countedBounds(op, inferContext(countedNode(given, 'counts', ['n']), facts)).map(String);
  const node = countedNode(given, 'counts', most);
  const types = op.infer(inferContext(node, facts)) as readonly TensorType[];
  const expected = op.eval(inputs, node.attrs, types);
  const actual = runLowering({ op, attrs: node.attrs, inputs, outputs: types });

  // The definition itself, given all elements.
  for (const [i, value] of inputs.entries()) facts.constants.set(names[i], value);
  const real = plain.infer(inferContext(given, facts)) as readonly TensorType[];
  const defined = plain.eval(inputs, given.attrs, real);
  expect(Array.from(actual[outputs].data as Int32Array)).toEqual(Array.from(expected[outputs].data as Int32Array));
  for (const [i, { shape, data }] of defined.entries()) {
    expect(corner(expected[i], shape), `definition ${i}`).toEqual(Array.from(data as Float32Array));
    expect(corner(actual[i], shape), `output ${i}`).toEqual(Array.from(data as Float32Array));
  }
}

const DTYPES: readonly DType[] = ['f32', 'i64', 'bool', 'i32', 'u8'];
const SHAPES = fc.array(fc.constantFrom(0, 1, 2, 3, 5, 7), { minLength: 1, maxLength: 3 });
/** Whole numbers below `kinds`, so that some are 0 and some are equal. */
const draw = (dtype: DType, shape: StaticShape, seed: number, kinds: number): Tensor => {
  const rnd = random(seed);
  return fromNumbers(
    dtype,
    shape,
    Float64Array.from({ length: elements(shape) }, () => rnd.below(kinds)),
  );
};
const cases = fc.record({
  shape: SHAPES,
  dtype: fc.constantFrom(...DTYPES),
  seed: fc.nat(2 ** 20),
  kinds: fc.constantFrom(1, 2, 3, 9),
  along: fc.nat(3),
  flag: fc.boolean(),
});

const RUNS = 150;
describe('in counted form', () => {
  it('NonZero', () => {
    fc.assert(
      fc.property(cases, ({ shape, dtype, seed, kinds }) => check('NonZero', {}, [draw(dtype, shape, seed, kinds)], 1)),
      { numRuns: RUNS },
    );
  });
  it('Compress', () => {
    fc.assert(
      fc.property(cases, ({ shape, dtype, seed, kinds, along, flag }) => {
        const axis = along % shape.length;
        const extent = flag ? elements(shape) : shape[axis];
        const condition = draw('bool', [Math.max(0, extent - (seed % 2))], seed + 1, kinds);
        check('Compress', flag ? {} : { axis }, [draw(dtype, shape, seed, 9), condition], 1);
      }),
      { numRuns: RUNS },
    );
  });
  it('Unique', () => {
    fc.assert(
      fc.property(cases, fc.boolean(), ({ shape, dtype, seed, kinds, along, flag }, whole) => {
        const attrs = { sorted: flag, ...(!whole && { axis: along % shape.length }) };
        check('Unique', attrs, [draw(dtype, shape, seed, kinds)], 4);
      }),
      { numRuns: RUNS },
    );
  });
  it('TopK', () => {
    const long = fc.constantFrom(0, 0, 17, 64, 150);
    fc.assert(
      fc.property(cases, long, ({ shape, seed, kinds, along, flag }, more) => {
        const axis = along % shape.length;
        const grown: number[] = shape.map((extent, d) => (d === axis ? extent + more : extent));
        const k = fromNumbers('i64', [1], [seed % (grown[axis] + 1)]);
        const x = draw('f32', grown, seed, kinds);
        // A value in so many is no number.
        for (let i = seed % 5; i < x.data.length; i += 7) if (more > 20) x.data[i] = Number.NaN;
        check('TopK', { axis, largest: flag }, [x, k], 2);
      }),
      { numRuns: RUNS },
    );
  });
  it('NonMaxSuppression', () => {
    fc.assert(
      fc.property(
        cases,
        fc.oneof(fc.nat(23), fc.integer({ min: 60, max: 130 })),
        ({ seed, kinds, along, flag }, count) => {
          const [batches, classes] = [1 + (along % 2), 1 + (seed % 3)];
          // Edges and scores of few values: boxes that touch, that are equal, that tie.
          const boxes = draw('f32', [batches, count, 4], seed, count > 23 ? 30 : 7);
          const scores = draw('f32', [batches, classes, count], seed + 1, kinds);
          const scalars = [0.3, 0.5].map((x) => fromNumbers('f32', [1], [x]));
          check(
            'NonMaxSuppression',
            { center_point_box: flag },
            [boxes, scores, fromNumbers('i64', [1], [count > 23 ? count : kinds]), ...scalars],
            1,
          );
        },
      ),
      { numRuns: RUNS },
    );
  });
});
