/**
 * What operators refuse, and that positions from data never leave a buffer, whatever they are.
 */
import { describe, expect, it } from 'vitest';
import { ModelError } from '../src/core/errors.ts';
import { fromNumbers, type Tensor, zeros } from '../src/core/tensor.ts';
import { graphBuilder } from '../src/graph/build.ts';
import type { Attrs } from '../src/graph/ir.ts';
import { OPS } from '../src/ops/all.ts';
import { drawCase, evalCase, runLowering } from './lowering-harness.ts';

const x = (...shape: number[]): Tensor => zeros('f32', shape);
const ints = (...values: number[]): Tensor => fromNumbers('i64', [values.length], values);

const LINEAR = { q_num_heads: 2, kv_num_heads: 2, update_rule: 'gated' };

/** Operator, attributes, inputs (all constant), what the message says. */
const REFUSED: readonly (readonly [string, Attrs, readonly Tensor[], RegExp])[] = [
  ['Add', {}, [x(2, 3), x(4)], /\[2,3\] and \[4\] do not broadcast/],
  ['Add', {}, [x(2), ints(1, 2)], /one element type/],
  ['And', {}, [x(2), x(2)], /input 0 is f32, expected one of bool/],
  ['PRelu', {}, [x(3), x(2, 3)], /slope/],
  ['BitShift', {}, [fromNumbers('u8', [1], [1]), fromNumbers('u8', [1], [1])], /"direction" is missing/],
  ['Gelu', { approximate: 'fast' }, [x(1)], /expected one of none, tanh/],
  ['Clip', {}, [x(3), x(2)], /input 1 must be a scalar/],
  ['Reshape', {}, [x(2, 3), ints(4, -1)], /numbers of elements differ/],
  ['Reshape', {}, [x(2, 3), ints(5)], /numbers of elements differ/],
  ['Reshape', {}, [x(2, 3), ints(-1, -1)], /-1 more than once/],
  ['Reshape', {}, [x(2), ints(2, 0)], /0 at position 1/],
  ['Flatten', { axis: 4 }, [x(2, 3)], /axis 4 is outside/],
  ['Squeeze', {}, [x(2, 3), ints(0)], /axis 0 has size 2, expected 1/],
  ['Unsqueeze', {}, [x(2), ints(0, 0)], /twice/],
  ['Transpose', { perm: [0, 0] }, [x(2, 3)], /twice/],
  ['Transpose', { perm: [0] }, [x(2, 3)], /rank 2/],
  ['Concat', { axis: 0 }, [x(2, 3), x(2, 4)], /does not fit/],
  ['Concat', { axis: 2 }, [x(2, 3)], /axis 2 is outside/],
  ['Split', { axis: 0 }, [x(5), ints(2, 2)], /2 sizes are given for 1 outputs/],
  ['Slice', {}, [x(5), ints(0), ints(3), ints(0), ints(0)], /a step is 0/],
  ['Slice', {}, [x(5), ints(0), ints(3), ints(1)], /axis 1 is outside/],
  ['Expand', {}, [x(3), ints(2)], /does not expand/],
  ['Tile', {}, [x(3), ints(2, 2)], /one repeat a dim/],
  ['Pad', {}, [x(3), ints(1)], /1 pads are given for rank 1/],
  ['Pad', {}, [x(3), ints(-2, -2)], /cut more than/],
  ['Gather', { axis: 1 }, [x(3), ints(0)], /axis 1 is outside/],
  ['Gather', {}, [x(3), x(1)], /indices are f32/],
  ['GatherND', {}, [x(3), fromNumbers('i64', [1, 2], [0, 0])], /positions of 2 numbers/],
  ['DepthToSpace', { blocksize: 2 }, [x(1, 3, 2, 2)], /channels 3 is not a multiple of 4/],
  ['SpaceToDepth', { blocksize: 2 }, [x(1, 1, 3, 2)], /height 3 is not a multiple/],
  ['Trilu', {}, [x(3)], /two dims/],
  ['Range', {}, [ints(0), ints(5), ints(0)].map((t) => ({ ...t, shape: [] })), /delta is 0/],
  ['Dropout', {}, [x(3), x(), fromNumbers('bool', [], [1])], /training_mode is on/],
  ['QuantizeLinear', {}, [x(2, 3), x(2)], /the scale is \[2\], the tensor has 3 along axis 1/],
  ['QuantizeLinear', { block_size: 2 }, [x(2, 5), x(2, 2)], /not one a block of 2 along axis 1/],
  ['QuantizeLinear', { output_dtype: 'i8' }, [x(2), x(), zeros('u8', [])], /output_dtype is i8, the zero point is u8/],
  ['DequantizeLinear', {}, [x(2), x()], /input 0 is f32, expected one of i8, u8, i16, u16, i4, .*, i32/],
  ['MatMulInteger', {}, [zeros('u8', [2, 3]), zeros('i8', [4, 2])], /the inner dims differ: 3 .* and 4/],
  ['ConvInteger', {}, [zeros('u8', [1, 2, 4, 4]), zeros('u8', [1, 3, 2, 2])], /input has 2 channels, weight expects 3/],
  ['CumSum', {}, [fromNumbers('bool', [2], [1, 0]), ints(0)], /the input is bool/],
  ['BitCast', { to: 'i64' }, [x(3)], /f32 has 32 bits and i64 has 64/],
  ['LinearAttention', LINEAR, [x(1, 2, 8), x(1, 2, 8), x(1, 2, 8)], /rule gated needs decay/],
  [
    'LinearAttention',
    LINEAR,
    [x(1, 2, 8), x(1, 2, 8), x(1, 2, 8), x(1, 2, 4, 3), x(1, 2, 2)],
    /state is \[1,2,4,3\], expected/,
  ],
  [
    'LinearAttention',
    LINEAR,
    [x(1, 2, 8), x(1, 2, 8), x(1, 2, 8), x(1, 2, 4, 4), x(1, 2, 3)],
    /decay is \[1,2,3\], expected/,
  ],
  ['CausalConvWithState', {}, [x(1, 3, 5), x(2, 1, 3)], /the weights are \[2,1,3\]/],
  ['SwiGLU', {}, [x(2, 3), x(3)], /the gate is \[2,3\]/],
  ['Attention', {}, [x(1, 3, 8), x(1, 3, 8), x(1, 3, 8)], /q_num_heads and kv_num_heads must be given/],
  ['Attention', {}, [x(1, 3, 2, 4), x(1, 2, 2, 4), x(1, 2, 2, 4)], /3 heads of queries are no multiple of 2/],
  ['com.microsoft.MultiHeadAttention', { num_heads: 3 }, [x(1, 2, 8), x(1, 2, 8), x(1, 2, 8)], /8 do not split into 3/],
  ['LSTM', {}, [x(4, 2, 3), x(1, 20, 3), x(1, 16, 5)], /input 2 is \[1,16,5\], expected \[1,20,5\]/],
  ['RNN', { activations: ['Gelu'] }, [x(4, 2, 3), x(1, 5, 3), x(1, 5, 5)], /activation "Gelu" is not known/],
  ['NegativeLogLikelihoodLoss', {}, [x(2, 5, 3), zeros('i64', [2, 4])], /the target is \[2,4\], expected \[2,3\]/],
  ['DFT', {}, [x(1, 8, 3)], /expected a last dim of 1 \(real\) or 2/],
  ['STFT', {}, [x(1, 8, 1), fromNumbers('i64', [], [0]), x(4)], /step of the frames is 0/],
  ['Det', {}, [x(2, 3)], /\[2,3\] holds no square matrices/],
  ['RandomNormal', { shape: [2] }, [], /"seed" is missing/],
];

describe('a node that breaks a rule is refused with the reason', () => {
  it.each(REFUSED)('%s %o', (op, attrs, inputs, message) => {
    const b = graphBuilder('wrong', OPS);
    const names = inputs.map((t) => b.constant(t));
    const add = () => b.node(op, names, { attrs, loc: ['/the/node'] });
    expect(add).toThrow(ModelError);
    expect(add).toThrow(message);
    expect(add).toThrow(`${op} "/the/node": `);
  });
});

const outside = (dtype: 'i64' | 'i32', shape: readonly number[]): Tensor =>
  fromNumbers(dtype, shape, [3, -4, 2 ** 31 - 1, -(2 ** 31)]);

describe('a position outside its dim', () => {
  it.each([
    ['Gather', outside('i64', [4]), {}],
    ['Gather', outside('i32', [2, 2]), {}],
    ['GatherElements', outside('i64', [4]), {}],
    ['GatherND', outside('i64', [4, 1]), {}],
  ] as const)('%s: eval refuses, the kernel stays inside its buffer', (name, indices, attrs) => {
    const op = OPS.get(name)!;
    const data = fromNumbers('f32', [3], [1, 2, 3]);
    const drawn = drawCase(op, { name: 'outside', inputs: [data, indices], attrs });
    expect(() => evalCase(drawn)).toThrow(/index 3 is outside \[-3, 3\)/);
    // The evaluator of kernels throws at any load out of range.
    for (const value of runLowering(drawn)[0].data) expect([1, 2, 3]).toContain(value);
  });
});
