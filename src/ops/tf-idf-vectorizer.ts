/**
 * TfIdfVectorizer on integers: how often each n-gram of a pool occurs in a row, weighted.
 *
 * An n-gram at position p with distance d is the elements p, p + d, …, p + (n−1)·d of a row; distances run from 1 to max_skip_count + 1.
 * The pool's n-grams of length n begin at `ngram_counts[n−1]`; `ngram_indexes` says which output each of them counts to.
 *
 * It is written with other operators: windows of the row, gathered, are compared with the pool, and hits summed:
 *
 *     hits[row, gram] = Σ distances Σ positions min over n of (window[row, position, n] = pool[gram, n])
 */
import { isStatic } from '../core/shape.ts';
import { fromNumbers, zeros } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import type { Attrs, Node } from '../graph/ir.ts';
import { i64Vector, intsOf } from './dims.ts';
import { type AttrsOf, defineOp, floats, int, ints, type Op, type OpCase, requiredOneOf } from './op.ts';

const ATTRS = {
  max_gram_length: int.required,
  max_skip_count: int.required,
  min_gram_length: int.required,
  mode: requiredOneOf('TF', 'IDF', 'TFIDF'),
  ngram_counts: ints.required,
  ngram_indexes: ints.required,
  pool_int64s: ints.required,
  weights: floats.optional,
} as const;
type TfIdfAttrs = AttrsOf<typeof ATTRS>;

interface Gram {
  readonly items: readonly number[];
  readonly output: number;
  readonly weight: number;
}

/** The pool's n-grams of the lengths that are asked for. */
function gramsOf(attrs: TfIdfAttrs): Gram[] {
  const { ngram_counts, ngram_indexes, pool_int64s, weights } = attrs;
  const found: Gram[] = [];
  let id = 0;
  ngram_counts.forEach((start, i) => {
    const [end, length] = [ngram_counts[i + 1] ?? pool_int64s.length, i + 1];
    for (let at = start; at + length <= end; at += length, id++) {
      if (length < attrs.min_gram_length || length > attrs.max_gram_length) continue;
      found.push({ items: pool_int64s.slice(at, at + length), output: ngram_indexes[id], weight: weights?.[id] ?? 1 });
    }
  });
  return found;
}

/** Positions of all n-grams of one length in a row of `width`, by distance. One element has no distance. */
function windowsOf(length: number, width: number, { max_skip_count }: TfIdfAttrs): readonly (readonly number[])[] {
  const windows: number[][] = [];
  for (let distance = 1; distance <= (length === 1 ? 1 : max_skip_count + 1); distance++) {
    for (let p = 0; p + (length - 1) * distance < width; p++) {
      windows.push(Array.from({ length }, (_, i) => p + i * distance));
    }
  }
  return windows;
}

const outputsOf = ({ ngram_indexes }: TfIdfAttrs): number => Math.max(-1, ...ngram_indexes) + 1;

/** The hits of n-grams of one length as f32[rows, grams]; undefined where a row is too short for any. */
function hitsOf(
  b: GraphBuilder,
  node: Node,
  rows: string,
  grams: readonly Gram[],
  windows: readonly (readonly number[])[],
): string | undefined {
  const length = grams[0].items.length;
  if (windows.length === 0) return undefined;
  const one = (op: string, inputs: readonly string[], attrs: Attrs = {}) =>
    b.node(op, inputs, { attrs, loc: node.loc })[0];
  const at = b.constant(fromNumbers('i64', [windows.length, 1, length], windows.flat()));
  const { dtype } = b.type(rows);
  const pool = fromNumbers(
    dtype,
    [grams.length, length],
    grams.flatMap(({ items }) => items),
  );
  const equal = one('Equal', [one('Gather', [rows, at], { axis: 1 }), b.constant(pool)]);
  const all = one('ReduceMin', [one('Cast', [equal], { to: 'f32' }), b.constant(i64Vector([-1]))], { keepdims: false });
  return one('ReduceSum', [all, b.constant(i64Vector([1]))], { keepdims: false });
}

const pool: Attrs = {
  max_gram_length: 2,
  max_skip_count: 0,
  min_gram_length: 1,
  mode: 'TF',
  ngram_counts: [0, 4],
  ngram_indexes: [0, 1, 2, 3, 4, 5, 6],
  pool_int64s: [2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
};
const row = fromNumbers('i64', [12], [1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8]);
const vectorizerCase = (name: string, attrs: Attrs, input: OpCase['inputs'][number] = row): OpCase => ({
  name,
  attrs: { ...pool, ...attrs },
  inputs: [input],
});

const tfIdfVectorizer = defineOp({
  name: 'TfIdfVectorizer',
  onnx: { since: 9 },
  attrs: ATTRS,
  inputs: [1, 1],
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    if (dtype !== 'i32' && dtype !== 'i64') ctx.fail(`the element type is ${dtype}, expected i32 or i64`);
    if (shape.length !== 1 && shape.length !== 2) ctx.fail('the input must have rank 1 or 2');
    return [{ dtype: 'f32', shape: [...shape.slice(0, -1), outputsOf(ctx.attrs)] }];
  },
  eval([x], attrs, [out]) {
    const values = intsOf(x!);
    const width = x!.shape.at(-1)!;
    const outputs = outputsOf(attrs);
    const y = new Float64Array(out.shape.reduce((n, d) => n * d, 1));
    for (const { items, output, weight } of gramsOf(attrs)) {
      const windows = windowsOf(items.length, width, attrs);
      for (let r = 0; (r + 1) * outputs <= y.length; r++) {
        const hits = windows.filter((w) => w.every((at, i) => values[r * width + at] === items[i])).length;
        const count = attrs.mode === 'IDF' ? Math.min(hits, 1) : hits;
        y[r * outputs + output] += attrs.mode === 'TF' ? count : count * weight;
      }
    }
    return [fromNumbers('f32', out.shape, y)];
  },
  expand(b, node, attrs, [type]) {
    if (!type || !isStatic(type.shape)) return undefined;
    const width = type.shape[type.shape.length - 1];
    const one = (op: string, inputs: readonly string[], given: Attrs = {}) =>
      b.node(op, inputs, { attrs: given, loc: node.loc })[0];
    const rows =
      type.shape.length === 1 ? one('Unsqueeze', [node.inputs[0], b.constant(i64Vector([0]))]) : node.inputs[0];
    const terms: string[] = [];
    const outputs = outputsOf(attrs);
    for (let length = attrs.min_gram_length; length <= attrs.max_gram_length; length++) {
      const grams = gramsOf(attrs).filter(({ items }) => items.length === length);
      if (grams.length === 0) continue;
      const hits = hitsOf(b, node, rows, grams, windowsOf(length, width, attrs));
      if (hits === undefined) continue;
      const counted = attrs.mode === 'IDF' ? one('Min', [hits, b.constant(fromNumbers('f32', [], [1]))]) : hits;
      const matrix = new Float64Array(grams.length * outputs);
      grams.forEach(({ output, weight }, g) => {
        matrix[g * outputs + output] = attrs.mode === 'TF' ? 1 : weight;
      });
      terms.push(one('MatMul', [counted, b.constant(fromNumbers('f32', [grams.length, outputs], matrix))]));
    }
    if (terms.length === 0) return [b.constant(zeros('f32', [...type.shape.slice(0, -1), outputs]))];
    const sum = terms.reduce((a, c) => one('Add', [a, c]));
    return [type.shape.length === 1 ? one('Squeeze', [sum, b.constant(i64Vector([0]))]) : sum];
  },
  cases: [
    vectorizerCase('ones and pairs', {}),
    vectorizerCase('pairs with skips', { min_gram_length: 2, max_skip_count: 5 }),
    vectorizerCase('rows', { max_skip_count: 2 }, fromNumbers('i32', [2, 6], [1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8])),
    vectorizerCase('a row too short', { min_gram_length: 2 }, fromNumbers('i64', [1], [5])),
    ...['IDF', 'TFIDF'].map((mode) => vectorizerCase(mode, { mode, weights: [1, 2, 3, 0.5, 5, 6, 7] })),
  ],
});

export const TF_IDF_VECTORIZER_OPS: readonly Op[] = [tfIdfVectorizer];
