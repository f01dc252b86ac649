/**
 * Products of one value with several constant matrices become one product: queries, keys and values of an attention.
 *
 *     x·A + a,  x·B + b,  x·C + c   are the columns of   x·[A B C] + [a b c]
 *
 * Which operators multiply by columns of an input is theirs to say (`columns`). What is elementwise behind a product with a constant a
 * column is merged with it where all products have the same. Parts that go on into elementwise work are left alone: each would fuse into
 * its own product, and could not into a shared one. Parts that are seen in another shape first cost nothing: they are views of the whole.
 */
import { DTYPES, type TypedArray } from '../core/dtype.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import type { Graph, Node } from '../graph/ir.ts';
import { mergeLocs, usersOf } from '../graph/rewrite.ts';
import { rewriteNodes } from '../graph/rewrite-nodes.ts';
import type { Op } from '../ops/op.ts';
import type { PassContext } from './pass.ts';

/** The operator that names a part of a value. */
const SLICE = 'Slice';

interface Member {
  readonly product: Node;
  readonly matrix: Tensor;
  /** What adds a number a column, and these numbers' input. */
  readonly behind: { readonly node: Node; readonly input: number; readonly row: Tensor } | undefined;
  /** The value that takes the place of. */
  readonly output: string;
}

export function mergeProducts(graph: Graph, { ops }: PassContext): Graph {
  const groups = groupsOf(graph, ops);
  if (groups.length === 0) return graph;
  const of = new Map(groups.flatMap((group) => group.map((member) => [member.output, { group, member }] as const)));
  const wholes = new Map<readonly Member[], string>();
  return rewriteNodes(graph, ops, (node, b) => {
    const found = of.get(node.outputs[0]);
    if (!found) return undefined;
    const { group, member } = found;
    const whole = wholes.get(group) ?? build(group, b);
    wholes.set(group, whole);
    const before = group.slice(0, group.indexOf(member)).reduce((n, m) => n + columnsOf(m), 0);
    const place = [before, before + columnsOf(member), -1].map((x) =>
      b.constant(fromNumbers('i64', [1], [x]), b.fresh('part')),
    );
    return b.node(SLICE, [whole, ...place], { loc: node.loc });
  });
}

const columnsOf = ({ matrix }: Member): number => matrix.shape[1];

function build(group: readonly Member[], b: GraphBuilder): string {
  const [{ product, behind }] = group;
  const [x] = product.inputs;
  const loc = group.map((m) => m.product.loc).reduce(mergeLocs);
  const name = `${product.outputs[0]}.columns`;
  const matrix = b.constant(beside(group.map((m) => m.matrix)), b.fresh(`${name}.matrix`));
  const [y] = b.node(product.op, [x, matrix], { attrs: product.attrs, loc });
  if (!behind) return y;
  const rows = group.flatMap((m) => m.behind?.row ?? []);
  const row = b.constant(beside(rows), b.fresh(`${name}.row`));
  const inputs = behind.input === 0 ? [row, y] : [y, row];
  const [z] = b.node(behind.node.op, inputs, {
    attrs: behind.node.attrs,
    loc: group.map((m) => m.behind?.node.loc ?? []).reduce(mergeLocs),
  });
  return z;
}

/** Members by the value that they multiply, at least two each. */
function groupsOf(graph: Graph, ops: PassContext['ops']): readonly (readonly Member[])[] {
  const users = usersOf(graph);
  const outputs = new Set(graph.outputs);
  const sole = (value: string): Node | undefined => {
    const readers = users.get(value) ?? [];
    return readers.length === 1 && !outputs.has(value) ? readers[0] : undefined;
  };
  const groups = new Map<string, Member[]>();
  for (const product of graph.nodes) {
    const op = ops.get(product.op);
    if (op?.traits.columns === undefined || product.inputs.length !== 2 || op.traits.columns !== 1) continue;
    const matrix = graph.constants.get(product.inputs[1]);
    if (matrix?.shape.length !== 2 || graph.constants.has(product.inputs[0])) continue;
    const behind = behindOf(graph, ops, sole(product.outputs[0]), product.outputs[0], matrix.shape[1]);
    const output = behind ? behind.node.outputs[0] : product.outputs[0];
    const readers = users.get(output) ?? [];
    if (outputs.has(output) || readers.length === 0 || !readers.every((n) => isView(ops.get(n.op)))) continue;
    const key = [product.inputs[0], product.op, matrix.dtype, matrix.shape[0], behind?.node.op, behind?.input].join(
      ' ',
    );
    groups.set(key, [...(groups.get(key) ?? []), { product, matrix, behind, output }]);
  }
  return [...groups.values()].filter((group) => group.length > 1);
}

/** A reader of a product that is elementwise with a constant a column. */
function behindOf(
  graph: Graph,
  ops: PassContext['ops'],
  node: Node | undefined,
  product: string,
  columns: number,
): Member['behind'] {
  if (!node || ops.get(node.op)?.lower?.kind !== 'elementwise' || node.inputs.length !== 2) return undefined;
  const input = node.inputs.findIndex((name) => name !== product);
  const row = graph.constants.get(node.inputs[input] ?? '');
  if (row?.shape.length !== 1 || row.shape[0] !== columns || Object.keys(node.attrs).length > 0) return undefined;
  return { node, input, row };
}

const isView = (op: Op | undefined): boolean => op?.lower?.kind === 'alias' || op?.lower?.kind === 'index';

/** Matrices, or rows, side by side. */
function beside(parts: readonly Tensor[]): Tensor {
  const [{ dtype, shape }] = parts;
  const rows = shape.length === 1 ? 1 : shape[0];
  const widths = parts.map((p) => p.shape.at(-1) ?? 0);
  const width = widths.reduce((sum, n) => sum + n, 0);
  const data = new DTYPES[dtype].array(rows * width);
  let at = 0;
  for (const [i, part] of parts.entries()) {
    for (let row = 0; row < rows; row++) {
      const from = part.data.subarray(row * widths[i], (row + 1) * widths[i]) as TypedArray;
      data.set(from as never, row * width + at);
    }
    at += widths[i];
  }
  return { dtype, shape: [...shape.slice(0, -1), width], data } as Tensor;
}
