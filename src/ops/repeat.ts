/**
 * Expand and Tile: elements repeated, by NumPy's broadcast or by whole copies along each dim.
 */
import { broadcastShapes, mulDims, printShape, rowMajorStrides } from '../core/shape.ts';
import { binary, index } from '../loop/expr.ts';
import { dimsInput, i64Vector, vectorLength } from './dims.ts';
import { defineOp, type OpCase } from './op.ts';
import { identityTables, offsets, readSeparable } from './separable.ts';

const expandCase = (from: readonly number[], to: readonly number[]): OpCase => ({
  name: `[${from}] to [${to}]`,
  inputs: [{ dtype: 'f32', shape: from }, { constant: i64Vector(to) }],
});

const expand = defineOp({
  name: 'Expand',
  onnx: { since: 8 },
  attrs: {},
  inputs: [2, 2],
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    const target = dimsInput(ctx, 1);
    if (!target) {
      const rank = Math.max(shape.length, vectorLength(ctx, 1));
      return [{ dtype, shape: Array.from({ length: rank }, () => ctx.freshDim('expand')) }];
    }
    const out =
      broadcastShapes(shape, target) ?? ctx.fail(`${printShape(shape)} does not expand to ${printShape(target)}`);
    return [{ dtype, shape: out }];
  },
  inferDims(ctx) {
    const dims = dimsInput(ctx, 0);
    const target = dimsInput(ctx, 1);
    const [size] = target ?? [];
    return dims?.length === 1 && target?.length === 1 && typeof size === 'number'
      ? Array(size).fill(dims[0])
      : undefined;
  },
  eval([x], _, [out]) {
    const own = rowMajorStrides(x!.shape);
    const missing = out.shape.length - own.length;
    const tables = out.shape.map((extent, d) =>
      offsets(extent, d < missing || x!.shape[d - missing] === 1 ? 0 : own[d - missing]),
    );
    return [readSeparable(x!, tables, out)];
  },
  identity: () => 0,
  lower: {
    kind: 'index',
    read(ctx, _, coords) {
      const { shape } = ctx.input(0);
      const missing = coords.length - shape.length;
      return ctx.load(
        0,
        shape.map((extent, d) => (extent === 1 ? index(0) : coords[d + missing])),
      );
    },
  },
  cases: [
    expandCase([3, 1], [3, 7]),
    expandCase([5], [2, 3, 5]),
    expandCase([2, 1, 5], [3, 1]),
    expandCase([], [2, 3]),
    expandCase([1], []),
    expandCase([1, 3], [0, 3]),
    { name: 'i64', inputs: [{ dtype: 'i64', shape: [1] }, { constant: i64Vector([4]) }] },
    { name: 'f16', inputs: [{ dtype: 'f16', shape: [3, 1] }, { constant: i64Vector([1, 5]) }] },
    { name: 'bool', inputs: [{ dtype: 'bool', shape: [3, 1] }, { constant: i64Vector([3, 2]) }] },
  ],
});

const tileCase = (shape: readonly number[], repeats: readonly number[]): OpCase => ({
  name: `[${shape}] by [${repeats}]`,
  inputs: [{ dtype: 'f32', shape }, { constant: i64Vector(repeats) }],
});

const tile = defineOp({
  name: 'Tile',
  onnx: { since: 6 },
  attrs: {},
  inputs: [2, 2],
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    if (vectorLength(ctx, 1) !== shape.length) ctx.fail('one repeat a dim is needed');
    const repeats = dimsInput(ctx, 1);
    return [{ dtype, shape: shape.map((d, i) => (repeats ? mulDims(d, repeats[i]) : ctx.freshDim('tile'))) }];
  },
  eval([x], _, [out]) {
    // A dim of the result is (copy, element within the copy).
    const tables = identityTables(x!.shape).flatMap((table, d) => {
      const copies = table.length === 0 ? 0 : out.shape[d] / table.length;
      return [offsets(copies, 0), table];
    });
    return [readSeparable(x!, tables, out)];
  },
  identity: () => 0,
  lower: {
    kind: 'index',
    read(ctx, _, coords) {
      const { shape } = ctx.input(0);
      return ctx.load(
        0,
        coords.map((c, d) => (ctx.outputs[0].shape[d] === shape[d] ? c : binary('mod', c, index(shape[d])))),
      );
    },
  },
  cases: [
    tileCase([2, 3], [2, 3]),
    tileCase([5], [1]),
    tileCase([3, 1, 2], [1, 7, 2]),
    tileCase([3], [0]),
    tileCase([0, 2], [2, 2]),
    { name: 'i64', inputs: [{ dtype: 'i64', shape: [3] }, { constant: i64Vector([3]) }] },
    { name: 'u8', inputs: [{ dtype: 'u8', shape: [3, 2] }, { constant: i64Vector([2, 1]) }] },
  ],
});

export const REPEAT_OPS = [expand, tile];
