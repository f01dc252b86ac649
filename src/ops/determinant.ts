/**
 * Det: determinants of square matrices, by elimination with the largest pivot of each column, written out over the columns.
 *
 * A step takes the row p with the largest first element in front (row 0 goes to its place, which turns the sign) and leaves a matrix
 * that is smaller by a row and a column. A matrix whose column is all 0 has pivot 0 and so determinant 0.
 */
import { dimsEqual, elements, printShape } from '../core/shape.ts';
import { fromNumbers } from '../core/tensor.ts';
import { defineComposite } from './composite.ts';
import { checkFloats } from './dims.ts';
import type { NodeWriter } from './node-writer.ts';
import type { Op, OpCase } from './op.ts';

interface Elimination {
  /** Signed pivots, [batch, 1, 1]. */
  readonly pivot: string;
  /** [batch, size − 1, size − 1] */
  readonly rest: string;
}

function eliminate(w: NodeWriter, a: string): Elimination {
  const { dtype, shape } = w.type(a);
  const [batch, size] = shape;
  const one = w.scalar(dtype, 1);
  const column = w.slice(a, 2, 0, 1);
  const largest = w.node('ArgMax', [w.node('Abs', [column])], { axis: 1, keepdims: true });
  const places = w.constant(
    fromNumbers(
      'i64',
      [size, 1],
      Array.from({ length: size }, (_, i) => i),
    ),
  );
  const isPivot = w.node('Equal', [largest, places]);
  const chosen = w.transpose(w.cast(isPivot, dtype), [0, 2, 1]);
  const pivotRow = w.matmul(chosen, a);
  const pivot = w.slice(pivotRow, 2, 0, 1);
  const sign = w.node('Where', [w.slice(isPivot, 1, 0, 1), one, w.scalar(dtype, -1)]);
  const others = w.node('Where', [w.slice(isPivot, 1, 1, size), w.slice(a, 1, 0, 1), w.slice(a, 1, 1, size)]);
  const divisor = w.node('Where', [w.node('Equal', [pivot, w.scalar(dtype, 0)]), one, pivot]);
  const factors = w.div(w.slice(others, 2, 0, 1), divisor);
  const rest = w.sub(w.slice(others, 2, 1, size), w.matmul(factors, w.slice(pivotRow, 2, 1, size)));
  return { pivot: w.mul(pivot, sign), rest: w.reshape(rest, [batch, size - 1, size - 1]) };
}

const det = defineComposite({
  name: 'Det',
  onnx: { since: 11 },
  attrs: {},
  inputs: [1, 1],
  rounding: 'once',
  infer(ctx) {
    checkFloats(ctx);
    const { dtype, shape } = ctx.input(0);
    const [rows, columns] = shape.slice(-2);
    if (shape.length < 2 || (typeof rows === 'number' && typeof columns === 'number' && !dimsEqual(rows, columns))) {
      ctx.fail(`${printShape(shape)} holds no square matrices`);
    }
    return [{ dtype, shape: shape.slice(0, -2) }];
  },
  write({ w, input, type }) {
    const { dtype, shape } = type(0);
    const outer = shape.slice(0, -2);
    const size = shape[shape.length - 1];
    const batch = elements(outer);
    let rest = w.reshape(input(0), [batch, size, size]);
    let product = w.expand(w.scalar(dtype, 1), [batch, 1, 1]);
    for (let left = size; left > 0; left--) {
      const step = left > 1 ? eliminate(w, rest) : { pivot: rest, rest };
      product = w.mul(product, step.pivot);
      rest = step.rest;
    }
    return [w.reshape(product, outer)];
  },
  cases: [
    detCase('2 by 2', [2, 2]),
    detCase('batch', [2, 3, 5, 5]),
    detCase('1 by 1', [3, 1, 1]),
    detCase('7 by 7', [1, 7, 7]),
    { name: 'first pivot 0', inputs: [fromNumbers('f32', [3, 3], [0, 2, 1, 3, 0, 5, 1, 1, 0])] },
    { name: 'singular', inputs: [fromNumbers('f32', [1, 3, 3], [0, 2, 1, 0, 0, 5, 0, 1, 0])] },
  ],
});

function detCase(name: string, shape: number[]): OpCase {
  return { name, inputs: [{ dtype: 'f32', shape }] };
}

export const DETERMINANT_OPS: readonly Op[] = [det];
