/**
 * Col2Im: the sum of overlapping blocks of an image, the inverse of what a convolution unfolds.
 *
 *     out[n, c, p…] = Σ in[n, (c, t…), (b…)]          over taps t and blocks b with b·stride + t·dilation = p + pad
 *
 * Each element gathers the blocks that cover it, so no two points write to one place.
 */
import { elements, rowMajorStrides, type StaticShape } from '../core/shape.ts';
import { fromNumbers } from '../core/tensor.ts';
import { add, axis, binary, constant, index, inRange, local, max, min, mul, select, sub } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { dimsInput, i64Vector, intsInput, intsOf, product, quotient, vectorLength } from './dims.ts';
import { type AttrsOf, defineOp, ints, type KernelContext, type KernelSpec, type Op, type OpCase } from './op.ts';
import { knownInts } from './position.ts';
import { toFloat64 } from './product.ts';

const ATTRS = { dilations: ints.optional, pads: ints.optional, strides: ints.optional } as const;
type Col2ImAttrs = AttrsOf<typeof ATTRS>;

/** One spatial dim: how many blocks lie along it, and where their taps are. */
interface BlockDim {
  readonly image: number;
  readonly taps: number;
  readonly blocks: number;
  readonly stride: number;
  readonly dilation: number;
  readonly pad: number;
}

function blockDims(image: StaticShape, block: StaticShape, attrs: Col2ImAttrs): BlockDim[] {
  const rank = image.length;
  return image.map((size, d) => {
    const [stride, dilation] = [attrs.strides?.[d] ?? 1, attrs.dilations?.[d] ?? 1];
    const [pad, padEnd] = [attrs.pads?.[d] ?? 0, attrs.pads?.[rank + d] ?? 0];
    const blocks = Math.floor((size + pad + padEnd - dilation * (block[d] - 1) - 1) / stride) + 1;
    return { image: size, taps: block[d], blocks, stride, dilation, pad };
  });
}

function buildCol2Im(ctx: KernelContext<Col2ImAttrs>): KernelSpec {
  const { dtype } = ctx.input(0);
  const dims = blockDims(knownInts(ctx, 1)!, knownInts(ctx, 2)!, ctx.attrs);
  const { axes, coords } = ctx.outputAxes(0);
  const [n, c, ...point] = coords;
  const taps = dims.map(({ taps: extent }) => ({ name: ctx.fresh('t'), extent }));
  const conditions: Expr[] = [];
  let [column, position] = [c, index(0)];
  for (const [d, dim] of dims.entries()) {
    const tap = axis(taps[d].name);
    const from = sub(add(point[d], index(dim.pad)), mul(tap, index(dim.dilation)));
    const block = binary('floordiv', from, index(dim.stride));
    if (dim.stride > 1) conditions.push(binary('eq', binary('mod', from, index(dim.stride)), index(0)));
    conditions.push(inRange(block, dim.blocks));
    column = add(mul(column, index(dim.taps)), tap);
    position = add(mul(position, index(dim.blocks)), min(max(block, index(0)), index(dim.blocks - 1)));
  }
  const covered = conditions.reduce((a, b) => binary('and', a, b));
  const sum = ctx.fresh('sum');
  const value = select(covered, ctx.load(0, [n, column, position]), constant(dtype, 0));
  return {
    form: { kind: 'reduce' },
    axes,
    body: [
      { kind: 'reduce', local: sum, dtype, op: 'add', axes: taps, value },
      ctx.store(0, coords, local(sum, dtype)),
    ],
  };
}

const col2ImCase = (
  name: string,
  shape: number[],
  image: number[],
  block: number[],
  attrs: NonNullable<OpCase['attrs']> = {},
): OpCase => ({
  name,
  attrs,
  inputs: [{ dtype: 'f32', shape }, { constant: i64Vector(image) }, { constant: i64Vector(block) }],
});

const col2Im = defineOp({
  name: 'Col2Im',
  onnx: { since: 18 },
  attrs: ATTRS,
  inputs: [3, 3],
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    if (shape.length !== 3) ctx.fail('the input must be [N, channels · taps, blocks]');
    const rank = vectorLength(ctx, 1);
    if (vectorLength(ctx, 2) !== rank) ctx.fail('the image and the block must have one number of dims');
    const image = dimsInput(ctx, 1) ?? Array.from({ length: rank }, () => ctx.freshDim('image'));
    const block = dimsInput(ctx, 2);
    const channels = block ? quotient([shape[1]], [product(block)]) : ctx.freshDim('channels');
    const [sizes, taps] = [intsInput(ctx, 1), intsInput(ctx, 2)];
    const blocks = sizes && taps && elements(blockDims(sizes, taps, ctx.attrs).map((dim) => dim.blocks));
    if (blocks !== undefined && typeof shape[2] === 'number' && shape[2] !== blocks) {
      ctx.fail(`the image has ${blocks} blocks, the input ${shape[2]}`);
    }
    return [{ dtype, shape: [shape[0], channels, ...image] }];
  },
  eval([x, image, block], attrs, [out]) {
    const dims = blockDims(intsOf(image!), intsOf(block!), attrs);
    const data = toFloat64(x!);
    const y = new Float64Array(elements(out.shape));
    const [count, taps] = [elements(dims.map((d) => d.blocks)), elements(dims.map((d) => d.taps))];
    const [ofBlock, ofTap, ofImage] = [
      rowMajorStrides(dims.map((d) => d.blocks)),
      rowMajorStrides(dims.map((d) => d.taps)),
      rowMajorStrides(dims.map((d) => d.image)),
    ];
    const plane = elements(dims.map((d) => d.image));
    for (let i = 0; i < data.length; i++) {
      const [b, t] = [i % count, Math.floor(i / count) % taps];
      let to = Math.floor(i / (count * taps)) * plane;
      const inside = dims.every((dim, d) => {
        const position = Math.floor(b / ofBlock[d]) % dim.blocks;
        const tap = Math.floor(t / ofTap[d]) % dim.taps;
        const p = position * dim.stride + tap * dim.dilation - dim.pad;
        to += p * ofImage[d];
        return p >= 0 && p < dim.image;
      });
      if (inside) y[to] += data[i];
    }
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  lower: { kind: 'kernel', layout: 'row-major', streams: [], build: buildCol2Im },
  cases: [
    col2ImCase('tiles', [1, 5, 5], [5, 5], [1, 5]),
    col2ImCase('overlapping', [2, 12, 12], [4, 5], [2, 2]),
    col2ImCase('strides and pads', [1, 8, 9], [5, 5], [2, 2], { strides: [2, 2], pads: [0, 0, 1, 1] }),
    col2ImCase('dilated', [1, 4, 5], [6, 6], [2, 2], { dilations: [1, 5] }),
    col2ImCase('line', [1, 6, 4], [8], [3], { strides: [2], pads: [1, 0] }),
    col2ImCase('volume', [1, 8, 8], [3, 3, 3], [2, 2, 2]),
  ],
});

export const COL2IM_OPS: readonly Op[] = [col2Im];
