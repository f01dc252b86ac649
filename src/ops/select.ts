/**
 * Where and Clip: an element of one input or another.
 *
 * Clip is min(max(x, low), high), both bounds optional; it expands into Max and Min. Before opset 11 the bounds are attributes.
 */
import { DTYPES, type DType, type Scalar } from '../core/dtype.ts';
import { fromNumbers, scalarTensor, type Tensor, toNumbers } from '../core/tensor.ts';
import { max, min, select } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { dimwise } from './dims.ts';
import { ANY, defineElementwise, evalElementwise, NUMERIC } from './elementwise.ts';
import { defineOp, type OpCase, type RawNode, type UpgradeContext } from './op.ts';

const where = defineElementwise({
  name: 'Where',
  onnx: { since: 9 },
  attrs: {},
  inputs: [3, 3],
  accepts: (i) => (i === 0 ? ['bool'] : ANY),
  shares: (i) => i > 0,
  result: ([, x]) => x,
  expr: ([cond, a, b]) => select(cond, a, b),
  inferDims: dimwise((cond, a, b) => (typeof cond === 'number' ? (cond ? a : b) : undefined)),
  cases: [
    {
      name: 'equal shapes',
      inputs: [
        { dtype: 'bool', shape: [2, 3, 5] },
        { dtype: 'f32', shape: [2, 3, 5] },
        { dtype: 'f32', shape: [2, 3, 5] },
      ],
    },
    {
      name: 'broadcast',
      inputs: [
        { dtype: 'bool', shape: [3, 1, 1] },
        { dtype: 'f32', shape: [7] },
        { dtype: 'f32', shape: [2, 1] },
      ],
    },
    {
      name: 'scalars',
      inputs: [
        { dtype: 'bool', shape: [13] },
        { dtype: 'f32', shape: [] },
        { dtype: 'f32', shape: [] },
      ],
    },
    {
      name: 'empty',
      inputs: [
        { dtype: 'bool', shape: [0] },
        { dtype: 'f32', shape: [1] },
        { dtype: 'f32', shape: [] },
      ],
    },
    ...(['i64', 'i32', 'u8', 'f16', 'f64'] as const).map(
      (dtype): OpCase => ({
        name: dtype,
        inputs: [
          { dtype: 'bool', shape: [3, 5] },
          { dtype, shape: [5] },
          { dtype, shape: [3, 1] },
        ],
      }),
    ),
  ],
});

/** Clip-6: attributes `min` and `max`, whose defaults are the limits of float32. */
function clipBounds(node: RawNode, ctx: UpgradeContext): RawNode {
  if (ctx.opset >= 11) return node;
  const { min: low, max: high, ...attrs } = node.attrs;
  const dtype = ctx.dtype(node.inputs[0]);
  if (low === undefined && high === undefined) return { ...node, attrs };
  if (!dtype) return ctx.fail('the element type of the input is needed to read the bounds');
  const bound = (value: unknown): string =>
    value === undefined ? '' : ctx.constant(scalarTensor(dtype, withinLimits(dtype, value as number)));
  return { ...node, attrs, inputs: [node.inputs[0], bound(low), bound(high)] };
}

/** Exporters write the limits of float32 for "no bound", also in models of float16. */
const withinLimits = (dtype: DType, value: number): number =>
  Math.min(Math.max(value, Number(DTYPES[dtype].min)), Number(DTYPES[dtype].max));

const clipCase = (name: string, dtype: DType, low: Scalar | undefined, high: Scalar | undefined): OpCase => ({
  name: `${name} ${dtype}`,
  inputs: [
    { dtype, shape: [3, 7], range: dtype.startsWith('u') ? [0, 9] : [-4, 4] },
    low === undefined ? undefined : scalarTensor(dtype, low),
    ...(high === undefined ? [] : [{ constant: scalarTensor(dtype, high) }]),
  ],
});

const clip = defineOp({
  name: 'Clip',
  onnx: { since: 6, upgrade: clipBounds },
  attrs: {},
  inputs: [1, 3],
  infer(ctx) {
    const x = ctx.input(0);
    if (!NUMERIC.includes(x.dtype as (typeof NUMERIC)[number])) ctx.fail(`${x.dtype} has no order`);
    for (const i of [1, 2]) {
      const bound = ctx.inputs[i];
      if (!bound) continue;
      if (bound.dtype !== x.dtype) ctx.fail(`input ${i} must have the element type of the input, ${x.dtype}`);
      if (bound.shape.some((d) => typeof d === 'number' && d !== 1)) ctx.fail(`input ${i} must be a scalar`);
    }
    return [x];
  },
  eval([x, low, high], attrs, [out]) {
    const scalar = (t: Tensor): Tensor => ({ ...t, shape: [] });
    const bounds = [low, high].flatMap((t) => (t ? [scalar(t)] : []));
    const expr = ([v, ...rest]: readonly Expr[]): Expr => {
      const above = low ? max(v, rest[0]) : v;
      return high ? min(above, rest[rest.length - 1]) : above;
    };
    return [evalElementwise(expr, [x!, ...bounds], attrs, out)];
  },
  clips(ctx) {
    const bound = (i: number, absent: number): number | undefined => {
      const known = ctx.inputs[i] ? ctx.constant(i) : undefined;
      return ctx.inputs[i] ? known && Number(toNumbers(known)[0]) : absent;
    };
    const [low, high] = [bound(1, Number.NEGATIVE_INFINITY), bound(2, Number.POSITIVE_INFINITY)];
    return low === undefined || high === undefined ? undefined : [low, high];
  },
  expand(b, node) {
    const [x, low, high] = node.inputs;
    const above = low ? b.node('Max', [x, low], { loc: node.loc }) : [x];
    if (high) return b.node('Min', [above[0], high], { loc: node.loc });
    return low ? above : b.node('Identity', [x], { loc: node.loc });
  },
  cases: [
    clipCase('both', 'f32', -1, 2.5),
    clipCase('low', 'f32', 0, undefined),
    clipCase('high', 'f32', undefined, 1),
    clipCase('neither', 'f32', undefined, undefined),
    clipCase('low above high', 'f32', 2, -1),
    clipCase('both', 'f16', 0, 6),
    clipCase('both', 'f64', -0.5, 0.5),
    clipCase('both', 'i32', -2, 3),
    clipCase('both', 'i64', -2n, 3n),
    clipCase('both', 'i8', -2, 3),
    clipCase('both', 'u8', 2, 5),
    { name: 'empty', inputs: [{ dtype: 'f32', shape: [0, 5] }, fromNumbers('f32', [], [0])] },
    {
      name: 'scalar',
      inputs: [{ dtype: 'f32', shape: [] }, fromNumbers('f32', [], [0]), fromNumbers('f32', [], [0.25])],
    },
  ],
});

export const SELECT_OPS = [where, clip];
