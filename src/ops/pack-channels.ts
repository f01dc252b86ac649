/**
 * PackChannels: places along the innermost dim as channels, as many as `stride`; a window that steps by so many then steps by 1.
 *
 *     out[n, d·channels + c, …, p] = x[n, c, …, p·stride + d − pad]      0 where x has no such channel or place
 *
 * No model holds it; convolutions of few channels are made with it (packed-conv.ts), so it has a domain of its own.
 */
import type { TypedArray } from '../core/dtype.ts';
import { rowMajorStrides, type StaticShape } from '../core/shape.ts';
import { encodeScalar } from '../core/tensor.ts';
import { add, binary, constant, index, mul, select } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { CHOOSE_DOMAIN } from './choose.ts';
import { type AttrsOf, defineOp, int, type LowerContext, type Op, type OpCase } from './op.ts';
import { OUTSIDE, offsets, readSeparable } from './separable.ts';

const ATTRS = { stride: int.required, channels: int.required, pad: int(0), places: int.required } as const;
type Attrs = AttrsOf<typeof ATTRS>;

/** The source's coordinates of an output's, with conditions that all must hold. */
function read(ctx: LowerContext<Attrs>, coords: readonly Expr[]): Expr {
  const { stride, channels, pad, places } = ctx.attrs;
  const { dtype, shape } = ctx.input(0);
  const last = shape.length - 1;
  const channel = binary('mod', coords[1], index(channels));
  const beside = binary('div', coords[1], index(channels));
  const place = add(add(mul(coords[last], index(stride)), beside), index(-pad));
  const inside: Expr[] = [];
  if (channels > shape[1]) inside.push(binary('lt', channel, index(shape[1])));
  if (pad > 0) inside.push(binary('ge', place, index(0)));
  if (places * stride - pad > shape[last]) inside.push(binary('lt', place, index(shape[last])));
  const from = coords.map((at, d) => (d === 1 ? channel : d === last ? place : at));
  const element = ctx.load(0, from);
  if (inside.length === 0) return element;
  return select(
    inside.reduce((a, b) => binary('and', a, b)),
    element,
    constant(dtype, 0),
  );
}

const packCase = (name: string, shape: StaticShape, attrs: Omit<Attrs, 'pad'> & { pad?: number }): OpCase => ({
  name,
  attrs,
  inputs: [{ dtype: 'f32', shape }],
});

const packChannels = defineOp({
  name: 'PackChannels',
  onnx: { domain: CHOOSE_DOMAIN, since: 1 },
  attrs: ATTRS,
  inputs: [1, 1],
  infer(ctx) {
    const { dtype, shape } = ctx.input(0);
    const { stride, channels, pad, places } = ctx.attrs;
    if (shape.length < 3) ctx.fail(`the input has rank ${shape.length}, expected 3 or more`);
    if (stride < 1 || pad < 0 || places < 0)
      ctx.fail(`stride ${stride}, pad ${pad} and ${places} places do not go together`);
    if (typeof shape[1] === 'number' && channels < shape[1]) ctx.fail(`${channels} channels are less than ${shape[1]}`);
    return [
      { dtype, shape: shape.map((dim, d) => (d === 1 ? stride * channels : d === shape.length - 1 ? places : dim)) },
    ];
  },
  eval([x], { stride, channels, pad, places }, [out]) {
    const { shape } = x!;
    const strides = rowMajorStrides(shape);
    const last = shape.length - 1;
    const within = (at: number, size: number): number => (at >= 0 && at < size ? at : OUTSIDE);
    // The channel's place and the window's meet in one dim, so each of the `stride` neighbours is a read of its own.
    const parts = Array.from({ length: stride }, (_, beside) => {
      const tables = shape.map((size, d) => {
        if (d === 1) return offsets(channels, strides[d], (c) => within(c, size));
        if (d === last) return offsets(places, 1, (p) => within(p * stride + beside - pad, size));
        return offsets(size, strides[d]);
      });
      const type = { dtype: out.dtype, shape: out.shape.map((dim, d) => (d === 1 ? channels : dim)) };
      return readSeparable(x!, tables, type, encodeScalar(out.dtype, 0)).data;
    });
    const data = new (x!.data.constructor as new (length: number) => TypedArray)(parts[0].length * stride);
    const block = parts[0].length / Math.max(1, shape[0]);
    for (const [beside, part] of parts.entries())
      for (let n = 0; n < shape[0]; n++)
        data.set(part.subarray(n * block, (n + 1) * block) as never, (n * stride + beside) * block);
    return [{ ...out, data }];
  },
  lower: { kind: 'index', once: true, layout: 'channels-last', read: (ctx, _, coords) => read(ctx, coords) },
  cases: [
    packCase('a stem', [2, 3, 5, 11], { stride: 2, channels: 4, pad: 3, places: 9 }),
    packCase('patches', [1, 3, 4, 12], { stride: 4, channels: 4, places: 3 }),
    packCase('one place each', [2, 5, 7], { stride: 1, channels: 8, places: 7 }),
    packCase('nothing', [0, 3, 2, 4], { stride: 2, channels: 4, places: 2 }),
    packCase('3-d, cut', [1, 2, 3, 2, 7], { stride: 3, channels: 2, pad: 1, places: 2 }),
  ],
});

export const PACK_CHANNELS_OPS: readonly Op[] = [packChannels];
