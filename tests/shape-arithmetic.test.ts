/**
 * Sizes that exporters compute with operators stay known while the model's own sizes are open.
 */
import { expect, it } from 'vitest';
import { printShape, sym } from '../src/core/shape.ts';
import { fromNumbers, scalarTensor } from '../src/core/tensor.ts';
import { graphBuilder } from '../src/graph/build.ts';
import { OPS } from '../src/ops/all.ts';

const i64 = (value: number) => scalarTensor('i64', BigInt(value));
const vector = (...values: number[]) => fromNumbers('i64', [values.length], values);

/** A builder with x: f32[batch, seq, 768], and short forms. */
function model() {
  const b = graphBuilder('net', OPS);
  const x = b.input('x', 'f32', [sym('batch'), sym('seq'), 768]);
  const op = (name: string, inputs: readonly string[], attrs = {}) => b.node(name, inputs, { attrs })[0];
  const c = (value: Parameters<typeof b.constant>[0]) => b.constant(value);
  const dim = (value: string, i: number) => op('Gather', [op('Shape', [value]), c(i64(i))]);
  const shape = (value: string) => printShape(b.type(value).shape);
  const list = (...dims: string[]) =>
    op(
      'Concat',
      dims.map((d) => (b.type(d).shape.length === 0 ? op('Unsqueeze', [d, c(vector(0))]) : d)),
      { axis: 0 },
    );
  return { b, x, op, c, dim, shape, list };
}

it('attention heads: Shape, Gather, Unsqueeze, Concat, Reshape, and back', () => {
  const { x, op, c, dim, shape, list } = model();
  const heads = op('Reshape', [x, list(dim(x, 0), dim(x, 1), c(vector(12)), c(vector(-1)))]);
  expect(shape(heads)).toBe('[batch,seq,12,64]');
  const moved = op('Transpose', [heads], { perm: [0, 2, 1, 3] });
  expect(shape(op('MatMul', [moved, op('Transpose', [moved], { perm: [0, 1, 3, 2] })]))).toBe('[batch,12,seq,seq]');
  const back = op('Transpose', [moved], { perm: [0, 2, 1, 3] });
  const merged = op('Reshape', [back, list(dim(back, 0), dim(back, 1), op('Mul', [c(i64(12)), c(i64(64))]))]);
  expect(shape(merged)).toBe('[batch,seq,768]');
});

it('arithmetic on sizes: Add, Sub, Mul, Div, Cast', () => {
  const { x, op, c, dim, shape } = model();
  const seq = dim(x, 1);
  const length = op('Div', [op('Mul', [op('Sub', [op('Add', [seq, c(i64(5))]), c(i64(1))]), c(i64(2))]), c(i64(2))]);
  const as32 = op('Cast', [op('Cast', [length], { to: 'i32' })], { to: 'i64' });
  const zeros = op('ConstantOfShape', [op('Unsqueeze', [as32, c(vector(0))])]);
  expect(shape(zeros)).toBe('[seq+4]');
});

it('positions: Range to a size, Slice of a table to it, Expand', () => {
  const { x, op, c, dim, shape, list } = model();
  const range = op('Range', [c(i64(0)), dim(x, 1), c(i64(1))]);
  expect(shape(range)).toBe('[seq]');
  const rows = op('Expand', [op('Unsqueeze', [range, c(vector(0))]), list(dim(x, 0), dim(x, 1))]);
  expect(shape(rows)).toBe('[batch,seq]');
});

it('Expand to a shape in which Where replaces -1', () => {
  const { x, op, c, dim, shape, list } = model();
  const wanted = list(dim(x, 0), c(vector(-1)), c(vector(768)));
  const ones = op('ConstantOfShape', [c(vector(3))], { value: fromNumbers('i64', [1], [1]) });
  const absent = op('Equal', [wanted, op('Mul', [ones, c(i64(-1))])]);
  expect(shape(op('Expand', [x, op('Where', [absent, ones, wanted])]))).toBe('[batch,seq,768]');
});

it('slices of a shape, and of a tensor', () => {
  const { x, op, c, shape } = model();
  const sizes = op('Slice', [op('Shape', [x]), c(vector(0)), c(vector(2))]);
  expect(shape(op('ConstantOfShape', [sizes]))).toBe('[batch,seq]');
  const cut = (start: number, end: number) => shape(op('Slice', [x, c(vector(start)), c(vector(end)), c(vector(1))]));
  expect(cut(0, 2 ** 40)).toBe('[batch,seq,768]');
  expect(cut(1, 2 ** 40)).toBe('[batch,seq-1,768]');
  expect(cut(0, -1)).toBe('[batch,seq-1,768]');
  expect(cut(-1, 2 ** 40)).toBe('[batch,1,768]');
  expect(cut(0, 1)).toBe('[batch,1,768]');
  expect(cut(0, 128)).toBe('[batch,min(128,seq),768]');
  expect(cut(-128, 2 ** 40)).toBe('[batch,max(-1*max(0,seq-128)+seq,0),768]');
});

it('Flatten, Reshape and Tile multiply and divide sizes', () => {
  const { x, op, c, shape } = model();
  expect(shape(op('Flatten', [x], { axis: 2 }))).toBe('[(batch)*(seq),768]');
  expect(shape(op('Reshape', [x, c(vector(0, -1))]))).toBe('[batch,768*seq]');
  expect(shape(op('Tile', [x, c(vector(2, 1, 1))]))).toBe('[2*batch,seq,768]');
  expect(shape(op('Pad', [x, c(vector(0, 1, 0, 0, 2, 0))]))).toBe('[batch,seq+3,768]');
});
