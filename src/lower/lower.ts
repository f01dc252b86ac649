/**
 * Graph in, steps out: which kernels run in which order over which storages. lower/ decides sharing, layout and place; it writes
 * kernels, and knows neither templates nor machines. The graph's shapes are static and every node has a lowering.
 *
 * One walk over the clusters in running order. A value's storage is made when it is first needed: for a cluster's result in the layout
 * that its root wishes, inside a concatenated value where one takes it; for views from their source, with a copy where strides
 * cannot say it.
 */
import { DTYPES } from '../core/dtype.ts';
import { Bug } from '../core/errors.ts';
import { elements, rowMajorStrides, type StaticShape } from '../core/shape.ts';
import type { Tensor, TensorType } from '../core/tensor.ts';
import type { Graph, Loc, Node } from '../graph/ir.ts';
import { toAffine } from '../loop/affine.ts';
import * as e from '../loop/expr.ts';
import type { Expr, Kernel } from '../loop/ir.ts';
import { kernelKey } from '../loop/print.ts';
import { simplifyKernel } from '../loop/simplify.ts';
import type { Op } from '../ops/op.ts';
import type { KernelFacts } from '../targets/target.ts';
import { type Cluster, type Fusion, fuse } from './fuse.ts';
import { KernelWriter, type Operand, type WrittenKernel } from './kernel-writer.ts';
import {
  affineView,
  type Block,
  channelsLastOrder,
  isRowMajor,
  orderOf,
  partOf,
  reshapeStorage,
  rowMajorOrder,
  type Storage,
  stridesOf,
} from './storage.ts';

/** What templates ask of buffers that they move as vectors. */
const VECTOR_BYTES = 16;

export interface LoweredStep {
  /** Steps whose kernels have the same text share one record. */
  readonly kernel: Kernel;
  /** One a buffer of the kernel. */
  readonly operands: readonly Operand[];
  readonly facts: KernelFacts;
  readonly loc: Loc;
}

export interface LoweredGraph {
  readonly name: string;
  readonly steps: readonly LoweredStep[];
  readonly inputs: readonly { readonly name: string; readonly storage: Storage }[];
  readonly outputs: readonly { readonly name: string; readonly storage: Storage }[];
  /** Constants that steps read, by the block that stands for them. */
  readonly constants: ReadonlyMap<Block, Tensor>;
}

/** Lowers a graph along `fusion`, which fuse() made of it. `facts` hold for every kernel. */
export function lower(
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  fusion: Fusion = fuse(graph, ops),
  facts: Omit<KernelFacts, 'constant'> = {},
): LoweredGraph {
  return new Lowerer(graph, ops, fusion, facts).run();
}

class Lowerer {
  readonly graph: Graph;
  readonly ops: ReadonlyMap<string, Op>;
  readonly fusion: Fusion;
  readonly #storages = new Map<string, Storage>();
  readonly #constants = new Map<Block, Tensor>();
  readonly #steps: LoweredStep[] = [];
  /** Kernels by their text. */
  readonly #kernels = new Map<string, Kernel>();
  readonly #outputs: ReadonlySet<string>;
  /** Blocks that a network input or output lies in. */
  readonly #boundBlocks = new Set<Block>();
  readonly #facts: Omit<KernelFacts, 'constant'>;
  #blocks = 0;

  constructor(graph: Graph, ops: ReadonlyMap<string, Op>, fusion: Fusion, facts: Omit<KernelFacts, 'constant'>) {
    this.#facts = facts;
    this.graph = graph;
    this.ops = ops;
    this.fusion = fusion;
    this.#outputs = new Set(graph.outputs);
  }

  run(): LoweredGraph {
    const { graph } = this;
    for (const name of graph.inputs)
      this.#storages.set(name, this.#allocate(name, rowMajorOrder(this.#type(name).shape.length)));
    const inputs = graph.inputs.map((name) => ({ name, storage: this.storageOf(name) }));
    for (const { storage } of inputs) this.#boundBlocks.add(storage.block);
    for (const cluster of this.fusion.clusters) this.#lowerCluster(cluster);
    const outputs = graph.outputs.map((name) => ({ name, storage: this.#outputStorage(name) }));
    return { name: graph.name, steps: this.#steps, inputs, outputs, constants: this.#constants };
  }

  /** Where a value lies; makes views and their copies on the way. */
  storageOf(value: string): Storage {
    let storage = this.#storages.get(value);
    if (!storage) {
      storage = this.#makeStorage(value);
      this.#storages.set(value, storage);
    }
    return storage;
  }

  #makeStorage(value: string): Storage {
    const constant = this.graph.constants.get(value);
    if (constant) return this.#constantStorage(value, constant);
    const producer = this.fusion.producers.get(value);
    const lowering = producer && this.ops.get(producer.node.op)?.lower;
    if (lowering?.kind !== 'alias')
      throw new Bug('lower-order', `value "${value}" is read before anything has stored it`);
    const source = (producer as { node: Node }).node.inputs[0];
    const { shape } = this.#type(value);
    const view = reshapeStorage(this.storageOf(source), shape);
    return (
      view ?? { ...this.#copy(source, (producer as { node: Node }).node.loc), shape, strides: rowMajorStrides(shape) }
    );
  }

  #constantStorage(name: string, tensor: Tensor): Storage {
    const block: Block = {
      id: this.#blocks++,
      name,
      dtype: tensor.dtype,
      elements: tensor.data.length,
      space: 'weights',
    };
    this.#constants.set(block, tensor);
    return { block, offset: 0, shape: tensor.shape, strides: rowMajorStrides(tensor.shape) };
  }

  #lowerCluster(cluster: Cluster): void {
    const { root } = cluster;
    const lowering = this.ops.get(root.op)?.lower;
    if (lowering?.kind === 'concat') {
      this.#lowerConcat(root, lowering.axis(root.attrs, this.#type(root.outputs[0]).shape.length));
      return;
    }
    const view = lowering?.kind === 'index' && cluster.behind.length === 0 ? this.#viewOf(cluster) : undefined;
    if (view) {
      this.#storages.set(cluster.value, view);
      return;
    }
    const values = root.outputs.map((name, i) => (i === cluster.output ? cluster.value : name));
    const stored = lowering?.kind === 'kernel' ? values.filter(Boolean) : [cluster.value];
    const target = new Map(stored.map((value) => [value, this.#place(value, () => this.#wishedOrder(cluster, value))]));
    this.#push(
      new KernelWriter(this).write(cluster, target),
      [root, ...cluster.behind].flatMap((n) => n.loc),
    );
    for (const [value, storage] of target) this.#storages.set(value, storage);
  }

  /** The view that an index node's output is of its input, where each of its elements is one load at affine coordinates. */
  #viewOf({ root, output, value }: Cluster): Storage | undefined {
    if (this.#outputs.has(value)) return undefined;
    return this.#viewThrough(root, output, value, (input) =>
      this.fusion.inlined.has(input) ? undefined : this.storageOf(input),
    );
  }

  #viewThrough(
    root: Node,
    output: number,
    value: string,
    storageOf: (input: string) => Storage | undefined,
  ): Storage | undefined {
    const { shape, dtype } = this.#type(value);
    const lowering = this.ops.get(root.op)?.lower;
    if (lowering?.kind !== 'index') return undefined;
    const axes = shape.map((_, d) => `d${d}`);
    let read: { input: string; coords: readonly Expr[] } | undefined;
    const marker = e.local('view', dtype);
    const element = lowering.read(
      {
        attrs: root.attrs,
        inputs: root.inputs.map((name) => (name === '' ? undefined : this.#type(name))),
        outputs: root.outputs.map((name) => this.#type(name)),
        input: (i) => this.#type(root.inputs[i]),
        constant: (i) => this.graph.constants.get(root.inputs[i] ?? ''),
        load: (i, coords) => {
          read = { input: root.inputs[i], coords };
          return marker;
        },
      },
      output,
      axes.map((name, d) => (shape[d] === 1 ? e.index(0) : e.axis(name))),
    );
    const source = element === marker && read ? storageOf(read.input) : undefined;
    if (!source || !read) return undefined;
    const at = read.coords.map(toAffine);
    if (!at.every((a) => a !== undefined)) return undefined;
    return affineView(source, at, shape, axes);
  }

  #lowerConcat(node: Node, axis: number): void {
    const value = node.outputs[0];
    const whole = this.#place(value, () => this.#orderOfLargest(node.inputs, value));
    this.#storages.set(value, whole);
    let start = 0;
    for (const source of node.inputs) {
      const { shape } = this.#type(source);
      if (this.#concatReader(source) !== node || this.#storages.get(source)?.block !== whole.block) {
        const written = new KernelWriter(this).writeCopy(source, value, partOf(whole, axis, start, shape));
        this.#push(written, node.loc);
      }
      start += shape[axis];
    }
  }

  /** The concat node in whose result a stored value may lie; the first one that reads it, if it reads it once. */
  #concatReader(value: string): Node | undefined {
    if (this.#outputs.has(value) || this.graph.constants.has(value) || this.graph.inputs.includes(value))
      return undefined;
    const reader = this.fusion.readers.get(value)?.find((n) => this.ops.get(n.op)?.lower?.kind === 'concat');
    return reader && reader.inputs.filter((name) => name === value).length === 1 ? reader : undefined;
  }

  /** Storage for a value that a cluster is about to compute. */
  #place(value: string, wish: () => readonly number[]): Storage {
    const known = this.#storages.get(value);
    if (known) return known;
    const concat = this.#concatReader(value);
    if (!concat)
      return this.#allocate(value, this.#outputs.has(value) ? rowMajorOrder(this.#type(value).shape.length) : wish());
    const whole = this.#place(concat.outputs[0], wish);
    this.#storages.set(concat.outputs[0], whole);
    const lowering = this.ops.get(concat.op)?.lower;
    const axis = lowering?.kind === 'concat' ? lowering.axis(concat.attrs, whole.shape.length) : 0;
    const before = concat.inputs.slice(0, concat.inputs.indexOf(value));
    return partOf(
      whole,
      axis,
      before.reduce((n, name) => n + this.#type(name).shape[axis], 0),
      this.#type(value).shape,
    );
  }

  #wishedOrder(cluster: Cluster, value: string): readonly number[] {
    const lowering = this.ops.get(cluster.root.op)?.lower;
    const rank = this.#type(value).shape.length;
    if (lowering?.kind === 'kernel' && lowering.layout === 'channels-last') return channelsLastOrder(rank);
    if (lowering?.kind === 'kernel' && lowering.layout === 'row-major') return rowMajorOrder(rank);
    return this.#orderOfLargest(
      [cluster.root, ...cluster.behind].flatMap((n) => n.inputs),
      value,
    );
  }

  /** The order of the largest of these inputs that has the rank of `value`, as it comes through inlined nodes; row-major where there is none. */
  #orderOfLargest(names: readonly string[], value: string): readonly number[] {
    const rank = this.#type(value).shape.length;
    const best = this.#largest(names, rank);
    return best ? orderOf(best) : rowMajorOrder(rank);
  }

  #largest(names: readonly string[], rank: number): Storage | undefined {
    const [first, ...rest] = names.flatMap((name) => this.#likeness(name, rank) ?? []);
    return rest.reduce((best, s) => (elements(s.shape) > elements(best.shape) ? s : best), first);
  }

  /** A storage of so many dims in the order in which a reader meets the elements of a value: its own, or what it is computed from. */
  #likeness(name: string, rank: number): Storage | undefined {
    if (name === '' || this.graph.constants.has(name)) return undefined;
    if (!this.fusion.inlined.has(name)) {
      const isThere = this.#storages.has(name) || this.#isAlias(name);
      return isThere && this.#type(name).shape.length === rank ? this.storageOf(name) : undefined;
    }
    const producer = this.fusion.producers.get(name);
    if (!producer) return undefined;
    const { node, output } = producer;
    const view = this.#viewThrough(node, output, name, (input) =>
      this.#likeness(input, this.#type(input).shape.length),
    );
    if (view) return view.shape.length === rank ? view : undefined;
    return this.#largest(node.inputs, rank);
  }

  #isAlias(name: string): boolean {
    const producer = this.fusion.producers.get(name);
    return producer !== undefined && this.ops.get(producer.node.op)?.lower?.kind === 'alias';
  }

  /** Network outputs are dense, row-major and lie in a block of their own. */
  #outputStorage(name: string): Storage {
    const storage = this.storageOf(name);
    const { block } = storage;
    const dense = isRowMajor(storage) && block.elements === elements(storage.shape);
    if (dense && block.space === 'arena' && !this.#boundBlocks.has(block)) {
      this.#boundBlocks.add(block);
      return storage;
    }
    return this.#copy(name, this.fusion.producers.get(name)?.node.loc ?? [name]);
  }

  #copy(source: string, loc: Loc): Storage {
    const storage = this.#allocate(source, rowMajorOrder(this.#type(source).shape.length));
    this.#push(new KernelWriter(this).writeCopy(source, source, storage), loc);
    return storage;
  }

  #allocate(name: string, order: readonly number[]): Storage {
    const { dtype, shape } = this.#type(name);
    const block: Block = { id: this.#blocks++, name, dtype, elements: elements(shape), space: 'arena' };
    return { block, offset: 0, shape, strides: stridesOf(shape as StaticShape, order) };
  }

  #push(written: WrittenKernel, loc: Loc): void {
    const stores = written.operands.filter((o) => o.role === 'out');
    if (stores.every((o) => elements(o.storage.shape) === 0)) return;
    const simple = simplifyKernel(written.kernel);
    const key = kernelKey(simple);
    const kernel = this.#kernels.get(key) ?? simple;
    this.#kernels.set(key, kernel);
    const constant = written.operands.flatMap((o, i) =>
      o.storage.block.space === 'weights' ? [kernel.buffers[i].name] : [],
    );
    const unaligned = written.operands.flatMap(({ storage }, i) =>
      (storage.offset * DTYPES[storage.block.dtype].bytes) % VECTOR_BYTES === 0 ? [] : [kernel.buffers[i].name],
    );
    // Nodes that one ONNX node was expanded into carry the same name.
    this.#steps.push({
      kernel,
      operands: written.operands,
      facts: {
        ...this.#facts,
        constant: new Set(constant),
        ...(unaligned.length > 0 && { unaligned: new Set(unaligned) }),
      },
      loc: [...new Set(loc)],
    });
  }

  #type(value: string): TensorType {
    return this.graph.values.get(value) as TensorType;
  }
}
