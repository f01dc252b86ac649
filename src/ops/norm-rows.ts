/**
 * Normalisation of rows: the fold and the kernel behind LayerNormalization, RMSNormalization, InstanceNormalization, GroupNormalization.
 *
 *     mean = Σ x / n      variance = Σ (x − mean)² / n      y = (x − mean) / √(variance + epsilon)
 *
 * Two passes, so that a large mean does not swallow a small variance. Without `centred`, mean is 0 (root mean square).
 */
import type { StaticShape } from '../core/shape.ts';
import { add, cast, div, like, local, mul, sub, unary } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import type { KernelContext, KernelSpec } from './op.ts';
import { assign, dimOffsets, forRow, otherDims, outputRow, type RowAxes, reduceRow } from './rows.ts';

export interface NormalizedRows {
  readonly values: Float64Array;
  /** One a row, in row-major order of the other dims. */
  readonly mean: Float64Array;
  readonly inverseDeviation: Float64Array;
}

export interface RowNorm {
  /** The dims that make a row. */
  readonly dims: readonly number[];
  readonly centred: boolean;
  readonly epsilon: number;
}

/** Normalises every row of a row-major tensor. */
export function normalizeRows(
  x: Float64Array,
  shape: StaticShape,
  { dims, centred, epsilon }: RowNorm,
): NormalizedRows {
  const steps = dimOffsets(shape, dims);
  const starts = dimOffsets(shape, otherDims(shape.length, dims));
  const values = new Float64Array(x.length);
  const mean = new Float64Array(starts.length);
  const inverseDeviation = new Float64Array(starts.length);
  for (const [row, start] of starts.entries()) {
    let sum = 0;
    if (centred) for (const step of steps) sum += x[start + step];
    const centre = sum / steps.length;
    let squares = 0;
    for (const step of steps) squares += (x[start + step] - centre) ** 2;
    const scale = 1 / Math.sqrt(squares / steps.length + epsilon);
    for (const step of steps) values[start + step] = (x[start + step] - centre) * scale;
    mean[row] = centre;
    inverseDeviation[row] = scale;
  }
  return { values, mean, inverseDeviation };
}

/**
 * The kernel: `finish` makes the output's element from the normalised one. Outputs 1 and 2, where wanted, are mean and 1 / deviation
 * of each row.
 */
export function normalizeRowsKernel(
  ctx: KernelContext<unknown>,
  { dims, centred, epsilon }: RowNorm,
  finish: (normalized: Expr, coords: readonly Expr[]) => Expr,
): KernelSpec {
  const { dtype, shape } = ctx.outputs[0];
  const count = dims.reduce((n, d) => n * shape[d], 1);
  const { axes, coords } = ctx.outputAxes(0, otherDims(shape.length, dims));
  const [first, second, third] = [1, 2, 3].map(() => outputRow(ctx, dims, coords));
  const [sum, mean, squares, scale] = ['sum', 'mean', 'squares', 'scale'].map((hint) => ctx.fresh(hint));
  const centre = local(mean, dtype);
  const centredAt = (row: RowAxes): Expr => {
    const x = ctx.load(0, row.coords);
    return centred ? sub(x, centre) : x;
  };
  const deviation = centredAt(second);
  const variance = div(local(squares, dtype), like(deviation, count));
  const reciprocal = div(like(deviation, 1), unary('sqrt', add(variance, like(deviation, epsilon))));
  const statistics = [centre, local(scale, dtype)].flatMap((value, i) => {
    const type = ctx.outputs[i + 1];
    return type ? [ctx.store(i + 1, coords, cast(type.dtype, value))] : [];
  });
  return {
    form: { kind: 'reduce' },
    axes,
    body: [
      ...(centred
        ? [
            reduceRow(sum, 'add', first, ctx.load(0, first.coords)),
            assign(mean, div(local(sum, dtype), like(centre, count))),
          ]
        : []),
      reduceRow(squares, 'add', second, mul(deviation, deviation)),
      assign(scale, reciprocal),
      ...statistics,
      ...forRow(third, [ctx.store(0, third.coords, finish(mul(centredAt(third), local(scale, dtype)), third.coords))]),
    ],
  };
}
