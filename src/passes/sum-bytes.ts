/**
 * Products of dequantised bytes are summed in integers, and what quantises the result takes the sum itself.
 *
 *     Q(clip(Σ DQ(a)·DQ(b) + bias))  =  round(clip(sum · (scaleA·scaleB/scaleY) + bias/scaleY)) + zeroPointY        sum in i32, exact
 *
 * What selects among dequantised numbers (pooling by the largest, flat views) selects among the bytes, and what is quantised again by the same
 * steps is left as it was. Which operators quantise, dequantise, clip, select and sum bytes is theirs to say. Models in this form (QDQ) define the left side in
 * float32, whose sums and quotients round; the right side rounds once or twice, so results may differ from another runtime's by one
 * step of the quantisation where a value lies next to a tie. Weights that a model quantises itself become bytes here.
 */
import { elements, isStatic, type StaticShape } from '../core/shape.ts';
import { fromNumbers, type Tensor, type TensorType, toNumbers } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import type { Graph, Node } from '../graph/ir.ts';
import { usersOf } from '../graph/rewrite.ts';
import { rewriteNodes } from '../graph/rewrite-nodes.ts';
import type { InferContext } from '../graph/semantics.ts';
import { type NodeWriter, nodeWriter } from '../ops/node-writer.ts';
import type { IntegerSum, Op, Quantization, QuantizedValue } from '../ops/op.ts';
import { BYTES, dequantize, roundTo } from '../ops/quantization.ts';
import { withLoc } from './expand-ops.ts';
import type { PassContext } from './pass.ts';
import { unchangedInput } from './remove-no-ops.ts';

/** A sum as numbers, and the interval that they are clipped to. */
interface ClippedSum extends IntegerSum {
  readonly low: number;
  readonly high: number;
}

export function sumBytes(graph: Graph, { ops, widensBytes }: PassContext): Graph {
  if (widensBytes || !graph.nodes.some((node) => ops.get(node.op)?.dequantizes)) return graph;
  const users = usersOf(graph);
  const outputs = new Set(graph.outputs);
  const dequantized = new Map<string, QuantizedValue>();
  const sums = new Map<string, ClippedSum>();
  /** Numbers that were computed from bytes, element by element or by a sum. */
  const ofBytes = new Set<string>();

  return rewriteNodes(graph, ops, (node, bare, contextOf) => {
    const b = withLoc(bare, node.loc);
    const op = ops.get(node.op);
    if (!op || !node.inputs.every((name) => name === '' || isStatic(b.type(name).shape))) return undefined;
    const ctx = contextOf(node);
    const [output] = node.outputs;
    const readsOnce = (name: string): boolean => users.get(name)?.length === 1 && !outputs.has(name);
    const quantized = op.dequantizes?.(ctx);
    if (quantized) dequantized.set(output, { ...quantized, q: node.inputs[0] });

    const known = op.quantizes && knownBytes(node, op, b, ctx);
    if (known) return [known];
    const back = op.quantizes && unchanged(op, ctx, dequantized.get(node.inputs[0]));
    if (back) return [back];
    const selected = selectedBytes(node, op, b, ctx, dequantized);
    if (selected) {
      dequantized.set(output, selected.bytes);
      ofBytes.add(output);
      return [selected.numbers];
    }
    // A bias that several layers share comes by a copy each.
    const same = unchangedInput(op, ctx, graph.values.get(output));
    const shared = same === undefined ? undefined : dequantized.get(node.inputs[same]);
    if (shared) dequantized.set(output, shared);

    const made = op.sumBytes && summed(node, op, b, ctx, dequantized);
    if (made) {
      ofBytes.add(output);
      sums.set(output, { ...made, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY });
      return [asNumbers(nodeWriter(b), made)];
    }

    const source = node.inputs[0] ?? '';
    const sum = readsOnce(source) ? sums.get(source) : undefined;
    const next = sum && follow(op, ctx, sum);
    if (next) sums.set(output, next);
    const result = sum ? requantized(nodeWriter(b), op, ctx, sum) : quantizedAgain(node, op, b, ctx, ofBytes);
    if (result) return [result];
    if (quantized || (op.lower?.kind === 'elementwise' && node.inputs.some((name) => ofBytes.has(name))))
      ofBytes.add(output);
    return undefined;
  });
}

/** Quantised constants: weights that the model has as numbers, and rounds itself. */
function knownBytes(node: Node, op: Op, b: GraphBuilder, ctx: InferContext): string | undefined {
  const inputs = node.inputs.map((name) => (name === '' ? undefined : b.constantValue(name)));
  if (!node.inputs.every((name, i) => name === '' || inputs[i])) return undefined;
  const [type] = op.infer(ctx);
  return b.constant(op.eval(inputs, node.attrs, [type as TensorType])[0]);
}

/** The bytes that were dequantised just so. */
function unchanged(op: Op, ctx: InferContext, from: QuantizedValue | undefined): string | undefined {
  const to = op.quantizes?.(ctx);
  const zero = ({ zeroPoint }: Quantization): number => (zeroPoint ? Number(toNumbers(zeroPoint)[0]) : 0);
  const [type] = op.infer(ctx);
  if (!from || !to || from.scale.data.length !== 1 || to.scale.data.length !== 1 || !from.zeroPoint) return undefined;
  const isSame = toNumbers(from.scale)[0] === toNumbers(to.scale)[0] && zero(from) === zero(to);
  return isSame && from.zeroPoint.dtype === type.dtype ? from.q : undefined;
}

/** A node that selects among dequantised numbers selects among the bytes, whose order is the same. */
function selectedBytes(
  node: Node,
  op: Op,
  b: GraphBuilder,
  ctx: InferContext,
  dequantized: ReadonlyMap<string, QuantizedValue>,
): { readonly bytes: QuantizedValue; readonly numbers: string } | undefined {
  const from = dequantized.get(node.inputs[0] ?? '');
  // Of views those that products of matrices read; others may lay channels apart, of which convolutions take several at once.
  const isFlat = op.lower?.kind === 'alias' && op.infer(ctx)[0].shape.length <= 2;
  if (!from || !(op.traits.selects || isFlat) || node.outputs.length !== 1) return undefined;
  if (from.scale.data.length !== 1 || !(Number(toNumbers(from.scale)[0]) > 0)) return undefined;
  if (!BYTES.includes(b.type(from.q).dtype) || b.constantValue(from.q)) return undefined;
  const [q] = b.node(node.op, [from.q, ...node.inputs.slice(1)], { attrs: node.attrs });
  const w = nodeWriter(b);
  const single = (t: Tensor | undefined): string => (t ? w.reshape(w.constant(t), []) : '');
  const numbers = dequantize(w, q, single(from.scale), single(from.zeroPoint));
  return b.type(numbers).dtype === b.type(node.inputs[0]).dtype ? { bytes: { ...from, q }, numbers } : undefined;
}

function summed(
  node: Node,
  op: Op,
  b: GraphBuilder,
  ctx: InferContext,
  dequantized: ReadonlyMap<string, QuantizedValue>,
): IntegerSum | undefined {
  const [x, y, bias] = [0, 1, 2].map((i) => dequantized.get(node.inputs[i] ?? ''));
  const isBytes = ({ q }: QuantizedValue): boolean => BYTES.includes(b.type(q).dtype);
  if (!x || !y || !isBytes(x) || !isBytes(y) || b.type(node.inputs[0]).dtype !== 'f32') return undefined;
  return op.sumBytes?.(nodeWriter(b), ctx as never, { a: x, b: y, bias });
}

/** sum · scale + offset. */
function asNumbers(w: NodeWriter, sum: IntegerSum): string {
  const scaled = w.mul(w.cast(sum.sum, 'f32'), channels(w, sum.scale, sum.along));
  return sum.offset ? w.add(scaled, channels(w, sum.offset, sum.along)) : scaled;
}

function channels(w: NodeWriter, values: Float64Array, along: StaticShape): string {
  if (values.length === 1) return w.scalar('f32', values[0]);
  return w.constant(
    fromNumbers(
      'f32',
      along.map((d) => (d === -1 ? values.length : d)),
      values,
    ),
  );
}

/** What the node makes of a sum: one clipped further, or scaled and shifted. */
function follow(op: Op, ctx: InferContext, sum: ClippedSum): ClippedSum | undefined {
  const clip = op.clips?.(ctx);
  const within = (x: number): number => Math.min(Math.max(x, clip?.[0] ?? x), clip?.[1] ?? x);
  if (clip) return { ...sum, low: within(sum.low), high: within(sum.high) };
  const isClipped = Number.isFinite(sum.low) || Number.isFinite(sum.high);
  const affine = isClipped ? undefined : op.channelAffine?.(ctx);
  const { shape } = ctx.input(0);
  if (affine?.input !== 0 || affine.axis !== shape.length - sum.along.length) return undefined;
  // A constant of a higher rank would broadcast the sum.
  if (ctx.inputs.some((type) => type && type.shape.length > shape.length)) return undefined;
  const at = (values: Float64Array, c: number): number => values[values.length === 1 ? 0 : c];
  const { scale, shift } = affine;
  return {
    ...sum,
    scale: scale.map((s, c) => s * at(sum.scale, c)),
    offset: shift.map((t, c) => t + scale[c] * (sum.offset ? at(sum.offset, c) : 0)),
  };
}

/** The sum in the result's own steps; undefined where the result has several scales. */
function requantized(w: NodeWriter, op: Op, ctx: InferContext, sum: ClippedSum): string | undefined {
  const to = op.quantizes?.(ctx);
  const [type] = op.infer(ctx);
  if (!to || elements(to.scale.shape as StaticShape) !== 1 || !BYTES.includes(type.dtype)) return undefined;
  const step = Number(toNumbers(to.scale)[0]);
  if (!(step > 0)) return undefined;
  const inSteps = asNumbers(w, {
    ...sum,
    scale: sum.scale.map((s) => s / step),
    offset: sum.offset?.map((x) => x / step),
  });
  const zeroPoint = to.zeroPoint ? w.reshape(w.constant(to.zeroPoint), []) : '';
  return roundTo(w, inSteps, zeroPoint, type.dtype, [sum.low / step, sum.high / step]);
}

/** Numbers that came of bytes and have been rounded on the way: a product with the inverse in the place of the quotient. */
function quantizedAgain(
  node: Node,
  op: Op,
  b: GraphBuilder,
  ctx: InferContext,
  ofBytes: ReadonlySet<string>,
): string | undefined {
  const to = op.quantizes?.(ctx);
  const [x] = node.inputs;
  if (to?.scale.data.length !== 1 || !ofBytes.has(x) || b.type(x).dtype !== 'f32') return undefined;
  const step = Number(toNumbers(to.scale)[0]);
  const [type] = op.infer(ctx);
  if (!(step > 0) || !BYTES.includes(type.dtype)) return undefined;
  const w = nodeWriter(b);
  const zeroPoint = to.zeroPoint ? w.reshape(w.constant(to.zeroPoint), []) : '';
  return roundTo(w, w.mul(x, w.scalar('f32', 1 / step)), zeroPoint, type.dtype);
}
