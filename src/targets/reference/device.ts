/**
 * The device of target reference: parses the engine's graph and evaluates it. Exact and slow; the oracle and the "eager" baseline.
 */
import { typedView } from '../../core/bytes.ts';
import { DTYPES, type TypedArray } from '../../core/dtype.ts';
import { Bug, ModelError } from '../../core/errors.ts';
import { printShape, rowMajorStrides } from '../../core/shape.ts';
import { type Tensor, tensor, zeros } from '../../core/tensor.ts';
import type { Device, DeviceContext, OpenEngine } from '../../engine/device.ts';
import type { Binding, Engine, Weight } from '../../engine/engine.ts';
import { evalGraph } from '../../graph/eval.ts';
import type { Graph } from '../../graph/ir.ts';
import { parseGraph } from '../../graph/parse.ts';
import { now } from '../../host/clock.ts';
import { OPS } from '../../ops/all.ts';
import type { Op } from '../../ops/op.ts';

/** A reference device that knows these operators; `referenceDevice` knows the built-in ones. */
export function createReferenceDevice(ops: ReadonlyMap<string, Op>): Device {
  return {
    target: 'reference',
    probe: async () => ({
      target: 'reference',
      name: 'the graph evaluator',
      available: true,
      features: ['float64 accumulation'],
    }),
    open: async (engine) => openGraph(engine, ops),
  };
}

export const referenceDevice: Device = createReferenceDevice(OPS);

function openGraph(engine: Engine, ops: ReadonlyMap<string, Op>): OpenEngine {
  if (engine.graph === undefined)
    throw new ModelError('engine-parse', 'an engine of target reference must hold a graph, this one has none');
  const constants = new Map(engine.weights.map((w) => [w.name, weightTensor(engine, w)]));
  const graph = parseGraph(engine.graph, (name) => constants.get(name) ?? absent(name));
  return {
    threads: 1,
    features: [],
    memoryBytes: () => engine.weightBytes.byteLength,
    createContext: () => createContext(engine, graph, ops),
    dispose: () => {},
  };
}

const absent = (name: string): never => {
  throw new ModelError('engine-parse', `the engine's graph needs constant "${name}", which is not among its weights`);
};

function weightTensor(engine: Engine, { dtype, shape, byteOffset, bytes }: Weight): Tensor {
  return tensor(
    dtype,
    shape,
    typedView(DTYPES[dtype].array, engine.weightBytes.subarray(byteOffset, byteOffset + bytes)),
  );
}

function createContext(engine: Engine, graph: Graph, ops: ReadonlyMap<string, Op>): DeviceContext {
  const inputs = engine.inputs.map((b) => zeros(b.dtype, b.shape));
  const outputs = engine.outputs.map((b) => zeros(b.dtype, b.shape).data);
  const sizes = engine.sizes && new Int32Array(engine.sizes.formulas.length);
  const feeds = new Map(engine.inputs.map((b, i) => [b.name, inputs[i]]));
  const execute = (onNode?: () => void): void => {
    const results = evalGraph(graph, ops, feeds, onNode ? { onValue: onNode } : {});
    engine.outputs.forEach((b, i) => {
      const result = results.get(b.name) as Tensor;
      copyToCorner(result, outputs[i], b);
      b.words?.forEach((word, d) => {
        if (word !== null && sizes) sizes[word] = result.shape[d];
      });
    });
  };
  return {
    inputs: inputs.map((t) => t.data as TypedArray),
    outputs,
    ...(sizes && { sizes }),
    execute: () => execute(),
    profile: (ns) => {
      let start = now();
      let at = 0;
      execute(() => {
        const end = now();
        if (at < ns.length) ns[at++] += end - start;
        start = end;
      });
    },
    dispose: () => {},
  };
}

/** A tensor into the place of the largest one that there may be, both row-major. Throws Bug where it is larger than that. */
function copyToCorner({ shape, data }: Tensor, to: TypedArray, { name, shape: most }: Binding): void {
  if (shape.some((size, d) => size > most[d]))
    throw new Bug('output-bound', `output "${name}" is ${printShape(shape)}, its bound ${printShape(most)}`);
  const row = shape.at(-1) ?? 1;
  const [from, into] = [rowMajorStrides(shape), rowMajorStrides(most)];
  for (let at = 0; at < data.length; at += row) {
    const start = into.reduce((sum, stride, d) => sum + (Math.floor(at / from[d]) % shape[d]) * stride, 0);
    (to as Float32Array).set((data as Float32Array).subarray(at, at + row), start);
  }
}
