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
import { type Dim, elements, rowMajorStrides, type Shape, type StaticShape } from '../core/shape.ts';
import type { Tensor, TensorType } from '../core/tensor.ts';
import type { EngineSizes } from '../engine/engine.ts';
import type { Graph, Loc, Node } from '../graph/ir.ts';
import { toAffine } from '../loop/affine.ts';
import { encodeSmall } from '../loop/encode-small.ts';
import * as e from '../loop/expr.ts';
import { roundOnStore } from '../loop/halves.ts';
import type { Affine, Expr, Kernel } from '../loop/ir.ts';
import { kernelKey } from '../loop/print.ts';
import { simplifyKernel } from '../loop/simplify.ts';
import type { Op } from '../ops/op.ts';
import type { KernelFacts } from '../targets/target.ts';
import { kernelAt } from './at-sizes.ts';
import { type Cluster, type Fusion, fuse, type Producer } from './fuse.ts';
import { KernelWriter, type Operand, type WrittenKernel } from './kernel-writer.ts';
import {
  affineView,
  type Block,
  channelsLastOrder,
  isRowMajor,
  orderForReshape,
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
  /** The kernel as it is at the usual sizes, where some are open: what its time is predicted of. */
  readonly usual?: Kernel;
}

export interface LoweredGraph {
  readonly name: string;
  readonly steps: readonly LoweredStep[];
  readonly inputs: readonly { readonly name: string; readonly storage: Storage }[];
  readonly outputs: readonly { readonly name: string; readonly storage: Storage }[];
  /** Constants that steps read, by the block that stands for them. */
  readonly constants: ReadonlyMap<Block, Tensor>;
  /** Where sizes are open: the table of them. */
  readonly sizes?: LoweredSizes;
  /** And its words at the usual sizes. */
  readonly usual?: readonly number[];
}

export interface LoweredSizes {
  readonly block: Block;
  readonly formulas: readonly Dim[];
  /** Sizes in them that steps of the graph count. */
  readonly data: EngineSizes['data'];
  /** The shapes of inputs and of outputs, in order. */
  readonly inputs: readonly Shape[];
  readonly outputs: readonly Shape[];
}

/** What is to be lowered the same way at all sizes that a graph was left open for. */
export interface OpenLayout {
  /** The largest shape of each value: what its place in memory is made for. */
  readonly extents: ReadonlyMap<string, StaticShape>;
  /** The same graph at other sizes: where they say different things, memory is not laid out by them. */
  readonly others: readonly Graph[];
}

/** Steps as the operators wrote them, before kernels are simplified and equal ones become one. */
export type RawGraph = Omit<LoweredGraph, 'steps'> & { readonly steps: readonly RawStep[] };
export type RawStep = WrittenKernel & { readonly loc: Loc };

/** Lowers a graph along `fusion`, which fuse() made of it. `facts` hold for every kernel. */
export const lower = (
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  fusion: Fusion = fuse(graph, ops),
  facts: Omit<KernelFacts, 'constant'> = {},
): LoweredGraph => finishSteps(lowerRaw(graph, ops, fusion), facts);

export const lowerRaw = (graph: Graph, ops: ReadonlyMap<string, Op>, fusion: Fusion, open?: OpenLayout): RawGraph =>
  new Lowerer(graph, ops, fusion, open).run();

/**
 * Simplifies the kernels; steps whose kernels then have the same text share one. `usual` gives the words of the table of sizes at the
 * usual sizes.
 */
export function finishSteps(
  raw: RawGraph,
  facts: Omit<KernelFacts, 'constant'>,
  usual?: readonly number[],
): LoweredGraph {
  const kernels = new Map<string, Kernel>();
  const usualKernels = new Map<Kernel, Kernel>();
  const steps = raw.steps.map(({ kernel: written, operands, loc }): LoweredStep => {
    const simple = simplifyKernel(roundOnStore(encodeSmall(written)));
    const key = kernelKey(simple);
    const kernel = kernels.get(key) ?? simple;
    kernels.set(key, kernel);
    if (usual && !usualKernels.has(kernel)) usualKernels.set(kernel, simplifyKernel(kernelAt(kernel, usual)));
    const atUsual = usualKernels.get(kernel);
    return { kernel, operands, facts: factsOf(kernel, operands, facts), loc, ...(atUsual && { usual: atUsual }) };
  });
  return { ...raw, steps, ...(usual && { usual }) };
}

/** What is known of the places that a kernel's buffers have, beside what is known already. */
export function factsOf(
  { buffers }: Kernel,
  operands: readonly Operand[],
  { unaligned: _, ...facts }: Omit<KernelFacts, 'constant'>,
): KernelFacts {
  const constant = operands.flatMap((o, i) => (o.storage.block.space === 'weights' ? [buffers[i].name] : []));
  const unaligned = operands.flatMap(({ storage }, i) =>
    (storage.offset * DTYPES[storage.block.dtype].bytes) % VECTOR_BYTES === 0 ? [] : [buffers[i].name],
  );
  return { ...facts, constant: new Set(constant), ...(unaligned.length > 0 && { unaligned: new Set(unaligned) }) };
}

class Lowerer {
  readonly graph: Graph;
  readonly ops: ReadonlyMap<string, Op>;
  readonly fusion: Fusion;
  readonly #storages = new Map<string, Storage>();
  readonly #constants = new Map<Block, Tensor>();
  readonly #open: OpenLayout | undefined;
  /** By output, of the graph at other sizes. */
  readonly #producers = new Map<Graph, ReadonlyMap<string, Node>>();
  readonly #steps: RawStep[] = [];
  readonly #outputs: ReadonlySet<string>;
  /** Blocks that a network input or output lies in. */
  readonly #boundBlocks = new Set<Block>();
  #blocks = 0;

  constructor(graph: Graph, ops: ReadonlyMap<string, Op>, fusion: Fusion, open: OpenLayout | undefined) {
    this.graph = graph;
    this.ops = ops;
    this.fusion = fusion;
    this.#open = open;
    this.#outputs = new Set(graph.outputs);
  }

  run(): RawGraph {
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

  scratchFor(value: string, name: string): Storage {
    const room = elements(this.#room(value));
    const block: Block = { id: this.#blocks++, name, dtype: 'i32', elements: room, space: 'arena' };
    return { block, offset: 0, shape: [room], strides: [1] };
  }

  #makeStorage(value: string): Storage {
    const constant = this.graph.constants.get(value);
    if (constant) return this.#constantStorage(value, constant);
    const producer = this.fusion.producers.get(value);
    const lowering = producer && this.ops.get(producer.node.op)?.lower;
    if (lowering?.kind !== 'alias')
      throw new Bug('lower-order', `value "${value}" is read before anything has stored it`);
    const { inputs, loc } = (producer as { node: Node }).node;
    const { shape } = this.#type(value);
    const view = this.#reshaped(this.storageOf(inputs[0]), inputs[0], value, value);
    if (view) return view;
    if (!this.#open) {
      const copy = this.#copy(inputs[0], loc, orderForReshape(this.storageOf(inputs[0]), shape));
      return reshapeStorage(copy, shape) as Storage;
    }
    const storage = this.#allocate(value, rowMajorOrder(shape.length));
    // The copy runs over the coordinates of the source where the place can be seen so: no division of indices.
    const seen = this.#reshaped(storage, value, inputs[0], value);
    const writer = new KernelWriter(this);
    const copy = seen ? writer.writeCopy(inputs[0], value, seen) : writer.writeReshape(inputs[0], value, storage);
    this.#push(copy, loc);
    return storage;
  }

  /**
   * The place of the input of a reshape seen with the shape of its result, or of the result with that of the input, where strides can say
   * it; with open sizes, where the same strides can at all of them. `result` names the node.
   */
  #reshaped(storage: Storage, from: string, to: string, result: string): Storage | undefined {
    const view = reshapeStorage(storage, this.#type(to).shape);
    if (!view || !this.#open) return view;
    const isSame = this.#twins(result).every(({ node, graph }) => {
      const shapes = [node.inputs[0], result].map((name) => graph.values.get(name)?.shape as StaticShape);
      const [shape, seen] = from === result ? shapes.toReversed() : shapes;
      return reshapeStorage({ ...storage, shape }, seen)?.strides.join() === view.strides.join();
    });
    return isSame ? view : undefined;
  }

  /** The nodes that give a value at other sizes: their constants may have other names. */
  #twins(value: string): readonly { readonly node: Node; readonly graph: Graph }[] {
    return (this.#open?.others ?? []).flatMap((graph) => {
      const node = this.#producersIn(graph).get(value);
      return node ? [{ node, graph }] : [];
    });
  }

  #producersIn(graph: Graph): ReadonlyMap<string, Node> {
    const known = this.#producers.get(graph);
    if (known) return known;
    const made = new Map(graph.nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
    this.#producers.set(graph, made);
    return made;
  }

  #constantStorage(name: string, tensor: Tensor): Storage {
    const block: Block = {
      id: this.#blocks++,
      name,
      dtype: tensor.dtype,
      elements: elements(this.#room(name)),
      space: 'weights',
    };
    this.#constants.set(block, tensor);
    return { block, offset: 0, shape: tensor.shape, strides: rowMajorStrides(this.#room(name)) };
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
    return this.#viewThrough(root, output, value, (input) => this.#stored(input));
  }

  /** Where a value lies, or would lie as a view where it is inlined; undefined where it is computed. */
  #stored(value: string): Storage | undefined {
    if (!this.fusion.inlined.has(value)) return this.storageOf(value);
    const { node, output } = this.fusion.producers.get(value) as Producer;
    return this.#viewThrough(node, output, value, (input) => this.#stored(input));
  }

  /** The view that output number `output` of a node, named `value`, is of what `storageOf` gives for its input. */
  #viewThrough(
    root: Node,
    output: number,
    value: string,
    storageOf: (input: string) => Storage | undefined,
  ): Storage | undefined {
    const { shape } = this.#type(value);
    const axes = shape.map((_, d) => `d${d}`);
    const read = affineRead({ root, output, value }, this.graph, this.ops, axes);
    const isSame = (other: AffineRead | undefined): boolean => JSON.stringify(read) === JSON.stringify(other);
    if (
      !read ||
      !this.#twins(value).every(({ node, graph }) =>
        isSame(affineRead({ root: node, output, value }, graph, this.ops, axes)),
      )
    )
      return undefined;
    const source = storageOf(read.input);
    return source && affineView(source, read.at, shape, axes);
  }

  #lowerConcat(node: Node, axis: number): void {
    const value = node.outputs[0];
    const whole = this.#place(value, () => this.#orderOfLargest(node.inputs, value));
    this.#storages.set(value, whole);
    for (const [i, source] of node.inputs.entries()) {
      if (this.#concatReader(source) === node && this.#storages.get(source)?.block === whole.block) continue;
      const start = sizeAlong(axis, node.inputs.slice(0, i), this.graph);
      const { shape } = this.#type(source);
      const part = this.#open
        ? { ...whole, shape, shift: start * whole.strides[axis] }
        : partOf(whole, axis, start, shape);
      this.#push(new KernelWriter(this).writeCopy(source, value, part), node.loc);
    }
  }

  /** Whether what a concatenation puts before a value, and the value itself, end at the same place at all sizes. */
  #hasFixedPlace(node: Node, value: string): boolean {
    const { others = [] } = this.#open ?? {};
    const lowering = this.ops.get(node.op)?.lower;
    if (lowering?.kind !== 'concat') return true;
    const axis = lowering.axis(node.attrs, this.#type(value).shape.length);
    const before = node.inputs.slice(0, node.inputs.indexOf(value));
    return [before, [value]].every((names) => {
      const size = sizeAlong(axis, names, this.graph);
      return others.every((other) => sizeAlong(axis, names, other) === size);
    });
  }

  /** The concat node in whose result a stored value may lie; the first one that reads it, if it reads it once. */
  #concatReader(value: string): Node | undefined {
    if (this.#outputs.has(value) || this.graph.constants.has(value) || this.graph.inputs.includes(value))
      return undefined;
    const reader = this.fusion.readers.get(value)?.find((n) => this.ops.get(n.op)?.lower?.kind === 'concat');
    const once = reader?.inputs.filter((name) => name === value).length === 1;
    return reader && once && this.#hasFixedPlace(reader, value) ? reader : undefined;
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
    return partOf(whole, axis, sizeAlong(axis, before, this.graph), this.#type(value).shape);
  }

  #wishedOrder(cluster: Cluster, value: string): readonly number[] {
    const lowering = this.ops.get(cluster.root.op)?.lower;
    const rank = this.#type(value).shape.length;
    const wish = lowering?.kind === 'kernel' || lowering?.kind === 'index' ? lowering.layout : undefined;
    if (wish === 'channels-last') return channelsLastOrder(rank);
    if (wish === 'row-major') return rowMajorOrder(rank);
    if (this.#isOfBytesAcross(value)) return channelsLastOrder(rank);
    // A root that only turns what it reads has its elements' order, in its own dims.
    const { root, output } = cluster;
    const turned = lowering?.kind === 'index' && this.#throughIndex(root, output, root.outputs[output]);
    if (turned && turned.shape.length === rank) return orderOf(turned);
    return this.#orderOfLargest(
      [cluster.root, ...cluster.behind].flatMap((n) => n.inputs),
      value,
    );
  }

  /** Whether a kernel that wants channels last reads bytes here: it takes several of them at once, and only if they lie side by side. */
  #isOfBytesAcross(value: string): boolean {
    if (DTYPES[this.#type(value).dtype].bytes !== 1) return false;
    return (this.fusion.readers.get(value) ?? []).some((reader) => {
      const lowering = this.ops.get(reader.op)?.lower;
      return lowering?.kind === 'kernel' && lowering.layout === 'channels-last';
    });
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
    const view = this.#throughIndex(node, output, name);
    if (view) return view.shape.length === rank ? view : undefined;
    return this.#largest(node.inputs, rank);
  }

  /** What an index node's output would be of its input, as that comes through inlined nodes. */
  #throughIndex(node: Node, output: number, name: string): Storage | undefined {
    return this.#viewThrough(node, output, name, (input) => this.#likeness(input, this.#type(input).shape.length));
  }

  #isAlias(name: string): boolean {
    const producer = this.fusion.producers.get(name);
    return producer !== undefined && this.ops.get(producer.node.op)?.lower?.kind === 'alias';
  }

  /** Network outputs are dense, row-major and lie in a block of their own. */
  #outputStorage(name: string): Storage {
    const storage = this.storageOf(name);
    const { block } = storage;
    const room = this.#room(name);
    const dense = isRowMajor({ ...storage, shape: room }) && block.elements === elements(room);
    if (dense && block.space === 'arena' && !this.#boundBlocks.has(block)) {
      this.#boundBlocks.add(block);
      return storage;
    }
    return this.#copy(name, this.fusion.producers.get(name)?.node.loc ?? [name]);
  }

  #copy(source: string, loc: Loc, order = rowMajorOrder(this.#type(source).shape.length)): Storage {
    const storage = this.#allocate(source, order);
    this.#push(new KernelWriter(this).writeCopy(source, source, storage), loc);
    return storage;
  }

  #allocate(name: string, order: readonly number[]): Storage {
    const { dtype, shape } = this.#type(name);
    const room = this.#room(name);
    const block: Block = { id: this.#blocks++, name, dtype, elements: elements(room), space: 'arena' };
    return { block, offset: 0, shape, strides: stridesOf(room, order) };
  }

  /** The shape that a value's place is made for. */
  #room(name: string): StaticShape {
    return this.#open?.extents.get(name) ?? this.#type(name).shape;
  }

  #push(written: WrittenKernel, loc: Loc): void {
    const stores = written.operands.filter((o) => o.role === 'out');
    if (stores.every((o) => elements(o.storage.shape) === 0)) return;
    // Nodes that one ONNX node was expanded into carry the same name.
    this.#steps.push({ ...written, loc: [...new Set(loc)] });
  }

  #type(value: string): TensorType {
    return this.graph.values.get(value) as TensorType;
  }
}

interface AffineRead {
  readonly input: string;
  readonly at: readonly Affine[];
}

/** What the elements of an index node's output are, where each is one load of an input at affine coordinates of the axes. */
function affineRead(
  { root, output, value }: Pick<Cluster, 'root' | 'output' | 'value'>,
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  axes: readonly string[],
): AffineRead | undefined {
  const lowering = ops.get(root.op)?.lower;
  if (lowering?.kind !== 'index') return undefined;
  const type = (name: string) => graph.values.get(name) as TensorType;
  const { shape, dtype } = type(value);
  const marker = e.local('view', dtype);
  let read: { input: string; coords: readonly Expr[] } | undefined;
  const element = lowering.read(
    {
      attrs: root.attrs,
      inputs: root.inputs.map((name) => (name === '' ? undefined : type(name))),
      outputs: root.outputs.map(type),
      input: (i) => type(root.inputs[i]),
      constant: (i) => graph.constants.get(root.inputs[i] ?? ''),
      load: (i, coords) => {
        read = { input: root.inputs[i], coords };
        return marker;
      },
    },
    output,
    axes.map((name, d) => (shape[d] === 1 ? e.index(0) : e.axis(name))),
  );
  if (element !== marker || !read) return undefined;
  const at = read.coords.map(toAffine);
  return at.every((a) => a !== undefined) ? { input: read.input, at } : undefined;
}

/** The sum of the values' sizes along an axis. */
const sizeAlong = (axis: number, values: readonly string[], graph: Graph): number =>
  values.reduce((n, name) => n + Number(graph.values.get(name)?.shape[axis]), 0);
