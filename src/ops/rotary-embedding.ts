/**
 * RotaryEmbedding, of opset 23 and of com.microsoft: pairs of elements of each head are turned by the angle of their position.
 *
 *     (a, b) → (a · cos − b · sin, a · sin + b · cos)        pairs: halves of the head, or neighbours where `interleaved`
 */
import { type Dim, printShape, type Shape } from '../core/shape.ts';
import { fromNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { defineComposite } from './composite.ts';
import { checkFloatInputs } from './dims.ts';
import { MICROSOFT } from './microsoft-activation.ts';
import type { NodeWriter } from './node-writer.ts';
import { bool, float, int, type Op, type OpCase } from './op.ts';
import { mergeHeads, splitHeads } from './scaled-dot-product.ts';

export interface Rotation {
  /** Broadcast to [batch, heads, length, turned / 2]. */
  readonly cos: string;
  readonly sin: string;
  readonly interleaved: boolean;
}

/** Turns the first elements of each head, twice as many as there are angles; the rest stay. x is [batch, heads, length, size]. */
export function rotate(w: NodeWriter, x: string, { cos, sin, interleaved }: Rotation): string {
  const { shape } = w.type(x);
  const size = shape[3];
  const half = w.type(cos).shape[3];
  const turned = w.slice(x, 3, 0, 2 * half);
  const kept = size === 2 * half ? [] : [w.slice(x, 3, 2 * half, size)];
  const pairShape = [...shape.slice(0, 3), half, 1];
  const pairs = w.reshape(turned, [...shape.slice(0, 3), half, 2]);
  const part = (i: number): string =>
    interleaved
      ? w.reshape(w.slice(pairs, 4, i, i + 1), [...shape.slice(0, 3), half])
      : w.slice(turned, 3, i * half, (i + 1) * half);
  const [a, b] = [part(0), part(1)];
  const results = [w.sub(w.mul(a, cos), w.mul(b, sin)), w.add(w.mul(a, sin), w.mul(b, cos))];
  const joined = interleaved
    ? w.reshape(
        w.concat(
          results.map((r) => w.reshape(r, pairShape)),
          4,
        ),
        [...shape.slice(0, 3), 2 * half],
      )
    : w.concat(results, 3);
  return w.concat([joined, ...kept], 3);
}

/** Rows of a table [positions, half] for ids [batch, length], as [batch, 1, length, half]. */
export function anglesAt(w: NodeWriter, table: string, ids: string): string {
  const [batch, length] = w.type(ids).shape;
  return w.reshape(w.node('Gather', [table, ids]), [batch, 1, length, w.type(table).shape[1]]);
}

/** x as heads, turned, and as it was. */
function rotateAny(w: NodeWriter, x: string, heads: number, rotation: Rotation): string {
  return w.type(x).shape.length === 4
    ? rotate(w, x, rotation)
    : mergeHeads(w, rotate(w, splitHeads(w, x, heads), rotation));
}

function checkTokens(ctx: InferContext<unknown>, heads: Dim | undefined): void {
  const { shape } = ctx.input(0);
  if (shape.length !== 3 && shape.length !== 4) ctx.fail(`the input has rank ${shape.length}, expected 3 or 4`);
  if (shape.length === 3 && !heads) ctx.fail('the input has rank 3, so num_heads must be given');
}

function checkTables(ctx: InferContext<unknown>, cos: number, rank: Shape['length']): void {
  for (const i of [cos, cos + 1]) {
    const { shape } = ctx.input(i);
    if (shape.length !== rank) ctx.fail(`input ${i} is ${printShape(shape)}, expected rank ${rank}`);
  }
}

const rotaryEmbedding = defineComposite({
  name: 'RotaryEmbedding',
  onnx: { since: 23 },
  attrs: { interleaved: bool(false), num_heads: int(0), rotary_embedding_dim: int(0) },
  inputs: [3, 4],
  rounding: 'once',
  infer(ctx) {
    checkFloatInputs(ctx, [0, 1, 2]);
    checkTokens(ctx, ctx.attrs.num_heads);
    checkTables(ctx, 1, ctx.inputs[3] ? 2 : 3);
    return [ctx.input(0)];
  },
  write({ w, input, type, types, attrs }) {
    const angles = (i: number): string => {
      if (types[3]) return anglesAt(w, input(i), input(3));
      const [batch, length, half] = type(i).shape;
      return w.reshape(input(i), [batch, 1, length, half]);
    };
    const rotation = { cos: angles(1), sin: angles(2), interleaved: attrs.interleaved };
    return [rotateAny(w, input(0), attrs.num_heads, rotation)];
  },
  cases: [
    rotaryCase(
      'heads',
      [2, 4, 3, 8],
      [
        [50, 4],
        [50, 4],
      ],
      true,
    ),
    rotaryCase(
      'interleaved tokens',
      [2, 3, 32],
      [
        [50, 4],
        [50, 4],
      ],
      true,
      { num_heads: 4, interleaved: true },
    ),
    rotaryCase(
      'angles a token',
      [2, 4, 3, 8],
      [
        [2, 3, 4],
        [2, 3, 4],
      ],
      false,
    ),
    rotaryCase(
      'part of the head',
      [2, 4, 3, 8],
      [
        [50, 2],
        [50, 2],
      ],
      true,
      { rotary_embedding_dim: 4, interleaved: true },
    ),
  ],
});

function rotaryCase(name: string, x: number[], tables: number[][], ids: boolean, attrs: OpCase['attrs'] = {}): OpCase {
  return {
    name,
    attrs,
    inputs: [
      ...[x, ...tables].map((shape) => ({ dtype: 'f32', shape }) as const),
      ...(ids ? [{ dtype: 'i64', shape: [2, 3], range: [0, 49] } as const] : []),
    ],
  };
}

const microsoftRotaryEmbedding = defineComposite({
  name: 'RotaryEmbedding',
  onnx: MICROSOFT,
  attrs: {
    interleaved: bool(false),
    is_packed_batching: bool(false),
    num_heads: int(0),
    rotary_embedding_dim: int(0),
    scale: float(1),
  },
  inputs: [4, 4],
  rounding: 'once',
  infer(ctx) {
    checkFloatInputs(ctx, [0, 2, 3]);
    checkTokens(ctx, 1);
    checkTables(ctx, 2, 2);
    if (ctx.attrs.is_packed_batching) ctx.fail('packed batches are not supported');
    if (ctx.attrs.rotary_embedding_dim > 0 && ctx.attrs.num_heads === 0) {
      ctx.fail('num_heads must be given where only a part of each head is turned');
    }
    return [ctx.input(0)];
  },
  write({ w, input, type, attrs }) {
    const { shape } = type(0);
    const [batch, length] = shape.length === 3 ? shape : [shape[0], shape[2]];
    const size = attrs.num_heads > 0 ? shape[2] / attrs.num_heads : 2 * type(2).shape[1];
    const ids = type(1).shape.length === 2 ? input(1) : fromOffset(w, input(1), batch, length);
    const rotation = {
      cos: anglesAt(w, input(2), ids),
      sin: anglesAt(w, input(3), ids),
      interleaved: attrs.interleaved,
    };
    return [rotateAny(w, input(0), shape[2] / size, rotation)];
  },
  cases: [
    ...[false, true].map(
      (interleaved): OpCase => ({
        name: interleaved ? 'interleaved' : 'halves',
        attrs: { interleaved },
        inputs: [
          { dtype: 'f32', shape: [2, 3, 32] },
          { dtype: 'i64', shape: [2, 3], range: [0, 49] },
          { dtype: 'f32', shape: [50, 4] },
          { dtype: 'f32', shape: [50, 4] },
        ],
      }),
    ),
    {
      name: 'heads from an offset',
      inputs: [
        { dtype: 'f32', shape: [2, 4, 3, 8] },
        { dtype: 'i64', shape: [1], range: [2, 40] },
        { dtype: 'f32', shape: [50, 4] },
        { dtype: 'f32', shape: [50, 4] },
      ],
    },
    {
      name: 'part of the head',
      attrs: { num_heads: 4, rotary_embedding_dim: 4 },
      inputs: [
        { dtype: 'f32', shape: [1, 3, 32] },
        { dtype: 'i64', shape: [1, 3], range: [0, 49] },
        { dtype: 'f32', shape: [50, 2] },
        { dtype: 'f32', shape: [50, 2] },
      ],
    },
  ],
});

/** Positions from an offset on, the same for each row of the batch: [batch, length]. */
function fromOffset(w: NodeWriter, offset: string, batch: number, length: number): string {
  const { dtype } = w.type(offset);
  const steps = Array.from({ length: batch * length }, (_, i) => i % length);
  return w.add(w.constant(fromNumbers(dtype, [batch, length], steps)), offset);
}

export const ROTARY_EMBEDDING_OPS: readonly Op[] = [rotaryEmbedding, microsoftRotaryEmbedding];
