/**
 * Graphs written as opsets older than OLDEST_WRITABLE_OPSET, for tools that read no newer ones: 17 to 20.
 *
 * An operator that the opset does not have yet is expanded. One whose form has changed since is written in its older form, by its row
 * in FORMS. What has a row is known to be expressible; a node of any other operator, or with something that the older form lacks, is
 * refused by name. Changes between versions: https://github.com/onnx/onnx/blob/main/docs/Changelog.md
 */
import { ModelError } from '../core/errors.ts';
import { scalarTensor, type Tensor, toNumbers } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import { type Attrs, type Graph, type Loc, type Node, nodeLabel } from '../graph/ir.ts';
import { rewriteNodes } from '../graph/rewrite-nodes.ts';
import type { Op } from '../ops/op.ts';
import { OLDEST_WRITABLE_OPSET } from './opsets.ts';

/** The oldest opset that any graph is written as. */
export const OLDEST_EXPRESSIBLE_OPSET = 17;

/** A node as an opset before OLDEST_WRITABLE_OPSET has it: its inputs, and attributes that its newest form does not have. */
export interface OlderNode {
  readonly inputs: readonly string[];
  readonly attrs: Attrs;
  readonly olderInts: Readonly<Record<string, readonly number[]>>;
}

interface Older {
  readonly node: Node;
  readonly opset: number;
  /** The value of input i where it is a constant. */
  readonly constant: (i: number) => Tensor | undefined;
  readonly fail: (why: string) => never;
}
type Form = (older: Older) => OlderNode;

const asItIs: Form = ({ node }) => ({ inputs: node.inputs, attrs: node.attrs, olderInts: {} });

/** Attributes came with an opset: before it they must have the value that means what was before. */
const withoutSince =
  (since: number, usual: Attrs): Form =>
  (older) => {
    const { node, opset, fail } = older;
    if (opset < since) {
      for (const [name, value] of Object.entries(usual)) {
        const given = node.attrs[name];
        if (given !== undefined && given !== value) fail(`its attribute "${name}" exists since opset ${since}`);
      }
    }
    return asItIs(older);
  };

/** Axes were an attribute before opset 18. */
const reduction: Form = (older) => {
  const { node, opset, constant, fail } = older;
  if (opset >= 18 || node.inputs.length < 2) return asItIs(older);
  if (node.attrs.noop_with_empty_axes === true) fail('noop_with_empty_axes exists since opset 18');
  const axes = constant(1) ?? fail('its axes are no constant');
  return { inputs: [node.inputs[0]], attrs: node.attrs, olderInts: { axes: Array.from(toNumbers(axes)) } };
};

/** `num_outputs` came with opset 18; without sizes the outputs were equal parts before, too. */
const split: Form = (older) => {
  const { num_outputs: _, ...attrs } = older.node.attrs;
  return older.opset >= 18 ? asItIs(older) : { inputs: older.node.inputs, attrs, olderInts: {} };
};

const pad: Form = (older) => {
  const { node, opset, fail } = older;
  if (opset < 18 && node.inputs.length > 3) fail('its axes exist since opset 18');
  if (opset < 19 && node.attrs.mode === 'wrap') fail('mode "wrap" exists since opset 19');
  return asItIs(older);
};

const dilated =
  (since: number): Form =>
  (older) => {
    const { node, opset, fail } = older;
    const dilations = (node.attrs.dilations ?? []) as readonly number[];
    if (opset < since && dilations.some((d) => d !== 1)) fail(`its dilations exist since opset ${since}`);
    if (opset >= since) return asItIs(older);
    const { dilations: _, ...attrs } = node.attrs;
    return { inputs: node.inputs, attrs, olderInts: {} };
  };

const UNCHANGED = `Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BatchNormalization BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Celu Clip Compress Concat Constant
  ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU
  Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity
  InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mish Mod
  Mul Neg NonZero Not OneHot Or PRelu Pow RNN Range Reciprocal ReduceSum Relu Reshape Round Selu Shape Sigmoid Sign Sin Sinh Size Slice
  Softmax Softplus Softsign SpaceToDepth Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor`;

const REDUCTIONS =
  'ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare';

const rows = (names: string, form: Form): [string, Form][] => names.split(/\s+/).map((name) => [name, form]);

const FORMS: ReadonlyMap<string, Form> = new Map<string, Form>([
  ...rows(UNCHANGED, asItIs),
  ...rows(REDUCTIONS, reduction),
  ['Split', split],
  ['Pad', pad],
  ['AveragePool', dilated(19)],
  ['LpPool', dilated(18)],
  ['Cast', withoutSince(19, { saturate: true })],
  ['Resize', withoutSince(18, { antialias: false, axes: undefined, keep_aspect_ratio_policy: 'stretch' })],
  ['ScatterElements', scatter],
  ['ScatterND', scatter],
]);

function scatter(older: Older): OlderNode {
  const { node, opset, fail } = older;
  if (opset < 18 && (node.attrs.reduction === 'max' || node.attrs.reduction === 'min')) {
    fail(`reduction "${node.attrs.reduction}" exists since opset 18`);
  }
  return asItIs(older);
}

/** Activations that came later, in terms of what was there; `x` is the input, `k` a constant of its dtype. */
type Spelling = (
  n: (op: string, ...inputs: readonly string[]) => string,
  x: string,
  k: (value: number) => string,
  attrs: Attrs,
) => string;

const SPELLINGS: ReadonlyMap<string, Spelling> = new Map<string, Spelling>([
  ['Mish', (n, x) => n('Mul', x, n('Tanh', n('Softplus', x)))],
  ['Swish', (n, x, k, { alpha }) => n('Mul', x, n('Sigmoid', alpha === 1 ? x : n('Mul', x, k(Number(alpha)))))],
  [
    'Gelu',
    (n, x, k, { approximate }) =>
      n(
        'Mul',
        n('Mul', x, k(0.5)),
        n('Add', k(1), approximate === 'tanh' ? geluTanh(n, x, k, {}) : n('Erf', n('Mul', x, k(Math.SQRT1_2)))),
      ),
  ],
]);

/** tanh(√(2/π) · (x + 0.044715·x³)) */
const geluTanh: Spelling = (n, x, k) =>
  n('Tanh', n('Mul', k(Math.sqrt(2 / Math.PI)), n('Add', x, n('Mul', k(0.044715), n('Mul', x, n('Mul', x, x))))));

/** The graph without operators that the opset does not have, or had in another meaning: they are expanded. */
export function expandNewer(graph: Graph, ops: ReadonlyMap<string, Op>, opset: number): Graph {
  let current = graph;
  for (;;) {
    const next = rewriteNodes(current, ops, (node, b, contextOf) => {
      const op = ops.get(node.op);
      if (!op || op.onnx.domain || (op.onnx.since <= opset && (FORMS.has(node.op) || !op.expand))) return undefined;
      const named = withLoc(b, node.loc);
      const spelling = SPELLINGS.get(node.op);
      if (spelling) {
        const { dtype } = b.type(node.inputs[0]);
        const make = (name: string, ...inputs: readonly string[]): string => named.node(name, inputs)[0];
        return [spelling(make, node.inputs[0], (value) => b.constant(scalarTensor(dtype, value)), node.attrs)];
      }
      return op.expand?.(named, node, node.attrs as never, contextOf(node).inputs);
    });
    if (next === current) return current;
    current = next;
  }
}

const withLoc = (b: GraphBuilder, loc: Loc): GraphBuilder => ({
  ...b,
  node: (op, inputs, options) => b.node(op, inputs, { loc, ...options }),
});

/** The node in the form of the opset. Throws ModelError `option-invalid` where it has none. */
export function olderForm(node: Node, opset: number, constants: ReadonlyMap<string, Tensor>): OlderNode {
  const fail = (why: string): never => {
    throw new ModelError('option-invalid', `${nodeLabel(node)} cannot be written as opset ${opset}: ${why}`, {
      hint: `Opset ${OLDEST_WRITABLE_OPSET} and newer have it.`,
    });
  };
  const form = FORMS.get(node.op) ?? fail('its older forms are not known here');
  return form({ node, opset, constant: (i) => constants.get(node.inputs[i]), fail });
}
