/**
 * What recent networks put between their products: SwiGLU, a gate times a linear part; and CausalConvWithState, the short convolution
 * along time that stands before linear attention, with the end of the sequence carried from call to call.
 */
import { addDims, printShape, shapesEqual } from '../core/shape.ts';
import { zeros } from '../core/tensor.ts';
import { defineComposite } from './composite.ts';
import { checkFloats, mayBeEqual } from './dims.ts';
import { float, type Op, type OpCase, oneOf } from './op.ts';

const f32 = (shape: readonly number[]) => ({ dtype: 'f32', shape }) as const;

const swiGlu = defineComposite({
  name: 'SwiGLU',
  onnx: { since: 28 },
  attrs: { alpha: float(1) },
  inputs: [2, 2],
  rounding: 'once',
  infer(ctx) {
    checkFloats(ctx);
    const [gate, value] = [ctx.input(0), ctx.input(1)];
    if (!shapesEqual(gate.shape, value.shape))
      ctx.fail(`the gate is ${printShape(gate.shape)}, the linear part ${printShape(value.shape)}`);
    return [gate];
  },
  write: ({ w, input, attrs }) => [w.mul(w.node('Swish', [input(0)], attrs), input(1))],
  cases: [
    { name: 'tokens', inputs: [f32([2, 3, 17]), f32([2, 3, 17])] },
    { name: 'alpha', inputs: [f32([5, 1]), f32([5, 1])], attrs: { alpha: 1.7 } },
    { name: 'empty', inputs: [f32([0, 4]), f32([0, 4])] },
  ],
});

const causalConvWithState = defineComposite({
  name: 'CausalConvWithState',
  onnx: { since: 27 },
  attrs: { activation: oneOf('none', 'silu', 'swish') },
  inputs: [2, 4],
  outputs: 2,
  rounding: 'once',
  infer(ctx) {
    checkFloats(ctx);
    const x = ctx.input(0);
    const weight = ctx.input(1).shape;
    if (x.shape.length !== 3) ctx.fail(`the input is ${printShape(x.shape)}, expected [batch, channels, length]`);
    const [batch, channels] = x.shape;
    if (weight.length !== 3 || !mayBeEqual(weight[0], channels) || !mayBeEqual(weight[1], 1))
      ctx.fail(`the weights are ${printShape(weight)}, expected [channels, 1, kernel size]`);
    const state = [batch, channels, addDims(weight[2], -1)];
    const past = ctx.inputs[3]?.shape;
    if (past && !(past.length === 3 && past.every((d, i) => mayBeEqual(d, state[i]))))
      ctx.fail(`the state is ${printShape(past)}, expected ${printShape(state)}`);
    return [x, { dtype: x.dtype, shape: state }].slice(0, ctx.outputCount);
  },
  write({ w, input, type, types, attrs, node }) {
    const { dtype, shape } = type(0);
    const [batch, channels, length] = shape;
    const kept = type(1).shape[2] - 1;
    const past = types[3] ? input(3) : w.constant(zeros(dtype, [batch, channels, kept]));
    const whole = kept === 0 ? input(0) : w.concat([past, input(0)], 2);
    const sums = w.node('Conv', [whole, input(1), ...(types[2] ? [input(2)] : [])], { group: channels });
    const y = attrs.activation === 'none' ? sums : w.node('Swish', [sums]);
    return [y, w.slice(whole, 2, length, length + kept)].slice(0, node.outputs.length);
  },
  cases: [
    convCase('no state', [2, 3, 7], 4),
    convCase('bias, state', [2, 3, 7], 4, { bias: true, past: true, outputs: 2 }),
    convCase('one step', [1, 5, 1], 3, { past: true, outputs: 2 }),
    convCase('kernel of one', [1, 2, 3], 1, { outputs: 2 }),
    convCase('silu', [1, 4, 5], 2, { bias: true, attrs: { activation: 'silu' } }),
  ],
});

interface ConvCase {
  readonly bias?: boolean;
  readonly past?: boolean;
  readonly outputs?: number;
  readonly attrs?: OpCase['attrs'];
}

function convCase(
  name: string,
  shape: readonly [number, number, number],
  size: number,
  { bias = false, past = false, outputs = 1, attrs = {} }: ConvCase = {},
): OpCase {
  const [batch, channels] = shape;
  const optional = [bias ? f32([channels]) : undefined, past ? f32([batch, channels, size - 1]) : undefined];
  return { name, attrs, outputs, inputs: [f32(shape), f32([channels, 1, size]), ...optional] };
}

export const GATED_OPS: readonly Op[] = [swiGlu, causalConvWithState];
