/**
 * MatMul: the product of the last two dims, NumPy's rules for 1-d operands and for broadcasting the dims before them.
 *
 *     y[b…, m, n] = Σ over k of a[b…, m, k] · b[b…, k, n]
 *
 * It lowers to a contract. A batch dim that only one operand has is an m (or n) axis of the product, so [B, T, K] × [K, N] is one
 * product of B·T rows, not B products.
 */
import { broadcastShapes, dimsEqual, elements, printDim, printShape, type Shape } from '../core/shape.ts';
import { fromNumbers } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { affineConstant } from '../loop/affine.ts';
import { cast } from '../loop/expr.ts';
import type { Affine } from '../loop/ir.ts';
import { byteMatMul, byteOperand, LEAST_RUN, scalesOf } from './byte-products.ts';
import { along, contractOrReduce, coordAffine, dimOfAxis, kAxes, type Role, wideAxis } from './contract-axes.ts';
import { areBytes, checkOneType } from './dims.ts';
import { walkBroadcast } from './elementwise.ts';
import { type ContractSpec, defineOp, type KernelContext, type OpCase } from './op.ts';
import { multiplyRows, toFloat64 } from './product.ts';

/** Dims of an operand by their part in the product; a dim that a 1-d operand lacks is absent. */
interface Parts<S extends Shape> {
  readonly batch: S;
  readonly rows: S[number] | undefined;
  readonly columns: S[number] | undefined;
  readonly k: S[number];
}
/** [batch…, m, k]; a vector is [k]. */
const leftParts = <S extends Shape>(a: S): Parts<S> => ({
  batch: a.slice(0, -2) as unknown as S,
  rows: a.length > 1 ? a[a.length - 2] : undefined,
  columns: undefined,
  k: a[a.length - 1],
});
/** [batch…, k, n]; a vector is [k]. */
const rightParts = <S extends Shape>(b: S): Parts<S> => ({
  batch: b.slice(0, -2) as unknown as S,
  rows: undefined,
  columns: b.length > 1 ? b[b.length - 1] : undefined,
  k: b.length > 1 ? b[b.length - 2] : b[0],
});

const matmul = defineOp({
  name: 'MatMul',
  onnx: { since: 1 },
  attrs: {},
  inputs: [2, 2],
  infer(ctx) {
    const ofBytes = areBytes(ctx);
    if (!ofBytes) checkOneType(ctx);
    return [
      { dtype: ofBytes ? 'i32' : ctx.input(0).dtype, shape: matMulShape(ctx, ctx.input(0).shape, ctx.input(1).shape) },
    ];
  },
  eval([a, b], _attrs, [out]) {
    const left = leftParts(a!.shape);
    const right = rightParts(b!.shape);
    const m = left.rows ?? 1;
    const n = right.columns ?? 1;
    const k = left.k;
    const batch = broadcastShapes(left.batch, right.batch) as readonly number[];
    const rows = toFloat64(a!);
    const columns = transposeMatrices(toFloat64(b!), k, n);
    const sums = new Float64Array(elements(batch) * m * n);
    walkBroadcast(batch, [left.batch, right.batch], (i, [p, q]) =>
      multiplyRows({ data: rows, start: p * m * k, count: m }, { data: columns, start: q * n * k, count: n }, k, {
        data: sums,
        start: i * m * n,
        rowStride: n,
        columnStride: 1,
      }),
    );
    return [fromNumbers(out.dtype, out.shape, sums)];
  },
  weightChannels: (ctx) =>
    ctx.input(1).shape.length === 2 && Number(ctx.input(1).shape[0]) >= LEAST_RUN ? 1 : undefined,
  sumBytes(w, _, { a, b }) {
    if (b.q === '' || w.known(b.q)?.shape.length !== 2) return undefined;
    const scales = scalesOf(w, { a, b, axis: 1, bias: undefined });
    const sum = scales && byteMatMul(w, byteOperand(w, a), byteOperand(w, b));
    return scales && sum !== undefined ? { ...scales, sum, along: [-1] } : undefined;
  },
  traits: { columns: 1 },
  lower: { kind: 'kernel', layout: 'row-major', streams: [], build: (ctx) => contractOrReduce(ctx, lowerMatMul(ctx)) },
  cases: matmulCases(),
});

/** The shape of the product. Throws through ctx.fail where a and b do not fit. */
export function matMulShape(ctx: Pick<InferContext, 'fail'>, a: Shape, b: Shape): Shape {
  if (a.length === 0 || b.length === 0) ctx.fail('the operands must have at least one dim');
  const left = leftParts(a);
  const right = rightParts(b);
  if (typeof left.k === 'number' && typeof right.k === 'number' && !dimsEqual(left.k, right.k)) {
    ctx.fail(
      `the inner dims differ: ${printDim(left.k)} of ${printShape(a)} and ${printDim(right.k)} of ${printShape(b)}`,
    );
  }
  const batch = broadcastShapes(left.batch, right.batch);
  if (!batch) return ctx.fail(`the batch dims of ${printShape(a)} and ${printShape(b)} do not broadcast`);
  return [...batch, ...present(left.rows), ...present(right.columns)];
}

const present = <T>(x: T | undefined): readonly T[] => (x === undefined ? [] : [x]);

/** Matrices [k, n] one after another, each turned into [n, k]. */
export function transposeMatrices(data: Float64Array, k: number, n: number): Float64Array {
  if (n === 1 || k === 1) return data;
  const out = new Float64Array(data.length);
  for (let start = 0; start < data.length; start += k * n) {
    for (let j = 0; j < n; j++) for (let p = 0; p < k; p++) out[start + j * k + p] = data[start + p * n + j];
  }
  return out;
}

function lowerMatMul(ctx: KernelContext<unknown>): ContractSpec {
  const left = leftParts(ctx.input(0).shape);
  const right = rightParts(ctx.input(1).shape);
  const out = ctx.outputs[0].shape;
  const batchRank = Math.max(left.batch.length, right.batch.length);
  const rowDim = left.rows === undefined ? undefined : batchRank;
  const { axes, coords } = ctx.outputAxes(0);
  const k = wideAxis(ctx, 'k', left.k);

  /** Batch coordinates of an operand: the output's, and 0 where the operand has extent 1. */
  const batchAt = (batch: readonly number[]): Affine[] =>
    batch.map((extent, i) => (extent === 1 ? affineConstant(0) : coordAffine(coords[batchRank - batch.length + i])));
  const isWide = (batch: readonly number[], d: number) => (batch[d - (batchRank - batch.length)] ?? 1) !== 1;
  const role = (d: number): Role => {
    if (d < batchRank) return !isWide(right.batch, d) ? 'm' : !isWide(left.batch, d) ? 'n' : 'batch';
    return d === rowDim ? 'm' : 'n';
  };
  return {
    form: 'contract',
    axes: [...axes.map((a) => ({ ...a, role: role(dimOfAxis(coords, a)) })), ...kAxes([k])],
    a: {
      input: 0,
      at: [...batchAt(left.batch), ...(rowDim === undefined ? [] : [coordAffine(coords[rowDim])]), along(k)],
      padded: false,
    },
    b: {
      input: 1,
      at: [
        ...batchAt(right.batch),
        along(k),
        ...(right.columns === undefined ? [] : [coordAffine(coords[out.length - 1])]),
      ],
      padded: false,
    },
    out: coords.map(coordAffine),
    finish: (acc) => cast(ctx.outputs[0].dtype, acc),
  };
}

function matmulCases(): OpCase[] {
  const make = (a: number[], b: number[], dtype: 'f32' | 'f64' | 'i32' | 'i64' = 'f32'): OpCase => ({
    name: `${dtype} [${a}] x [${b}]`,
    inputs: [
      { dtype, shape: a },
      { dtype, shape: b },
    ],
  });
  return [
    make([5, 7], [7, 3]),
    make([1, 64], [64, 1]),
    make([13, 1], [1, 17]),
    make([7], [7]),
    make([7], [7, 5]),
    make([4, 7], [7]),
    make([2, 3, 7], [7]),
    make([3], [2, 3, 5]),
    make([2, 5, 7], [7, 3]),
    make([5, 7], [4, 7, 3]),
    make([2, 5, 7], [2, 7, 3]),
    make([2, 1, 5, 7], [1, 3, 7, 4]),
    make([2, 3, 5, 8], [2, 3, 8, 5]),
    make([3, 5, 8], [2, 1, 8, 5]),
    make([0, 3], [3, 2]),
    make([9, 4], [4, 5], 'f64'),
    make([4, 3], [3, 4], 'i32'),
    make([2, 3, 5], [5, 4], 'i64'),
  ];
}
export const MATMUL_OPS = [matmul];
