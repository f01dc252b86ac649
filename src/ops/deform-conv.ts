/**
 * DeformConv: a convolution of images whose taps are moved by offsets and weighted by a mask, both of which are inputs.
 *
 *     out[n, o, p] = b[o] + Σ c, t  w[o, c, t] · mask[n, t, p] · x[n, c] at (p·stride + t·dilation − pad + offset[n, t, p])
 *
 * Positions between pixels are interpolated, with zeros outside the image. Channels share offsets in offset_group groups.
 */
import { addDims, floorDivDims } from '../core/shape.ts';
import { fromNumbers } from '../core/tensor.ts';
import {
  add,
  axis,
  binary,
  cast,
  constant,
  index,
  inRange,
  local,
  max,
  min,
  mul,
  select,
  sub,
  unary,
} from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { checkFloats } from './dims.ts';
import { type AttrsOf, defineOp, int, ints, type KernelContext, type KernelSpec, type Op, type OpCase } from './op.ts';
import { toFloat64 } from './product.ts';

const ATTRS = {
  dilations: ints.optional,
  group: int(1),
  kernel_shape: ints.optional,
  offset_group: int(1),
  pads: ints.optional,
  strides: ints.optional,
} as const;
type DeformAttrs = AttrsOf<typeof ATTRS>;

const geometry = (attrs: DeformAttrs, d: 0 | 1) => ({
  stride: attrs.strides?.[d] ?? 1,
  dilation: attrs.dilations?.[d] ?? 1,
  pad: attrs.pads?.[d] ?? 0,
  padEnd: attrs.pads?.[2 + d] ?? 0,
});

/** The element at a position between pixels, zeros outside. */
function interpolate(data: Float64Array, plane: number, height: number, width: number, y: number, x: number): number {
  const [top, left] = [Math.floor(y), Math.floor(x)];
  let sum = 0;
  for (const [i, wy] of [top + 1 - y, y - top].entries()) {
    for (const [j, wx] of [left + 1 - x, x - left].entries()) {
      const [h, w] = [top + i, left + j];
      if (h >= 0 && h < height && w >= 0 && w < width) sum += wy * wx * data[plane + h * width + w];
    }
  }
  return sum;
}

function buildDeformConv(ctx: KernelContext<DeformAttrs>): KernelSpec {
  const { dtype, shape } = ctx.input(0);
  const [, channels, height, width] = shape;
  const [outputs, perGroup, kh, kw] = ctx.input(1).shape;
  const { axes, coords } = ctx.outputAxes(0);
  const [n, o, ...point] = coords;
  const [c, ty, tx] = ['c', 't', 't'].map((hint) => ctx.fresh(hint));
  const channel = add(mul(binary('floordiv', o, index(outputs / ctx.attrs.group)), index(perGroup)), axis(c));
  const offsetGroup = binary('floordiv', channel, index(channels / ctx.attrs.offset_group));
  const tap = add(mul(axis(ty), index(kw)), axis(tx));
  const row = add(mul(offsetGroup, index(kh * kw)), tap);
  const offset = (d: 0 | 1) => ctx.load(2, [n, add(mul(row, index(2)), index(d)), ...point]);
  const along = (d: 0 | 1, at: Expr, size: number) => {
    const { stride, dilation, pad } = geometry(ctx.attrs, d);
    const whole = sub(add(mul(point[d], index(stride)), mul(at, index(dilation))), index(pad));
    const position = add(cast(dtype, whole), offset(d));
    const low = unary('floor', position);
    const second = sub(position, low);
    const pixel = cast('i32', low);
    return [sub(constant(dtype, 1), second), second].map((weight, i) => {
      const p = add(pixel, index(i));
      return { weight, at: min(max(p, index(0)), index(size - 1)), inside: inRange(p, size) };
    });
  };
  const [rows, columns] = [along(0, axis(ty), height), along(1, axis(tx), width)];
  const terms = rows.flatMap((v) =>
    columns.map((h) => {
      const value = mul(mul(v.weight, h.weight), ctx.load(0, [n, channel, v.at, h.at]));
      return select(binary('and', v.inside, h.inside), value, constant(dtype, 0));
    }),
  );
  const sampled = terms.reduce(add);
  const masked = ctx.inputs[4] ? mul(sampled, ctx.load(4, [n, row, ...point])) : sampled;
  const sum = ctx.fresh('sum');
  const total = local(sum, dtype);
  return {
    form: { kind: 'reduce' },
    axes,
    body: [
      {
        kind: 'reduce',
        local: sum,
        dtype,
        op: 'add',
        axes: [
          { name: c, extent: perGroup },
          { name: ty, extent: kh },
          { name: tx, extent: kw },
        ],
        value: mul(ctx.load(1, [o, axis(c), axis(ty), axis(tx)]), masked),
      },
      ctx.store(0, coords, ctx.inputs[3] ? add(total, ctx.load(3, [o])) : total),
    ],
  };
}

const f32 = (...shape: number[]) => ({ dtype: 'f32', shape }) as const;

const deformConv = defineOp({
  name: 'DeformConv',
  onnx: { since: 19 },
  attrs: ATTRS,
  inputs: [3, 5],
  traits: { exactInputs: 'all' },
  infer(ctx) {
    checkFloats(ctx);
    const [x, w, offset] = [ctx.input(0), ctx.input(1), ctx.input(2)];
    if (x.shape.length !== 4 || w.shape.length !== 4 || offset.shape.length !== 4) {
      ctx.fail('only images are supported: the input, the weight and the offsets must have rank 4');
    }
    const taps = w.shape.slice(2);
    if (taps.some((t) => typeof t !== 'number')) ctx.fail('the size of the kernel must be known');
    const spatial = ([0, 1] as const).map((d) => {
      const { stride, dilation, pad, padEnd } = geometry(ctx.attrs, d);
      const span = dilation * ((taps[d] as number) - 1) + 1;
      return addDims(floorDivDims(addDims(x.shape[2 + d], pad + padEnd - span), stride), 1);
    });
    const [kh, kw] = taps as number[];
    const moved = offset.shape[1];
    if (typeof moved === 'number' && moved !== ctx.attrs.offset_group * kh * kw * 2) {
      ctx.fail(`the offsets have ${moved} channels, expected ${ctx.attrs.offset_group * kh * kw * 2}`);
    }
    return [{ dtype: x.dtype, shape: [x.shape[0], w.shape[0], ...spatial] }];
  },
  eval([x, w, offset, bias, mask], attrs, [out]) {
    const [, channels, height, width] = x!.shape;
    const [outputs, perGroup, kh, kw] = w!.shape;
    const [data, weights, moves] = [x!, w!, offset!].map(toFloat64);
    const [added, masks] = [bias && toFloat64(bias), mask && toFloat64(mask)];
    const [rows, columns] = out.shape.slice(2);
    const [v, h] = [geometry(attrs, 0), geometry(attrs, 1)];
    const y = new Float64Array(out.shape.reduce((n, d) => n * d, 1));
    for (let i = 0; i < y.length; i++) {
      const [px, py] = [i % columns, Math.floor(i / columns) % rows];
      const o = Math.floor(i / (columns * rows)) % outputs;
      const n = Math.floor(i / (columns * rows * outputs));
      let sum = added?.[o] ?? 0;
      for (let k = 0; k < perGroup * kh * kw; k++) {
        const [tx, ty] = [k % kw, Math.floor(k / kw) % kh];
        const c = Math.floor(o / (outputs / attrs.group)) * perGroup + Math.floor(k / (kh * kw));
        const row = Math.floor(c / (channels / attrs.offset_group)) * kh * kw + ty * kw + tx;
        const at = (r: number, count: number) => ((n * count + r) * rows + py) * columns + px;
        const count = attrs.offset_group * kh * kw;
        const top = py * v.stride + ty * v.dilation - v.pad + moves[at(2 * row, 2 * count)];
        const left = px * h.stride + tx * h.dilation - h.pad + moves[at(2 * row + 1, 2 * count)];
        const value = interpolate(data, (n * channels + c) * height * width, height, width, top, left);
        sum += weights[o * perGroup * kh * kw + k] * value * (masks?.[at(row, count)] ?? 1);
      }
      y[i] = sum;
    }
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  lower: { kind: 'kernel', layout: 'row-major', streams: [], build: buildDeformConv },
  cases: [
    { name: '2x2', inputs: [f32(1, 3, 5, 6), f32(2, 3, 2, 2), f32(1, 8, 4, 5)] },
    {
      name: 'bias and mask, padded',
      attrs: { pads: [1, 1, 1, 1], strides: [2, 1] },
      inputs: [f32(2, 2, 5, 4), f32(3, 2, 3, 3), f32(2, 18, 3, 4), f32(3), f32(2, 9, 3, 4)],
    },
    {
      name: 'groups',
      attrs: { group: 2, offset_group: 2, dilations: [1, 2] },
      inputs: [f32(1, 4, 4, 7), f32(6, 2, 2, 2), f32(1, 16, 3, 5), undefined, f32(1, 8, 3, 5)],
    },
  ] satisfies readonly OpCase[],
});

export const DEFORM_CONV_OPS: readonly Op[] = [deformConv];
