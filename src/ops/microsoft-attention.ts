/**
 * Attention operators of com.microsoft: Attention (projects its input to queries, keys and values first), MultiHeadAttention (is given
 * them) and GroupQueryAttention (causal, several heads of queries a head of keys, rotary embedding inside).
 *
 * Keys and values of earlier calls are joined in front, all of their length valid, and given back with the new ones behind.
 * https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
 */
import type { DType } from '../core/dtype.ts';
import { addDims, type Dim, floorDivDims, mulDims, printShape, type Shape } from '../core/shape.ts';
import { fromNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { defineComposite } from './composite.ts';
import { checkFloatInputs } from './dims.ts';
import { MICROSOFT } from './microsoft-activation.ts';
import type { NodeWriter } from './node-writer.ts';
import { bool, float, int, ints, type Op, type OpCase } from './op.ts';
import { anglesAt, rotate } from './rotary-embedding.ts';
import {
  addendOfBool,
  attend,
  beforeLength,
  CAUSAL,
  mergeHeads,
  positionMask,
  splitHeads,
} from './scaled-dot-product.ts';

/** How much a masked score is lowered where the operator does not say. */
const MASKED = -10000;

function checkHeads(ctx: InferContext<unknown>, heads: number, width: Dim): void {
  if (heads < 1) ctx.fail(`num_heads is ${heads}, expected at least 1`);
  if (typeof width === 'number' && width % heads !== 0) ctx.fail(`${width} do not split into ${heads} heads`);
}

/** Throws through ctx.fail unless input i, where there is one, has one of the ranks. */
function checkRank(ctx: InferContext<unknown>, i: number, ...ranks: readonly number[]): void {
  const shape = ctx.inputs[i]?.shape;
  if (shape && !ranks.includes(shape.length)) {
    ctx.fail(`input ${i} is ${printShape(shape)}, expected rank ${ranks.join(' or ')}`);
  }
}

/**
 * A mask of keys as an addend of scores: [batch] lengths, [2 · batch] ends and starts, [batch, total], [batch, length, total] of 1 where
 * a key counts.
 */
function keyMask(w: NodeWriter, mask: string, batch: number, total: number, dtype: DType, masked: number): string {
  const { shape } = w.type(mask);
  if (shape.length === 1) {
    const ends = beforeLength(w, w.slice(mask, 0, 0, batch), total);
    if (shape[0] === batch) return addendOfBool(w, ends, dtype, masked);
    const started = w.node('Not', [beforeLength(w, w.slice(mask, 0, batch, 2 * batch), total)]);
    return addendOfBool(w, w.node('And', [ends, started]), dtype, masked);
  }
  const [, ...rest] = shape;
  const apart = w.reshape(mask, rest.length === 1 ? [batch, 1, 1, rest[0]] : [batch, 1, ...rest]);
  return addendOfBool(w, w.cast(apart, 'bool'), dtype, masked);
}

const attention = defineComposite({
  name: 'Attention',
  onnx: MICROSOFT,
  attrs: {
    num_heads: int.required,
    unidirectional: bool(false),
    qkv_hidden_sizes: ints.optional,
    mask_filter_value: float(MASKED),
    scale: float.optional,
    do_rotary: bool(false),
    past_present_share_buffer: bool(false),
    rotary_embedding_dim: int(0),
  },
  inputs: [2, 7],
  outputs: 2,
  rounding: 'once',
  infer(ctx) {
    const { num_heads: heads, qkv_hidden_sizes: sizes } = ctx.attrs;
    checkFloatInputs(ctx, [0, 1, 2, 4, 5]);
    checkRank(ctx, 0, 3);
    checkRank(ctx, 1, 2);
    checkRank(ctx, 3, 1, 2, 3);
    if (ctx.attrs.do_rotary || ctx.attrs.past_present_share_buffer) {
      ctx.fail('do_rotary and past_present_share_buffer are not supported');
    }
    const { dtype, shape } = ctx.input(0);
    const third = floorDivDims(ctx.input(1).shape[1], 3);
    const width = sizes?.[2] ?? third;
    checkHeads(ctx, heads, width);
    checkHeads(ctx, heads, sizes?.[0] ?? third);
    const past = ctx.inputs[4]?.shape[3] ?? 0;
    const total = addDims(past, shape[1]);
    return [
      { dtype, shape: [shape[0], shape[1], width] },
      { dtype, shape: [2, shape[0], heads, total, floorDivDims(width, heads)] },
    ].slice(0, ctx.outputCount);
  },
  write({ w, input, type, types, attrs, node }) {
    const { num_heads: heads, qkv_hidden_sizes: given } = attrs;
    const { dtype, shape } = type(0);
    const [batch, length] = shape;
    const all = type(1).shape[1];
    const sizes = given ?? [all / 3, all / 3, all / 3];
    const product = w.matmul(input(0), input(1));
    const projected = types[2] ? w.add(product, input(2)) : product;
    const part = (i: number): string => {
      const start = sizes.slice(0, i).reduce((sum, n) => sum + n, 0);
      return splitHeads(w, w.slice(projected, 2, start, start + sizes[i]), heads);
    };
    const past = types[4]?.shape[3] ?? 0;
    const joined = (i: number): string => {
      if (!types[4]) return part(i + 1);
      const half = w.slice(input(4), 0, i, i + 1);
      return w.concat([w.reshape(half, w.type(half).shape.slice(1)), part(i + 1)], 2);
    };
    const [q, k, v] = [part(0), joined(0), joined(1)];
    const total = past + length;
    const addends = [
      ...(types[3] ? [keyMask(w, input(3), batch, total, dtype, attrs.mask_filter_value)] : []),
      ...(attrs.unidirectional ? [positionMask(w, dtype, { length, total, start: past, ...CAUSAL })] : []),
      ...(types[5] ? [input(5)] : []),
    ];
    const { y } = attend(w, { q, k, v, scale: attrs.scale || 1 / Math.sqrt(sizes[0] / heads), addends });
    const present = [k, v].map((x) => w.reshape(x, [1, ...w.type(x).shape]));
    return [mergeHeads(w, y), node.outputs.length > 1 ? w.concat(present, 0) : ''].slice(0, node.outputs.length);
  },
  cases: attentionCases(),
});

/** Queries, keys and values that lie in one tensor, neighbours for each head: [batch, length, heads, parts, size]. */
const packed = (w: NodeWriter, x: string, i: number): string => {
  const { shape } = w.type(x);
  const [batch, length, heads, , size] = shape;
  return w.reshape(w.slice(x, 3, i, i + 1), [batch, length, heads * size]);
};

const multiHeadAttention = defineComposite({
  name: 'MultiHeadAttention',
  onnx: MICROSOFT,
  attrs: {
    num_heads: int.required,
    mask_filter_value: float(MASKED),
    scale: float.optional,
    unidirectional: bool(false),
  },
  inputs: [1, 8],
  outputs: 3,
  rounding: 'once',
  infer(ctx) {
    const { num_heads: heads } = ctx.attrs;
    checkFloatInputs(ctx, [0, 1, 2, 3, 5, 6, 7]);
    checkRank(ctx, 0, 3, 5);
    checkRank(ctx, 4, 1, 2, 3);
    const { dtype, shape: q } = ctx.input(0);
    const widthOf = (x: Shape): Dim =>
      x.length === 5 ? mulDims(x[2], x[4]) : x.length === 4 ? mulDims(x[1], x[3]) : x[2];
    const keys = ctx.inputs[1]?.shape ?? q;
    const values = ctx.inputs[2]?.shape ?? keys;
    checkHeads(ctx, heads, widthOf(q));
    checkHeads(ctx, heads, widthOf(values));
    const total = addDims(ctx.inputs[6]?.shape[2] ?? 0, keys.length === 4 ? keys[2] : keys[1]);
    const present = (x: Shape) => ({ dtype, shape: [q[0], heads, total, floorDivDims(widthOf(x), heads)] });
    return [{ dtype, shape: [q[0], q[1], widthOf(values)] }, present(keys), present(values)].slice(0, ctx.outputCount);
  },
  write({ w, input, type, types, attrs, node }) {
    const { num_heads: heads } = attrs;
    const { dtype, shape } = type(0);
    const [batch, length] = shape;
    const source = (i: number): string => {
      if (shape.length === 5) return packed(w, input(0), i);
      return i > 0 && types[1]?.shape.length === 5 ? packed(w, input(1), i - 1) : input(i);
    };
    const width = (x: string): number => w.type(x).shape[2];
    const projected = (i: number): string => {
      const x = source(i);
      if (w.type(x).shape.length === 4) return x;
      if (!types[3]) return splitHeads(w, x, heads);
      const bias = types[3].shape[0];
      const start = i === 2 ? bias - width(x) : i * width(source(0));
      return splitHeads(w, w.add(x, w.slice(input(3), 0, start, start + width(x))), heads);
    };
    const joined = (i: number, past: number): string =>
      types[past] ? w.concat([input(past), projected(i)], 2) : projected(i);
    const [q, k, v] = [projected(0), joined(1, 6), joined(2, 7)];
    const total = w.type(k).shape[2];
    const addends = [
      ...(types[4] ? [keyMask(w, input(4), batch, total, dtype, attrs.mask_filter_value)] : []),
      ...(attrs.unidirectional ? [positionMask(w, dtype, { length, total, start: total - length, ...CAUSAL })] : []),
      ...(types[5] ? [input(5)] : []),
    ];
    const { y } = attend(w, { q, k, v, scale: attrs.scale || 1 / Math.sqrt(w.type(q).shape[3]), addends });
    return [mergeHeads(w, y), k, v].slice(0, node.outputs.length);
  },
  cases: multiHeadCases(),
});

const groupQueryAttention = defineComposite({
  name: 'GroupQueryAttention',
  onnx: MICROSOFT,
  attrs: {
    num_heads: int.required,
    kv_num_heads: int.required,
    scale: float.optional,
    softcap: float(0),
    local_window_size: int(-1),
    do_rotary: bool(false),
    rotary_interleaved: bool(false),
    smooth_softmax: bool(false),
    qk_output: int(0),
    k_quant_type: int.optional,
    v_quant_type: int.optional,
    kv_cache_bit_width: int.optional,
  },
  inputs: [7, 11],
  outputs: 3,
  rounding: 'once',
  infer(ctx) {
    const { num_heads: heads, kv_num_heads: kvHeads } = ctx.attrs;
    checkFloatInputs(ctx, [0, 1, 2, 3, 4, 7, 8, 10]);
    checkRank(ctx, 0, 3);
    if (ctx.attrs.smooth_softmax) ctx.fail('smooth_softmax is not supported');
    const { dtype, shape: q } = ctx.input(0);
    const parts = heads + 2 * kvHeads;
    const size = floorDivDims(q[2], ctx.inputs[1] ? heads : parts);
    checkHeads(ctx, ctx.inputs[1] ? heads : parts, q[2]);
    if (heads % kvHeads !== 0) ctx.fail(`${heads} heads of queries are no multiple of ${kvHeads} heads of keys`);
    const total = addDims(ctx.inputs[3]?.shape[2] ?? 0, q[1]);
    const present = { dtype, shape: [q[0], kvHeads, total, size] };
    return [{ dtype, shape: [q[0], q[1], mulDims(size, heads)] }, present, present].slice(0, ctx.outputCount);
  },
  write({ w, input, type, types, attrs, node }) {
    const { num_heads: heads, kv_num_heads: kvHeads } = attrs;
    const { dtype, shape } = type(0);
    const [batch, length, width] = shape;
    const size = types[1] ? width / heads : width / (heads + 2 * kvHeads);
    const tokens = (i: number): string => {
      if (types[1]) return input(i);
      const start = [0, heads * size, (heads + kvHeads) * size][i];
      return w.slice(input(0), 2, start, start + (i === 0 ? heads : kvHeads) * size);
    };
    const past = types[3]?.shape[2] ?? 0;
    const total = past + length;
    const turned = (x: string): string => {
      if (!attrs.do_rotary) return x;
      const steps = Array.from({ length }, (_, s) => past + s);
      const ids = types[9] ? input(9) : w.constant(fromNumbers('i64', [1, length], steps));
      const interleaved = attrs.rotary_interleaved;
      return rotate(w, x, { cos: anglesAt(w, input(7), ids), sin: anglesAt(w, input(8), ids), interleaved });
    };
    const joined = (i: number, x: string): string => (past > 0 ? w.concat([input(i), x], 2) : x);
    const q = turned(splitHeads(w, tokens(0), heads));
    const k = joined(3, turned(splitHeads(w, tokens(1), kvHeads)));
    const v = joined(4, splitHeads(w, tokens(2), kvHeads));
    const before = attrs.local_window_size > 0 ? attrs.local_window_size - 1 : Number.POSITIVE_INFINITY;
    // Input 5 is the position of each batch's last key.
    const lengths = w.add(w.reshape(input(5), [batch]), w.scalar(type(5).dtype, 1));
    const addends = [
      positionMask(w, dtype, { length, total, start: past, after: 0, before }),
      ...(batch > 1 ? [addendOfBool(w, beforeLength(w, lengths, total), dtype, MASKED)] : []),
      ...(types[10] ? [input(10)] : []),
    ];
    const { y } = attend(w, { q, k, v, scale: attrs.scale || 1 / Math.sqrt(size), softcap: attrs.softcap, addends });
    return [mergeHeads(w, y), k, v].slice(0, node.outputs.length);
  },
  cases: groupQueryCases(),
});

function f32(...shape: readonly number[]): { readonly dtype: 'f32'; readonly shape: readonly number[] } {
  return { dtype: 'f32', shape };
}

function attentionCases(): readonly OpCase[] {
  const x = f32(2, 5, 6);
  const projection = [f32(6, 24), f32(24)];
  const raw = fromNumbers('i32', [2, 5], [1, 1, 1, 0, 0, 1, 1, 1, 1, 0]);
  return [
    { name: 'plain', inputs: [x, ...projection], attrs: { num_heads: 2 } },
    { name: 'scale', inputs: [x, ...projection], attrs: { num_heads: 4, scale: 0.25 } },
    { name: 'mask of keys', inputs: [x, ...projection, raw], attrs: { num_heads: 2 } },
    { name: 'lengths', inputs: [x, ...projection, fromNumbers('i32', [2], [3, 5])], attrs: { num_heads: 2 } },
    { name: 'causal', inputs: [x, ...projection], attrs: { num_heads: 2, unidirectional: true } },
    { name: 'sizes apart', inputs: [x, f32(6, 22), f32(22)], attrs: { num_heads: 2, qkv_hidden_sizes: [8, 8, 6] } },
    {
      name: 'past',
      inputs: [x, ...projection, undefined, f32(2, 2, 2, 3, 4)],
      attrs: { num_heads: 2, unidirectional: true },
      outputs: 2,
    },
    {
      name: 'bias of scores',
      inputs: [x, ...projection, undefined, undefined, f32(2, 2, 5, 5)],
      attrs: { num_heads: 2 },
    },
  ];
}

function multiHeadCases(): readonly OpCase[] {
  const tokens = [f32(2, 3, 8), f32(2, 5, 8), f32(2, 5, 8)];
  const attrs = { num_heads: 2 };
  const raw = fromNumbers('i32', [2, 5], [1, 1, 1, 0, 0, 1, 1, 1, 1, 0]);
  return [
    { name: 'tokens', inputs: tokens, attrs },
    { name: 'with bias', inputs: [...tokens, f32(24)], attrs: { num_heads: 2, scale: 0.25 } },
    { name: 'mask of keys', inputs: [...tokens, undefined, raw], attrs: { num_heads: 2, mask_filter_value: -100 } },
    { name: 'lengths', inputs: [...tokens, undefined, fromNumbers('i32', [2], [3, 5])], attrs },
    { name: 'bias of scores', inputs: [...tokens, undefined, undefined, f32(1, 2, 3, 5)], attrs },
    { name: 'keys as heads', inputs: [f32(2, 3, 8), f32(2, 2, 5, 4), f32(2, 2, 5, 4)], attrs },
    { name: 'packed keys and values', inputs: [f32(2, 3, 8), f32(2, 5, 2, 2, 4)], attrs },
    { name: 'packed', inputs: [f32(2, 3, 2, 3, 4)], attrs },
    {
      name: 'past, causal',
      inputs: [
        f32(2, 3, 8),
        f32(2, 3, 8),
        f32(2, 3, 8),
        undefined,
        undefined,
        undefined,
        f32(2, 2, 4, 4),
        f32(2, 2, 4, 4),
      ],
      attrs: { num_heads: 2, unidirectional: true },
      outputs: 3,
    },
  ];
}

function groupQueryCases(): readonly OpCase[] {
  const heads = { num_heads: 4, kv_num_heads: 2 };
  const lengths = (...last: number[]) => fromNumbers('i32', [last.length], last);
  const total = (n: number) => ({ constant: fromNumbers('i32', [1], [n]) });
  const tables = [f32(20, 8), f32(20, 8)];
  const none = [f32(1, 2, 0, 16), f32(1, 2, 0, 16)];
  const one = [f32(1, 5, 64), f32(1, 5, 32), f32(1, 5, 32)];
  return [
    { name: 'prompt', inputs: [...one, ...none, lengths(4), total(5)], attrs: heads, outputs: 3 },
    {
      name: 'rotary',
      inputs: [...one, ...none, lengths(4), total(5), ...tables],
      attrs: { ...heads, do_rotary: true },
      outputs: 3,
    },
    {
      name: 'packed, interleaved, window',
      inputs: [f32(1, 5, 128), undefined, undefined, ...none, lengths(4), total(5), ...tables],
      attrs: { ...heads, do_rotary: true, rotary_interleaved: true, local_window_size: 3, scale: 0.2 },
      outputs: 3,
    },
    {
      name: 'one token behind a past',
      inputs: [
        f32(1, 1, 64),
        f32(1, 1, 32),
        f32(1, 1, 32),
        f32(1, 2, 6, 16),
        f32(1, 2, 6, 16),
        lengths(6),
        total(7),
        ...tables,
      ],
      attrs: { ...heads, do_rotary: true, softcap: 3 },
      outputs: 3,
    },
    {
      name: 'two batches',
      inputs: [
        f32(2, 3, 64),
        f32(2, 3, 32),
        f32(2, 3, 32),
        f32(2, 2, 0, 16),
        f32(2, 2, 0, 16),
        lengths(2, 2),
        total(3),
      ],
      attrs: heads,
      outputs: 3,
    },
  ];
}

export const MICROSOFT_ATTENTION_OPS: readonly Op[] = [attention, multiHeadAttention, groupQueryAttention];
