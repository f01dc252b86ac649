/**
 * Gather, GatherElements, GatherND: elements at positions that another input holds, negative ones counted from the end.
 *
 *     Gather          out[pre, i…, post] = x[pre, indices[i…], post]          pre are the dims before `axis`, post those after it
 *     GatherElements  out[c] = x[c with c_axis replaced by indices[c]]
 *     GatherND        out[b, i…, post] = x[b, indices[b, i…, 0], …, indices[b, i…, k-1], post]          b are `batch_dims` dims
 */
import { dimsEqual, elements, printShape, rowMajorStrides } from '../core/shape.ts';
import { fromNumbers, zeros } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { index } from '../loop/expr.ts';
import { checkAxis, dimsInput, intsInput, intsOf } from './dims.ts';
import { defineOp, int, type OpCase } from './op.ts';
import { checkPosition, loadPosition } from './position.ts';
import { offsets, readSeparable } from './separable.ts';

function checkIndices(ctx: InferContext<unknown>): void {
  const { dtype } = ctx.input(1);
  if (dtype !== 'i64' && dtype !== 'i32') ctx.fail(`the indices are ${dtype}, expected i64 or i32`);
}
const fromFront = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

const gather = defineOp({
  name: 'Gather',
  onnx: { since: 1 },
  attrs: { axis: int(0) },
  inputs: [2, 2],
  infer(ctx) {
    const [x, indices] = [ctx.input(0), ctx.input(1)];
    const axis = checkAxis(ctx, ctx.attrs.axis, x.shape.length);
    checkIndices(ctx);
    return [{ dtype: x.dtype, shape: [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)] }];
  },
  inferDims(ctx) {
    const dims = dimsInput(ctx, 0);
    const picks = intsInput(ctx, 1);
    if (!dims || !picks || ctx.input(0).shape.length !== 1) return undefined;
    const picked = picks.map((i) => dims.at(i));
    return picked.every((d) => d !== undefined) ? picked : undefined;
  },
  eval([x, indices], attrs, [out]) {
    const axis = fromFront(attrs.axis, x!.shape.length);
    const extent = x!.shape[axis];
    const pre = elements(x!.shape.slice(0, axis));
    const post = elements(x!.shape.slice(axis + 1));
    const picks = intsOf(indices!).map((i) => checkPosition('Gather', i, extent));
    const tables = [offsets(pre, extent * post), offsets(picks.length, post, (i) => picks[i]), offsets(post, 1)];
    return [readSeparable(x!, tables, out)];
  },
  lower: {
    kind: 'index',
    read(ctx, _, coords) {
      const { shape } = ctx.input(0);
      const axis = fromFront(ctx.attrs.axis, shape.length);
      const after = axis + ctx.input(1).shape.length;
      const at = loadPosition(ctx, 1, coords.slice(axis, after), shape[axis]);
      return ctx.load(0, [...coords.slice(0, axis), at, ...coords.slice(after)]);
    },
  },
  traits: { picks: { data: 0, indices: 1 } },
  cases: [
    {
      name: 'rows',
      inputs: [
        { dtype: 'f32', shape: [11, 5] },
        { dtype: 'i64', shape: [2, 3], range: [0, 10] },
      ],
    },
    {
      name: 'middle axis, negative',
      attrs: { axis: 1 },
      inputs: [
        { dtype: 'f32', shape: [2, 7, 3] },
        { dtype: 'i64', shape: [5], range: [-7, 6] },
      ],
    },
    {
      name: 'scalar index',
      attrs: { axis: -1 },
      inputs: [{ dtype: 'f32', shape: [2, 3] }, { constant: fromNumbers('i64', [], [-1]) }],
    },
    { name: 'of a vector', inputs: [{ dtype: 'i64', shape: [4] }, { constant: fromNumbers('i64', [], [2]) }] },
    {
      name: 'i32 indices',
      inputs: [
        { dtype: 'f32', shape: [5, 1] },
        { dtype: 'i32', shape: [3], range: [-5, 4] },
      ],
    },
    {
      name: 'no indices',
      inputs: [
        { dtype: 'f32', shape: [5, 2] },
        { dtype: 'i64', shape: [0] },
      ],
    },
    {
      name: 'f16',
      inputs: [
        { dtype: 'f16', shape: [5, 3] },
        { dtype: 'i64', shape: [7], range: [0, 4] },
      ],
    },
    {
      name: 'bool',
      inputs: [
        { dtype: 'bool', shape: [5] },
        { dtype: 'i64', shape: [3, 1], range: [0, 4] },
      ],
    },
  ],
});

const gatherElements = defineOp({
  name: 'GatherElements',
  onnx: { since: 11 },
  attrs: { axis: int(0) },
  inputs: [2, 2],
  infer(ctx) {
    const [x, indices] = [ctx.input(0), ctx.input(1)];
    checkAxis(ctx, ctx.attrs.axis, x.shape.length);
    checkIndices(ctx);
    if (indices.shape.length !== x.shape.length) ctx.fail('the indices must have the rank of the data');
    return [{ dtype: x.dtype, shape: indices.shape }];
  },
  eval([x, indices], attrs, [out]) {
    const result = zeros(out.dtype, out.shape);
    const axis = fromFront(attrs.axis, out.shape.length);
    const strides = rowMajorStrides(x!.shape);
    const own = rowMajorStrides(out.shape);
    intsOf(indices!).forEach((pick, i) => {
      let at = checkPosition('GatherElements', pick, x!.shape[axis]) * strides[axis];
      for (let d = 0; d < own.length; d++) {
        if (d !== axis) at += (Math.floor(i / own[d]) % out.shape[d]) * strides[d];
      }
      result.data[i] = x!.data[at] as never;
    });
    return [result];
  },
  lower: {
    kind: 'index',
    read(ctx, _, coords) {
      const axis = fromFront(ctx.attrs.axis, coords.length);
      return ctx.load(0, coords.with(axis, loadPosition(ctx, 1, coords, ctx.input(0).shape[axis])));
    },
  },
  traits: { picks: { data: 0, indices: 1 } },
  cases: [
    {
      name: 'axis 0',
      inputs: [
        { dtype: 'f32', shape: [5, 3] },
        { dtype: 'i64', shape: [7, 3], range: [-5, 4] },
      ],
    },
    {
      name: 'last axis',
      attrs: { axis: -1 },
      inputs: [
        { dtype: 'f32', shape: [2, 3, 11] },
        { dtype: 'i64', shape: [2, 3, 4], range: [0, 10] },
      ],
    },
    {
      name: 'smaller indices, i32',
      attrs: { axis: 1 },
      inputs: [
        { dtype: 'i64', shape: [3, 5] },
        { dtype: 'i32', shape: [2, 1], range: [-5, 4] },
      ],
    },
    {
      name: 'no indices',
      inputs: [
        { dtype: 'f32', shape: [5] },
        { dtype: 'i64', shape: [0] },
      ],
    },
  ],
});

const gatherNd = defineOp({
  name: 'GatherND',
  onnx: { since: 11 },
  attrs: { batch_dims: int(0) },
  inputs: [2, 2],
  infer(ctx) {
    const [x, indices] = [ctx.input(0), ctx.input(1)];
    checkIndices(ctx);
    const batch = ctx.attrs.batch_dims;
    const depth = indices.shape.at(-1);
    if (typeof depth !== 'number') return ctx.fail('the last dim of the indices must be known');
    if (batch < 0 || batch >= Math.min(x.shape.length, indices.shape.length)) ctx.fail(`batch_dims is ${batch}`);
    if (depth < 1 || batch + depth > x.shape.length) {
      ctx.fail(`positions of ${depth} numbers do not fit ${printShape(x.shape)} with batch_dims ${batch}`);
    }
    for (let d = 0; d < batch; d++) {
      const [a, b] = [x.shape[d], indices.shape[d]];
      if (typeof a === 'number' && typeof b === 'number' && !dimsEqual(a, b)) ctx.fail(`batch dim ${d} differs`);
    }
    return [{ dtype: x.dtype, shape: [...indices.shape.slice(0, -1), ...x.shape.slice(batch + depth)] }];
  },
  eval([x, indices], { batch_dims }, [out]) {
    const result = zeros(out.dtype, out.shape);
    const depth = indices!.shape.at(-1)!;
    const strides = rowMajorStrides(x!.shape);
    const picks = intsOf(indices!);
    const run = elements(x!.shape.slice(batch_dims + depth));
    const batchElements = elements(x!.shape.slice(batch_dims));
    const perBatch = elements(indices!.shape.slice(batch_dims, -1));
    for (let i = 0; i * depth < picks.length; i++) {
      let at = Math.floor(i / perBatch) * batchElements;
      for (let j = 0; j < depth; j++) {
        const d = batch_dims + j;
        at += checkPosition('GatherND', picks[i * depth + j], x!.shape[d]) * strides[d];
      }
      result.data.set(x!.data.subarray(at, at + run) as never, i * run);
    }
    return [result];
  },
  lower: {
    kind: 'index',
    read(ctx, _, coords) {
      const { shape } = ctx.input(0);
      const batch = ctx.attrs.batch_dims;
      const indices = ctx.input(1).shape;
      const head = coords.slice(0, indices.length - 1);
      const at = Array.from({ length: indices.at(-1)! }, (_, j) =>
        loadPosition(ctx, 1, [...head, index(j)], shape[batch + j]),
      );
      return ctx.load(0, [...head.slice(0, batch), ...at, ...coords.slice(head.length)]);
    },
  },
  cases: [
    {
      name: 'elements',
      inputs: [
        { dtype: 'f32', shape: [3, 5] },
        { dtype: 'i64', shape: [7, 2], range: [-3, 2] },
      ],
    },
    {
      name: 'rows',
      inputs: [
        { dtype: 'f32', shape: [5, 3] },
        { dtype: 'i64', shape: [2, 4, 1], range: [0, 4] },
      ],
    },
    {
      name: 'batch',
      attrs: { batch_dims: 1 },
      inputs: [
        { dtype: 'f32', shape: [2, 5, 3] },
        { dtype: 'i64', shape: [2, 7, 1], range: [-5, 4] },
      ],
    },
    {
      name: 'two batch dims, i64',
      attrs: { batch_dims: 2 },
      inputs: [
        { dtype: 'i64', shape: [2, 3, 5] },
        { dtype: 'i64', shape: [2, 3, 1], range: [0, 4] },
      ],
    },
    {
      name: 'no positions',
      inputs: [
        { dtype: 'f32', shape: [3] },
        { dtype: 'i64', shape: [0, 1] },
      ],
    },
  ] satisfies readonly OpCase[],
});

export const GATHER_OPS = [gather, gatherElements, gatherNd];
