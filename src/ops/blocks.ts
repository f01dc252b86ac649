/**
 * DepthToSpace and SpaceToDepth: square blocks of pixels for channels, and back. With block size b and C channels in the deeper one's
 * quotient (C = depth / b²), pixel (i, j) of a block and channel c belong to deep channel
 *
 *     DCR   (i·b + j)·C + c           CRD   c·b² + i·b + j
 */
import { type Dim, floorDivDims, mulDims, rowMajorStrides } from '../core/shape.ts';
import type { InferContext } from '../graph/semantics.ts';
import { add, binary, index, mul } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { defineOp, int, type OpCase, oneOf } from './op.ts';
import { offsets, readSeparable } from './separable.ts';

function image(ctx: InferContext<unknown>): readonly [Dim, Dim, Dim, Dim] {
  const { shape } = ctx.input(0);
  if (shape.length !== 4) return ctx.fail('the input must have dims [N, C, H, W]');
  return [shape[0], shape[1], shape[2], shape[3]];
}
function checkDivides(ctx: InferContext<unknown>, what: string, size: Dim, by: number): void {
  if (typeof size === 'number' && size % by !== 0) ctx.fail(`${what} ${size} is not a multiple of ${by}`);
}
const floordiv = (a: Expr, b: number): Expr => binary('floordiv', a, index(b));
const mod = (a: Expr, b: number): Expr => binary('mod', a, index(b));

const imageCases = (shapes: readonly (readonly number[])[], attrs: readonly OpCase['attrs'][]): OpCase[] => [
  ...shapes.flatMap((shape) =>
    attrs.map(
      (a): OpCase => ({ name: `[${shape}] ${JSON.stringify(a)}`, attrs: a!, inputs: [{ dtype: 'f32', shape }] }),
    ),
  ),
  { name: 'f16', attrs: attrs[0]!, inputs: [{ dtype: 'f16', shape: shapes[0] }] },
];

const depthToSpace = defineOp({
  name: 'DepthToSpace',
  onnx: { since: 1 },
  attrs: { blocksize: int.required, mode: oneOf('DCR', 'CRD') },
  inputs: [1, 1],
  infer(ctx) {
    const [n, c, h, w] = image(ctx);
    const b = ctx.attrs.blocksize;
    if (b < 1) ctx.fail(`blocksize is ${b}`);
    checkDivides(ctx, 'the number of channels', c, b * b);
    return [{ dtype: ctx.input(0).dtype, shape: [n, floorDivDims(c, b * b), mulDims(h, b), mulDims(w, b)] }];
  },
  eval([x], { blocksize: b, mode }, [out]) {
    const [sn, sc, sh, sw] = rowMajorStrides(x!.shape);
    const [n, c, h, w] = [out.shape[0], out.shape[1], x!.shape[2], x!.shape[3]];
    const [channel, block] = mode === 'DCR' ? [1, c] : [b * b, 1];
    // Dims of the result, split: n, c, (h, i), (w, j).
    const tables = [
      offsets(n, sn),
      offsets(c, sc * channel),
      offsets(h, sh),
      offsets(b, sc * block * b),
      offsets(w, sw),
      offsets(b, sc * block),
    ];
    return [readSeparable(x!, tables, out)];
  },
  lower: {
    kind: 'index',
    read(ctx, _, [n, c, y, x]) {
      const { blocksize: b, mode } = ctx.attrs;
      const inBlock = add(mul(mod(y, b), index(b)), mod(x, b));
      const channels = ctx.outputs[0].shape[1];
      const deep = mode === 'DCR' ? add(mul(inBlock, index(channels)), c) : add(mul(c, index(b * b)), inBlock);
      return ctx.load(0, [n, deep, floordiv(y, b), floordiv(x, b)]);
    },
  },
  cases: imageCases(
    [
      [2, 12, 3, 5],
      [1, 4, 1, 7],
      [0, 4, 2, 2],
    ],
    [{ blocksize: 2 }, { blocksize: 2, mode: 'CRD' }, { blocksize: 1 }],
  ),
});

const spaceToDepth = defineOp({
  name: 'SpaceToDepth',
  onnx: { since: 1, formSince: ({ mode }) => (mode === 'CRD' ? 28 : 1) },
  attrs: { blocksize: int.required, mode: oneOf('DCR', 'CRD') },
  inputs: [1, 1],
  infer(ctx) {
    const [n, c, h, w] = image(ctx);
    const b = ctx.attrs.blocksize;
    if (b < 1) ctx.fail(`blocksize is ${b}`);
    checkDivides(ctx, 'the height', h, b);
    checkDivides(ctx, 'the width', w, b);
    return [{ dtype: ctx.input(0).dtype, shape: [n, mulDims(c, b * b), floorDivDims(h, b), floorDivDims(w, b)] }];
  },
  eval([x], { blocksize: b, mode }, [out]) {
    const [sn, sc, sh, sw] = rowMajorStrides(x!.shape);
    const [n, , h, w] = out.shape;
    const block = [offsets(b, sh), offsets(b, sw)];
    const channels = offsets(x!.shape[1], sc);
    // Dims of the result, split: n, (i, j, c) or (c, i, j), h, w.
    const deep = mode === 'DCR' ? [...block, channels] : [channels, ...block];
    const tables = [offsets(n, sn), ...deep, offsets(h, sh * b), offsets(w, sw * b)];
    return [readSeparable(x!, tables, out)];
  },
  lower: {
    kind: 'index',
    read(ctx, _, [n, deep, y, x]) {
      const { blocksize: b, mode } = ctx.attrs;
      const channels = ctx.input(0).shape[1];
      const [channel, inBlock] =
        mode === 'DCR' ? [mod(deep, channels), floordiv(deep, channels)] : [floordiv(deep, b * b), mod(deep, b * b)];
      return ctx.load(0, [
        n,
        channel,
        add(mul(y, index(b)), floordiv(inBlock, b)),
        add(mul(x, index(b)), mod(inBlock, b)),
      ]);
    },
  },
  cases: imageCases(
    [
      [2, 3, 6, 12],
      [1, 1, 6, 6],
      [0, 2, 6, 6],
    ],
    [{ blocksize: 2 }, { blocksize: 2, mode: 'CRD' }, { blocksize: 3 }, { blocksize: 1 }],
  ),
});

export const BLOCK_OPS = [depthToSpace, spaceToDepth];
