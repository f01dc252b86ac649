/**
 * Forms of older opsets: a model as such an exporter wrote it gives the same through our upgrade and definition as in onnxruntime.
 */
import { expect, it } from 'vitest';
import { elements } from '../src/core/shape.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { fromNumbers } from '../src/core/tensor.ts';
import { evalGraph } from '../src/graph/eval.ts';
import { readOnnx } from '../src/onnx/read.ts';
import { OPS } from '../src/ops/all.ts';
import { modelBytes, type RawAttribute } from './onnx-model.ts';
import { runModel } from './onnxruntime.ts';
import { difference, tolerance } from './op-cases.ts';
import { randomTensor } from './random.ts';

interface OldForm {
  readonly op: string;
  readonly opset: number;
  readonly attrs: Readonly<Record<string, RawAttribute>>;
  readonly inputs: readonly Tensor[];
  /** Inputs after the others, as initializers. */
  readonly constants?: readonly Tensor[];
  readonly outputs?: number;
}

const x = (...shape: number[]): Tensor => randomTensor('f32', shape, elements(shape), [-4, 4]);
const ints = (...values: number[]): { readonly ints: readonly number[] } => ({ ints: values });
const floats = (...values: number[]): { readonly floats: readonly number[] } => ({ floats: values });
const FAR = 2 ** 40;

const FORMS: readonly OldForm[] = [
  { op: 'Clip', opset: 7, attrs: { min: { f: -1.5 }, max: { f: 2 } }, inputs: [x(3, 7)] },
  { op: 'Clip', opset: 10, attrs: { min: { f: 0 } }, inputs: [x(5)] },
  { op: 'Clip', opset: 8, attrs: {}, inputs: [x(5)] },
  {
    op: 'Slice',
    opset: 9,
    attrs: { starts: ints(1, -4), ends: ints(FAR, -1), axes: ints(0, 2) },
    inputs: [x(3, 5, 7)],
  },
  { op: 'Slice', opset: 7, attrs: { starts: ints(0, 2), ends: ints(2, 9) }, inputs: [x(3, 5, 2)] },
  { op: 'Pad', opset: 10, attrs: { pads: ints(0, 1, 2, 0), value: { f: 1.5 } }, inputs: [x(3, 5)] },
  { op: 'Pad', opset: 7, attrs: { pads: ints(1, 1, 1, 2), mode: { s: 'reflect' } }, inputs: [x(3, 5)] },
  { op: 'Split', opset: 11, attrs: { axis: { i: 1 }, split: ints(2, 3, 6) }, inputs: [x(2, 11)], outputs: 3 },
  { op: 'Split', opset: 9, attrs: {}, inputs: [x(6, 5)], outputs: 2 },
  { op: 'Split', opset: 13, attrs: { axis: { i: -1 } }, inputs: [x(2, 9)], outputs: 3 },
  { op: 'Split', opset: 13, attrs: {}, inputs: [x(5, 2)], constants: [fromNumbers('i64', [2], [4, 1])], outputs: 2 },
  { op: 'Squeeze', opset: 11, attrs: { axes: ints(0, -1) }, inputs: [x(1, 3, 1)] },
  { op: 'Squeeze', opset: 7, attrs: {}, inputs: [x(1, 3, 1)] },
  { op: 'Unsqueeze', opset: 12, attrs: { axes: ints(0, 3) }, inputs: [x(3, 5)] },
  { op: 'Dropout', opset: 7, attrs: { ratio: { f: 0.3 } }, inputs: [x(3, 5)] },
  { op: 'Dropout', opset: 10, attrs: {}, inputs: [x(7)] },
  { op: 'Reshape', opset: 7, attrs: {}, inputs: [x(2, 3, 5)], constants: [fromNumbers('i64', [2], [0, -1])] },
  { op: 'Cast', opset: 7, attrs: { to: { i: 7 } }, inputs: [x(7)] },
  { op: 'Concat', opset: 7, attrs: { axis: { i: 1 } }, inputs: [x(2, 3), x(2, 5)] },
  { op: 'DepthToSpace', opset: 7, attrs: { blocksize: { i: 2 } }, inputs: [x(1, 8, 3, 2)] },
  { op: 'Flatten', opset: 7, attrs: {}, inputs: [x(2, 3, 5)] },
  {
    op: 'Gather',
    opset: 7,
    attrs: { axis: { i: 1 } },
    inputs: [x(2, 5)],
    constants: [fromNumbers('i64', [2], [4, 0])],
  },
  { op: 'PRelu', opset: 7, attrs: {}, inputs: [x(2, 3, 5), x(3, 1)] },
  { op: 'Shape', opset: 7, attrs: {}, inputs: [x(2, 3, 5)] },
  { op: 'Upsample', opset: 7, attrs: { mode: { s: 'nearest' }, scales: floats(1, 1, 2, 3) }, inputs: [x(1, 2, 3, 5)] },
  {
    op: 'Upsample',
    opset: 9,
    attrs: { mode: { s: 'linear' } },
    inputs: [x(1, 2, 3, 5)],
    constants: [fromNumbers('f32', [4], [1, 1, 2, 2])],
  },
  {
    op: 'Resize',
    opset: 10,
    attrs: { mode: { s: 'nearest' } },
    inputs: [x(1, 2, 5, 4)],
    constants: [fromNumbers('f32', [4], [1, 1, 0.6, 1.5])],
  },
  {
    op: 'Scatter',
    opset: 9,
    attrs: { axis: { i: 1 } },
    inputs: [x(2, 5), fromNumbers('i64', [2, 2], [4, 1, 0, 3]), x(2, 2)],
  },
  { op: 'TopK', opset: 9, attrs: { axis: { i: 1 }, k: { i: 3 } }, inputs: [x(2, 7)], outputs: 2 },
  { op: 'TopK', opset: 10, attrs: {}, inputs: [x(2, 7)], constants: [fromNumbers('i64', [1], [2])], outputs: 2 },
  {
    op: 'RoiAlign',
    opset: 10,
    attrs: { output_height: { i: 2 }, output_width: { i: 3 }, sampling_ratio: { i: 2 } },
    inputs: [x(1, 2, 6, 7), fromNumbers('f32', [1, 4], [0.5, 1, 5, 4.5]), fromNumbers('i64', [1], [0])],
  },
  { op: 'GridSample', opset: 16, attrs: { mode: { s: 'bilinear' } }, inputs: [x(1, 2, 4, 5), x(1, 3, 2, 2)] },
];

for (const form of FORMS) {
  it(`${form.op}, opset ${form.opset} ${JSON.stringify(form.attrs)}`, async () => {
    const inputs = new Map(form.inputs.map((t, i) => [`x${i}`, t]));
    const constants = new Map((form.constants ?? []).map((t, i) => [`c${i}`, t]));
    const outputs = Array.from({ length: form.outputs ?? 1 }, (_, i) => `y${i}`);
    const bytes = modelBytes({
      opset: form.opset,
      nodes: [{ op: form.op, attrs: form.attrs, inputs: [...inputs.keys(), ...constants.keys()], outputs }],
      inputs,
      outputs: new Map(outputs.map((name) => [name, undefined])),
      initializers: constants,
    });
    const graph = readOnnx(bytes, { ops: OPS });
    const ours = evalGraph(graph, OPS, inputs);
    const theirs = await runModel(bytes, inputs);
    expect([...ours.keys()]).toEqual(outputs);
    for (const [name, value] of ours) {
      expect(difference(theirs.get(name)!, value), name).toBeLessThanOrEqual(
        tolerance(value.dtype, { name, inputs: [] }),
      );
    }
  });
}
