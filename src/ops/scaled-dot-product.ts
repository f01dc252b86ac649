/**
 * The parts of attention operators, as expansions: heads taken apart and put together, masks as addends, the attention itself.
 *
 *     y[b, h, s] = Σ over t of softmax over t of (q[b, h, s] · k[b, h, t] · scale + bias[b, h, s, t]) · v[b, h, t]
 *
 * Tensors of heads are [batch, heads, length, size]; of tokens [batch, length, heads · size].
 */
import type { DType } from '../core/dtype.ts';
import { fromNumbers } from '../core/tensor.ts';
import type { NodeWriter } from './node-writer.ts';

/** [batch, length, heads · size] to [batch, heads, length, size]. */
export function splitHeads(w: NodeWriter, x: string, heads: number): string {
  const [batch, length, width] = w.type(x).shape;
  return w.transpose(w.reshape(x, [batch, length, heads, width / heads]), [0, 2, 1, 3]);
}

/** [batch, heads, length, size] to [batch, length, heads · size]. */
export function mergeHeads(w: NodeWriter, x: string): string {
  const [batch, heads, length, size] = w.type(x).shape;
  return w.reshape(w.transpose(x, [0, 2, 1, 3]), [batch, length, heads * size]);
}

/** What of the scores is masked, told from positions alone; -Infinity there, 0 elsewhere: [length, total]. */
export interface PositionMask {
  readonly length: number;
  readonly total: number;
  /** Position of the first query among the keys. */
  readonly start: number;
  /** How many keys up to its own position a query sees; all where not given. */
  readonly window?: number;
}

/** A query sees the keys up to its own position. */
export function causalMask(
  w: NodeWriter,
  dtype: DType,
  { length, total, start, window = Infinity }: PositionMask,
): string {
  const sees = (s: number, t: number): boolean => t <= start + s && t > start + s - window;
  const values = Array.from({ length: length * total }, (_, i) =>
    sees(Math.floor(i / total), i % total) ? 0 : Number.NEGATIVE_INFINITY,
  );
  return w.constant(fromNumbers(dtype, [length, total], values));
}

/** `masked` where a bool is false, 0 where it is true: an addend of scores. */
export const addendOfBool = (w: NodeWriter, keep: string, dtype: DType, masked = Number.NEGATIVE_INFINITY): string =>
  w.node('Where', [keep, w.scalar(dtype, 0), w.scalar(dtype, masked)]);

/** Of `total` keys, whether each is before its batch's length: bool [batch, 1, 1, total]. */
export function beforeLength(w: NodeWriter, lengths: string, total: number): string {
  const { dtype, shape } = w.type(lengths);
  const positions = w.constant(
    fromNumbers(
      dtype,
      [total],
      Array.from({ length: total }, (_, t) => t),
    ),
  );
  const [batch = 1] = shape;
  return w.node('Less', [positions, w.reshape(lengths, [batch, 1, 1, 1])]);
}

export interface AttentionInputs {
  readonly q: string;
  readonly k: string;
  readonly v: string;
  readonly scale: number;
  /** Scores become cap · tanh(scores / cap); 0: they do not. */
  readonly softcap?: number;
  /** Addends of the scores, capped already; each broadcasts to [batch, heads, length, total]. */
  readonly addends: readonly string[];
}

/** The result as [batch, heads, length, size], and the scores after each step. */
export interface AttentionResult {
  readonly y: string;
  readonly scaled: string;
  readonly capped: string;
  readonly masked: string;
  readonly weights: string;
}

/**
 * Heads of keys and values are as many as of queries, or a divisor of them: then each stands for as many consecutive heads of queries, which
 * get a dim of their own, along which keys and values broadcast.
 */
export function attend(w: NodeWriter, inputs: AttentionInputs): AttentionResult {
  const { q, k, v, addends } = inputs;
  const [batch, heads, length] = w.type(q).shape;
  const [, own, total] = w.type(k).shape;
  if (own === heads) return attendAlike(w, inputs);
  const apart = (x: string): string => {
    const { shape } = w.type(x);
    if (shape.length < 3) return x;
    const [among, ...rest] = shape.slice(-3);
    return w.reshape(x, [...shape.slice(0, -3), ...(among === 1 ? [1, 1] : [own, among / own]), ...rest]);
  };
  const result = attendAlike(w, { ...inputs, q: apart(q), k: apart(k), v: apart(v), addends: addends.map(apart) });
  const together = (x: string, last: number): string => w.reshape(x, [batch, heads, length, last]);
  return {
    y: together(result.y, w.type(v).shape[3]),
    scaled: together(result.scaled, total),
    capped: together(result.capped, total),
    masked: together(result.masked, total),
    weights: together(result.weights, total),
  };
}

/** Over tensors whose dims before the last two broadcast. */
function attendAlike(w: NodeWriter, { q, k, v, scale, addends, softcap = 0 }: AttentionInputs): AttentionResult {
  const { dtype, shape } = w.type(q);
  const rank = shape.length;
  const order = shape.map((_, d) => (d < rank - 2 ? d : 2 * rank - 3 - d));
  const scaled = w.mul(w.matmul(q, w.transpose(k, order)), w.scalar(dtype, scale));
  const cap = w.scalar(dtype, softcap);
  const capped = softcap === 0 ? scaled : w.mul(w.node('Tanh', [w.div(scaled, cap)]), cap);
  const masked = addends.reduce((sum, addend) => w.add(sum, addend), capped);
  const weights = w.node('Softmax', [masked], { axis: -1 });
  return { y: w.matmul(weights, v), scaled, capped, masked, weights };
}
