/**
 * GridSample: the input read at the positions of a grid, interpolated; and AffineGrid, which makes such a grid from a matrix.
 *
 *     out[n, c, p…] = in[n, c] at (grid[n, p…, last], …, grid[n, p…, 0])        a grid's coordinates are in [-1, 1], the last dim first
 *
 * Every tap outside the input is a zero, the nearest pixel or its mirror image, as the padding mode says. Formulas are those of ONNX's
 * operator description (Keys' cubic with a = −0.75).
 */
import { elements, rowMajorStrides, type StaticShape } from '../core/shape.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import { add, binary, cast, constant, index, inRange, local, max, min, mul, select, sub, unary } from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import { checkFloats, vectorLength } from './dims.ts';
import {
  type AttrsOf,
  bool,
  defineOp,
  type KernelContext,
  type KernelSpec,
  type Op,
  type OpCase,
  oneOf,
} from './op.ts';
import { toFloat64 } from './product.ts';
import { assign } from './rows.ts';

const ATTRS = {
  align_corners: bool(false),
  mode: oneOf('linear', 'nearest', 'cubic'),
  padding_mode: oneOf('zeros', 'border', 'reflection'),
} as const;
type GridAttrs = AttrsOf<typeof ATTRS>;

const CUBIC = -0.75;
/** Weights of the taps −1, 0, 1, 2 at a fraction t behind tap 0: Keys' polynomials at distances 1 + t, t, 1 − t and 2 − t. */
const cubicWeights = (t: number): number[] =>
  [1 + t, t, 1 - t, 2 - t].map((d) =>
    d <= 1 ? ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1 : ((CUBIC * d - 5 * CUBIC) * d + 8 * CUBIC) * d - 4 * CUBIC,
  );

/** The range in which positions along a dim lie: pixel centres, or pixels' outer edges. */
const bounds = (size: number, align: boolean): readonly [number, number] =>
  align ? [0, size - 1] : [-0.5, size - 0.5];

/** [-1, 1] to a position in pixels. */
const pixels = (x: number, size: number, align: boolean): number =>
  align ? ((x + 1) / 2) * (size - 1) : ((x + 1) * size - 1) / 2;

/** x mirrored at both ends until it lies between them. */
function reflect(x: number, [low, high]: readonly [number, number]): number {
  const range = high - low;
  if (range === 0) return low;
  const t = x - low - 2 * range * Math.floor((x - low) / (2 * range));
  return low + (t > range ? 2 * range - t : t);
}

interface Taps {
  readonly first: number;
  readonly weights: readonly number[];
}

function tapsAt(given: number, size: number, attrs: GridAttrs): Taps {
  const x = pixels(given, size, attrs.align_corners);
  if (attrs.mode === 'nearest') return { first: roundToEven(x), weights: [1] };
  const floor = Math.floor(x);
  return attrs.mode === 'linear'
    ? { first: floor, weights: [floor + 1 - x, x - floor] }
    : { first: floor - 1, weights: cubicWeights(x - floor) };
}

function roundToEven(x: number): number {
  const rounded = Math.round(x);
  return Math.abs(x % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** The pixel that stands for a tap; −1 where that is a zero. */
function pixelAt(tap: number, size: number, attrs: GridAttrs): number {
  if (tap >= 0 && tap < size) return tap;
  if (attrs.padding_mode === 'zeros') return -1;
  if (attrs.padding_mode === 'border') return Math.min(Math.max(tap, 0), size - 1);
  return Math.trunc(reflect(tap, bounds(size, attrs.align_corners)));
}

function evalGridSample(x: Tensor, grid: Tensor, attrs: GridAttrs, shape: StaticShape): Float64Array {
  const [batch, channels, ...sizes] = x.shape;
  const [data, positions] = [toFloat64(x), toFloat64(grid)];
  const points = elements(shape.slice(2));
  const image = elements(sizes);
  const strides = rowMajorStrides(sizes);
  const rank = sizes.length;
  const y = new Float64Array(batch * channels * points);
  for (let n = 0; n < batch; n++) {
    for (let p = 0; p < points; p++) {
      const at = (n * points + p) * rank;
      const taps = sizes.map((size, d) => tapsAt(positions[at + rank - 1 - d], size, attrs));
      for (let c = 0; c < channels; c++) {
        const from = (n * channels + c) * image;
        const sum = (d: number, offset: number): number => {
          if (d === rank) return data[from + offset];
          return taps[d].weights.reduce((total, weight, t) => {
            const pixel = pixelAt(taps[d].first + t, sizes[d], attrs);
            return pixel < 0 ? total : total + weight * sum(d + 1, offset + pixel * strides[d]);
          }, 0);
        };
        y[(n * channels + c) * points + p] = sum(0, 0);
      }
    }
  }
  return y;
}

/** As `reflect`, on an f32 expression. */
function reflectExpr(x: Expr, [low, high]: readonly [number, number]): Expr {
  const range = high - low;
  const of = (value: number) => constant(x.dtype, value);
  if (range === 0) return of(low);
  const from = sub(x, of(low));
  const t = sub(from, mul(of(2 * range), unary('floor', mul(from, of(1 / (2 * range))))));
  return add(of(low), select(binary('gt', t, of(range)), sub(of(2 * range), t), t));
}

/** Lets that hold, along one dim, the first tap's position and each tap's weight. */
function tapLets(ctx: KernelContext<GridAttrs>, given: Expr, size: number) {
  const { attrs } = ctx;
  const of = (value: number) => constant(given.dtype, value);
  const scaled = attrs.align_corners
    ? mul(add(given, of(1)), of((size - 1) / 2))
    : mul(sub(mul(add(given, of(1)), of(size)), of(1)), of(0.5));
  const [x, first] = [ctx.fresh('x'), ctx.fresh('first')];
  const position = local(x, given.dtype);
  const floor = unary(attrs.mode === 'nearest' ? 'round' : 'floor', position);
  const t = sub(position, floor);
  const lets: Stmt[] = [assign(x, scaled), assign(first, cast('i32', floor))];
  const start = attrs.mode === 'cubic' ? -1 : 0;
  const weights =
    attrs.mode === 'nearest'
      ? [of(1)]
      : (attrs.mode === 'linear' ? [sub(of(1), t), t] : cubicExprs(t)).map((weight) => {
          const name = ctx.fresh('w');
          lets.push(assign(name, weight));
          return local(name, given.dtype);
        });
  const taps = weights.map((weight, i) => ({ weight, at: add(local(first, 'i32'), index(start + i)) }));
  return { lets, taps };
}

function cubicExprs(t: Expr): Expr[] {
  const of = (value: number) => constant(t.dtype, value);
  const near = (d: Expr) => add(mul(mul(sub(mul(of(CUBIC + 2), d), of(CUBIC + 3)), d), d), of(1));
  const far = (d: Expr) =>
    sub(mul(add(mul(sub(mul(of(CUBIC), d), of(5 * CUBIC)), d), of(8 * CUBIC)), d), of(4 * CUBIC));
  const rest = sub(of(1), t);
  return [far(add(t, of(1))), near(t), near(rest), far(add(rest, of(1)))];
}

function buildGridSample(ctx: KernelContext<GridAttrs>): KernelSpec {
  const { dtype, shape } = ctx.input(0);
  const sizes = shape.slice(2);
  const { axes, coords } = ctx.outputAxes(0);
  const [n, c, ...point] = coords;
  const dims = sizes.map((size, d) =>
    tapLets(ctx, cast(dtype, ctx.load(1, [n, ...point, index(sizes.length - 1 - d)])), size),
  );
  const sum = (d: number, at: readonly Expr[]): Expr => {
    if (d === sizes.length) return ctx.load(0, [n, c, ...at]);
    const terms = dims[d].taps.map(({ weight, at: tap }) => {
      const term = (pixel: Expr) => mul(weight, sum(d + 1, [...at, pixel]));
      if (ctx.attrs.padding_mode === 'zeros') {
        // The position is clamped too: a target may load before it selects.
        return select(inRange(tap, sizes[d]), term(clampIndex(tap, sizes[d])), constant(dtype, 0));
      }
      const mirrored = cast('i32', reflectExpr(cast(dtype, tap), bounds(sizes[d], ctx.attrs.align_corners)));
      return term(clampIndex(ctx.attrs.padding_mode === 'border' ? tap : mirrored, sizes[d]));
    });
    return terms.reduce(add);
  };
  const body = [...dims.flatMap(({ lets }) => lets), ctx.store(0, coords, sum(0, []))];
  return { form: { kind: 'map' }, axes, body };
}

const clampIndex = (at: Expr, size: number): Expr => min(max(at, index(0)), index(size - 1));

const gridCase = (name: string, image: number[], grid: number[], attrs: OpCase['attrs'] = {}): OpCase => ({
  name,
  attrs,
  inputs: [
    { dtype: 'f32', shape: image },
    { dtype: 'f32', shape: grid, range: [-1.4, 1.4] },
  ],
  // Positions are rounded to float32 before they are split into a pixel and a fraction.
  tolerance: 1e-4,
});

/** Before opset 20 the modes were called after the plane. */
const MODES: Readonly<Record<string, string>> = { bilinear: 'linear', bicubic: 'cubic' };

const gridSample = defineOp({
  name: 'GridSample',
  onnx: {
    since: 16,
    upgrade: (node) => ({ ...node, attrs: { ...node.attrs, mode: MODES[String(node.attrs.mode)] ?? node.attrs.mode } }),
  },
  attrs: ATTRS,
  inputs: [2, 2],
  traits: { exactInputs: 'all' },
  infer(ctx) {
    checkFloats(ctx);
    const [x, grid] = [ctx.input(0), ctx.input(1)];
    const spatial = x.shape.length - 2;
    if (spatial < 1 || grid.shape.length !== x.shape.length)
      ctx.fail('the grid must have the rank of the input, 3 or more');
    const last = grid.shape.at(-1);
    if (typeof last === 'number' && last !== spatial) ctx.fail(`the last dim of the grid must be ${spatial}`);
    return [{ dtype: x.dtype, shape: [x.shape[0], x.shape[1], ...grid.shape.slice(1, -1)] }];
  },
  eval: ([x, grid], attrs, [out]) => [fromNumbers(out.dtype, out.shape, evalGridSample(x!, grid!, attrs, out.shape))],
  lower: { kind: 'kernel', layout: 'any', streams: [], build: buildGridSample },
  cases: [
    ...['linear', 'nearest', 'cubic'].flatMap((mode) =>
      ['zeros', 'border', 'reflection'].flatMap((padding_mode) =>
        [false, true].map((align_corners) =>
          gridCase(`${mode}, ${padding_mode}${align_corners ? ', corners aligned' : ''}`, [2, 3, 4, 5], [2, 3, 7, 2], {
            mode,
            padding_mode,
            align_corners,
          }),
        ),
      ),
    ),
    gridCase('volume', [1, 2, 3, 4, 5], [1, 2, 3, 2, 3]),
    gridCase('one pixel', [1, 1, 1, 1], [1, 2, 2, 2], { padding_mode: 'reflection' }),
  ],
});

/** Coordinates of n points in [-1, 1]: ends included where corners are aligned, else centres of n equal parts. */
const gridLine = (n: number, align: boolean): Float64Array =>
  Float64Array.from({ length: n }, (_, i) => (align ? (n === 1 ? 0 : -1 + (2 * i) / (n - 1)) : (2 * i + 1) / n - 1));

/** The points [x, y(, z), 1] of a grid over the sizes, one row each. */
function homogeneousPoints(sizes: readonly number[], align: boolean): Float64Array {
  const lines = sizes.map((n) => gridLine(n, align));
  const strides = rowMajorStrides(sizes);
  const width = sizes.length + 1;
  const points = new Float64Array(elements(sizes) * width);
  for (let p = 0; p < elements(sizes); p++) {
    sizes.forEach((n, d) => {
      points[p * width + sizes.length - 1 - d] = lines[d][Math.floor(p / strides[d]) % n];
    });
    points[p * width + sizes.length] = 1;
  }
  return points;
}

const affineGrid = defineOp({
  name: 'AffineGrid',
  onnx: { since: 20 },
  attrs: { align_corners: bool(false) },
  inputs: [2, 2],
  traits: { exactInputs: 'all' },
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    const dims = ctx.dims(1);
    const rank = vectorLength(ctx, 1) - 2;
    const fits =
      shape.length === 3 && [rank, rank + 1].every((n, i) => typeof shape[i + 1] !== 'number' || shape[i + 1] === n);
    if (!fits || (rank !== 2 && rank !== 3))
      ctx.fail('theta must be [N,2,3] for a size of 4 numbers, or [N,3,4] for 5');
    const sizes = dims?.slice(2) ?? Array.from({ length: rank }, () => ctx.freshDim('grid'));
    return [{ dtype, shape: [shape[0], ...sizes, rank] }];
  },
  eval([theta], { align_corners }, [out]) {
    const sizes = out.shape.slice(1, -1);
    const points = homogeneousPoints(sizes, align_corners);
    const [count, width, matrix] = [elements(sizes), sizes.length + 1, toFloat64(theta!)];
    const y = new Float64Array(elements(out.shape));
    for (let i = 0; i < y.length; i++) {
      const [n, p, r] = [
        Math.floor(i / (count * sizes.length)),
        Math.floor(i / sizes.length) % count,
        i % sizes.length,
      ];
      for (let k = 0; k < width; k++) y[i] += matrix[(n * sizes.length + r) * width + k] * points[p * width + k];
    }
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  // out[n, p, r] = Σ points[p, k] · theta[n, r, k]
  expand(b, node, { align_corners }, [type]) {
    const size = b.constantValue(node.inputs[1]);
    if (!type || !size) return undefined;
    const sizes = Array.from(toFloat64(size)).slice(2);
    const { loc } = node;
    const points = fromNumbers(
      type.dtype,
      [elements(sizes), sizes.length + 1],
      homogeneousPoints(sizes, align_corners),
    );
    const [turned] = b.node('Transpose', [node.inputs[0]], { attrs: { perm: [0, 2, 1] }, loc });
    const [rows] = b.node('MatMul', [b.constant(points), turned], { loc });
    const shape = b.constant(fromNumbers('i64', [sizes.length + 2], [0, ...sizes, sizes.length]));
    return b.node('Reshape', [rows, shape], { loc });
  },
  cases: [false, true].flatMap((align_corners): OpCase[] => [
    {
      name: `plane${align_corners ? ', corners aligned' : ''}`,
      attrs: { align_corners },
      inputs: [{ dtype: 'f32', shape: [2, 2, 3] }, { constant: fromNumbers('i64', [4], [2, 3, 5, 6]) }],
    },
    {
      name: `volume${align_corners ? ', corners aligned' : ''}`,
      attrs: { align_corners },
      inputs: [{ dtype: 'f32', shape: [1, 3, 4] }, { constant: fromNumbers('i64', [5], [1, 2, 4, 3, 2]) }],
    },
  ]),
});

export const GRID_SAMPLE_OPS: readonly Op[] = [gridSample, affineGrid];
