/**
 * The counted form of an operator whose output sizes the data decide: the sizes are an attribute, and one more output, i32, says what
 * they turned out to be.
 *
 *     y = NonZero(x)                 y: i64[2, n]        n is only known when it has run
 *     y, counts = NonZero:counted(x) {sizes: ["n"]}      the same; counts: i32[1] holds n
 *
 * While a graph is bound to numbers a size is any number that it may turn out to be, so that what follows is inferred and lowered as
 * ever. A kernel stores at most as many elements as there are, and `storeCount` stores how many that was.
 */
import { Bug } from '../core/errors.ts';
import { type Dim, dimsEqual, rowMajorStrides, type StaticShape, sym } from '../core/shape.ts';
import { fromNumbers, type Tensor, type TensorType, type ValueType, zeros } from '../core/tensor.ts';
import { inferContext, inferNode, initialFacts, operatorOf } from '../graph/infer.ts';
import type { Attrs, Graph, Node } from '../graph/ir.ts';
import type { InferContext } from '../graph/semantics.ts';
import { index } from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import { type KernelContext, type Op, strings } from './op.ts';

/** The attribute: for each size a number, or the name of what stands for it. */
const SIZES = 'sizes';
const SUFFIX = ':counted';

/** A size that only running tells; without `atMost` there is no room to be made for it. */
export interface AskedSize {
  readonly name: string;
  readonly atMost: Dim | undefined;
}

/** The sizes of a node's outputs that only running tells, in the order in which its operator asks for them. */
export function sizesAsked(op: Pick<Op, 'infer'>, ctx: InferContext): readonly AskedSize[] {
  const asked: AskedSize[] = [];
  op.infer({
    ...ctx,
    freshDim(hint, atMost) {
      const dim = ctx.freshDim(hint, atMost);
      asked.push({ name: sizeText(dim), atMost });
      return dim;
    },
  });
  return asked;
}

/** The types of all values, and what the sizes in them that only running tells cannot exceed, by name, as far as operators say. */
export function boundedTypes(graph: Graph, ops: ReadonlyMap<string, Op>) {
  const bounds = new Map<string, Dim>();
  const facts = initialFacts(graph);
  for (const node of graph.nodes) {
    const op = operatorOf(node, ops) as Op;
    for (const { name, atMost } of sizesAsked(op, inferContext(node, facts)))
      if (atMost !== undefined) bounds.set(name, atMost);
    inferNode(node, op, facts);
  }
  return { types: facts.types, bounds };
}

/** Whether the operator has a kernel that counts. */
export const countsItsSizes = ({ lower }: Op): boolean => lower?.kind === 'kernel' && lower.counts === true;

/** The node in counted form, with sizes of these names and `counts` as its last output. */
export const countedNode = (node: Node, counts: string, sizes: readonly string[]): Node => ({
  ...node,
  op: `${node.op}${SUFFIX}`,
  outputs: [...node.outputs, counts],
  attrs: { ...node.attrs, [SIZES]: sizes },
});

/** A counted node with what is known of its sizes put in; any other node as it is. */
export function withSizes(node: Node, sizes: ReadonlyMap<string, number>): Node {
  const given = node.op.endsWith(SUFFIX) ? sizesOf(node.attrs) : undefined;
  return given ? { ...node, attrs: { ...node.attrs, [SIZES]: given.map((s) => String(sizes.get(s) ?? s)) } } : node;
}

const sizeText = (dim: Dim): string => (typeof dim === 'number' ? String(dim) : dim.terms[0].name);
const sizesOf = (attrs: Attrs): readonly string[] | undefined => attrs[SIZES] as readonly string[] | undefined;
const dimOf = (text: string): Dim => (/^\d+$/.test(text) ? Number(text) : sym(text));

/** The counted form of an operator for which `countsItsSizes`. */
export function countedForm(op: Op): Op {
  return {
    ...op,
    key: `${op.key}${SUFFIX}`,
    attrSpecs: { ...op.attrSpecs, [SIZES]: strings.required },
    maxOutputs: op.maxOutputs + 1,
    completeAttrs(raw, fail) {
      const { [SIZES]: sizes, ...rest } = raw;
      return { ...op.completeAttrs(rest, fail), [SIZES]: sizes };
    },
    infer: (ctx) => inferCounted(op, ctx),
    eval: (inputs, attrs, outputs) => evalCounted(op, inputs, attrs, outputs),
    // The counts are needed even where nobody reads the elements; and who folds or merges the node would lose them.
    traits: { ...op.traits, impure: true },
    expand: undefined,
    identity: undefined,
    channelAffine: undefined,
    absorbAffine: undefined,
    mergeWith: undefined,
    cases: [],
  };
}

const KEPT = ':kept';

/** The operator as one that nobody evaluates ahead of running. */
export const keptForm = (op: Op): Op => ({
  ...op,
  key: `${op.key}${KEPT}`,
  traits: { ...op.traits, impure: true },
  expand: undefined,
  cases: [],
});
export const keptNode = (node: Node): Node => ({ ...node, op: `${node.op}${KEPT}` });

/** What each size of a counted node cannot exceed, as it asks for them. `op` is the counted form. */
export function countedBounds(op: Op, ctx: InferContext): readonly (Dim | undefined)[] {
  const bounds: (Dim | undefined)[] = [];
  op.infer({ ...ctx, freshDim: (hint, atMost) => bounds[bounds.push(atMost) - 1] ?? sym(hint) });
  return bounds;
}

function inferCounted(op: Op, ctx: InferContext): readonly ValueType[] {
  const sizes = (sizesOf(ctx.attrs) ?? []).map(dimOf);
  let next = 0;
  const types = op.infer({
    ...ctx,
    outputCount: ctx.outputCount - 1,
    freshDim(hint, atMost) {
      ctx.freshDim(hint, atMost);
      return sizes[next++];
    },
  });
  return [...types, { dtype: 'i32', shape: [sizes.length] }];
}

/** The operator's own results in the corners of the room that there is, and their sizes. */
function evalCounted(
  op: Op,
  inputs: readonly (Tensor | undefined)[],
  attrs: Attrs,
  outputs: readonly TensorType[],
): Tensor[] {
  const plain = outputs.slice(0, -1);
  const infer = (known: boolean): readonly ValueType[] => {
    let asked = 0;
    return op.infer({
      attrs,
      inputs,
      outputCount: plain.length,
      input: (i) => inputs[i] as Tensor,
      constant: (i) => (known ? inputs[i] : undefined),
      dims: () => undefined,
      freshDim: () => sym(String(asked++)),
      fail(message) {
        throw new Bug('counted-infer', `${op.name}: ${message}`);
      },
    });
  };
  const [real, open] = [infer(true) as readonly TensorType[], infer(false)];
  const counts = (sizesOf(attrs) ?? []).map((_, k) => {
    const shapes = open.map(({ shape }) => shape.findIndex((dim) => dimsEqual(dim, sym(String(k)))));
    const at = shapes.findIndex((d) => d >= 0);
    return real[at].shape[shapes[at]];
  });
  const results = op.eval(inputs, attrs, real).map((value, i) => inRoom(value, plain[i].shape));
  return [...results, fromNumbers('i32', [counts.length], counts)];
}

/** The elements of a tensor in the corner of a larger one, or as many as there is room for. */
function inRoom(value: Tensor, shape: StaticShape): Tensor {
  const out = zeros(value.dtype, shape);
  const [from, to] = [rowMajorStrides(value.shape), rowMajorStrides(shape)];
  for (let i = 0; i < value.data.length; i++) {
    const coords = from.map((stride, d) => Math.floor(i / stride) % value.shape[d]);
    if (coords.every((c, d) => c < shape[d]))
      out.data[coords.reduce((sum, c, d) => sum + c * to[d], 0)] = value.data[i] as never;
  }
  return out;
}

/** Whether the node in work is in counted form. */
export const isCounted = (ctx: KernelContext<unknown>): boolean => sizesOf(ctx.attrs as Attrs) !== undefined;

/** Stores size number `k` (i32), where the node is in counted form. */
export const storeCount = (ctx: KernelContext<unknown>, k: number, value: Expr): readonly Stmt[] =>
  isCounted(ctx) ? [ctx.store(ctx.outputs.length - 1, [index(k)], value)] : [];

/** How many outputs the operator itself has. */
export const plainOutputs = (ctx: KernelContext<unknown>): number => ctx.outputs.length - (isCounted(ctx) ? 1 : 0);
