/**
 * Gemm: y = alpha · op(a) · op(b) + beta · c, with op a transposition or nothing and c broadcast to the result.
 *
 * It lowers to a contract whose operands are read in either direction; scale and addend follow the sum.
 */

import { isFloat } from '../core/dtype.ts';
import { broadcastShapes, dimsEqual, printShape } from '../core/shape.ts';
import { fromNumbers } from '../core/tensor.ts';
import { add, cast, constant, index, mul } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { scaleAndShiftBias, scaleChannels } from './absorb-affine.ts';
import { byteMatMul, byteOperand, scalesOf } from './byte-products.ts';
import { along, contractOrReduce, coordAffine, dimOfAxis, kAxes, wideAxis } from './contract-axes.ts';
import { checkOneType } from './dims.ts';
import { walkBroadcast } from './elementwise.ts';
import { withoutLegacyHints } from './legacy-broadcast.ts';
import { transposeMatrices } from './matmul.ts';
import { type AttrsOf, bool, type ContractSpec, defineOp, float, type KernelContext, type OpCase } from './op.ts';
import { multiplyRows, toFloat64 } from './product.ts';

const ATTRS = { alpha: float(1), beta: float(1), transA: bool(false), transB: bool(false) } as const;
type GemmAttrs = AttrsOf<typeof ATTRS>;

const gemm = defineOp({
  name: 'Gemm',
  onnx: {
    since: 6,
    upgrade: (node, ctx) => (ctx.opset < 7 ? { ...node, attrs: withoutLegacyHints(node.attrs) } : node),
  },
  attrs: ATTRS,
  inputs: [2, 3],
  infer(ctx) {
    checkOneType(ctx);
    const { dtype, shape: a } = ctx.input(0);
    const b = ctx.input(1).shape;
    if (a.length !== 2 || b.length !== 2) ctx.fail('both operands must have rank 2');
    const [m, ka] = ctx.attrs.transA ? [a[1], a[0]] : a;
    const [kb, n] = ctx.attrs.transB ? [b[1], b[0]] : b;
    if (typeof ka === 'number' && typeof kb === 'number' && !dimsEqual(ka, kb)) {
      ctx.fail(`the inner dims differ: ${ka} and ${kb} (transA ${ctx.attrs.transA}, transB ${ctx.attrs.transB})`);
    }
    const c = ctx.inputs[2]?.shape;
    if (c && !(broadcastShapes([m, n], c) && c.length <= 2)) {
      ctx.fail(`the addend ${printShape(c)} does not broadcast to ${printShape([m, n])}`);
    }
    return [{ dtype, shape: [m, n] }];
  },
  eval([a, b, c], attrs, [out]) {
    const [m, n] = out.shape;
    const k = attrs.transA ? a!.shape[0] : a!.shape[1];
    const rows = attrs.transA ? transposeMatrices(toFloat64(a!), k, m) : toFloat64(a!);
    const columns = attrs.transB ? toFloat64(b!) : transposeMatrices(toFloat64(b!), k, n);
    const y = new Float64Array(m * n);
    const sums = { data: y, start: 0, rowStride: n, columnStride: 1 };
    multiplyRows({ data: rows, start: 0, count: m }, { data: columns, start: 0, count: n }, k, sums);
    const addend = c ? toFloat64(c) : Float64Array.of(0);
    walkBroadcast(out.shape, [c?.shape ?? []], (i, [at]) => {
      y[i] = attrs.alpha * y[i] + attrs.beta * addend[at];
    });
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  absorbAffine(ctx, affine) {
    const weight = ctx.constant(1);
    const addend = ctx.inputs[2] && ctx.constant(2);
    if (affine.axis !== 1 || !weight || (ctx.inputs[2] && !addend) || ctx.attrs.beta !== 1) return undefined;
    const columns = weight.shape[ctx.attrs.transB ? 0 : 1];
    if (addend && (addend.shape.at(-1) !== columns || addend.data.length !== columns)) return undefined;
    return new Map([
      [1, scaleChannels(weight, affine.scale, ctx.attrs.transB ? weight.shape[1] : 1)],
      [2, scaleAndShiftBias(addend, affine, weight.dtype)],
    ]);
  },
  weightChannels({ attrs: { alpha, beta, transA, transB } }) {
    return alpha === 1 && beta === 1 && !transA ? (transB ? 0 : 1) : undefined;
  },
  sumBytes(w, ctx, { a, b, bias }) {
    const { alpha, beta, transA, transB } = ctx.attrs;
    const weight = w.known(b.q);
    const known = ctx.inputs[2] && !bias ? ctx.constant(2) : undefined;
    if (!weight || alpha !== 1 || beta !== 1 || transA || (ctx.inputs[2] && !bias && !known)) return undefined;
    // The addend must be a vector of columns, or one number.
    const { shape = [] } = ctx.inputs[2] ?? {};
    if (shape.slice(0, -1).some((d) => d !== 1)) return undefined;
    const [rows, columns] = weight.shape;
    const data = transB ? transposeMatrices(toFloat64(weight), rows, columns) : toFloat64(weight);
    const q = w.constant(fromNumbers(weight.dtype, transB ? [columns, rows] : weight.shape, data));
    const turned = { ...b, q, axis: transB ? 1 - b.axis : b.axis };
    const scales = scalesOf(w, { a, b: turned, axis: 1, bias: bias ?? known });
    const sum = scales && byteMatMul(w, byteOperand(w, a), byteOperand(w, turned), scales.bias);
    return scales && sum !== undefined ? { ...scales, sum, along: [-1] } : undefined;
  },
  lower: { kind: 'kernel', layout: 'row-major', streams: [], build: (ctx) => contractOrReduce(ctx, lowerGemm(ctx)) },
  cases: gemmCases(),
});

function lowerGemm(ctx: KernelContext<GemmAttrs>): ContractSpec {
  const { alpha, beta, transA, transB } = ctx.attrs;
  const out = ctx.outputs[0];
  const { axes, coords } = ctx.outputAxes(0);
  const k = wideAxis(ctx, 'k', ctx.input(0).shape[transA ? 0 : 1]);
  const [m, n] = coords.map(coordAffine);
  return {
    form: 'contract',
    axes: [
      ...axes.map((a) => ({ ...a, role: dimOfAxis(coords, a) === 0 ? ('m' as const) : ('n' as const) })),
      ...kAxes([k]),
    ],
    a: { input: 0, at: transA ? [along(k), m] : [m, along(k)], padded: false },
    b: { input: 1, at: transB ? [n, along(k)] : [along(k), n], padded: false },
    out: [m, n],
    finish(acc, at) {
      const addend = ctx.inputs[2] && scaled(cast(acc.dtype, ctx.load(2, addendCoords(ctx.inputs[2].shape, at))), beta);
      const product = scaled(acc, alpha);
      return cast(out.dtype, addend ? add(product, addend) : product);
    },
  };
}

/** Coordinates in the addend of the result's element `at`: 0 along broadcast dims, and only the dims that it has. */
const addendCoords = (shape: readonly number[], at: readonly Expr[]): Expr[] =>
  shape.map((extent, d) => (extent === 1 ? index(0) : at[d + 2 - shape.length]));

/** x · factor; integers are scaled in f64, since the factor is a float attribute. */
function scaled(x: Expr, factor: number): Expr {
  if (factor === 1) return x;
  return isFloat(x.dtype)
    ? mul(x, constant(x.dtype, factor))
    : cast(x.dtype, mul(cast('f64', x), constant('f64', factor)));
}

function gemmCases(): OpCase[] {
  const make = (name: string, a: number[], b: number[], c?: number[], attrs: OpCase['attrs'] = {}): OpCase => ({
    name,
    attrs,
    inputs: [a, b, ...(c ? [c] : [])].map((shape) => ({ dtype: 'f32', shape }) as const),
  });
  return [
    make('classifier', [1, 64], [10, 64], [10], { transB: true }),
    make('plain', [5, 7], [7, 3]),
    make('both transposed', [7, 5], [3, 7], [5, 3], { transA: true, transB: true }),
    make('transposed a, column addend', [7, 5], [7, 3], [5, 1], { transA: true }),
    make('scaled', [4, 11], [11, 6], [1, 6], { alpha: 0.25, beta: -1.5 }),
    make('scalar addend', [3, 2], [2, 3], [], { beta: 2 }),
    make('one by one', [1, 1], [1, 1], [1]),
    make('prime sizes', [17, 13], [13, 19], [17, 19]),
    {
      name: 'f64',
      inputs: [
        { dtype: 'f64', shape: [3, 4] },
        { dtype: 'f64', shape: [4, 5] },
      ],
    },
  ];
}
export const GEMM_OPS = [gemm];
