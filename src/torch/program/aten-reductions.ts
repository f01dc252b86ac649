/**
 * Reductions over some dims or all, and what orders elements.
 */
import type { Translation, TranslationTable } from './aten.ts';
import type { Call } from './call.ts';

const reduced = (c: Call, op: string, x: string, keep = c.bool('keepdim', false)): string => {
  const axes = c.has('dim') ? c.axes('dim', c.rank(x)) : [];
  // No axes are all axes, in both.
  return c.node(op, axes.length === 0 ? [x] : [x, c.ints(axes)], { keepdims: keep });
};

const reduction =
  (op: string): Translation =>
  (c) =>
    reduced(c, op, c.cast(c.tensor('self'), c.outputType().dtype));

/** Over bools: the largest and the smallest of 0 and 1. */
const truth =
  (op: string): Translation =>
  (c) =>
    c.cast(reduced(c, op, c.cast(c.cast(c.tensor('self'), 'bool'), 'i32')), 'bool');

/** Mean of squares around the mean, over n − correction. */
function variance(c: Call): string {
  const { dtype } = c.outputType();
  const x = c.cast(c.tensor('self'), dtype);
  const correction = c.has('correction') ? c.number('correction') : c.bool('unbiased', true) ? 1 : 0;
  const centred = c.node('Sub', [x, reduced(c, 'ReduceMean', x, true)]);
  const squares = reduced(c, 'ReduceMean', c.node('Mul', [centred, centred]));
  if (correction === 0) return squares;
  const axes = c.has('dim') ? c.axes('dim', c.rank(x)) : Array.from({ length: c.rank(x) }, (_, i) => i);
  const count = axes.reduce((n, axis) => n * c.staticDim(x, axis), 1);
  return c.node('Mul', [squares, c.scalar(count / (count - correction), dtype)]);
}

function norm(c: Call): string {
  const { dtype } = c.outputType();
  const x = c.cast(c.tensor('self'), dtype);
  const order = c.has('ord') ? c.number('ord') : c.number('p', 2);
  if (order === 2) return reduced(c, 'ReduceL2', x);
  if (order === 1) return reduced(c, 'ReduceL1', x);
  const magnitude = c.node('Abs', [x]);
  if (order === Number.POSITIVE_INFINITY) return reduced(c, 'ReduceMax', magnitude);
  if (order === Number.NEGATIVE_INFINITY) return reduced(c, 'ReduceMin', magnitude);
  if (order === 0) return c.fail('a norm of order 0 is not translated');
  const powers = reduced(c, 'ReduceSum', c.node('Pow', [magnitude, c.scalar(order, dtype)]));
  return c.node('Pow', [powers, c.scalar(1 / order, dtype)]);
}

/** Σ a·b / (max(|a|, eps) · max(|b|, eps)) along a dim. */
function cosineSimilarity(c: Call): string {
  const { dtype } = c.outputType();
  const [a, b] = [c.operand('x1', dtype), c.operand('x2', dtype)];
  const axis = c.ints([c.axis('dim', c.rank(a), 1)]);
  const summed = (op: string, x: string): string => c.node(op, [x, axis], { keepdims: false });
  const least = c.scalar(c.number('eps', 1e-8), dtype);
  const lengths = [a, b].map((x) => c.node('Max', [summed('ReduceL2', x), least]));
  return c.node('Div', [summed('ReduceSum', c.node('Mul', [a, b])), c.node('Mul', lengths)]);
}

/** Values and their places; without a dim the one extreme of all. */
const extreme =
  (reduce: string, find: string): Translation =>
  (c) => {
    const x = c.tensor('self');
    if (!c.has('dim')) return c.node(reduce, [x], { keepdims: false });
    const keepdims = c.bool('keepdim', false);
    const axis = c.axis('dim', c.rank(x));
    return [c.node(reduce, [x, c.ints([axis])], { keepdims }), c.node(find, [x], { axis, keepdims })];
  };

const place =
  (find: string): Translation =>
  (c) => {
    const x = c.tensor('self');
    if (c.has('dim')) return c.node(find, [x], { axis: c.axis('dim', c.rank(x)), keepdims: c.bool('keepdim', false) });
    return c.node(find, [c.node('Reshape', [x, c.ints([-1])])], { axis: 0, keepdims: false });
  };

const topK: Translation = (c) => {
  const x = c.tensor('self');
  const attrs = {
    axis: c.axis('dim', c.rank(x), -1),
    largest: c.bool('largest', true),
    sorted: c.bool('sorted', true),
  };
  return c.nodes('TopK', [x, c.vector([c.size('k')])], 2, attrs);
};

const sort: Translation = (c) => {
  const x = c.tensor('self');
  const axis = c.axis('dim', c.rank(x), -1);
  return c.nodes('TopK', [x, c.ints([c.staticDim(x, axis)])], 2, { axis, largest: c.bool('descending', false) });
};

export const REDUCTIONS: TranslationTable = {
  sum: reduction('ReduceSum'),
  mean: reduction('ReduceMean'),
  prod: reduction('ReduceProd'),
  amax: reduction('ReduceMax'),
  amin: reduction('ReduceMin'),
  logsumexp: reduction('ReduceLogSumExp'),
  any: truth('ReduceMax'),
  all: truth('ReduceMin'),
  var: variance,
  std: (c) => c.node('Sqrt', [variance(c)]),
  cosine_similarity: cosineSimilarity,
  norm,
  linalg_vector_norm: norm,
  max: extreme('ReduceMax', 'ArgMax'),
  min: extreme('ReduceMin', 'ArgMin'),
  argmax: place('ArgMax'),
  argmin: place('ArgMin'),
  topk: topK,
  sort,
  cumsum: (c) => {
    const x = c.cast(c.tensor('self'), c.outputType().dtype);
    return c.node('CumSum', [x, c.scalar(c.axis('dim', c.rank(x)), 'i64')]);
  },
};
