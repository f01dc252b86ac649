/**
 * Einsum: sums of products named by letters.
 *
 *     y[output labels] = Σ over the other labels of Π over operands of x_i[its labels]
 *
 * Two operands are one contract: a label of both that is kept is a batch axis, one of a alone an m axis, one of b alone an n axis, one
 * of both that is summed a k axis. A single operand is a sum over its dims. `expand` brings everything else to these: labels that only
 * one operand has are summed before, and more operands are taken two at a time from the left.
 */
import { type Dim, elements, rowMajorStrides, type StaticShape } from '../core/shape.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';

import { axis, cast, index, local, mul } from '../loop/expr.ts';
import type { Affine, Axis, Expr } from '../loop/ir.ts';
import { contractOrReduce, coordAffine, kAxes, type Role } from './contract-axes.ts';
import { checkOneType } from './dims.ts';
import { type Equation, parseEquation, printEquation } from './einsum-equation.ts';
import {
  type AttrsOf,
  type ContractSpec,
  defineOp,
  type KernelContext,
  type KernelSpec,
  type Op,
  type OpCase,
  string,
} from './op.ts';
import { toFloat64 } from './product.ts';
import { reduceRow } from './rows.ts';

const ATTRS = { equation: string.required } as const;
type EinsumAttrs = AttrsOf<typeof ATTRS>;

const unreachable = (message: string): never => {
  throw new Error(message);
};
const equationOf = (attrs: EinsumAttrs, shapes: readonly StaticShape[]): Equation =>
  parseEquation(attrs.equation, shapes, unreachable);

/** Labels that the result lacks, in the order in which they occur. */
const summedLabels = ({ operands, output }: Equation): string[] =>
  [...new Set(operands.flat())].filter((l) => !output.includes(l));

/** Extent of each label: that of the dims that have it, where those of extent 1 broadcast. */
function extents({ operands }: Equation, shapes: readonly StaticShape[]): Map<string, number> {
  const out = new Map<string, number>();
  for (const [i, labels] of operands.entries()) {
    for (const [d, label] of labels.entries()) if ((out.get(label) ?? 1) === 1) out.set(label, shapes[i][d]);
  }
  return out;
}

const einsum = defineOp({
  name: 'Einsum',
  onnx: { since: 12 },
  attrs: ATTRS,
  inputs: [1, Number.POSITIVE_INFINITY],
  infer(ctx) {
    checkOneType(ctx);
    const shapes = ctx.inputs.map((_, i) => ctx.input(i).shape);
    const equation = parseEquation(ctx.attrs.equation, shapes, (message) => ctx.fail(message));
    const dims = new Map<string, Dim>();
    for (const [i, labels] of equation.operands.entries()) {
      for (const [d, label] of labels.entries()) {
        const known = dims.get(label) ?? 1;
        const dim = shapes[i][d];
        if (known === 1 || (typeof known !== 'number' && typeof dim === 'number' && dim !== 1)) dims.set(label, dim);
        else if (typeof known === 'number' && typeof dim === 'number' && dim !== 1 && dim !== known) {
          ctx.fail(`label "${label}" stands for ${known} and for ${dim}`);
        }
      }
    }
    return [{ dtype: ctx.input(0).dtype, shape: equation.output.map((label) => dims.get(label) as Dim) }];
  },
  eval(inputs, attrs, [out]) {
    const operands = inputs as readonly Tensor[];
    const equation = equationOf(
      attrs,
      operands.map((t) => t.shape),
    );
    const extent = extents(
      equation,
      operands.map((t) => t.shape),
    );
    const sources = operands.map(toFloat64);
    const summed = summedLabels(equation);
    const table = (labels: readonly string[]) =>
      operands.map((t, i) => labelOffsets(labels, extent, equation.operands[i], t.shape));
    const starts = table(equation.output);
    const steps = table(summed);
    const count = steps[0].length;
    const y = Float64Array.from({ length: elements(out.shape) }, (_, i) => {
      let sum = 0;
      for (let j = 0; j < count; j++) {
        let product = 1;
        for (let k = 0; k < sources.length; k++) product *= sources[k][starts[k][i] + steps[k][j]];
        sum += product;
      }
      return sum;
    });
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  expand(b, node, attrs, types) {
    const equation = equationOf(
      attrs,
      types.map((type) => type!.shape as StaticShape),
    );
    const { output } = equation;
    const operands = equation.operands.map((labels, i) => ({ labels, value: node.inputs[i] }));
    /** The product of some operands, with the labels that the others or the result need. */
    const contract = (taken: readonly (typeof operands)[number][], needed: ReadonlySet<string>) => {
      const kept = [...new Set(taken.flatMap((o) => o.labels))].filter((label) => needed.has(label));
      const text = printEquation({ operands: taken.map((o) => o.labels), output: kept });
      const [value] = b.node(
        'Einsum',
        taken.map((o) => o.value),
        { attrs: { equation: text } },
      );
      return { labels: kept, value };
    };
    const others = (taken: readonly unknown[]) =>
      new Set([...output, ...operands.filter((o) => !taken.includes(o)).flatMap((o) => o.labels)]);
    if (operands.length === 1) return undefined;
    const lonely = operands.findIndex((o) => o.labels.some((label) => !others([o]).has(label)));
    if (lonely < 0 && operands.length === 2) return undefined;
    const rest =
      lonely >= 0
        ? operands.with(lonely, contract([operands[lonely]], others([operands[lonely]])))
        : [contract(operands.slice(0, 2), others(operands.slice(0, 2))), ...operands.slice(2)];
    const equationLeft = printEquation({ operands: rest.map((o) => o.labels), output });
    return b.node(
      'Einsum',
      rest.map((o) => o.value),
      { attrs: { equation: equationLeft } },
    );
  },
  lower: {
    kind: 'kernel',
    layout: 'row-major',
    streams: [],
    build(ctx) {
      const shapes = ctx.inputs.map((_, i) => ctx.input(i).shape);
      const equation = equationOf(ctx.attrs, shapes);
      const summed = summedLabels(equation);
      return shapes.length === 2 && summed.length > 0
        ? contractOrReduce(ctx, lowerContract(ctx, equation, shapes))
        : lowerProduct(ctx, equation, shapes);
    },
  },
  cases: cases(),
});

/** Offsets in an operand of all points of some labels, in row-major order; a label that the operand lacks or broadcasts adds 0. */
function labelOffsets(
  labels: readonly string[],
  extent: ReadonlyMap<string, number>,
  own: readonly string[],
  shape: StaticShape,
): Int32Array {
  const strides = rowMajorStrides(shape);
  const sizes = labels.map((label) => extent.get(label) as number);
  const out = new Int32Array(elements(sizes));
  let repeat = 1;
  for (const [k, label] of [...labels.entries()].reverse()) {
    const stride = own.reduce((sum, l, d) => (l === label && shape[d] > 1 ? sum + strides[d] : sum), 0);
    for (let i = 0; i < out.length; i++) out[i] += (Math.floor(i / repeat) % sizes[k]) * stride;
    repeat *= sizes[k];
  }
  return out;
}

/** The output's axes, fresh axes for the summed labels, and the coordinate of each label. */
function labelAxes(ctx: KernelContext<EinsumAttrs>, equation: Equation, shapes: readonly StaticShape[]) {
  const { axes, coords } = ctx.outputAxes(0);
  const extent = extents(equation, shapes);
  const at = new Map<string, Expr>(equation.output.map((label, d) => [label, coords[d]]));
  const summed: Axis[] = [];
  for (const label of summedLabels(equation)) {
    const size = extent.get(label) as number;
    const a = { name: ctx.fresh('k'), extent: size };
    if (size !== 1) summed.push(a);
    at.set(label, size === 1 ? index(0) : axis(a.name));
  }
  const coordsOf = (i: number): Expr[] =>
    equation.operands[i].map((label, d) => (shapes[i][d] === 1 ? index(0) : (at.get(label) as Expr)));
  return { axes, coords, summed, coordsOf };
}

/** One point an output element: the product of the operands, summed where labels are. */
function lowerProduct(ctx: KernelContext<EinsumAttrs>, equation: Equation, shapes: readonly StaticShape[]): KernelSpec {
  const { axes, coords, summed, coordsOf } = labelAxes(ctx, equation, shapes);
  const product = shapes.map((_, i) => ctx.load(i, coordsOf(i))).reduce(mul);
  if (summed.length === 0) return { form: { kind: 'map' }, axes, body: [ctx.store(0, coords, product)] };
  const sum = ctx.fresh('sum');
  const body = [
    reduceRow(sum, 'add', { axes: summed, coords }, product),
    ctx.store(0, coords, local(sum, product.dtype)),
  ];
  return { form: { kind: 'reduce' }, axes, body };
}

function lowerContract(
  ctx: KernelContext<EinsumAttrs>,
  equation: Equation,
  shapes: readonly StaticShape[],
): ContractSpec {
  const { axes, coords, summed, coordsOf } = labelAxes(ctx, equation, shapes);
  const [a, b] = [0, 1].map((i) => coordsOf(i).map(coordAffine));
  const reads = (at: readonly Affine[], name: string) => at.some((c) => c.terms.some((t) => t.axis === name));
  const role = (name: string): Role => (!reads(b, name) ? 'm' : !reads(a, name) ? 'n' : 'batch');
  return {
    form: 'contract',
    axes: [...axes.map((x) => ({ ...x, role: role(x.name) })), ...kAxes(summed)],
    a: { input: 0, at: a, padded: false },
    b: { input: 1, at: b, padded: false },
    out: coords.map(coordAffine),
    finish: (acc) => cast(ctx.outputs[0].dtype, acc),
  };
}

function cases(): OpCase[] {
  const make = (equation: string, ...shapes: number[][]): OpCase => ({
    name: `${equation} of ${shapes.map((s) => `[${s}]`).join(' ')}`,
    attrs: { equation },
    inputs: shapes.map((shape) => ({ dtype: 'f32', shape }) as const),
  });
  return [
    make('bij,bjk->bik', [2, 3, 5], [2, 5, 7]),
    make('bhid,bhjd->bhij', [2, 3, 5, 4], [2, 3, 7, 4]),
    make('ij,jk', [3, 5], [5, 1]),
    make('...ij,...jk->...ik', [2, 1, 3, 4], [1, 5, 4, 2]),
    make('ij->ji', [3, 7]),
    make('ijk->ik', [2, 3, 5]),
    make('ii->i', [4, 4]),
    make('i,j->ij', [3], [5]),
    make('bi,bi->b', [3, 11], [3, 11]),
    make('ij,kl->il', [2, 3], [5, 2]),
    make('ij,jk,kl->il', [2, 3], [3, 5], [5, 4]),
    make('i,i->', [7], [7]),
    make('b...,...b->...', [2, 3, 2], [3, 2, 2]),
  ];
}

export const EINSUM_OPS: readonly Op[] = [einsum];
