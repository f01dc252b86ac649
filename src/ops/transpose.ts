/**
 * Transpose: dim d of the result is dim perm[d] of the input; without perm, the dims reversed.
 */
import type { StaticShape } from '../core/shape.ts';
import { checkAxes } from './dims.ts';
import { defineOp, ints, type OpCase } from './op.ts';
import { identityTables, readSeparable } from './separable.ts';

const permOf = (perm: readonly number[] | undefined, rank: number): readonly number[] =>
  perm ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);

const transposeCase = (shape: StaticShape, perm?: readonly number[]): OpCase => ({
  name: `[${shape}] by ${perm ?? 'default'}`,
  ...(perm && { attrs: { perm } }),
  inputs: [{ dtype: 'f32', shape }],
});

const transpose = defineOp({
  name: 'Transpose',
  onnx: { since: 1 },
  attrs: { perm: ints.optional },
  inputs: [1, 1],
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    const perm = permOf(ctx.attrs.perm, shape.length);
    if (perm.length !== shape.length) ctx.fail(`perm [${perm}] has ${perm.length} entries for rank ${shape.length}`);
    return [{ dtype, shape: checkAxes(ctx, perm, shape.length).map((d) => shape[d]) }];
  },
  eval([x], attrs, [out]) {
    const tables = identityTables(x!.shape);
    return [
      readSeparable(
        x!,
        permOf(attrs.perm, tables.length).map((d) => tables.at(d)!),
        out,
      ),
    ];
  },
  identity: (ctx) => (permOf(ctx.attrs.perm, ctx.input(0).shape.length).every((d, i) => d === i) ? 0 : undefined),
  mergeWith(first, second) {
    const rank = first.input(0).shape.length;
    const inner = permOf(first.attrs.perm, rank).map((d) => (d + rank) % rank);
    return { perm: permOf(second.attrs.perm, rank).map((d) => inner[(d + rank) % rank]) };
  },
  lower: {
    kind: 'index',
    read(ctx, _, coords) {
      const from = [...coords];
      permOf(ctx.attrs.perm, coords.length).forEach((d, i) => {
        from[d] = coords[i];
      });
      return ctx.load(0, from);
    },
  },
  cases: [
    transposeCase([2, 3, 5]),
    transposeCase([2, 3, 5, 7], [0, 2, 3, 1]),
    transposeCase([2, 3, 5, 7], [0, 2, 1, 3]),
    transposeCase([1, 13], [1, 0]),
    transposeCase([0, 3], [1, 0]),
    transposeCase([]),
    transposeCase([7], [0]),
    { name: 'i64', inputs: [{ dtype: 'i64', shape: [3, 5] }] },
    { name: 'f16', inputs: [{ dtype: 'f16', shape: [3, 1, 5] }] },
  ],
});

export const TRANSPOSE_OPS = [transpose];
