/**
 * Every operator's definition against onnxruntime and against its own expansion, and its inference with open sizes.
 */
import { describe, expect } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import { bindDim, type Dim, isStatic, type Shape } from '../src/core/shape.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import { inferNode, initialFacts } from '../src/graph/infer.ts';
import type { Graph } from '../src/graph/ir.ts';
import { OPS } from '../src/ops/all.ts';
import { SMALL } from '../src/ops/elementwise.ts';
import { runGraph } from './onnxruntime.ts';
import { caseGraph } from './op-cases.ts';
import { type Gap, itEach, opSuite, type Runner } from './op-suite.ts';

const anyOf = (names: string): readonly string[] => names.split(' ');
const noKernel = (ops: string, dtypes: readonly DType[], names?: RegExp): Gap => ({
  ops: anyOf(ops),
  dtypes,
  ...(names && { names }),
  how: 'refused',
  why: `its CPU has no kernel for ${dtypes.join(', ')}`,
});

/** Operators of opsets that it does not have yet. */
const NEWER = 'SwiGLU CausalConvWithState LinearAttention';

const RUNNERS: readonly Runner[] = [
  {
    name: 'onnxruntime',
    run: (graph, inputs) => runGraph(graph, inputs, OPS),
    gaps: [
      {
        ops: [...OPS.keys()],
        dtypes: ['bf16', ...SMALL],
        how: 'refused',
        why: 'onnxruntime-node has no tensors of these types',
      },
      noKernel('HardSigmoid HardSwish LeakyRelu Elu Selu ThresholdedRelu Softplus Softsign Mish Gelu Erf Mean', [
        'f64',
      ]),
      { ops: ['ai.hotrod.Choose', 'ai.hotrod.PackChannels'], how: 'refused', why: 'no model holds them' },
      noKernel('Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh', ['f64']),
      noKernel('Relu', ['i64', 'i16']),
      noKernel('Min Max', ['i16', 'u16']),
      noKernel('PRelu', ['i32']),
      noKernel('BitShift', ['u16', 'i8', 'i16', 'i32', 'i64']),
      noKernel('Celu', ['f64', 'f16']),
      { ops: ['Attention'], names: /^window/, how: 'refused', why: 'windows are newer than the opset that is written' },
      { ops: ['SpaceToDepth'], names: /CRD/, how: 'refused', why: 'it does not know mode yet' },
      noKernel('BitCast', ['bool']),
      { ops: anyOf(NEWER), how: 'refused', why: 'they are newer than it' },
      {
        ops: anyOf('ReduceSum ReduceMean ReduceProd ReduceL1 ReduceSumSquare'),
        dtypes: ['i64'],
        names: /beyond 53 bits/,
        how: 'differs',
        why: 'it reduces integers in floating point',
      },
      noKernel('EyeLike', ['u8', 'f16', 'bool']),
      noKernel('OneHot', ['f32', 'i32'], /^(i32|f32) indices/),
      noKernel('QuantizeLinear Conv', ['i32']),
      noKernel('com.microsoft.BiasSplitGelu com.microsoft.NhwcConv', ['f32']),
      noKernel('com.microsoft.MultiHeadAttention', ['f32'], /^packed/),
      {
        ops: ['TopK'],
        names: /^NaN/,
        how: 'differs',
        why: 'it finds NaN neither more nor less than what it has so far',
      },
      {
        ops: ['Shrink'],
        dtypes: ['f64'],
        how: 'differs',
        within: 1e-6,
        why: 'it computes float64 in float32',
      },
      noKernel('RandomNormal RandomUniform', ['f16']),
      {
        ops: anyOf('RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial'),
        how: 'differs',
        why: 'its random numbers are others',
      },
      {
        ops: ['HammingWindow', 'BlackmanWindow'],
        dtypes: ['f64'],
        how: 'differs',
        within: 1e-6,
        why: 'its coefficients are float32',
      },
      {
        ops: ['LayerNormalization'],
        dtypes: ['f64'],
        names: /large mean/,
        how: 'differs',
        within: 1e-6,
        why: 'it subtracts the squared mean from the mean of squares, which cancels',
      },
      {
        ops: anyOf('MaxPool AveragePool LpPool'),
        names: /ceil mode drops/,
        how: 'refused',
        why: 'it does not take pads as large as the kernel',
      },
    ],
  },
  { name: 'expansion', takes: (op) => op.expand !== undefined, run: expanded, gaps: [] },
];

/** The case's node written with others by its operator's `expand`, evaluated. */
async function expanded(graph: Graph, inputs: ReadonlyMap<string, Tensor>) {
  const [node] = graph.nodes;
  const { expand } = OPS.get(node.op)!;
  const b = graphBuilder('expanded', OPS);
  for (const name of graph.inputs) b.input(name, graph.values.get(name)!.dtype, graph.values.get(name)!.shape);
  for (const [name, value] of graph.constants) b.constant(value, name);
  const types = node.inputs.map((name) => graph.values.get(name));
  const outputs = expand?.(b, node, node.attrs, types);
  if (!outputs) return undefined;
  // One value may be several outputs of the graph under names of their own.
  const names = outputs.map((name) => b.node('Identity', [name])[0]);
  for (const name of names) b.output(name);
  const values = evalGraph(b.finish(), OPS, inputs);
  return new Map(graph.outputs.map((name, i) => [name, values.get(names[i])!]));
}

for (const runner of RUNNERS) opSuite(runner);

/** Inputs whose sizes inference needs: they decide the rank of the result or the number of a window's taps. */
const MUST_BE_KNOWN: ReadonlyMap<string, readonly number[]> = new Map([
  ['Conv', [1]],
  ['ConvInteger', [1]],
  ['com.microsoft.FusedConv', [1]],
  ['com.microsoft.NhwcConv', [1]],
  ['QLinearConv', [3]],
  ['GatherND', [1]],
  ['ScatterND', [1]],
  ['DeformConv', [1]],
]);

/** The case's graph with every size of its inputs above 1 replaced by a name; equal sizes get one name. */
function opened(graph: Graph): { readonly graph: Graph; readonly sizes: ReadonlyMap<string, number> } {
  const sizes = new Map<string, number>();
  const open = (d: Dim): Dim => {
    if (typeof d !== 'number' || d < 2) return d;
    sizes.set(`s${d}`, d);
    return { terms: [{ name: `s${d}`, coef: 1 }], constant: 0 };
  };
  const values = new Map(graph.values);
  const [node] = graph.nodes;
  for (const name of graph.inputs) {
    if (MUST_BE_KNOWN.get(node.op)?.some((i) => node.inputs[i] === name)) continue;
    const { dtype, shape } = values.get(name)!;
    values.set(name, { dtype, shape: shape.map(open) });
  }
  return { graph: { ...graph, values }, sizes };
}

describe('inference with open sizes gives the known shape when they are bound', () => {
  for (const op of OPS.values()) {
    itEach(op, (c, seed) => {
      const { graph } = caseGraph(op, c, OPS, seed);
      const { graph: open, sizes } = opened(graph);
      const [node] = open.nodes;
      const types = inferNode(node, op, initialFacts(open));
      for (const [i, { dtype, shape }] of types.entries()) {
        const known = graph.values.get(node.outputs[i])!;
        expect(dtype).toBe(known.dtype);
        expect(shape.length).toBe(known.shape.length);
        const bound: Shape = shape.map((d) => bindDim(d, sizes));
        // What is still open afterwards is a fresh name, which says nothing.
        const told = known.shape.map((d, k) => (isStatic([bound[k]]) ? d : bound[k]));
        expect(bound).toEqual(told);
      }
    });
  }
});
