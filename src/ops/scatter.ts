/**
 * ScatterElements, ScatterND and TensorScatter: a copy of a tensor in which updates stand at positions that another input holds.
 *
 *     ScatterElements   out[c with c_axis replaced by indices[c]] ⊕= updates[c]
 *     ScatterND         out[indices[i…, 0], …, indices[i…, k-1], post] ⊕= updates[i…, post]
 *     TensorScatter     out[b…, (write[b] + s) mod size, post] = update[b…, s, post]          a key-value cache
 *
 * ⊕ is assignment or a reduction. Updates of one place come in row-major order, so of assignments the last one stays.
 */
import { elements, printShape, rowMajorStrides, type StaticShape } from '../core/shape.ts';
import { decodeScalar, encodeScalar, fromNumbers, type Tensor } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { binaryFn } from '../loop/arithmetic.ts';
import { add, axis, binary, index, min } from '../loop/expr.ts';
import type { BinaryOp, Expr, Stmt } from '../loop/ir.ts';
import { checkAxis, intsOf, mayBeEqual } from './dims.ts';
import { defineOp, int, type KernelContext, type KernelSpec, type Op, type OpCase, oneOf } from './op.ts';
import { checkPosition, loadPosition } from './position.ts';
import { dimOffsets, otherDims } from './rows.ts';

const REDUCTION = oneOf('none', 'add', 'mul', 'max', 'min');

/** Writes `update` over `before`, or reduces the two. */
const combine = (reduction: string, before: () => Expr, update: Expr): Expr =>
  reduction === 'none' ? update : binary(reduction as BinaryOp, before(), update);

/** out[to] ⊕= updates[from], elements decoded to numbers and back. */
function scatterInto(out: Tensor, updates: Tensor, reduction: string): (to: number, from: number) => void {
  const data = out.data as Float64Array;
  const source = updates.data as Float64Array;
  if (reduction === 'none') {
    return (to, from) => {
      data[to] = source[from];
    };
  }
  const { dtype } = out;
  const fold = binaryFn(reduction as BinaryOp, dtype)!;
  return (to, from) => {
    data[to] = encodeScalar(dtype, fold(decodeScalar(dtype, data[to]), decodeScalar(dtype, source[from]))) as number;
  };
}

const copyOf = (x: Tensor): Tensor => ({ ...x, data: x.data.slice() as Tensor['data'] });

function checkScatter(ctx: InferContext<unknown>): void {
  const [x, indices, updates] = [ctx.input(0), ctx.input(1), ctx.input(2)];
  if (indices.dtype !== 'i64' && indices.dtype !== 'i32') ctx.fail(`the indices are ${indices.dtype}, expected i64`);
  if (x.dtype !== updates.dtype) ctx.fail('the updates must have the element type of the data');
}
function checkReducible(ctx: InferContext<{ readonly reduction: string }>): void {
  const { reduction } = ctx.attrs;
  if (reduction !== 'none' && !binaryFn(reduction as BinaryOp, ctx.input(0).dtype)) {
    ctx.fail(`${ctx.input(0).dtype} cannot be reduced with ${reduction}`);
  }
}

const scatterElements = defineOp({
  name: 'ScatterElements',
  onnx: { since: 11 },
  attrs: { axis: int(0), reduction: REDUCTION },
  inputs: [3, 3],
  infer(ctx) {
    const [x, indices, updates] = [ctx.input(0), ctx.input(1), ctx.input(2)];
    checkAxis(ctx, ctx.attrs.axis, x.shape.length);
    checkScatter(ctx);
    checkReducible(ctx);
    if (indices.shape.length !== x.shape.length) ctx.fail('the indices must have the rank of the data');
    if (indices.shape.length !== updates.shape.length) ctx.fail('the updates must have the shape of the indices');
    return [x];
  },
  eval([x, indices, updates], { axis: given, reduction }) {
    const out = copyOf(x!);
    const along = given < 0 ? given + x!.shape.length : given;
    const strides = rowMajorStrides(x!.shape);
    const put = scatterInto(out, updates!, reduction);
    const dims = indices!.shape.map((_, d) => d);
    const bases = dimOffsets(indices!.shape, dims);
    const own = rowMajorStrides(indices!.shape);
    intsOf(indices!).forEach((pick, i) => {
      let at = checkPosition('ScatterElements', pick, x!.shape[along]) * strides[along];
      for (const d of dims) if (d !== along) at += (Math.floor(bases[i] / own[d]) % indices!.shape[d]) * strides[d];
      put(at, i);
    });
    return [out];
  },
  lower: {
    kind: 'kernel',
    layout: 'row-major',
    streams: [],
    rereads: true,
    build(ctx) {
      const { shape } = ctx.input(0);
      const from = ctx.input(1).shape;
      const along = ctx.attrs.axis < 0 ? ctx.attrs.axis + shape.length : ctx.attrs.axis;
      // Rows along the axis are independent of each other: one point each.
      const { axes, coords } = ctx.outputAxes(0, otherDims(shape.length, [along]));
      const copied = ctx.fresh('j');
      const at = coords.with(along, axis(copied));
      const copy: Stmt = {
        kind: 'for',
        axis: { name: copied, extent: shape[along] },
        body: [ctx.store(0, at, ctx.load(0, at))],
      };
      const step = ctx.fresh('u');
      const source = coords.with(along, axis(step));
      const to = coords.with(along, loadPosition(ctx, 1, source, shape[along]));
      const value = combine(ctx.attrs.reduction, () => ctx.loadOutput(0, to), ctx.load(2, source));
      const update: Stmt = { kind: 'scan', axis: { name: step, extent: from[along] }, body: [ctx.store(0, to, value)] };
      const isShort = (d: number) => d !== along && from[d] < shape[d];
      const inside = coords.flatMap((c, d) => (isShort(d) ? [binary('lt', c, index(from[d]))] : []));
      const updates: Stmt = inside.length > 0 ? { kind: 'if', cond: inside.reduce(and), body: [update] } : update;
      return { form: { kind: 'routine', name: 'scatter' }, axes, body: [copy, updates] };
    },
  },
  cases: [
    ...['none', 'add', 'mul', 'max', 'min'].map(
      (reduction): OpCase => ({
        name: `axis 1, ${reduction}`,
        attrs: { axis: 1, reduction },
        inputs: [
          { dtype: 'f32', shape: [3, 7] },
          fromNumbers('i64', [3, 4], [0, 1, -1, 1, 6, 2, 2, 0, -7, 5, 3, 3]),
          { dtype: 'f32', shape: [3, 4] },
        ],
      }),
    ),
    {
      name: 'axis 0, fewer updates than rows',
      inputs: [
        { dtype: 'f32', shape: [5, 3, 2] },
        fromNumbers('i64', [2, 2, 1], [4, 0, 1, -1]),
        { dtype: 'f32', shape: [2, 2, 1] },
      ],
    },
    {
      name: 'i64, i32 indices',
      attrs: { axis: -1, reduction: 'add' },
      inputs: [{ dtype: 'i64', shape: [5] }, fromNumbers('i32', [3], [2, 2, 0]), { dtype: 'i64', shape: [3] }],
    },
    {
      name: 'no updates',
      inputs: [{ dtype: 'f32', shape: [5] }, fromNumbers('i64', [0], []), { dtype: 'f32', shape: [0] }],
    },
    {
      name: 'bool',
      inputs: [{ dtype: 'bool', shape: [5] }, fromNumbers('i64', [2], [3, 1]), { dtype: 'bool', shape: [2] }],
    },
    {
      name: 'f16',
      inputs: [{ dtype: 'f16', shape: [5, 2] }, fromNumbers('i64', [1, 2], [3, 1]), { dtype: 'f16', shape: [1, 2] }],
    },
  ],
});

const and = (a: Expr, b: Expr): Expr => binary('and', a, b);

/** Nested loops over a box, each axis by name; extents of 1 have no loop and coordinate 0. */
function loopsOver(
  ctx: KernelContext<unknown>,
  shape: StaticShape,
  kind: 'for' | 'scan',
  body: (coords: readonly Expr[]) => readonly Stmt[],
): readonly Stmt[] {
  const names = shape.map((extent) => (extent === 1 ? undefined : ctx.fresh('c')));
  const coords = names.map((name) => (name === undefined ? index(0) : axis(name)));
  return names.reduceRight<readonly Stmt[]>(
    (inner, name, d) => (name === undefined ? inner : [{ kind, axis: { name, extent: shape[d] }, body: inner }]),
    body(coords),
  );
}

const scatterNd = defineOp({
  name: 'ScatterND',
  onnx: { since: 11 },
  attrs: { reduction: REDUCTION },
  inputs: [3, 3],
  infer(ctx) {
    const [x, indices, updates] = [ctx.input(0), ctx.input(1), ctx.input(2)];
    checkScatter(ctx);
    checkReducible(ctx);
    const depth = indices.shape.at(-1);
    if (typeof depth !== 'number') return ctx.fail('the last dim of the indices must be known');
    if (depth > x.shape.length) ctx.fail(`positions of ${depth} numbers do not fit ${printShape(x.shape)}`);
    const wanted = [...indices.shape.slice(0, -1), ...x.shape.slice(depth)];
    const fits = wanted.length === updates.shape.length && wanted.every((d, i) => mayBeEqual(d, updates.shape[i]));
    if (!fits) ctx.fail(`the updates are ${printShape(updates.shape)}, expected ${printShape(wanted)}`);
    return [x];
  },
  eval([x, indices, updates], { reduction }) {
    const out = copyOf(x!);
    const depth = indices!.shape.at(-1)!;
    const strides = rowMajorStrides(x!.shape);
    const picks = intsOf(indices!);
    const run = elements(x!.shape.slice(depth));
    const put = scatterInto(out, updates!, reduction);
    const count = elements(indices!.shape.slice(0, -1));
    for (let i = 0; i < count; i++) {
      let at = 0;
      for (let j = 0; j < depth; j++) at += checkPosition('ScatterND', picks[i * depth + j], x!.shape[j]) * strides[j];
      for (let e = 0; e < run; e++) put(at + e, i * run + e);
    }
    return [out];
  },
  lower: {
    kind: 'kernel',
    layout: 'row-major',
    streams: [],
    rereads: true,
    build: buildScatterNd,
  },
  cases: [
    ...['none', 'add', 'mul', 'max', 'min'].map(
      (reduction): OpCase => ({
        name: `rows, ${reduction}`,
        attrs: { reduction },
        inputs: [
          { dtype: 'f32', shape: [5, 3] },
          fromNumbers('i64', [3, 1], [4, 1, -5]),
          { dtype: 'f32', shape: [3, 3] },
        ],
      }),
    ),
    {
      name: 'elements, one twice',
      attrs: { reduction: 'add' },
      inputs: [
        { dtype: 'f32', shape: [3, 4] },
        fromNumbers('i64', [2, 2, 2], [0, 1, 2, 3, 0, 1, -1, 0]),
        { dtype: 'f32', shape: [2, 2] },
      ],
    },
    {
      name: 'i64 elements',
      inputs: [{ dtype: 'i64', shape: [7] }, fromNumbers('i64', [3, 1], [6, 0, 3]), { dtype: 'i64', shape: [3] }],
    },
    {
      name: 'blocks',
      inputs: [{ dtype: 'f32', shape: [4, 2, 3] }, fromNumbers('i64', [1, 1], [2]), { dtype: 'f32', shape: [1, 2, 3] }],
    },
  ],
});

/** Points are the dims behind the positions, each independent of the others; inside, the updates in order. */
function buildScatterNd(ctx: KernelContext<{ readonly reduction: string }>): KernelSpec {
  const { shape } = ctx.input(0);
  const indices = ctx.input(1).shape;
  const depth = indices.at(-1)!;
  const { axes, coords } = ctx.outputAxes(
    0,
    otherDims(
      shape.length,
      shape.slice(0, depth).map((_, d) => d),
    ),
  );
  const rest = coords.slice(depth);
  const copy = loopsOver(ctx, shape.slice(0, depth), 'for', (head) => {
    const at = [...head, ...rest];
    return [ctx.store(0, at, ctx.load(0, at))];
  });
  const updates = loopsOver(ctx, indices.slice(0, -1), 'scan', (head) => {
    const to = shape.slice(0, depth).map((extent, j) => loadPosition(ctx, 1, [...head, index(j)], extent));
    const at = [...to, ...rest];
    const value = combine(ctx.attrs.reduction, () => ctx.loadOutput(0, at), ctx.load(2, [...head, ...rest]));
    return [ctx.store(0, at, value)];
  });
  return { form: { kind: 'routine', name: 'scatter' }, axes, body: [...copy, ...updates] };
}

const tensorScatter = defineOp({
  name: 'TensorScatter',
  onnx: { since: 24 },
  attrs: { axis: int(-2), mode: oneOf('linear', 'circular') },
  inputs: [2, 3],
  infer(ctx) {
    const [x, update] = [ctx.input(0), ctx.input(1)];
    const along = checkAxis(ctx, ctx.attrs.axis, x.shape.length);
    if (along === 0) ctx.fail('the axis must not be the batch dim');
    if (update.dtype !== x.dtype) ctx.fail('the update must have the element type of the cache');
    if (update.shape.length !== x.shape.length) ctx.fail('the update must have the rank of the cache');
    return [x];
  },
  eval([x, update, write], { axis: given, mode }) {
    const out = copyOf(x!);
    const along = given < 0 ? given + x!.shape.length : given;
    const strides = rowMajorStrides(x!.shape);
    const starts = write ? intsOf(write) : [];
    const size = x!.shape[along];
    const own = rowMajorStrides(update!.shape);
    for (let i = 0; i < update!.data.length; i++) {
      let at = 0;
      for (const [d, stride] of strides.entries()) {
        const c = Math.floor(i / own[d]) % update!.shape[d];
        if (d !== along) at += c * stride;
        else {
          const start = starts[Math.floor(i / own[0])] ?? 0;
          at += (mode === 'circular' ? (start + c) % size : checkPosition('TensorScatter', start + c, size)) * stride;
        }
      }
      out.data[at] = update!.data[i] as never;
    }
    return [out];
  },
  lower: {
    kind: 'kernel',
    layout: 'row-major',
    streams: [],
    rereads: true,
    build(ctx) {
      const { shape } = ctx.input(0);
      const along = ctx.attrs.axis < 0 ? ctx.attrs.axis + shape.length : ctx.attrs.axis;
      const size = shape[along];
      const { axes, coords } = ctx.outputAxes(0, otherDims(shape.length, [along]));
      const start = ctx.inputs[2] ? loadPosition(ctx, 2, [coords[0]], size) : index(0);
      const copy = loopsOver(ctx, [size], 'for', ([j]) => {
        const at = coords.with(along, j);
        return [ctx.store(0, at, ctx.load(0, at))];
      });
      const updates = loopsOver(ctx, [ctx.input(1).shape[along]], 'scan', ([s]) => {
        const to = add(start, s);
        const inside = ctx.attrs.mode === 'circular' ? binary('mod', to, index(size)) : min(to, index(size - 1));
        return [ctx.store(0, coords.with(along, inside), ctx.load(1, coords.with(along, s)))];
      });
      return { form: { kind: 'routine', name: 'scatter' }, axes, body: [...copy, ...updates] };
    },
  },
  cases: [
    {
      name: 'linear',
      inputs: [
        { dtype: 'f32', shape: [2, 3, 7, 5] },
        { dtype: 'f32', shape: [2, 3, 2, 5] },
        fromNumbers('i64', [2], [3, 5]),
      ],
    },
    {
      name: 'circular',
      attrs: { mode: 'circular', axis: 1 },
      inputs: [{ dtype: 'f32', shape: [2, 5, 3] }, { dtype: 'f32', shape: [2, 3, 3] }, fromNumbers('i64', [2], [4, 1])],
    },
    {
      name: 'from the start',
      inputs: [
        { dtype: 'f32', shape: [1, 4, 3] },
        { dtype: 'f32', shape: [1, 2, 3] },
      ],
    },
  ],
});

export const SCATTER_OPS: readonly Op[] = [scatterElements, scatterNd, tensorScatter];
