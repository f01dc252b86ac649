/**
 * One small graph a pass, with what the pass is for and what it must leave alone; the goldens print them before and after.
 */
import { fromNumbers, scalarTensor, type Tensor } from '../../src/core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../../src/graph/build.ts';
import type { Attrs, Graph } from '../../src/graph/ir.ts';
import { OPS } from '../../src/ops/all.ts';
import { randomTensor } from '../random.ts';

/** A builder with one call a node: the output named, the ONNX node named after it. */
interface Sketch {
  readonly b: GraphBuilder;
  node(output: string, op: string, inputs: readonly string[], attrs?: Attrs): string;
  constant(name: string, value: Tensor): string;
}

export function sketch(name: string, draw: (s: Sketch) => readonly string[]): Graph {
  const b = graphBuilder(name, OPS);
  const outputs = draw({
    b,
    node: (output, op, inputs, attrs = {}) => b.node(op, inputs, { attrs, outputs: [output], loc: [`/${output}`] })[0],
    constant: (constantName, value) => b.constant(value, constantName),
  });
  for (const output of outputs) b.output(output);
  return b.finish();
}

const f32 = (shape: readonly number[], values: readonly number[]): Tensor => fromNumbers('f32', shape, values);
const i64 = (...values: number[]): Tensor => fromNumbers('i64', [values.length], values);

const normalized = (s: Sketch, prefix: string, x: string, channels: number): string =>
  s.node(prefix, 'BatchNormalization', [
    x,
    s.constant(`${prefix}.scale`, randomTensor('f32', [channels], 1, [0.5, 2])),
    s.constant(`${prefix}.bias`, randomTensor('f32', [channels], 2)),
    s.constant(`${prefix}.mean`, randomTensor('f32', [channels], 3)),
    s.constant(`${prefix}.variance`, randomTensor('f32', [channels], 4, [0.5, 2])),
  ]);

/** Pass name to the graph that shows it. */
export const EXAMPLES: Readonly<Record<string, () => Graph>> = {
  'eliminate-dead-code': () =>
    sketch('dead', (s) => {
      const x = s.b.input('x', 'f32', [2, 3]);
      const unread = s.node('unread', 'Relu', [x]);
      s.node('unread_too', 'Mul', [unread, s.constant('unread_constant', f32([3], [1, 2, 3]))]);
      s.b.input('interface', 'f32', [1]);
      return [s.node('y', 'Sigmoid', [x])];
    }),
  widen: () =>
    sketch('half', (s) => {
      const x = s.b.input('x', 'f16', [2, 3]);
      const scaled = s.node('scaled', 'Mul', [x, s.constant('w', fromNumbers('f16', [3], [0.5, 2, 65504]))]);
      const back = s.node('back', 'Cast', [s.node('wide', 'Cast', [scaled], { to: 'f32' })], { to: 'f16' });
      const zeros = s.node('zeros', 'ConstantOfShape', [s.constant('shape', i64(2, 3))], {
        value: fromNumbers('f16', [1], [0.25]),
      });
      return [s.node('y', 'Add', [back, zeros]), s.node('size', 'Size', [x])];
    }),
  'sum-bytes': () =>
    sketch('quantised', (s) => {
      const one = (name: string, dtype: 'u8' | 'i8', scale: number, zeroPoint: number): string[] => [
        s.constant(`${name}_scale`, scalarTensor('f32', scale)),
        s.constant(`${name}_zero`, fromNumbers(dtype, [], [zeroPoint])),
      ];
      const q = s.b.input('q', 'u8', [1, 8, 2, 2]);
      const x = s.node('x', 'DequantizeLinear', [q, ...one('q', 'u8', 0.5, 4)]);
      const bytes = s.constant(
        'bytes',
        fromNumbers('i8', [2, 8, 1, 1], [1, -2, 3, 127, 0, 5, 6, 7, -1, 2, -3, -127, 4, 5, 6, 7]),
      );
      const scales = s.constant('scales', f32([2], [0.25, 0.5]));
      const w = s.node('w', 'DequantizeLinear', [bytes, scales], { axis: 0 });
      const bias = s.node(
        'bias',
        'DequantizeLinear',
        [s.constant('whole', fromNumbers('i32', [2], [100, -7])), s.constant('whole_scale', f32([2], [0.125, 0.25]))],
        { axis: 0 },
      );
      const sum = s.node('sum', 'Conv', [x, w, bias]);
      const positive = s.node('positive', 'Relu', [sum]);
      // The largest bytes are the largest numbers; quantised again by the same steps they are what they were.
      const pooled = s.node('pooled', 'MaxPool', [x], { kernel_shape: [2, 2] });
      const again = s.node('again', 'QuantizeLinear', [pooled, 'q_scale', 'q_zero']);
      // A sum that others read as numbers stays as it is, in integers before.
      const other = s.node('other', 'Conv', [x, w]);
      return [s.node('y', 'QuantizeLinear', [positive, ...one('y', 'i8', 4, -100)]), other, again];
    }),
  'widen-bytes': () =>
    sketch('bytes', (s) => {
      const q = s.b.input('q', 'u8', [3, 4]);
      const w = s.constant('w', fromNumbers('i8', [4, 2], [1, 2, 3, 4, -5, -6, -7, -128]));
      return [s.node('y', 'MatMul', [q, w])];
    }),
  'pack-channels': () =>
    sketch('stem', (s) => {
      const x = s.b.input('x', 'f32', [2, 3, 9, 11]);
      const conv = (name: string, weight: readonly number[], attrs: Attrs): string =>
        s.node(name, 'Conv', [x, s.constant(`${name}_w`, randomTensor('f32', weight, 4))], attrs);
      const packed = conv('packed', [4, 3, 7, 7], { strides: [2, 2], pads: [3, 3, 3, 3] });
      const wasteful = conv('wasteful', [4, 3, 3, 3], { strides: [1, 1] });
      const wide = s.b.input('wide', 'f32', [1, 16, 4, 4]);
      const runs = s.node('runs', 'Conv', [wide, s.constant('runs_w', randomTensor('f32', [4, 16, 2, 2], 5))], {
        strides: [2, 2],
      });
      return [packed, wasteful, runs];
    }),
  'expand-ops': () =>
    sketch('expand', (s) => {
      const x = s.b.input('x', 'f32', [2, 3, 4]);
      const [kept] = s.b.node('Dropout', [normalized(s, 'bn', x, 3)], { outputs: ['kept', 'mask'], loc: ['/dropout'] });
      return [kept, 'mask'];
    }),
  'fold-constants': () =>
    sketch('constants', (s) => {
      const x = s.b.input('x', 'f32', [2, 3, 4]);
      const sum = s.node('sum', 'Add', [s.constant('a', f32([2], [1, 2])), s.constant('b', f32([1], [10]))]);
      const dims = s.node('dims', 'Shape', [x]);
      const rows = s.node('rows', 'Gather', [dims, s.constant('zero', scalarTensor('i64', 0))], { axis: 0 });
      const list = s.node('list', 'Unsqueeze', [rows, s.constant('axis', i64(0))]);
      const target = s.node('target', 'Concat', [list, s.constant('rest', i64(-1))], { axis: 0 });
      const bomb = s.node('bomb', 'ConstantOfShape', [s.constant('huge', i64(1 << 20, 1 << 10))]);
      return [s.node('y', 'Reshape', [x, target]), sum, s.node('total', 'ReduceMax', [bomb], { keepdims: false })];
    }),
  'remove-no-ops': () =>
    sketch('no_ops', (s) => {
      const x = s.b.input('x', 'f32', [2, 3]);
      const one = s.constant('one', f32([3], [1, 1, 1]));
      const zero = s.constant('zero', scalarTensor('f32', 0));
      let v = s.node('mul', 'Mul', [one, x]);
      v = s.node('add', 'Add', [v, zero]);
      v = s.node('sub', 'Sub', [v, zero]);
      v = s.node('div', 'Div', [v, one]);
      v = s.node('pow', 'Pow', [v, one]);
      v = s.node('cast', 'Cast', [v], { to: 'f32' });
      v = s.node('identity', 'Identity', [v]);
      v = s.node('relu', 'Relu', [v]);
      v = s.node('reshape', 'Reshape', [v, s.constant('same', i64(2, -1))]);
      v = s.node('transpose', 'Transpose', [v], { perm: [0, 1] });
      v = s.node('concat', 'Concat', [v], { axis: 1 });
      v = s.node('expand', 'Expand', [v, s.constant('row', i64(1, 3))]);
      v = s.node('slice', 'Slice', [v, s.constant('start', i64(0)), s.constant('end', i64(99))]);
      v = s.node('pad', 'Pad', [v, s.constant('pads', i64(0, 0, 0, 0))]);
      const first = s.node('first', 'Identity', [v]);
      const second = s.node('second', 'Identity', [v]);
      const kept = s.node('reversed', 'Slice', [
        x,
        s.constant('last', i64(-1)),
        s.constant('before', i64(-99)),
        s.constant('axis', i64(0)),
        s.constant('step', i64(-1)),
      ]);
      const moved = s.node('moved', 'Pad', [x, s.constant('shift', i64(0, 1, 0, -1))]);
      const broadcast = s.node('broadcast', 'Mul', [
        s.node('wider', 'Expand', [one, s.constant('wide', i64(4, 1, 3))]),
        x,
      ]);
      return [first, second, kept, moved, broadcast, s.node('copy', 'Identity', [x])];
    }),
  'merge-views': () =>
    sketch('views', (s) => {
      const x = s.b.input('x', 'f32', [2, 3, 4]);
      const t = s.node('t', 'Transpose', [s.node('t1', 'Transpose', [x], { perm: [1, 2, 0] })], { perm: [2, 1, 0] });
      const back = s.node('back', 'Transpose', [s.node('there', 'Transpose', [x], { perm: [1, 0, 2] })], {
        perm: [1, 0, 2],
      });
      const flat = s.node('flat', 'Flatten', [x]);
      const wide = s.node('wide', 'Unsqueeze', [flat, s.constant('axis', i64(1))]);
      const r = s.node('r', 'Reshape', [wide, s.constant('to', i64(4, -1))]);
      // Views that cancel at an output, the first of them still read: what made the source takes over the output's name.
      const squared = s.node('squared', 'Reshape', [s.node('made', 'Relu', [x]), s.constant('square', i64(6, 4))]);
      const same = s.node('same', 'Reshape', [squared, s.constant('whole', i64(2, 3, 4))]);
      return [
        t,
        s.node('y', 'Relu', [back]),
        r,
        s.node('also', 'Relu', [flat]),
        same,
        s.node('kept', 'Relu', [squared]),
      ];
    }),
  'fold-channel-affine': () =>
    sketch('affine', (s) => {
      const x = s.b.input('x', 'f32', [1, 2, 3, 3]);
      const perChannel = [1, 4, 1, 1];
      const conv = s.node('conv', 'Conv', [x, s.constant('w', randomTensor('f32', [4, 1, 2, 2], 5))], { group: 2 });
      const scaled = s.node('scaled', 'Mul', [conv, s.constant('scale', f32(perChannel, [1, 2, 4, 8]))]);
      const shifted = s.node('shifted', 'Add', [s.constant('shift', f32(perChannel, [1, 2, 3, 4])), scaled]);
      const halved = s.node('halved', 'Div', [shifted, s.constant('two', scalarTensor('f32', 2))]);
      const shared = s.node('shared', 'Conv', [x, 'w'], { group: 2 });
      const twice = s.node('twice', 'Mul', [shared, 'two']);
      const flat = s.node('flat', 'Flatten', [halved]);
      const gemm = s.node('gemm', 'Gemm', [flat, s.constant('v', randomTensor('f32', [3, 16], 6))], { transB: true });
      const logits = s.node('logits', 'Sub', [gemm, s.constant('offset', f32([3], [1, 2, 3]))]);
      return [logits, s.node('sum', 'Add', [shared, twice])];
    }),
  'eliminate-common-subexpressions': () =>
    sketch('common', (s) => {
      const x = s.b.input('x', 'f32', [2, 3]);
      const y = s.b.input('y', 'f32', [2, 3]);
      const a = s.node('a', 'Add', [x, s.constant('c', f32([3], [1, 2, 3]))]);
      const b = s.node('b', 'Add', [s.constant('c_again', f32([3], [1, 2, 3])), x]);
      const p = s.node('p', 'Sub', [a, y]);
      const q = s.node('q', 'Sub', [b, y]);
      const other = s.node('other', 'Sub', [y, a]);
      const soft = s.node('soft', 'Softmax', [p], { axis: 0 });
      return [s.node('product', 'Mul', [p, q]), other, soft, s.node('soft_1', 'Softmax', [q], { axis: 1 }), q];
    }),
  'merge-products': () =>
    sketch('heads', (s) => {
      const x = s.b.input('x', 'f32', [3, 4]);
      const product = (name: string, columns: number, seed: number): string =>
        s.node(name, 'MatMul', [x, s.constant(`${name}.w`, randomTensor('f32', [4, columns], seed))]);
      const biased = (name: string, columns: number, seed: number): string =>
        s.node(`${name}.biased`, 'Add', [
          s.constant(`${name}.b`, randomTensor('f32', [columns], seed)),
          product(name, columns, seed + 1),
        ]);
      const turned = (y: string): string => s.node(`${y}.turned`, 'Transpose', [y], { perm: [1, 0] });
      const [q, k, v] = [turned(biased('q', 2, 1)), turned(biased('k', 2, 3)), turned(biased('v', 5, 5))];
      const gate = s.node('gate', 'Sigmoid', [product('gated', 2, 7)]);
      return [q, k, v, gate, s.node('alone', 'Transpose', [product('other', 3, 8)], { perm: [1, 0] })];
    }),
  'nest-concats': () =>
    sketch('dense', (s) => {
      const [x, y, z] = ['x', 'y', 'z'].map((name) => s.b.input(name, 'f32', [1, 2]));
      const two = s.node('two', 'Concat', [x, y], { axis: 1 });
      const three = s.node('three', 'Concat', [x, y, z], { axis: -1 });
      const rows = s.node('rows', 'Concat', [x, y, z], { axis: 0 });
      return [s.node('four', 'Concat', [x, y, z, x], { axis: 1 }), two, three, rows];
    }),
};
