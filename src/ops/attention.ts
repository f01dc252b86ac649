/**
 * Attention of opset 23: scaled dot-product attention over queries, keys and values as heads (rank 4) or tokens (rank 3), with grouped
 * heads, masks, keys and values of earlier calls, and the scores as an output.
 */
import { addDims, type Dim, floorDivDims, mulDims, type Shape } from '../core/shape.ts';
import { fromNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { defineComposite, type Expansion } from './composite.ts';
import { checkFloatInputs } from './dims.ts';
import { type AttrsOf, bool, dtypeAttr, float, int, type Op, type OpCase } from './op.ts';
import {
  addendOfBool,
  attend,
  beforeLength,
  hasBlindQuery,
  mergeHeads,
  positionMask,
  seenFromEnd,
  splitHeads,
  type Window,
} from './scaled-dot-product.ts';

const ATTRS = {
  is_causal: bool(false),
  q_num_heads: int.optional,
  kv_num_heads: int.optional,
  /** Which scores output 3 is: as multiplied, capped, with the mask too, or after softmax. */
  qk_matmul_output_mode: int(0),
  scale: float.optional,
  softcap: float(0),
  softmax_precision: dtypeAttr.optional,
  /** How many keys before and behind its own position a query sees; -1: all. */
  left_window_size: int(-1),
  right_window_size: int(-1),
} as const;
type AttentionAttrs = AttrsOf<typeof ATTRS>;

/** [batch, heads, length, size] of an input that may be tokens. */
function headShape(ctx: InferContext<AttentionAttrs>, i: number, heads: number | undefined): Shape {
  const { shape } = ctx.input(i);
  if (shape.length === 4) return shape;
  if (shape.length !== 3) ctx.fail(`input ${i} has rank ${shape.length}, expected 3 or 4`);
  const count = heads ?? ctx.fail(`input ${i} has rank 3, so q_num_heads and kv_num_heads must be given`);
  const [batch, length, width] = shape;
  if (typeof width === 'number' && width % count !== 0) ctx.fail(`${width} do not split into ${count} heads`);
  return [batch, count, length, floorDivDims(width, count)];
}

const attention = defineComposite({
  name: 'Attention',
  onnx: {
    since: 23,
    formSince: ({ left_window_size: left, right_window_size: right }) =>
      (left !== undefined && left !== -1) || (right !== undefined && right !== -1) ? 25 : 23,
  },
  attrs: ATTRS,
  inputs: [3, 7],
  outputs: 4,
  rounding: 'once',
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    checkFloatInputs(ctx, [0, 1, 2]);
    const [batch, heads, length, size] = headShape(ctx, 0, ctx.attrs.q_num_heads);
    const [, kvHeads, newLength, keySize] = headShape(ctx, 1, ctx.attrs.kv_num_heads);
    const [, , , valueSize] = headShape(ctx, 2, ctx.attrs.kv_num_heads);
    if (typeof size === 'number' && typeof keySize === 'number' && size !== keySize) {
      ctx.fail(`heads of queries have ${size} elements, of keys ${keySize}`);
    }
    if (typeof heads === 'number' && typeof kvHeads === 'number' && heads % kvHeads !== 0) {
      ctx.fail(`${heads} heads of queries are no multiple of ${kvHeads} heads of keys`);
    }
    const past: Dim = ctx.inputs[4]?.shape[2] ?? 0;
    const total = addDims(past, newLength);
    const y = shape.length === 4 ? [batch, heads, length, valueSize] : [batch, length, mulDims(heads, valueSize)];
    return [
      { dtype, shape: y },
      { dtype: ctx.input(1).dtype, shape: [batch, kvHeads, total, keySize] },
      { dtype: ctx.input(2).dtype, shape: [batch, kvHeads, total, valueSize] },
      { dtype, shape: [batch, heads, length, total] },
    ].slice(0, ctx.outputCount);
  },
  write(x) {
    const { w, input, type, types, attrs, node } = x;
    const heads = (i: number, count: number | undefined): string =>
      type(i).shape.length === 4 ? input(i) : splitHeads(w, input(i), count as number);
    const q = heads(0, attrs.q_num_heads);
    const joined = (i: number, past: number): string =>
      types[past] ? w.concat([input(past), heads(i, attrs.kv_num_heads)], 2) : heads(i, attrs.kv_num_heads);
    const k = joined(1, 4);
    const v = joined(2, 5);
    const scale = attrs.scale ?? 1 / Math.sqrt(w.type(q).shape[3]);
    const result = attend(w, { q, k, v, scale, ...addends(x, q, k), softcap: attrs.softcap });
    const y = type(0).shape.length === 4 ? result.y : mergeHeads(w, result.y);
    const scores = [result.scaled, result.capped, result.masked, result.weights][attrs.qk_matmul_output_mode];
    return [y, k, v, scores].slice(0, node.outputs.length);
  },
  cases: cases(),
});

/** What is added to the scores: the mask, what positions hide, keys beyond the length of their batch. */
function addends(x: Expansion<AttentionAttrs>, q: string, k: string): Addends {
  const { w, input, types, attrs } = x;
  const { dtype, shape } = w.type(q);
  const [length, total] = [shape[2], w.type(k).shape[2]];
  const addends: string[] = [];
  if (types[3]) {
    addends.push(paddedMask(x, total, types[3].dtype === 'bool' ? addendOfBool(w, input(3), dtype) : input(3)));
  }
  const window = windowOf(attrs);
  const start = types[4]?.shape[2] ?? 0;
  const bounded = Math.min(window.before, window.after) < Infinity;
  const atEnds = types[6] !== undefined && !types[4];
  if (bounded && atEnds) addends.push(addendOfBool(w, seenFromEnd(w, input(6), length, total, window), dtype));
  if (bounded && !atEnds) addends.push(positionMask(w, dtype, { length, total, start, ...window }));
  if (types[6]) addends.push(addendOfBool(w, beforeLength(w, input(6), total), dtype));
  const blind = hasBlindQuery({ length, total, start, ...window });
  return { addends, zeroBlind: types[3] !== undefined || types[6] !== undefined || blind };
}

interface Addends {
  readonly addends: readonly string[];
  /** Whether a query may see no key. */
  readonly zeroBlind: boolean;
}

function windowOf({ is_causal, left_window_size, right_window_size }: AttentionAttrs): Window {
  const size = (keys: number): number => (keys < 0 ? Number.POSITIVE_INFINITY : keys);
  return { before: size(left_window_size), after: is_causal ? 0 : size(right_window_size) };
}

/** Keys that a mask is too short for are masked. */
function paddedMask({ w }: Expansion<AttentionAttrs>, total: number, mask: string): string {
  const { dtype, shape } = w.type(mask);
  const given = shape[shape.length - 1];
  if (given === total || given === 1) return mask;
  const rest = [...shape.slice(0, -1), total - given];
  const hidden = w.expand(w.scalar(dtype, Number.NEGATIVE_INFINITY), rest);
  return w.concat([mask, hidden], shape.length - 1);
}

function cases(): readonly OpCase[] {
  const f32 = (shape: readonly number[]) => ({ dtype: 'f32', shape }) as const;
  const q = f32([2, 4, 3, 8]);
  const kv = f32([2, 4, 5, 8]);
  const tokens = [f32([2, 3, 24]), f32([2, 5, 12]), f32([2, 5, 8])];
  const bools = fromNumbers('bool', [3, 5], [1, 0, 1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1]);
  const blind = fromNumbers('bool', [3, 5], [1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
  return [
    { name: 'heads', inputs: [q, kv, kv] },
    { name: 'causal', inputs: [f32([1, 2, 5, 4]), f32([1, 2, 5, 4]), f32([1, 2, 5, 3])], attrs: { is_causal: true } },
    { name: 'tokens, grouped heads', inputs: tokens, attrs: { q_num_heads: 4, kv_num_heads: 2 } },
    { name: 'scale and softcap', inputs: [q, kv, kv], attrs: { scale: 0.3, softcap: 2 } },
    { name: 'float mask', inputs: [q, kv, kv, f32([2, 1, 3, 5])] },
    { name: 'bool mask', inputs: [q, kv, kv, bools] },
    {
      name: 'past, causal',
      inputs: [q, f32([2, 2, 3, 8]), f32([2, 2, 3, 6]), undefined, f32([2, 2, 4, 8]), f32([2, 2, 4, 6])],
      attrs: { is_causal: true },
      outputs: 3,
    },
    {
      name: 'lengths of keys',
      inputs: [q, kv, kv, undefined, undefined, undefined, fromNumbers('i64', [2], [3, 5])],
    },
    {
      name: 'lengths of keys, causal: the first queries see none',
      inputs: [q, kv, kv, undefined, undefined, undefined, fromNumbers('i64', [2], [2, 5])],
      attrs: { is_causal: true },
    },
    { name: 'a query that sees no key', inputs: [q, kv, kv, blind], outputs: 4, attrs: { qk_matmul_output_mode: 3 } },
    { name: 'window', inputs: [q, kv, kv], attrs: { left_window_size: 1, right_window_size: 1 } },
    { name: 'window to the left, causal', inputs: [q, kv, kv], attrs: { left_window_size: 0, is_causal: true } },
    {
      name: 'window, lengths of keys',
      inputs: [q, kv, kv, undefined, undefined, undefined, fromNumbers('i64', [2], [4, 5])],
      attrs: { left_window_size: 1, right_window_size: 0 },
    },
    ...[0, 1, 2, 3].map(
      (mode): OpCase => ({
        name: `scores ${mode}`,
        inputs: [q, kv, kv, f32([3, 5])],
        attrs: { qk_matmul_output_mode: mode, softcap: 1.5 },
        outputs: 4,
      }),
    ),
  ];
}

export const ATTENTION_OPS: readonly Op[] = [attention];
