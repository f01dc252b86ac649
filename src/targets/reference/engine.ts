/**
 * An engine of target reference: the optimised graph itself, printed, with its constants as weights. No kernels, no code.
 *
 * An output whose size only running tells has a place for as many elements as there can be, and words in a table of sizes.
 */
import { alignUp } from '../../core/bytes.ts';
import { DTYPES } from '../../core/dtype.ts';
import { ModelError } from '../../core/errors.ts';
import { bindDim, type Dim, isStatic, namesIn, printShape, staticShape } from '../../core/shape.ts';
import { byteLength, type Tensor, type TensorType, tensorBytes, type ValueType } from '../../core/tensor.ts';
import { type Binding, BUFFER_ALIGNMENT, type Engine, type EngineSizes, type Weight } from '../../engine/engine.ts';
import type { Graph } from '../../graph/ir.ts';
import { printGraph } from '../../graph/print.ts';
import { boundedTypes } from '../../ops/counted.ts';
import type { Op } from '../../ops/op.ts';

/** Throws ModelError `onnx-unsupported` where nothing bounds the size of an output. */
export function graphEngine(graph: Graph, ops: ReadonlyMap<string, Op>, builtBy: string): Engine {
  const weights: Weight[] = [];
  const tensors: Tensor[] = [];
  let bytes = 0;
  for (const [name, tensor] of graph.constants) {
    const size = tensorBytes(tensor).byteLength;
    weights.push({ name, dtype: tensor.dtype, shape: tensor.shape, byteOffset: bytes, bytes: size });
    tensors.push(tensor);
    bytes += alignUp(size, BUFFER_ALIGNMENT);
  }
  const weightBytes = new Uint8Array(bytes);
  weights.forEach((w, i) => {
    weightBytes.set(tensorBytes(tensors[i]), w.byteOffset);
  });

  let arenaBytes = 0;
  const place = (bytes: number) => {
    const buffer = { space: 'arena', byteOffset: arenaBytes, bytes } as const;
    arenaBytes += alignUp(bytes, BUFFER_ALIGNMENT);
    return buffer;
  };
  const inputs = graph.inputs.map((name): Binding => {
    // A graph types every value that it has.
    const { dtype, shape } = graph.values.get(name) as ValueType;
    const type: TensorType = { dtype, shape: staticShape(shape) };
    return { name, ...type, buffer: place(byteLength(type)) };
  });
  const sizes = new OutputSizes(graph, ops);
  const outputs = graph.outputs.map((name): Binding => {
    const { words, ...type } = sizes.typeOf(name);
    return { name, ...type, ...(words && { words }), buffer: place(byteLength(type)) };
  });
  const { formulas, data } = sizes;
  const open = formulas.length > 0 && {
    sizes: { formulas, data, buffer: place(formulas.length * DTYPES.i32.bytes) },
    profiles: [{ inputs: inputs.map(({ name, shape }) => ({ name, min: shape, opt: shape, max: shape })), step: 1 }],
  };
  return {
    name: graph.name,
    target: 'reference',
    builtBy,
    machine: [],
    precision: 'fp64',
    inputs,
    outputs,
    ...open,
    kernels: [],
    steps: [],
    weights,
    weightBytes,
    arenaBytes,
    code: [],
    graph: printGraph(graph),
  };
}

/** The shapes of a graph's outputs, and the words that tell their open dims. */
class OutputSizes {
  readonly formulas: Dim[] = [];
  readonly #types: ReadonlyMap<string, ValueType>;
  readonly #bounds: ReadonlyMap<string, Dim>;
  /** The largest of each size. */
  readonly #most = new Map<string, number>();

  constructor(graph: Graph, ops: ReadonlyMap<string, Op>) {
    const isOpen = graph.outputs.some((name) => !isStatic(graph.values.get(name)?.shape ?? []));
    const { types, bounds } = isOpen ? boundedTypes(graph, ops) : { types: graph.values, bounds: new Map() };
    this.#types = types;
    this.#bounds = bounds;
    for (const [name, atMost] of bounds) {
      const most = bindDim(atMost, this.#most);
      if (typeof most === 'number') this.#most.set(name, Math.max(0, most));
    }
  }

  get data(): EngineSizes['data'] {
    const used = new Set(this.formulas.flatMap(namesIn));
    return [...this.#bounds].flatMap(([name, atMost]) => (used.has(name) ? [{ name, atMost }] : []));
  }

  typeOf(name: string): TensorType & Pick<Binding, 'words'> {
    const { dtype, shape } = this.#types.get(name) as ValueType;
    if (isStatic(shape)) return { dtype, shape };
    const most = shape.map((dim) => bindDim(dim, this.#most));
    if (!isStatic(most))
      throw new ModelError('onnx-unsupported', `nothing bounds the shape ${printShape(shape)} of output "${name}"`, {
        hint: 'evalGraph runs the model without an engine',
      });
    const words = shape.map((dim) => (typeof dim === 'number' ? null : this.formulas.push(dim) - 1));
    return { dtype, shape: most, words };
  }
}
