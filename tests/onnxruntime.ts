/**
 * onnxruntime-node as a runner of models, on the CPU and without its optimiser: an implementation of ONNX that is not ours.
 */
import ort from 'onnxruntime-node';
import { ortTensor } from '../src/cli/ort-tensor.ts';
import { DTYPES, type DType } from '../src/core/dtype.ts';
import type { Tensor } from '../src/core/tensor.ts';
import type { Graph } from '../src/graph/ir.ts';
import { writeOnnx } from '../src/onnx/write.ts';
import type { Op } from '../src/ops/op.ts';

/** Its element types. There is none for bf16, and small dtypes are not taken either: its own are packed. */
const TYPES: readonly (readonly [DType, ort.Tensor.Type])[] = [
  ['f32', 'float32'],
  ['f64', 'float64'],
  ['f16', 'float16'],
  ['i64', 'int64'],
  ['u64', 'uint64'],
  ['i32', 'int32'],
  ['u32', 'uint32'],
  ['i16', 'int16'],
  ['u16', 'uint16'],
  ['i8', 'int8'],
  ['u8', 'uint8'],
  ['bool', 'bool'],
];
const TYPE_OF = new Map(TYPES);
const DTYPE_OF = new Map(TYPES.map(([dtype, type]) => [type, dtype]));

/** Runs the model: its bytes, or its file with what lies beside it. Rejects where onnxruntime refuses it. */
export async function runModel(
  model: Uint8Array | string,
  inputs: ReadonlyMap<string, Tensor>,
): Promise<Map<string, Tensor>> {
  const options = { graphOptimizationLevel: 'disabled', intraOpNumThreads: 1, logSeverityLevel: 4 } as const;
  const session = await (typeof model === 'string'
    ? ort.InferenceSession.create(model, options)
    : ort.InferenceSession.create(model, options));
  try {
    const results = await session.run(Object.fromEntries([...inputs].map(([name, t]) => [name, toOrt(t)])));
    return new Map(Object.entries(results).map(([name, value]) => [name, fromOrt(value)]));
  } finally {
    await session.release();
  }
}

/** The newest opset that the onnxruntime at hand takes. */
const NEWEST_HERE = 26;

/** Runs a graph, written as a model: of the newest opset, or of the oldest that it may be of where there is no kernel for that. */
export async function runGraph(
  graph: Graph,
  inputs: ReadonlyMap<string, Tensor>,
  ops: ReadonlyMap<string, Op>,
): Promise<Map<string, Tensor>> {
  for (const name of [...graph.inputs, ...graph.outputs]) checkType(graph.values.get(name)!.dtype);
  try {
    return await runModel(writeOnnx(graph, { ops, opset: NEWEST_HERE }), inputs);
  } catch {
    return runModel(writeOnnx(graph, { ops }), inputs);
  }
}

function checkType(dtype: DType): ort.Tensor.Type {
  const type = TYPE_OF.get(dtype);
  if (!type) throw new Error(`onnxruntime-node has no ${dtype} tensors`);
  return type;
}

const toOrt = (t: Tensor): ort.Tensor => ortTensor(ort.Tensor, checkType(t.dtype), t);

function fromOrt(value: ort.Tensor): Tensor {
  const dtype = DTYPE_OF.get(value.type);
  if (!dtype) throw new Error(`unexpected ${value.type}`);
  const { buffer, byteOffset, byteLength } = value.data as Uint8Array;
  const { array, bytes } = DTYPES[dtype];
  return { dtype, shape: value.dims, data: new array(buffer, byteOffset, byteLength / bytes) };
}
