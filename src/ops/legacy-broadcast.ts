/**
 * The forms that operators had before opset 7, for models that are that old (PyTorch's first exporter wrote opset 6).
 *
 * Two operands were broadcast only with `broadcast = 1`, the second one's dims standing from `axis` of the first on:
 *
 *     a [2,3,4,5]  b [3,4]  axis 1     is     a [2,3,4,5]  b [3,4,1]     today
 *
 * `consumed_inputs` and `is_test` said what an executor may overwrite and that it does not train; they decide no value.
 */
import type { Attrs } from '../graph/ir.ts';
import { i64Vector } from './dims.ts';
import type { OnnxBinding, RawNode, UpgradeContext } from './op.ts';

const NEW_BROADCAST = 7;
const HINTS = ['consumed_inputs', 'is_test', 'broadcast', 'axis'];

/** The attributes without those that only opsets before 7 had. */
export const withoutLegacyHints = (attrs: Attrs): Attrs =>
  Object.fromEntries(Object.entries(attrs).filter(([name]) => !HINTS.includes(name)));

/** Of an operator with two operands, which broadcast as NumPy's do since opset 7. */
export const broadcastSince1: OnnxBinding = {
  since: 1,
  upgrade(node, ctx) {
    if (ctx.opset >= NEW_BROADCAST) return node;
    const { axis } = node.attrs;
    return typeof axis === 'number'
      ? alignOperand(node, axis, ctx)
      : { ...node, attrs: withoutLegacyHints(node.attrs) };
  },
};

/** Before opset 7 a slope had one element, or one a channel: dim 1 of the input. */
export const slopeSince1: OnnxBinding = {
  since: 1,
  upgrade(node, ctx) {
    if (ctx.opset >= NEW_BROADCAST || ctx.rank(node.inputs[1]) !== 1 || ctx.shape(node.inputs[1])?.[0] === 1) {
      return ctx.opset >= NEW_BROADCAST ? node : { ...node, attrs: withoutLegacyHints(node.attrs) };
    }
    return alignOperand(node, 1, ctx);
  },
};

/** Gives the second operand dims of size 1 behind its own, so that these start at `axis` of the first. */
function alignOperand(node: RawNode, axis: number, ctx: UpgradeContext): RawNode {
  const [a, b] = node.inputs;
  const [rank, own] = [ctx.rank(a), ctx.rank(b)];
  if (rank === undefined || own === undefined) return ctx.fail('the ranks of the operands must be known');
  const start = axis < 0 ? axis + rank : axis;
  const behind = rank - start - own;
  if (start < 0 || behind < 0) ctx.fail(`axis is ${axis}, the operands have ranks ${rank} and ${own}`);
  const attrs = withoutLegacyHints(node.attrs);
  if (behind === 0) return { ...node, attrs };
  const axes = ctx.constant(i64Vector(Array.from({ length: behind }, (_, i) => own + i)));
  return { ...node, attrs, inputs: [a, ctx.node('Unsqueeze', [b, axes])] };
}
