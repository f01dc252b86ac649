/**
 * Resize: a tensor at other sizes, by nearest neighbours, linear or cubic interpolation. Upsample and Resize of opset 10 become it.
 *
 * Scales, sizes and region must be known before running. Nearest neighbours are moved in place; interpolation is written with Gather, Mul
 * and Add a tap, or as a product with the table of weights where antialiasing takes many taps.
 */
import { isFloat } from '../core/dtype.ts';
import { addDims, type Dim, elements, floorDivDims, isStatic, mulDims, type StaticShape } from '../core/shape.ts';
import { fromNumbers, scalarTensor, type Tensor, type ValueType } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import type { Attrs } from '../graph/ir.ts';
import type { InferContext } from '../graph/semantics.ts';
import { add, binary, index, mul } from '../loop/expr.ts';
import { checkAxes, i64Vector } from './dims.ts';
import {
  type AttrsOf,
  bool,
  defineOp,
  float,
  ints,
  type LowerContext,
  type Op,
  type OpCase,
  oneOf,
  type RawNode,
  type UpgradeContext,
} from './op.ts';
import { toFloat64 } from './product.ts';
import { type AxisResize, type AxisTable, axisTable, positionsAsDivision } from './resize-plan.ts';

const ATTRS = {
  antialias: bool(false),
  axes: ints.optional,
  coordinate_transformation_mode: oneOf(
    'half_pixel',
    'half_pixel_symmetric',
    'pytorch_half_pixel',
    'align_corners',
    'asymmetric',
    'tf_half_pixel_for_nn',
    'tf_crop_and_resize',
  ),
  cubic_coeff_a: float(-0.75),
  exclude_outside: bool(false),
  extrapolation_value: float(0),
  keep_aspect_ratio_policy: oneOf('stretch', 'not_larger', 'not_smaller'),
  mode: oneOf('nearest', 'linear', 'cubic'),
  nearest_mode: oneOf('round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'),
} as const;
type ResizeAttrs = AttrsOf<typeof ATTRS>;

/** The inputs region, scales and sizes, of which exporters leave some empty. */
interface Request {
  readonly roi: readonly number[] | undefined;
  readonly scales: readonly number[] | undefined;
  readonly sizes: readonly number[] | undefined;
}
const numbersOf = (t: Tensor | undefined) => (t && t.data.length > 0 ? Array.from(toFloat64(t)) : undefined);
const requestOf = ([roi, scales, sizes]: readonly (Tensor | undefined)[]): Request => ({
  roi: numbersOf(roi),
  scales: numbersOf(scales),
  sizes: numbersOf(sizes),
});

const axesOf = ({ axes }: ResizeAttrs, rank: number): readonly number[] =>
  axes ? axes.map((a) => (a < 0 ? a + rank : a)) : Array.from({ length: rank }, (_, d) => d);

/** One row a dim, in order; dims that are not among the axes stay as they are. */
function axisResizes(shape: StaticShape, { roi, scales, sizes }: Request, attrs: ResizeAttrs): AxisResize[] {
  const axes = axesOf(attrs, shape.length);
  const ratios = sizes?.map((size, i) => (shape[axes[i]] === 0 ? 1 : size / shape[axes[i]]));
  const policy = attrs.keep_aspect_ratio_policy;
  const common =
    ratios && policy !== 'stretch' ? (policy === 'not_larger' ? Math.min : Math.max)(...ratios) : undefined;
  return shape.map((input, d) => {
    const i = axes.indexOf(d);
    if (i < 0) return { input, output: input, scale: 1, roi: [0, 1] };
    const scale = scales?.[i] ?? common ?? ratios![i];
    const output = scales
      ? Math.floor(input * scale)
      : common === undefined
        ? sizes![i]
        : Math.floor(common * input + 0.5);
    return { input, output, scale, roi: [roi?.[i] ?? 0, roi?.[axes.length + i] ?? 1] };
  });
}

/** The table of each dim that is resized. */
function tablesOf(rows: readonly AxisResize[], attrs: ResizeAttrs): ReadonlyMap<number, AxisTable> {
  const method = {
    mode: attrs.mode,
    transformation: attrs.coordinate_transformation_mode,
    nearestMode: attrs.nearest_mode,
    cubicCoefficient: attrs.cubic_coeff_a,
    excludeOutside: attrs.exclude_outside,
    antialias: attrs.antialias,
  };
  const crops = method.transformation === 'tf_crop_and_resize';
  return new Map(
    rows.flatMap((row, d) =>
      row.input === row.output && row.scale === 1 && !crops ? [] : [[d, axisTable(row, method)] as const],
    ),
  );
}

function inferSizes(ctx: InferContext<ResizeAttrs>): readonly Dim[] {
  const { shape } = ctx.input(0);
  const axes = checkAxes(ctx, axesOf(ctx.attrs, shape.length), shape.length);
  const isGiven = (i: number) => ctx.inputs[i] !== undefined && ctx.inputs[i]?.shape[0] !== 0;
  if (isGiven(2) === isGiven(3)) ctx.fail('one of scales and sizes must be given');
  const request = requestOf([1, 2, 3].map((i) => (isGiven(i) ? ctx.constant(i) : undefined)));
  const list = request.scales ?? request.sizes;
  if (list && list.length !== axes.length) ctx.fail(`${list.length} scales or sizes are given for ${axes.length} axes`);
  if (request.scales?.some((value) => !(value > 0))) ctx.fail(`scales must be positive, they are [${list}]`);
  if (isStatic(shape) && list) return axisResizes(shape, request, ctx.attrs).map((row) => row.output);
  const dims = isGiven(3) && ctx.attrs.keep_aspect_ratio_policy === 'stretch' ? ctx.dims(3) : undefined;
  return shape.map((dim, d) => {
    const i = axes.indexOf(d);
    return i < 0 ? dim : (dims?.[i] ?? scaledDim(dim, request.scales?.[i]) ?? ctx.freshDim('resized'));
  });
}

/** ⌊dim · scale⌋ where the scale is a whole number or its inverse one. */
function scaledDim(dim: Dim, scale: number | undefined): Dim | undefined {
  if (scale === undefined) return undefined;
  if (typeof dim === 'number') return Math.floor(dim * scale);
  if (Number.isInteger(scale)) return mulDims(dim, scale);
  return Number.isInteger(1 / scale) ? floorDivDims(addDims(dim, 0), 1 / scale) : undefined;
}

const resize = defineOp({
  name: 'Resize',
  onnx: { since: 10, upgrade: (node, ctx) => (ctx.opset < 11 ? scalesOnly(node, ctx) : node) },
  attrs: ATTRS,
  inputs: [1, 4],
  traits: { exactInputs: [1, 2] },
  infer(ctx) {
    const { dtype } = ctx.input(0);
    if (dtype === 'bool' && ctx.attrs.mode !== 'nearest') ctx.fail('bools cannot be interpolated');
    return [{ dtype, shape: inferSizes(ctx) }];
  },
  eval([x, ...request], attrs, [out]) {
    const rows = axisResizes(x!.shape, requestOf(request), attrs);
    return [evalResize(x!, tablesOf(rows, attrs), attrs.extrapolation_value, out.shape)];
  },
  expand: expandResize,
  lower: {
    kind: 'index',
    read(ctx, _, coords) {
      const tables = nearestTables(ctx);
      return ctx.load(
        0,
        coords.map((c, d) => {
          const table = tables.get(d);
          if (!table) return c;
          const { p, r, q } = positionsAsDivision(table.positions, ctx.input(0).shape[d])!;
          return binary('floordiv', add(mul(c, index(p)), index(r)), index(q));
        }),
      );
    },
  },
  cases: cases(),
});

const nearestTables = (ctx: LowerContext<ResizeAttrs>): ReadonlyMap<number, AxisTable> => {
  const request = requestOf([1, 2, 3].map((i) => (ctx.inputs[i] === undefined ? undefined : ctx.constant(i))));
  return tablesOf(axisResizes(ctx.input(0).shape, request, ctx.attrs), ctx.attrs);
};

function evalResize(
  x: Tensor,
  tables: ReadonlyMap<number, AxisTable>,
  extrapolation: number,
  shape: StaticShape,
): Tensor {
  let [data, current] = [toFloat64(x), [...x.shape]];
  const exact = [...tables.values()].every((t) => t.taps === 1);
  const outside = new Uint8Array(elements(shape));
  for (const [d, table] of tables) {
    const [outer, inner] = [elements(current.slice(0, d)), elements(current.slice(d + 1))];
    const [from, to] = [current[d], shape[d]];
    const y = new Float64Array(outer * to * inner);
    for (let a = 0; a < outer; a++) {
      for (let o = 0; o < to; o++) {
        for (let t = 0; t < table.taps; t++) {
          const source = (a * from + table.positions[o * table.taps + t]) * inner;
          const weight = table.weights[o * table.taps + t];
          for (let b = 0; b < inner; b++) y[(a * to + o) * inner + b] += weight * data[source + b];
        }
      }
    }
    markOutside(outside, table, shape, d);
    data = y;
    current = current.with(d, to);
  }
  for (let i = 0; i < data.length; i++) if (outside[i]) data[i] = extrapolation;
  const values = exact || isFloat(x.dtype) ? data : data.map(Math.trunc);
  return fromNumbers(x.dtype, shape, values);
}

function markOutside(mask: Uint8Array, table: AxisTable, shape: StaticShape, d: number): void {
  if (!table.outside.includes(1)) return;
  const inner = elements(shape.slice(d + 1));
  for (let i = 0; i < mask.length; i++) mask[i] |= table.outside[Math.floor(i / inner) % shape[d]];
}

/** Taps that are cheaper one by one than as a product with a matrix of weights. */
const MOST_GATHERED_TAPS = 4;

function expandResize(
  b: GraphBuilder,
  node: { readonly inputs: readonly string[]; readonly loc: readonly string[] },
  attrs: ResizeAttrs,
  types: readonly (ValueType | undefined)[],
): readonly string[] | undefined {
  const [type] = types;
  const request = [1, 2, 3].map((i) => (node.inputs[i] ? b.constantValue(node.inputs[i]) : undefined));
  if (!type || !isStatic(type.shape) || [1, 2, 3].some((i) => node.inputs[i] && !request[i - 1])) return undefined;
  const rows = axisResizes(type.shape, requestOf(request), attrs);
  const tables = tablesOf(rows, attrs);
  const isMove = [...tables].every(
    ([d, t]) => t.taps === 1 && !t.outside.includes(1) && positionsAsDivision(t.positions, rows[d].input) !== undefined,
  );
  if (isMove) return undefined;

  const one = (op: string, inputs: readonly string[], given: Attrs = {}) =>
    b.node(op, inputs, { attrs: given, loc: node.loc })[0];
  const rank = rows.length;
  const along = (dtype: ValueType['dtype'], d: number, values: ArrayLike<number>) =>
    b.constant(
      fromNumbers(
        dtype,
        rows.map((_, i) => (i === d ? values.length : 1)),
        values,
      ),
    );
  const nearest = [...tables.values()].every((t) => t.taps === 1);
  const work = nearest || isFloat(type.dtype) ? type.dtype : 'f32';
  let y = work === type.dtype ? node.inputs[0] : one('Cast', [node.inputs[0]], { to: work });
  for (const [d, table] of tables) {
    const { input, output } = rows[d];
    if (table.taps > MOST_GATHERED_TAPS) {
      y = multiplyAlong(one, b.constant(weightMatrix(table, input, output, work)), y, d, rank);
      continue;
    }
    const terms = Array.from({ length: table.taps }, (_, t) => {
      const every = (values: Int32Array | Float64Array) =>
        Array.from({ length: output }, (_, o) => values[o * table.taps + t]);
      const positions = every(table.positions);
      const picked = one('Gather', [y, b.constant(fromNumbers('i32', [positions.length], positions))], { axis: d });
      return nearest ? picked : one('Mul', [picked, along(work, d, every(table.weights))]);
    });
    y = terms.reduce((sum, term) => one('Add', [sum, term]));
  }
  for (const [d, table] of tables) {
    if (!table.outside.includes(1)) continue;
    const fill = b.constant(scalarTensor(work, attrs.extrapolation_value));
    y = one('Where', [along('bool', d, table.outside), fill, y]);
  }
  return [work === type.dtype ? y : one('Cast', [y], { to: type.dtype })];
}

/** The weights as input × output. */
function weightMatrix(table: AxisTable, input: number, output: number, dtype: ValueType['dtype']): Tensor {
  const matrix = new Float64Array(input * output);
  table.weights.forEach((weight, i) => {
    matrix[table.positions[i] * output + Math.floor(i / table.taps)] += weight;
  });
  return fromNumbers(dtype, [input, output], matrix);
}

/** The product of dim d with a matrix: d last, MatMul, d back in its place. */
function multiplyAlong(
  one: (op: string, inputs: readonly string[], attrs?: Attrs) => string,
  matrix: string,
  x: string,
  d: number,
  rank: number,
): string {
  const last = rank - 1;
  const dims = Array.from({ length: rank }, (_, i) => i);
  const swap = dims.with(d, last).with(last, d);
  if (d === last) return one('MatMul', [x, matrix]);
  return one('Transpose', [one('MatMul', [one('Transpose', [x], { perm: swap }), matrix])], { perm: swap });
}

/**
 * The form before opset 11: scales only, and one coordinate transformation, x / scale. Nearest neighbours are rounded down along dims that
 * grow and up along those that shrink, so a node that does both becomes two.
 */
export function scalesOnly(node: RawNode, ctx: UpgradeContext): RawNode {
  const { mode = 'nearest', ...attrs } = node.attrs;
  const [x, scales] = node.inputs;
  if (!x || !scales)
    ctx.fail('its input or its scales are missing', 'scales are an attribute up to opset 8, an input after it');
  const factors = ctx.known(scales);
  const shrinks = factors ? numbersOf(factors)?.map((scale) => scale < 1) : undefined;
  const resized = (input: string, by: string, nearest_mode: string) => ({
    inputs: [input, '', by],
    attrs: {
      ...attrs,
      mode: mode === 'bilinear' || mode === 'trilinear' ? 'linear' : mode,
      coordinate_transformation_mode: 'asymmetric',
      nearest_mode,
    },
  });
  const { outputs } = node;
  if (mode !== 'nearest' || !factors || !shrinks?.includes(true)) {
    return { op: 'Resize', outputs, ...resized(x, scales, 'floor') };
  }
  const only = (kept: boolean) => {
    const values = Array.from(toFloat64(factors), (scale, d) => (shrinks[d] === kept ? scale : 1));
    return ctx.constant(fromNumbers(factors.dtype, factors.shape, values));
  };
  const shrunk = resized(x, only(true), 'ceil');
  const small = ctx.node('Resize', shrunk.inputs, shrunk.attrs);
  return { op: 'Resize', outputs, ...resized(small, only(false), 'floor') };
}

function cases(): OpCase[] {
  const by = (name: string, shape: StaticShape, scales: readonly number[], attrs: Attrs = {}): OpCase => ({
    name,
    attrs,
    inputs: [{ dtype: 'f32', shape }, undefined, { constant: fromNumbers('f32', [scales.length], scales) }],
  });
  const to = (name: string, shape: StaticShape, sizes: readonly number[], attrs: Attrs = {}): OpCase => ({
    name,
    attrs,
    inputs: [{ dtype: 'f32', shape }, undefined, undefined, { constant: i64Vector(sizes) }],
  });
  const rounding = { coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' };
  return [
    by('nearest, twice', [1, 3, 5, 7], [1, 1, 2, 2], rounding),
    by('nearest, odd scale', [1, 2, 5, 7], [1, 1, 1.7, 0.6], rounding),
    to('nearest to sizes', [2, 1, 7, 4], [2, 1, 3, 9]),
    ...['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'].map((nearest_mode) =>
      to(`nearest, ${nearest_mode}`, [1, 1, 5, 8], [1, 1, 11, 4], { nearest_mode }),
    ),
    ...['linear', 'cubic'].flatMap((mode) => [
      ...[
        'half_pixel',
        'half_pixel_symmetric',
        'pytorch_half_pixel',
        'align_corners',
        'asymmetric',
        'tf_half_pixel_for_nn',
      ].map((coordinate_transformation_mode) =>
        to(`${mode}, ${coordinate_transformation_mode}`, [1, 2, 5, 4], [1, 2, 7, 3], {
          mode,
          coordinate_transformation_mode,
        }),
      ),
      by(`${mode}, scales`, [1, 2, 3, 4], [1, 1, 1.5, 2.5], { mode }),
      to(`${mode}, antialias`, [1, 2, 17, 13], [1, 2, 5, 4], { mode, antialias: true }),
    ]),
    {
      name: 'crop',
      attrs: { mode: 'linear', coordinate_transformation_mode: 'tf_crop_and_resize', extrapolation_value: 10 },
      inputs: [
        { dtype: 'f32', shape: [1, 1, 4, 5] },
        { constant: fromNumbers('f32', [8], [0, 0, 0.2, -0.3, 1, 1, 1.4, 0.8]) },
        undefined,
        { constant: i64Vector([1, 1, 3, 6]) },
      ],
    },
    to('cubic, exclude outside', [1, 1, 5, 4], [1, 1, 9, 3], { mode: 'cubic', exclude_outside: true }),
    to('axes, not larger', [1, 1, 4, 6], [7, 8], { axes: [2, 3], keep_aspect_ratio_policy: 'not_larger' }),
    to('axes, not smaller', [1, 1, 4, 6], [7, 8], { axes: [3, 2], keep_aspect_ratio_policy: 'not_smaller' }),
    {
      ...to('u8', [1, 3, 4], [1, 5, 7]),
      inputs: [{ dtype: 'u8', shape: [1, 3, 4] }, undefined, undefined, { constant: i64Vector([1, 5, 7]) }],
    },
    to('one pixel', [1, 1, 1, 1], [1, 1, 3, 2], { mode: 'linear' }),
    to('empty', [0, 3], [0, 5], { mode: 'linear' }),
  ];
}

export const RESIZE_OPS: readonly Op[] = [resize];
