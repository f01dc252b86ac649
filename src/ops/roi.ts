/**
 * RoiAlign and MaxRoiPool: regions of interest of feature maps, each brought to one size.
 *
 *     RoiAlign     out[r, c, ph, pw] = mean or max over a grid of samples inside the bin, each interpolated from four pixels
 *     MaxRoiPool   out[r, c, ph, pw] = max over the whole pixels of the bin
 *
 * The number of samples of a bin may depend on its region (sampling_ratio 0), loops of kernels may not: they run over the samples that
 * can fall inside the image, two a pixel at most, as samples lie more than half a pixel apart.
 */
import { fromNumbers } from '../core/tensor.ts';
import {
  add,
  axis,
  binary,
  cast,
  constant,
  div,
  index,
  local,
  max,
  min,
  mul,
  select,
  sub,
  unary,
} from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import { checkFloats, intsOf } from './dims.ts';
import {
  type AttrsOf,
  defineOp,
  float,
  int,
  ints,
  type KernelContext,
  type KernelSpec,
  type Op,
  type OpCase,
  oneOf,
} from './op.ts';
import { loadPosition } from './position.ts';
import { toFloat64 } from './product.ts';
import { assign } from './rows.ts';

const ALIGN_ATTRS = {
  coordinate_transformation_mode: oneOf('half_pixel', 'output_half_pixel'),
  mode: oneOf('avg', 'max'),
  output_height: int(1),
  output_width: int(1),
  sampling_ratio: int(0),
  spatial_scale: float(1),
} as const;
type AlignAttrs = AttrsOf<typeof ALIGN_ATTRS>;

/** One dim of a region: where it starts, how long a bin is, how many samples a bin has. */
interface Extent {
  readonly start: number;
  readonly bin: number;
  readonly samples: number;
}

function extentOf(from: number, to: number, bins: number, attrs: AlignAttrs): Extent {
  const halfPixel = attrs.coordinate_transformation_mode === 'half_pixel';
  const offset = halfPixel ? 0.5 : 0;
  const start = from * attrs.spatial_scale - offset;
  const length = to * attrs.spatial_scale - offset - start;
  const bin = (halfPixel ? length : Math.max(length, 1)) / bins;
  return { start, bin, samples: attrs.sampling_ratio > 0 ? attrs.sampling_ratio : Math.ceil(bin) };
}

/** The two pixels around a position, and the weight of the second; undefined outside the image by more than a pixel. */
function pixelsAround(x: number, size: number): readonly [number, number, number] | undefined {
  if (!(x >= -1 && x <= size)) return undefined;
  const inside = Math.min(Math.max(x, 0), size - 1);
  const low = Math.floor(inside);
  return [low, Math.min(low + 1, size - 1), inside - low];
}

const roiAlign = defineOp({
  name: 'RoiAlign',
  onnx: {
    since: 10,
    upgrade: (node, ctx) =>
      ctx.opset >= 16
        ? node
        : { ...node, attrs: { ...node.attrs, coordinate_transformation_mode: 'output_half_pixel' } },
  },
  attrs: ALIGN_ATTRS,
  inputs: [3, 3],
  traits: { exactInputs: 'all' },
  infer(ctx) {
    const [x, rois, batch] = [ctx.input(0), ctx.input(1), ctx.input(2)];
    if (x.shape.length !== 4) ctx.fail('the input must have rank 4');
    if (rois.shape.length !== 2 || (typeof rois.shape[1] === 'number' && rois.shape[1] !== 4)) {
      ctx.fail('the regions must be [count,4]');
    }
    if (rois.dtype !== x.dtype) ctx.fail('the regions must have the element type of the input');
    if (batch.dtype !== 'i64' || batch.shape.length !== 1) ctx.fail('the batch indices must be a vector of i64');
    const { output_height, output_width } = ctx.attrs;
    return [{ dtype: x.dtype, shape: [rois.shape[0], x.shape[1], output_height, output_width] }];
  },
  eval([x, rois, batch], attrs, [out]) {
    const [, channels, height, width] = x!.shape;
    const [data, corners, images] = [toFloat64(x!), toFloat64(rois!), intsOf(batch!)];
    const [count, , rows, columns] = out.shape;
    const y = new Float64Array(out.shape.reduce((n, d) => n * d, 1));
    let to = 0;
    for (let r = 0; r < count; r++) {
      const [x1, y1, x2, y2] = corners.subarray(4 * r, 4 * r + 4);
      const [v, h] = [extentOf(y1, y2, rows, attrs), extentOf(x1, x2, columns, attrs)];
      for (let c = 0; c < channels; c++) {
        const from = (images[r] * channels + c) * height * width;
        for (let p = 0; p < rows * columns; p++) {
          const [ph, pw] = [Math.floor(p / columns), p % columns];
          let [sum, best] = [0, Number.NEGATIVE_INFINITY];
          for (let i = 0; i < v.samples * h.samples; i++) {
            const [iy, ix] = [Math.floor(i / h.samples), i % h.samples];
            const at = (e: Extent, bin: number, s: number) => e.start + bin * e.bin + ((s + 0.5) * e.bin) / e.samples;
            const [yy, xx] = [pixelsAround(at(v, ph, iy), height), pixelsAround(at(h, pw, ix), width)];
            const weighted = yy && xx ? corner(data, from, width, yy, xx) : [0];
            sum += weighted.reduce((a, b) => a + b, 0);
            best = Math.max(best, ...weighted);
          }
          y[to++] = attrs.mode === 'avg' ? sum / Math.max(v.samples * h.samples, 1) : best;
        }
      }
    }
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  lower: { kind: 'kernel', layout: 'row-major', streams: [], build: buildRoiAlign },
  cases: alignCases(),
});

/** The four pixels around a sample, each times its weight; max takes the largest of these, as ONNX defines it. */
function corner(
  data: Float64Array,
  from: number,
  width: number,
  [y0, y1, wy]: readonly [number, number, number],
  [x0, x1, wx]: readonly [number, number, number],
): number[] {
  return [
    (1 - wy) * (1 - wx) * data[from + y0 * width + x0],
    (1 - wy) * wx * data[from + y0 * width + x1],
    wy * (1 - wx) * data[from + y1 * width + x0],
    wy * wx * data[from + y1 * width + x1],
  ];
}

/** One dim of a region in a kernel: lets before the sample loops, and what a sample of it is. */
function dimOfRegion(ctx: KernelContext<AlignAttrs>, region: Expr, dim: 0 | 1, bin: Expr, size: number) {
  const { attrs } = ctx;
  const { dtype } = ctx.input(0);
  const of = (value: number) => constant(dtype, value);
  const halfPixel = attrs.coordinate_transformation_mode === 'half_pixel';
  const bins = dim === 0 ? attrs.output_height : attrs.output_width;
  const edge = (i: number) =>
    sub(mul(ctx.load(1, [region, index(i)]), of(attrs.spatial_scale)), of(halfPixel ? 0.5 : 0));
  const [low, high] = dim === 0 ? [edge(1), edge(3)] : [edge(0), edge(2)];
  const names = ['start', 'step', 'samples', 'skip'].map((hint) => ctx.fresh(hint));
  const [start, step, samples] = names.slice(0, 3).map((name) => local(name, dtype));
  const skip = local(names[3], dtype);
  const length = halfPixel ? sub(high, low) : max(sub(high, low), of(1));
  const binLength = div(length, of(bins));
  const fixed = attrs.sampling_ratio > 0;
  const lets = [
    assign(names[2], fixed ? of(attrs.sampling_ratio) : unary('ceil', binLength)),
    assign(names[1], div(binLength, max(samples, of(1)))),
    assign(names[0], add(low, mul(cast(dtype, bin), binLength))),
    // The first sample that may lie inside.
    assign(names[3], fixed ? of(0) : max(unary('floor', div(sub(of(-1), start), max(step, of(0.5)))), of(0))),
  ];
  const axisName = ctx.fresh('s');
  const sample = add(cast(dtype, axis(axisName)), skip);
  const position = ctx.fresh('at');
  const at = local(position, dtype);
  const counted = fixed ? [] : [binary('lt', sample, samples)];
  const inside = [...counted, binary('ge', at, of(-1)), binary('le', at, of(size))].reduce((a, b) =>
    binary('and', a, b),
  );
  const clamped = min(max(at, of(0)), of(size - 1));
  const first = unary('floor', clamped);
  const pixel = min(max(cast('i32', first), index(0)), index(size - 1));
  return {
    lets,
    samples,
    axis: { name: axisName, extent: fixed ? attrs.sampling_ratio : 2 * size + 6 },
    place: assign(position, add(start, mul(add(sample, of(0.5)), step))),
    inside,
    pixels: [pixel, min(add(pixel, index(1)), index(size - 1))],
    weights: [sub(of(1), sub(clamped, first)), sub(clamped, first)],
  };
}

function buildRoiAlign(ctx: KernelContext<AlignAttrs>): KernelSpec {
  const { dtype, shape } = ctx.input(0);
  const [images, , height, width] = shape;
  const { axes, coords } = ctx.outputAxes(0);
  const [r, c, ph, pw] = coords;
  const [v, h] = [dimOfRegion(ctx, r, 0, ph, height), dimOfRegion(ctx, r, 1, pw, width)];
  const image = loadPosition(ctx, 2, [r], images);
  const isMax = ctx.attrs.mode === 'max';
  const of = (value: number) => constant(dtype, value);
  const [accName, seenName] = [ctx.fresh('acc'), ctx.fresh('seen')];
  const [acc, seen] = [local(accName, dtype), local(seenName, dtype)];
  const terms = v.pixels.flatMap((y, i) =>
    h.pixels.map((x, j) => mul(mul(v.weights[i], h.weights[j]), ctx.load(0, [image, c, y, x]))),
  );
  const take: Stmt[] = [
    assign(accName, isMax ? terms.reduce(max, acc) : add(acc, terms.reduce(add))),
    assign(seenName, add(seen, of(1))),
  ];
  const inner: Stmt = { kind: 'scan', axis: h.axis, body: [h.place, { kind: 'if', cond: h.inside, body: take }] };
  const outer: Stmt = { kind: 'scan', axis: v.axis, body: [v.place, { kind: 'if', cond: v.inside, body: [inner] }] };
  const count = mul(v.samples, h.samples);
  // A sample outside the image counts as 0.
  const result = isMax ? select(binary('lt', seen, count), max(acc, of(0)), acc) : div(acc, max(count, of(1)));
  const start = [assign(accName, of(isMax ? Number.NEGATIVE_INFINITY : 0)), assign(seenName, of(0))];
  return {
    form: { kind: 'reduce' },
    axes,
    body: [...v.lets, ...h.lets, ...start, outer, ctx.store(0, coords, result)],
  };
}

function alignCases(): OpCase[] {
  const regions = fromNumbers('f32', [3, 4], [0.5, 1, 6.5, 5.25, 2, 2, 2.5, 7, 1, 0, 8.75, 4]);
  return ['avg', 'max'].flatMap((mode) =>
    ['half_pixel', 'output_half_pixel'].flatMap((coordinate_transformation_mode) =>
      [0, 2].map(
        (sampling_ratio): OpCase => ({
          name: `${mode}, ${coordinate_transformation_mode}, sampling ratio ${sampling_ratio}`,
          attrs: {
            mode,
            coordinate_transformation_mode,
            sampling_ratio,
            output_height: 3,
            output_width: 2,
            spatial_scale: 0.75,
          },
          inputs: [{ dtype: 'f32', shape: [2, 3, 7, 8] }, regions, fromNumbers('i64', [3], [0, 1, 1])],
        }),
      ),
    ),
  );
}

const maxRoiPool = defineOp({
  name: 'MaxRoiPool',
  onnx: { since: 1 },
  attrs: { pooled_shape: ints.required, spatial_scale: float(1) },
  inputs: [2, 2],
  traits: { exactInputs: 'all' },
  infer(ctx) {
    checkFloats(ctx);
    const [x, rois] = [ctx.input(0), ctx.input(1)];
    if (x.shape.length !== 4) ctx.fail('the input must have rank 4');
    if (rois.shape.length !== 2) ctx.fail('the regions must be [count,5]');
    if (ctx.attrs.pooled_shape.length !== 2) ctx.fail('pooled_shape must have two sizes');
    return [{ dtype: x.dtype, shape: [rois.shape[0], x.shape[1], ...ctx.attrs.pooled_shape] }];
  },
  eval([x, rois], { pooled_shape, spatial_scale }, [out]) {
    const [, channels, height, width] = x!.shape;
    const [data, corners] = [toFloat64(x!), toFloat64(rois!)];
    const [rows, columns] = pooled_shape;
    const y = new Float64Array(out.shape.reduce((n, d) => n * d, 1));
    for (let i = 0; i < y.length; i++) {
      const [pw, ph] = [i % columns, Math.floor(i / columns) % rows];
      const c = Math.floor(i / (columns * rows)) % channels;
      const r = Math.floor(i / (columns * rows * channels));
      const [image, x1, y1, x2, y2] = corners.subarray(5 * r, 5 * r + 5);
      const [top, bottom] = binPixels(y1, y2, ph, rows, height, spatial_scale);
      const [left, right] = binPixels(x1, x2, pw, columns, width, spatial_scale);
      let best = top < bottom && left < right ? Number.NEGATIVE_INFINITY : 0;
      for (let h = top; h < bottom; h++)
        for (let w = left; w < right; w++)
          best = Math.max(best, data[((image * channels + c) * height + h) * width + w]);
      y[i] = best;
    }
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  lower: { kind: 'kernel', layout: 'row-major', streams: [], build: buildMaxRoiPool },
  cases: [
    {
      name: 'two images',
      attrs: { pooled_shape: [3, 2], spatial_scale: 0.5 },
      inputs: [
        { dtype: 'f32', shape: [2, 3, 7, 8] },
        fromNumbers('f32', [3, 5], [0, 1, 0, 13, 11, 1, 5, 5, 5, 5, 1, 2, 3, 9, 14]),
      ],
    },
  ],
});

/** The pixels [from, to) of bin `i` of `bins` between two corners, rounded to whole pixels and cut at the image. */
function binPixels(from: number, to: number, i: number, bins: number, size: number, scale: number): [number, number] {
  const first = Math.round(from * scale);
  const bin = Math.max(Math.round(to * scale) - first + 1, 1) / bins;
  const cut = (at: number) => Math.min(Math.max(at + first, 0), size);
  return [cut(Math.floor(i * bin)), cut(Math.ceil((i + 1) * bin))];
}

function buildMaxRoiPool(
  ctx: KernelContext<{ readonly pooled_shape: readonly number[]; readonly spatial_scale: number }>,
): KernelSpec {
  const { dtype, shape } = ctx.input(0);
  const [images, , height, width] = shape;
  const { axes, coords } = ctx.outputAxes(0);
  const [r, c, ph, pw] = coords;
  const of = (value: number) => constant(dtype, value);
  const pixels = (low: number, high: number, at: Expr, bins: number, size: number) => {
    // Half pixels are rounded away from zero.
    const whole = (i: number) =>
      unary('floor', add(mul(ctx.load(1, [r, index(i)]), of(ctx.attrs.spatial_scale)), of(0.5)));
    const first = whole(low);
    const bin = div(max(add(sub(whole(high), first), of(1)), of(1)), of(bins));
    const cut = (x: Expr) => cast('i32', min(max(add(x, first), of(0)), of(size)));
    const i = cast(dtype, at);
    return { from: cut(unary('floor', mul(i, bin))), to: cut(unary('ceil', mul(add(i, of(1)), bin))) };
  };
  const [rows, columns] = ctx.attrs.pooled_shape;
  const [v, h] = [pixels(2, 4, ph, rows, height), pixels(1, 3, pw, columns, width)];
  const [best, y, x] = [ctx.fresh('best'), ctx.fresh('y'), ctx.fresh('x')];
  const image = cast('i32', min(max(ctx.load(1, [r, index(0)]), of(0)), of(images - 1)));
  const within = (at: string, { from, to }: typeof v) =>
    binary('and', binary('ge', axis(at), from), binary('lt', axis(at), to));
  const value = ctx.load(0, [image, c, axis(y), axis(x)]);
  const take = assign(best, max(local(best, dtype), value));
  const inner: Stmt = {
    kind: 'scan',
    axis: { name: x, extent: width },
    body: [{ kind: 'if', cond: within(x, h), body: [take] }],
  };
  const outer: Stmt = {
    kind: 'scan',
    axis: { name: y, extent: height },
    body: [{ kind: 'if', cond: within(y, v), body: [inner] }],
  };
  const isEmpty = binary('or', binary('ge', v.from, v.to), binary('ge', h.from, h.to));
  const start = assign(best, select(isEmpty, of(0), of(Number.NEGATIVE_INFINITY)));
  return { form: { kind: 'reduce' }, axes, body: [start, outer, ctx.store(0, coords, local(best, dtype))] };
}

export const ROI_OPS: readonly Op[] = [roiAlign, maxRoiPool];
