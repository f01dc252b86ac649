/**
 * Random shapes and parameters for the operators with the most index arithmetic: definition, lowering and onnxruntime must agree.
 * fast-check prints seed and path of a failure, and the smallest case it shrinks to.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { elements } from '../src/core/shape.ts';
import { fromNumbers, scalarTensor, type Tensor, tensor } from '../src/core/tensor.ts';
import { evalGraph } from '../src/graph/eval.ts';
import { OPS } from '../src/ops/all.ts';
import type { OpCase } from '../src/ops/op.ts';
import { drawCase, runLowering } from './lowering-harness.ts';
import { runGraph } from './onnxruntime.ts';
import { caseGraph, difference } from './op-cases.ts';

type Row = Omit<OpCase, 'name'> & {
  /** onnxruntime has a rule of its own here; the definition and the lowering are still compared. */
  readonly apart?: boolean;
};

const dim = fc.integer({ min: 1, max: 7 });
const shapes = (minLength: number, maxLength: number, size = dim) => fc.array(size, { minLength, maxLength });
const withZero = fc.integer({ min: 0, max: 5 });
/** Distinct elements, so that a wrong position shows. */
const counted = (shape: readonly number[]): Tensor =>
  fromNumbers(
    'f32',
    shape,
    Array.from({ length: elements(shape) }, (_, i) => i + 1),
  );
const vector = (values: readonly number[]) => ({ constant: fromNumbers('i64', [values.length], values) });
const bigVector = (values: readonly bigint[]) => ({
  constant: tensor('i64', [values.length], BigInt64Array.from(values)),
});

const FAR = 2n ** 63n - 1n;
const edge = fc.oneof(fc.bigInt({ min: -9n, max: 9n }), fc.constantFrom(FAR, -(2n ** 63n), 2n ** 31n));
const step = fc.integer({ min: -3, max: 3 }).filter((n) => n !== 0);

const GENERATORS: { readonly [op: string]: fc.Arbitrary<Row> } = {
  Slice: shapes(1, 3, withZero).chain((shape) =>
    fc
      .record({
        axes: fc.shuffledSubarray([...shape.keys()], { minLength: 1 }),
        negative: fc.boolean(),
        edges: fc.array(fc.tuple(edge, edge, step), { minLength: 3, maxLength: 3 }),
      })
      .map(({ axes, negative, edges }) => {
        const cuts = edges.slice(0, axes.length);
        return {
          inputs: [
            counted(shape),
            bigVector(cuts.map(([start]) => start)),
            bigVector(cuts.map(([, end]) => end)),
            vector(axes.map((a) => (negative ? a - shape.length : a))),
            vector(cuts.map(([, , by]) => by)),
          ],
          // onnxruntime takes INT64_MAX for "to the front" when it steps backward; the specification clamps it.
          apart: cuts.some(([, end, by]) => by < 0 && end === FAR),
        };
      }),
  ),
  Pad: shapes(1, 3).chain((shape) =>
    fc
      .record({
        mode: fc.constantFrom('constant', 'reflect', 'edge', 'wrap'),
        pads: fc.array(fc.integer({ min: -3, max: 9 }), { minLength: 2 * shape.length, maxLength: 2 * shape.length }),
      })
      .filter(({ pads }) => shape.every((d, i) => d + Math.min(pads[i], 0) + Math.min(pads[i + shape.length], 0) > 0))
      .map(({ mode, pads }) => ({
        attrs: { mode },
        inputs: [counted(shape), vector(pads), scalarTensor('f32', -1)],
        // Cutting before padding changes what is mirrored or repeated; a mirror longer than the dim is refused.
        apart:
          mode !== 'constant' &&
          (pads.some((p) => p < 0) || (mode !== 'edge' && pads.some((p, i) => p >= shape[i % shape.length]))),
      })),
  ),
  Transpose: shapes(1, 4, withZero).chain((shape) =>
    fc
      .shuffledSubarray([...shape.keys()], { minLength: shape.length })
      .map((perm) => ({ attrs: { perm }, inputs: [counted(shape)] })),
  ),
  Tile: shapes(1, 3, withZero).chain((shape) =>
    fc
      .array(withZero, { minLength: shape.length, maxLength: shape.length })
      .map((repeats) => ({ inputs: [counted(shape), vector(repeats)] })),
  ),
  Expand: shapes(1, 4).chain((shape) =>
    fc
      .record({
        ones: fc.array(fc.boolean(), { minLength: shape.length, maxLength: shape.length }),
        lead: shapes(0, 2),
      })
      .map(({ ones, lead }) => ({
        inputs: [counted(shape.map((d, i) => (ones[i] ? 1 : d))), vector([...lead, ...shape])],
      })),
  ),
  Gather: shapes(1, 3).chain((shape) =>
    fc
      .record({ axis: fc.integer({ min: -shape.length, max: shape.length - 1 }), picks: shapes(0, 2, withZero) })
      .chain(({ axis, picks }) => {
        const extent = shape.at(axis)!;
        const index = fc.integer({ min: -extent, max: extent - 1 });
        const count = elements(picks);
        return fc
          .array(index, { minLength: count, maxLength: count })
          .map((values) => ({ attrs: { axis }, inputs: [counted(shape), fromNumbers('i64', picks, values)] }));
      }),
  ),
  GatherElements: shapes(1, 3).chain((shape) =>
    fc.integer({ min: -shape.length, max: shape.length - 1 }).chain((axis) => {
      const extent = shape.at(axis)!;
      const count = elements(shape);
      return fc
        .array(fc.integer({ min: -extent, max: extent - 1 }), { minLength: count, maxLength: count })
        .map((values) => ({ attrs: { axis }, inputs: [counted(shape), fromNumbers('i64', shape, values)] }));
    }),
  ),
  Split: shapes(1, 3).chain((shape) =>
    fc.integer({ min: -shape.length, max: shape.length - 1 }).chain((axis) =>
      fc.array(withZero, { minLength: 1, maxLength: 4 }).map((sizes) => {
        const total = sizes.reduce((a, b) => a + b, 0);
        const at = axis < 0 ? axis + shape.length : axis;
        return { attrs: { axis }, outputs: sizes.length, inputs: [counted(shape.with(at, total)), vector(sizes)] };
      }),
    ),
  ),
  DepthToSpace: fc
    .record({
      n: dim,
      c: dim,
      h: dim,
      w: dim,
      blocksize: fc.integer({ min: 1, max: 3 }),
      mode: fc.constantFrom('DCR', 'CRD'),
    })
    .map(({ n, c, h, w, blocksize, mode }) => ({
      attrs: { blocksize, mode },
      inputs: [counted([n, c * blocksize * blocksize, h, w])],
    })),
  SpaceToDepth: fc
    .record({ n: dim, c: dim, h: dim, w: dim, blocksize: fc.integer({ min: 1, max: 3 }) })
    .map(({ n, c, h, w, blocksize }) => ({
      attrs: { blocksize },
      inputs: [counted([n, c, h * blocksize, w * blocksize])],
    })),
  Trilu: shapes(2, 4)
    .chain((shape) => fc.tuple(fc.constant(shape), fc.boolean(), fc.integer({ min: -9, max: 9 })))
    .map(([shape, upper, k]) => ({ attrs: { upper }, inputs: [counted(shape), scalarTensor('i64', BigInt(k))] })),
  Add: shapes(0, 4).chain((shape) =>
    fc
      .tuple(
        fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
        fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
        fc.integer({ min: 0, max: shape.length }),
      )
      .map(([a, b, missing]) => ({
        inputs: [
          counted(shape.map((d, i) => (a[i] ? 1 : d))),
          counted(shape.map((d, i) => (b[i] ? 1 : d)).slice(missing)),
        ],
      })),
  ),
};

for (const [key, rows] of Object.entries(GENERATORS)) {
  const op = OPS.get(key)!;
  it(key, async () => {
    await fc.assert(
      fc.asyncProperty(rows, async ({ apart, ...row }) => {
        const c: OpCase = { name: 'random', ...row };
        const { graph, inputs } = caseGraph(op, c, OPS, 0);
        const expected = evalGraph(graph, OPS, inputs);
        const lowered = runLowering(drawCase(op, c));
        const theirs = apart ? undefined : await runGraph(graph, inputs, OPS);
        [...expected].forEach(([name, value], i) => {
          expect(difference(lowered[i], value), 'lowering').toBe(0);
          if (theirs) expect(difference(theirs.get(name)!, value), 'onnxruntime').toBe(0);
        });
      }),
      { numRuns: 40 },
    );
  });
}
