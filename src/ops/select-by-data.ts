/**
 * NonZero and Compress: which elements they give, and how many, the data decide.
 *
 * Sizes are known before running where the deciding input is a constant; then NonZero folds and Compress is a Gather. Otherwise their
 * kernels put one element behind the other, in order, and count (counted.ts).
 */
import { minDims, rowMajorStrides, type StaticShape } from '../core/shape.ts';
import { decodeScalar, fromNumbers, type Tensor } from '../core/tensor.ts';
import { add, axis, binary, cast, index, like, local } from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import { storeCount } from './counted.ts';
import { checkAxis, i64Vector, product } from './dims.ts';
import { defineOp, int, type KernelContext, type KernelSpec, type Op, type OpCase } from './op.ts';
import { assign, otherDims, pickAlong } from './rows.ts';

/** Row-major positions of the elements that are not zero. */
function nonZeroPositions(x: Tensor): number[] {
  const found: number[] = [];
  for (let i = 0; i < x.data.length; i++) if (Number(decodeScalar(x.dtype, x.data[i])) !== 0) found.push(i);
  return found;
}

const nonZero = defineOp({
  name: 'NonZero',
  onnx: { since: 9 },
  attrs: {},
  inputs: [1, 1],
  infer(ctx) {
    const { shape } = ctx.input(0);
    const known = ctx.constant(0);
    const count = known ? nonZeroPositions(known).length : ctx.freshDim('nonzero', product(shape));
    return [{ dtype: 'i64', shape: [shape.length, count] }];
  },
  eval([x], _, [out]) {
    const positions = nonZeroPositions(x!);
    const strides = rowMajorStrides(x!.shape);
    const coords = strides.flatMap((stride, d) => positions.map((at) => Math.floor(at / stride) % x!.shape[d]));
    return [fromNumbers('i64', out.shape, coords)];
  },
  lower: { kind: 'kernel', layout: 'row-major', streams: [0], counts: true, build: buildNonZero },
  cases: [
    constantCase('matrix', fromNumbers('f32', [2, 3], [1, 0, -2, 0, 0, 3])),
    constantCase('bool', fromNumbers('bool', [5], [1, 0, 0, 1, 1])),
    constantCase('nothing', fromNumbers('i64', [2, 2], [0, 0, 0, 0])),
  ],
});

function buildNonZero(ctx: KernelContext<unknown>): KernelSpec {
  const { dtype, shape } = ctx.input(0);
  const found = ctx.fresh('found');
  const count = local(found, 'i32');
  const walk = scanOver(ctx, shape, (coords) => {
    const x = ctx.load(0, coords);
    return [
      {
        kind: 'if',
        cond: dtype === 'bool' ? x : binary('ne', x, like(x, 0)),
        body: [
          ...coords.map((c, d) => ctx.store(0, [index(d), count], cast('i64', c))),
          assign(found, add(count, index(1))),
        ],
      },
    ];
  });
  const body = [assign(found, index(0)), ...walk, ...storeCount(ctx, 0, count)];
  return { form: { kind: 'routine', name: 'non-zero' }, axes: [], body };
}

/** Nested loops over all elements of a tensor in row-major order. */
function scanOver(
  ctx: KernelContext<unknown>,
  shape: StaticShape,
  body: (coords: readonly Expr[]) => readonly Stmt[],
): readonly Stmt[] {
  const names = shape.map(() => ctx.fresh('i'));
  return names.reduceRight<readonly Stmt[]>(
    (inner, name, d) => [{ kind: 'scan', axis: { name, extent: shape[d] }, body: inner }],
    body(names.map((name) => axis(name))),
  );
}

function constantCase(name: string, value: Tensor, rest: Partial<OpCase> = {}): OpCase {
  return { name, inputs: [{ constant: value }], ...rest };
}

/** Indices where the condition holds. */
const chosen = (condition: Tensor): number[] => nonZeroPositions(condition);

const compress = defineOp({
  name: 'Compress',
  onnx: { since: 9 },
  attrs: { axis: int.optional },
  inputs: [2, 2],
  infer(ctx) {
    const [x, condition] = [ctx.input(0), ctx.input(1)];
    if (condition.dtype !== 'bool' || condition.shape.length !== 1) ctx.fail('the condition must be a vector of bools');
    const known = ctx.constant(1);
    const along = ctx.attrs.axis === undefined ? undefined : checkAxis(ctx, ctx.attrs.axis, x.shape.length);
    const extent = along === undefined ? product(x.shape) : x.shape[along];
    const most = minDims(condition.shape[0], extent);
    const count = known ? chosen(known).length : ctx.freshDim('compressed', most);
    return [{ dtype: x.dtype, shape: along === undefined ? [count] : x.shape.with(along, count) }];
  },
  eval([x, condition], attrs, [out]) {
    const shape = attrs.axis === undefined ? [x!.data.length] : x!.shape;
    const axis = attrs.axis === undefined ? 0 : attrs.axis < 0 ? attrs.axis + shape.length : attrs.axis;
    return [pickAlong(x!, shape, axis, chosen(condition!), out.shape)];
  },
  expand(b, node, attrs, [type]) {
    const condition = b.constantValue(node.inputs[1]);
    if (!condition || !type) return undefined;
    const { loc } = node;
    const at = b.constant(i64Vector(chosen(condition)));
    const flat = attrs.axis === undefined;
    const [x] = flat ? b.node('Reshape', [node.inputs[0], b.constant(i64Vector([-1]))], { loc }) : node.inputs;
    return b.node('Gather', [x, at], { attrs: { axis: attrs.axis ?? 0 }, loc });
  },
  lower: { kind: 'kernel', layout: 'row-major', streams: [0], counts: true, build: buildCompress },
  cases: [
    ...[0, 1, -1].map(
      (axis): OpCase => ({
        name: `axis ${axis}`,
        attrs: { axis },
        inputs: [{ dtype: 'f32', shape: [3, 3] }, { constant: fromNumbers('bool', [3], [0, 1, 1]) }],
      }),
    ),
    {
      name: 'flattened, a short condition',
      inputs: [{ dtype: 'i64', shape: [3, 5] }, { constant: fromNumbers('bool', [7], [0, 1, 0, 0, 1, 1, 0]) }],
    },
  ],
});

function buildCompress(ctx: KernelContext<{ readonly axis: number | undefined }>): KernelSpec {
  const { shape } = ctx.input(0);
  const [length] = ctx.input(1).shape;
  const names = ['found', 'position'].map((hint) => ctx.fresh(hint));
  const [count, position] = names.map((name) => local(name, 'i32'));
  const takeIf = (at: Expr, take: readonly Stmt[]): Stmt => {
    const chosen: Stmt = {
      kind: 'if',
      cond: ctx.load(1, [at]),
      body: [...take, assign(names[0], add(count, index(1)))],
    };
    return { kind: 'if', cond: binary('lt', at, index(length)), body: [chosen] };
  };
  const walk = (): readonly Stmt[] => {
    if (ctx.attrs.axis === undefined)
      return scanOver(ctx, shape, (coords) => [
        takeIf(position, [ctx.store(0, [count], ctx.load(0, coords))]),
        assign(names[1], add(position, index(1))),
      ]);
    const along = ctx.attrs.axis < 0 ? ctx.attrs.axis + shape.length : ctx.attrs.axis;
    const others = ctx.outputAxes(0, otherDims(shape.length, [along]));
    const i = ctx.fresh('i');
    const copy = ctx.store(0, others.coords.with(along, count), ctx.load(0, others.coords.with(along, axis(i))));
    const slice = others.axes.reduceRight<Stmt>((inner, axis) => ({ kind: 'for', axis, body: [inner] }), copy);
    return [{ kind: 'scan', axis: { name: i, extent: shape[along] }, body: [takeIf(axis(i), [slice])] }];
  };
  const start = names.map((name) => assign(name, index(0)));
  const body = [...start, ...walk(), ...storeCount(ctx, 0, count)];
  return { form: { kind: 'routine', name: 'compress' }, axes: [], body };
}

export const SELECT_BY_DATA_OPS: readonly Op[] = [nonZero, compress];
