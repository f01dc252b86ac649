/**
 * Softmax and LogSoftmax along one axis.
 *
 *     Softmax     exp(x − max) / Σ exp(x − max)          LogSoftmax  x − max − log Σ exp(x − max)
 *
 * Subtracting the row's maximum keeps exp in range. Before opset 13 these (and Hardmax) flattened their input to
 * [the dims before axis, the rest] and worked on whole rows of that, which the upgrade writes out.
 */
import { fromNumbers } from '../core/tensor.ts';
import { div, like, local, mul, sub, unary } from '../loop/expr.ts';
import { checkAxis, checkFloats } from './dims.ts';
import {
  type AttrsOf,
  defineOp,
  int,
  type KernelContext,
  type KernelSpec,
  type Op,
  type OpCase,
  type RawNode,
  type UpgradeContext,
} from './op.ts';
import { toFloat64 } from './product.ts';
import { assign, dimOffsets, forRow, otherDims, outputRow, reduceRow } from './rows.ts';

export const AXIS_ATTRS = { axis: int(-1) } as const;
type AxisAttrs = AttrsOf<typeof AXIS_ATTRS>;

/**
 * The form before opset 13: axis is 1 where not given, and the dims from it on are one row. That is the newest form along the one
 * dim of the row that is wider than 1, or else Flatten, the newest form, Reshape.
 */
export const upgradeFlattening =
  (name: string) =>
  (node: RawNode, ctx: UpgradeContext): RawNode => {
    if (ctx.opset >= 13) return node;
    const [x] = node.inputs;
    const given = typeof node.attrs.axis === 'number' ? node.attrs.axis : 1;
    const shape = ctx.shape(x) ?? [];
    const axis = given < 0 ? given + shape.length : given;
    const wide = shape.flatMap((d, i) => (i >= axis && d !== 1 ? [i] : []));
    if (axis < shape.length && wide.length <= 1) return { ...node, attrs: { axis: wide[0] ?? axis } };
    const rows = ctx.node(name, [ctx.node('Flatten', [x], { axis })], { axis: 1 });
    return { op: 'Reshape', inputs: [rows, ctx.node('Shape', [x])], outputs: node.outputs, attrs: {} };
  };

/** Result of a row given x − max and the sum of its exponentials. */
interface SoftmaxRow {
  readonly name: string;
  readonly result: (shifted: number, sum: number) => number;
  readonly build: (ctx: KernelContext<AxisAttrs>) => KernelSpec;
}

const defineSoftmax = ({ name, result, build }: SoftmaxRow): Op =>
  defineOp({
    name,
    onnx: { since: 1, upgrade: upgradeFlattening(name) },
    attrs: AXIS_ATTRS,
    inputs: [1, 1],
    infer(ctx) {
      checkFloats(ctx);
      checkAxis(ctx, ctx.attrs.axis, ctx.input(0).shape.length);
      return [ctx.input(0)];
    },
    eval([x], attrs, [out]) {
      const values = toFloat64(x!);
      const y = new Float64Array(values.length);
      const dims = rowDims(attrs, out.shape.length);
      const steps = dimOffsets(out.shape, dims);
      for (const start of dimOffsets(out.shape, otherDims(out.shape.length, dims))) {
        let max = Number.NEGATIVE_INFINITY;
        for (const step of steps) max = Math.max(max, values[start + step]);
        let sum = 0;
        for (const step of steps) sum += Math.exp(values[start + step] - max);
        for (const step of steps) y[start + step] = result(values[start + step] - max, sum);
      }
      return [fromNumbers(out.dtype, out.shape, y)];
    },
    lower: { kind: 'kernel', layout: 'row-major', streams: [], build },
    cases: CASES,
  });

/** The dim that makes a row, as a list. */
export const rowDims = ({ axis }: AxisAttrs, rank: number): number[] => [axis < 0 ? axis + rank : axis];

const softmaxCase = (shape: number[], attrs: OpCase['attrs'] = {}): OpCase => ({
  name: `[${shape}] ${JSON.stringify(attrs)}`,
  attrs,
  inputs: [{ dtype: 'f32', shape, range: [-6, 6] }],
});
const CASES: readonly OpCase[] = [
  softmaxCase([3, 17]),
  softmaxCase([2, 3, 5, 7]),
  softmaxCase([2, 5, 3], { axis: 1 }),
  softmaxCase([4, 3], { axis: 0 }),
  softmaxCase([7, 1]),
  softmaxCase([1]),
  softmaxCase([0, 5]),
  { name: 'large values stay finite', inputs: [{ dtype: 'f32', shape: [4, 9], range: [-1000, 1000] }] },
  { name: 'f64', inputs: [{ dtype: 'f64', shape: [3, 4] }] },
];

/** Three passes over a row: its maximum, the sum of exponentials, the results. */
function softmaxKernel(ctx: KernelContext<AxisAttrs>, form: 'linear' | 'log'): KernelSpec {
  const { dtype, shape } = ctx.outputs[0];
  const row = rowDims(ctx.attrs, shape.length);
  const { axes, coords } = ctx.outputAxes(0, otherDims(shape.length, row));
  const [first, second, third] = [1, 2, 3].map(() => outputRow(ctx, row, coords));
  const max = ctx.fresh('max');
  const sum = ctx.fresh('sum');
  const factor = ctx.fresh(form === 'log' ? 'log' : 'scale');
  const shifted = (at: typeof first) => sub(ctx.load(0, at.coords), local(max, dtype));
  const total = local(sum, dtype);
  const of = local(factor, dtype);
  return {
    form: { kind: 'reduce' },
    axes,
    body: [
      reduceRow(max, 'max', first, ctx.load(0, first.coords)),
      reduceRow(sum, 'add', second, unary('exp', shifted(second))),
      assign(factor, form === 'log' ? unary('log', total) : div(like(total, 1), total)),
      ...forRow(third, [
        ctx.store(0, third.coords, form === 'log' ? sub(shifted(third), of) : mul(unary('exp', shifted(third)), of)),
      ]),
    ],
  };
}

export const SOFTMAX_OPS: readonly Op[] = [
  defineSoftmax({
    name: 'Softmax',
    result: (shifted, sum) => Math.exp(shifted) / sum,
    build: (ctx) => softmaxKernel(ctx, 'linear'),
  }),
  defineSoftmax({
    name: 'LogSoftmax',
    result: (shifted, sum) => shifted - Math.log(sum),
    build: (ctx) => softmaxKernel(ctx, 'log'),
  }),
];
