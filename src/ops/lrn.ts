/**
 * LRN, local response normalisation across channels (AlexNet, GoogLeNet).
 *
 *     y[n, c, …] = x / (bias + alpha / size · Σ over c' of x[n, c', …]²)^beta      c' from c − ⌊(size−1)/2⌋ to c + ⌈(size−1)/2⌉
 */
import { fromNumbers } from '../core/tensor.ts';
import { add, axis, binary, div, index, inRange, like, local, mul, select } from '../loop/expr.ts';
import { checkFloats } from './dims.ts';
import { defineOp, float, int, type Op, type OpCase } from './op.ts';
import { toFloat64 } from './product.ts';
import { reduceRow } from './rows.ts';

const lrn = defineOp({
  name: 'LRN',
  onnx: { since: 1 },
  attrs: { alpha: float(0.0001), beta: float(0.75), bias: float(1), size: int.required },
  inputs: [1, 1],
  infer(ctx) {
    checkFloats(ctx);
    const x = ctx.input(0);
    if (x.shape.length < 2) ctx.fail(`the input has rank ${x.shape.length}, expected at least 2`);
    if (ctx.attrs.size < 1) ctx.fail(`size is ${ctx.attrs.size}, expected at least 1`);
    return [x];
  },
  eval([x], { alpha, beta, bias, size }, [out]) {
    const values = toFloat64(x!);
    const [batch, channels, ...space] = out.shape;
    const pixels = space.reduce((n, d) => n * d, 1);
    const before = Math.floor((size - 1) / 2);
    const y = new Float64Array(values.length);
    for (let n = 0; n < batch; n++) {
      for (let c = 0; c < channels; c++) {
        const first = Math.max(0, c - before);
        const end = Math.min(channels, c - before + size);
        for (let p = 0; p < pixels; p++) {
          let sum = 0;
          for (let k = first; k < end; k++) sum += values[(n * channels + k) * pixels + p] ** 2;
          const at = (n * channels + c) * pixels + p;
          y[at] = values[at] / (bias + (alpha / size) * sum) ** beta;
        }
      }
    }
    return [fromNumbers(out.dtype, out.shape, y)];
  },
  lower: {
    kind: 'kernel',
    layout: 'channels-last',
    streams: [],
    build(ctx) {
      const { alpha, beta, bias, size } = ctx.attrs;
      const { dtype, shape } = ctx.outputs[0];
      const { axes, coords } = ctx.outputAxes(0);
      const tap = { name: ctx.fresh('k'), extent: size };
      const channel = add(add(coords[1], axis(tap.name)), index(-Math.floor((size - 1) / 2)));
      const neighbour = ctx.load(0, coords.with(1, channel));
      const square = select(inRange(channel, shape[1]), mul(neighbour, neighbour), like(neighbour, 0));
      const sum = ctx.fresh('squares');
      const x = ctx.load(0, coords);
      const base = add(like(x, bias), mul(like(x, alpha / size), local(sum, dtype)));
      return {
        form: { kind: 'reduce' },
        axes,
        body: [
          reduceRow(sum, 'add', { axes: [tap], coords }, square),
          ctx.store(0, coords, div(x, binary('pow', base, like(x, beta)))),
        ],
      };
    },
  },
  cases: [
    lrnCase('size 3', [2, 7, 3, 5], { size: 3 }),
    lrnCase('size 5', [1, 5, 2, 2], { size: 5, alpha: 0.5, beta: 0.5, bias: 2 }),
    lrnCase('wider than the channels', [1, 2, 3, 1], { size: 7, alpha: 0.3 }),
    lrnCase('size 1', [1, 1, 4, 4], { size: 1, alpha: 1 }),
  ],
});

function lrnCase(name: string, shape: number[], attrs: NonNullable<OpCase['attrs']>): OpCase {
  return { name, attrs, inputs: [{ dtype: 'f32', shape }] };
}

export const LRN_OPS: readonly Op[] = [lrn];
