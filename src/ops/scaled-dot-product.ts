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

/** What a query sees of the keys: those at most `before` positions before its own and at most `after` behind it. */
export interface Window {
  readonly before: number;
  readonly after: number;
}
export const CAUSAL: Window = { before: Number.POSITIVE_INFINITY, after: 0 };

export interface PositionMask extends Window {
  readonly length: number;
  readonly total: number;
  /** Position of the first query among the keys. */
  readonly start: number;
}

/** What of the scores is masked, told from positions alone; -Infinity there, 0 elsewhere: [length, total]. */
export function positionMask(w: NodeWriter, dtype: DType, mask: PositionMask): string {
  const { length, total } = mask;
  const values = Array.from({ length: length * total }, (_, i) =>
    sees(mask, mask.start + Math.floor(i / total), i % total) ? 0 : Number.NEGATIVE_INFINITY,
  );
  return w.constant(fromNumbers(dtype, [length, total], values));
}

const sees = ({ before, after }: Window, query: number, key: number): boolean =>
  key >= query - before && key <= query + after;

/** Whether some query of a position mask sees no key. */
export const hasBlindQuery = ({ length, total, start, before, after }: PositionMask): boolean =>
  length > 0 && (start + after < 0 || start + length - 1 - before > total - 1 || total === 0);

/**
 * As `positionMask`, where the last query of each batch stands at the last of its `lengths` keys: bool [batch, 1, length, total], true
 * where a key is seen.
 */
export function seenFromEnd(w: NodeWriter, lengths: string, length: number, total: number, window: Window): string {
  const { dtype, shape } = w.type(lengths);
  const [batch = 1] = shape;
  const range = (count: number, from: number, dims: readonly number[]): string =>
    w.constant(
      fromNumbers(
        dtype,
        dims,
        Array.from({ length: count }, (_, i) => i + from),
      ),
    );
  const query = w.add(w.reshape(lengths, [batch, 1, 1, 1]), range(length, -length, [length, 1]));
  const key = range(total, 0, [total]);
  const bounds = [
    ...(window.after < Infinity ? [w.node('LessOrEqual', [key, w.add(query, w.scalar(dtype, window.after))])] : []),
    ...(window.before < Infinity
      ? [w.node('GreaterOrEqual', [key, w.sub(query, w.scalar(dtype, window.before))])]
      : []),
  ];
  return bounds.reduce((a, b) => w.node('And', [a, b]));
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
  /** A query that sees no key gets zeros; where not given, NaN, as softmax of nothing but -Infinity is. */
  readonly zeroBlind?: boolean;
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
function attendAlike(
  w: NodeWriter,
  { q, k, v, scale, addends, softcap = 0, zeroBlind = false }: AttentionInputs,
): AttentionResult {
  const { dtype, shape } = w.type(q);
  const rank = shape.length;
  const order = shape.map((_, d) => (d < rank - 2 ? d : 2 * rank - 3 - d));
  const scaled = w.mul(w.matmul(q, w.transpose(k, order)), w.scalar(dtype, scale));
  const cap = w.scalar(dtype, softcap);
  const capped = softcap === 0 ? scaled : w.mul(w.node('Tanh', [w.div(scaled, cap)]), cap);
  const masked = addends.reduce((sum, addend) => w.add(sum, addend), capped);
  const softmax = w.node('Softmax', [masked], { axis: -1 });
  const weights = zeroBlind ? w.node('Where', [isBlind(w, masked), w.scalar(dtype, 0), softmax]) : softmax;
  return { y: w.matmul(weights, v), scaled, capped, masked, weights };
}

/** Whether nothing of a row of scores is above -Infinity: bool, the last dim 1. */
const isBlind = (w: NodeWriter, scores: string): string =>
  w.node('Equal', [
    w.node('ReduceMax', [scores, w.ints([-1])]),
    w.scalar(w.type(scores).dtype, Number.NEGATIVE_INFINITY),
  ]);
