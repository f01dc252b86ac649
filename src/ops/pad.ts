/**
 * Pad: elements before and after each dim; negative numbers cut. The position read for coordinate c of a dim of size n, i = c - begin:
 *
 *     constant  i where inside, else the value         edge     i clamped into [0, n)
 *     reflect   the mirror of i at 0 and n - 1         wrap     i mod n
 *
 * Pad-2 has pads and value as attributes. Since opset 18 `axes` says which dims the pads are of.
 */
import type { DType } from '../core/dtype.ts';
import { addDims, type Dim, rowMajorStrides, type StaticShape } from '../core/shape.ts';
import { decodeScalar, encodeScalar, fromNumbers, scalarTensor } from '../core/tensor.ts';
import { add, binary, constant, index, max, min, mul, select, sub } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { attrToInput, checkAxes, dimsInput, i64Vector, intsInput, intsOf } from './dims.ts';
import { defineOp, type LowerContext, type OpCase, oneOf, type RawNode, type UpgradeContext } from './op.ts';
import { knownInts } from './position.ts';
import { OUTSIDE, offsets, readSeparable } from './separable.ts';

/** [begin, end] of each dim from pads [begins…, ends…] of the axes; 0 elsewhere. */
function padPairs<T>(
  pads: readonly T[],
  axes: readonly number[] | undefined,
  rank: number,
  none: T,
): readonly (readonly [T, T])[] {
  const pairs = Array.from({ length: rank }, (): readonly [T, T] => [none, none]);
  const count = pads.length / 2;
  for (let i = 0; i < count; i++) {
    const axis = axes?.[i] ?? i;
    pairs[axis < 0 ? axis + rank : axis] = [pads[i], pads[i + count]];
  }
  return pairs;
}

/** The position for i = c - begin in a dim of size n; OUTSIDE for the constant value. */
function source(mode: string, i: number, n: number): number {
  if (i >= 0 && i < n) return i;
  switch (mode) {
    case 'reflect': {
      const period = Math.max(2 * (n - 1), 1);
      const m = ((i % period) + period) % period;
      return m < n ? m : period - m;
    }
    case 'edge':
      return i < 0 ? 0 : n - 1;
    case 'wrap':
      return ((i % n) + n) % n;
    default:
      return OUTSIDE;
  }
}

/** As `source`, by arithmetic that has no branch; `inside` collects the conditions of mode constant. */
function sourceExpr(mode: string, i: Expr, n: number, begin: number, end: number, inside: Expr[]): Expr {
  const [before, after] = [begin > 0, end > 0];
  if (!before && !after) return i;
  switch (mode) {
    case 'reflect': {
      // n-1 - |(i mod 2(n-1)) - (n-1)|, |x| = max(x, -x)
      if (n === 1) return index(0);
      const x = add(binary('mod', i, index(2 * (n - 1))), index(1 - n));
      return sub(index(n - 1), max(x, mul(x, index(-1))));
    }
    case 'edge':
      return min(max(i, index(0)), index(n - 1));
    case 'wrap':
      return binary('mod', i, index(n));
    default:
      if (before) inside.push(binary('ge', i, index(0)));
      if (after) inside.push(binary('lt', i, index(n)));
      return i;
  }
}

/** The value of mode constant: 0 where input 2 is absent. */
function padValue<A>(ctx: LowerContext<A>, dtype: DType): Expr {
  const type = ctx.inputs[2];
  if (!type) return constant(dtype, 0);
  const known = ctx.constant(2);
  if (known) return constant(dtype, decodeScalar(dtype, known.data[0]));
  return ctx.load(
    2,
    type.shape.map(() => index(0)),
  );
}

function padsToInputs(node: RawNode, ctx: UpgradeContext): RawNode {
  if (ctx.opset >= 11) return node;
  const moved = attrToInput(node, ctx, 'pads', 1);
  const dtype = ctx.dtype(node.inputs[0]);
  if (moved.attrs.value !== undefined && !dtype) ctx.fail('the element type of the input is needed to read the value');
  return attrToInput(moved, ctx, 'value', 2, ([value]) => scalarTensor(dtype!, value));
}

const padCase = (name: string, shape: StaticShape, pads: readonly number[], mode = 'constant'): OpCase => ({
  name: `${mode} ${name}`,
  attrs: { mode },
  inputs: [{ dtype: 'f32', shape }, { constant: i64Vector(pads) }],
});

const pad = defineOp({
  name: 'Pad',
  onnx: { since: 2, upgrade: padsToInputs },
  attrs: { mode: oneOf('constant', 'reflect', 'edge', 'wrap') },
  inputs: [2, 4],
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    const rank = shape.length;
    const axes = ctx.inputs[3] ? (intsInput(ctx, 3) ?? ctx.fail('the axes must be known before running')) : undefined;
    if (axes) checkAxes(ctx, axes, rank);
    const pads = dimsInput(ctx, 1);
    if (!pads) return [{ dtype, shape: shape.map(() => ctx.freshDim('pad')) }];
    if (pads.length !== 2 * (axes?.length ?? rank)) ctx.fail(`${pads.length} pads are given for rank ${rank}`);
    if (ctx.inputs[2] && ctx.input(2).dtype !== dtype) ctx.fail('the value must have the element type of the input');
    const out = padPairs<Dim>(pads, axes, rank, 0).map(([begin, end], d) => {
      const size = addDims(addDims(shape[d], begin), end);
      if (typeof size === 'number' && size < 0) ctx.fail(`the pads cut more than dim ${d} has`);
      if (shape[d] === 0 && size !== 0 && ctx.attrs.mode !== 'constant') ctx.fail(`dim ${d} has no element to repeat`);
      return size;
    });
    return [{ dtype, shape: out }];
  },
  eval([x, pads, value, axes], { mode }, [out]) {
    const strides = rowMajorStrides(x!.shape);
    const pairs = padPairs(intsOf(pads!), axes && intsOf(axes), x!.shape.length, 0);
    const tables = pairs.map(([begin], d) =>
      offsets(out.shape[d], strides[d], (c) => source(mode, c - begin, x!.shape[d])),
    );
    return [readSeparable(x!, tables, out, value ? value.data[0] : encodeScalar(out.dtype, 0))];
  },
  // Pads of 1 and -1 keep the shape and move the elements.
  identity: (ctx) => (intsInput(ctx, 1)?.every((pad) => pad === 0) ? 0 : undefined),
  lower: {
    kind: 'index',
    read(ctx, _, coords) {
      const { dtype, shape } = ctx.input(0);
      const inside: Expr[] = [];
      const from = padPairs(knownInts(ctx, 1)!, knownInts(ctx, 3), shape.length, 0).map(([begin, end], d) =>
        sourceExpr(ctx.attrs.mode, add(coords[d], index(-begin)), shape[d], begin, end, inside),
      );
      if (inside.length === 0) return ctx.load(0, from);
      const value = padValue(ctx, dtype);
      return select(
        inside.reduce((a, b) => binary('and', a, b)),
        ctx.load(0, from),
        value,
      );
    },
  },
  cases: [
    padCase('both sides', [2, 3, 5], [0, 1, 2, 1, 0, 3]),
    padCase('cut', [5, 7], [-1, 2, 3, -4]),
    padCase('nothing', [3], [0, 0]),
    padCase('of nothing', [0, 3], [1, 0, 2, 1]),
    padCase('both sides', [3, 5], [2, 3, 1, 4], 'reflect'),
    padCase('cut', [4, 5], [-1, 2, 2, 0], 'reflect'),
    padCase('both sides', [3, 5], [2, 7, 4, 1], 'edge'),
    padCase('both sides', [3, 5], [2, 5, 1, 3], 'wrap'),
    {
      name: 'value',
      inputs: [{ dtype: 'f32', shape: [3, 2] }, { constant: i64Vector([1, 1, 1, 1]) }, fromNumbers('f32', [], [-7.5])],
    },
    {
      name: 'axes',
      inputs: [
        { dtype: 'f32', shape: [2, 3, 5] },
        { constant: i64Vector([1, 2, 3, 4]) },
        undefined,
        { constant: i64Vector([-1, 0]) },
      ],
    },
    {
      name: 'i64',
      inputs: [{ dtype: 'i64', shape: [3] }, { constant: i64Vector([1, 2]) }, fromNumbers('i64', [], [9])],
    },
    {
      name: 'f16',
      inputs: [
        { dtype: 'f16', shape: [3] },
        { constant: i64Vector([1, 0]) },
        { constant: fromNumbers('f16', [], [1.5]) },
      ],
    },
  ],
});

export const PAD_OPS = [pad];
