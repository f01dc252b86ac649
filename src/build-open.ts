/**
 * Building for open sizes: the front half of a build, from the model as it was read to kernels for every size in the profiles.
 *
 * The graph is bound, optimised and lowered at a few sample sizes, each as if it were the only one; lower/generalise.ts makes one
 * lowering of them. What the profiles say at their corners is inferred too, so that a size that the model does not take shows here.
 */
import type { BuildRun } from './build-run.ts';
import { Bug, ModelError } from './core/errors.ts';
import {
  addDims,
  bindDim,
  type Dim,
  printShape,
  type Shape,
  type StaticShape,
  shapesEqual,
  staticShape,
} from './core/shape.ts';
import { type Tensor, zeros } from './core/tensor.ts';
import type { Profile } from './engine/engine.ts';
import { evalGraph } from './graph/eval.ts';
import { inferGraph, inferredFacts } from './graph/infer.ts';
import type { Graph, Node } from './graph/ir.ts';
import { printGraph } from './graph/print.ts';
import {
  bindAt,
  inSteps,
  type OpenSizes,
  openSizes,
  type ShapeProfile,
  type Sizes,
  sampleSizes,
} from './graph/profiles.ts';
import { addDataSamples, DATA_SAMPLES, mostWithData, withDataSizes } from './lower/data-samples.ts';
import { type CountedGraph, closeBounds, countable, countSizes, type DataSize } from './lower/data-sizes.ts';
import { type Fusion, fuse } from './lower/fuse.ts';
import { generalise } from './lower/generalise.ts';
import { finishSteps, type LoweredGraph, lowerRaw } from './lower/lower.ts';
import { printLowered } from './lower/print.ts';
import { SizeTable } from './lower/size-table.ts';
import { withSizes } from './ops/counted.ts';
import type { Op } from './ops/op.ts';
import { mergeNodes } from './passes/eliminate-common-subexpressions.ts';
import type { KernelFacts } from './targets/target.ts';

export interface OpenBuild {
  readonly graph: LoweredGraph;
  readonly profiles: readonly Profile[];
}

/** What an open build needs of the build around it. */
export interface OpenRoom {
  readonly run: BuildRun;
  /** Runs the passes. */
  optimise(bound: Graph, ops: ReadonlyMap<string, Op>): Graph;
  /** Gives the values of an optimised graph their precision, the same at each call. */
  assign(optimised: Graph, ops: ReadonlyMap<string, Op>): Promise<Graph>;
  /** A constant of an assigned graph by its name; `find` finds values of the model. */
  constant(name: string, find: (name: string) => Tensor): Tensor;
  /** What holds for every kernel. */
  readonly facts: Omit<KernelFacts, 'constant'>;
  /** Throws where a node has no kernel. */
  check(graph: Graph, ops: ReadonlyMap<string, Op>): void;
}

/** A model with the open sizes that it is built for. */
interface OpenModel {
  readonly read: Graph;
  readonly ops: ReadonlyMap<string, Op>;
  readonly sizes: OpenSizes;
  /** Sizes that the data decide, beside those of inputs. */
  readonly data: readonly DataSize[];
}

/** Throws ModelError, `shape-open` where something cannot be built for open sizes. */
export async function lowerOpen(
  room: OpenRoom,
  model: Graph,
  modelOps: ReadonlyMap<string, Op>,
  profiles: readonly ShapeProfile[],
  shapes: Readonly<Record<string, StaticShape>>,
): Promise<OpenBuild> {
  const { run } = room;
  const { open, samples, bound } = await run.stage(
    'infer',
    () => {
      // Without profiles the shapes are fixed, and who fixed them has said what they were taken to be.
      const sizes =
        profiles.length > 0
          ? openSizes(model, profiles, shapes, run.onWarning)
          : openSizes(model, [{}], shapes, () => {});
      const counted = countDataSizes(room, model, modelOps, sizes);
      return bindSamples({ read: counted.graph, ops: counted.ops, sizes, data: counted.sizes });
    },
    (made) => printGraph(made.bound[0]),
  );
  const { read, ops, sizes, data } = open;
  const graphs = await run.stage(
    'passes',
    async () => {
      const made: Graph[] = [];
      for (const graph of bound) {
        const assigned = await room.assign(room.optimise(graph, ops), ops);
        room.check(assigned, ops);
        made.push(assigned);
        await run.checkpoint('passes');
      }
      return made;
    },
    (made) => printGraph(made[0]),
  );
  checkAlike(graphs);
  const most = mostWithData(sizes.most, data);
  const table = new SizeTable(samples, most, dimsOf(open));
  const formulas = shapeFormulas(graphs, table);
  const extents = new Map([...formulas].map(([name, dims]) => [name, dims.map((dim) => table.atMost(dim))] as const));
  const fusions = await run.stage('fuse', () => fuseAlike(graphs, ops));
  const lowered = await run.stage(
    'lower',
    () => {
      const raw = graphs.map((graph, i) =>
        lowerRaw(graph, ops, fusions[i], { extents, others: graphs.filter((other) => other !== graph) }),
      );
      const general = generalise(raw, table, (name) => room.constant(name, (of) => constantAt(open, most, of)), data);
      const usual = withDataSizes(sizes.corners[0].opt, data, USUAL_SHARE);
      const words = general.sizes.formulas.map((formula) => Number(bindDim(formula, usual)));
      return finishSteps(general, room.facts, words);
    },
    printLowered,
  );
  checkCorners(open, formulas);
  return { graph: lowered, profiles: sizes.corners.map((corner) => profileOf(read, sizes, corner)) };
}

/** Of what it cannot exceed, how much a size that the data decide is taken to be when tactics are chosen. */
const USUAL_SHARE = 0.5;

/** The graph with its sizes counted that the data decide, as far as they are still there once shapes are known and constants folded. */
function countDataSizes(room: OpenRoom, model: Graph, ops: ReadonlyMap<string, Op>, sizes: OpenSizes): CountedGraph {
  if (countable(model, ops).size === 0) return { graph: model, ops, sizes: [] };
  // What is computed twice has one size.
  const merged = inferGraph(mergeNodes(model, ops), ops);
  const left = countable(room.optimise(bindAt(merged, ops, sizes, sizes.corners[0].opt), ops), ops);
  const counted = countSizes(merged, ops, left);
  const atMost = counted.sizes.map((size) => ({ ...size, atMost: bindDim(size.atMost, sizes.fixed) }));
  const largest = bindAt(counted.graph, counted.ops, sizes, sizes.most);
  return { ...counted, sizes: closeBounds({ ...counted, sizes: atMost }, new Set(sizes.most.keys()), largest) };
}

/** The graph at some sizes, those that the data decide among them. */
function boundAt({ read, ops, sizes }: OpenModel, at: Sizes): Graph {
  const nodes = read.nodes.map((node) => withSizes(node, at));
  return bindAt({ ...read, nodes }, ops, sizes, at);
}

/** The graph at the samples; where the model does not take such sizes, at multiples of what the profiles' sizes have in common. */
function bindSamples(any: OpenModel) {
  for (const [i, corner] of any.sizes.corners.entries()) {
    for (const [which, at] of Object.entries(corner)) {
      try {
        boundAt(any, at);
      } catch (cause) {
        if (!(cause instanceof ModelError)) throw cause;
        const { code, hint, message } = cause;
        throw new ModelError(code, `the ${which} shapes of profile ${i}: ${message}`, { cause, ...(hint && { hint }) });
      }
    }
  }
  const steps = inSteps(any.sizes);
  const ways = [any.sizes, ...(steps.step > 1 ? [steps] : [])].flatMap((sizes) =>
    (any.data.length > 0 ? [true, false] : [true]).map((spread) => ({ open: { ...any, sizes }, spread })),
  );
  for (const [i, { open, spread }] of ways.entries()) {
    try {
      const { sizes, data, read } = open;
      const samples = sampleSizes(sizes, read, data.length > 0 ? DATA_SAMPLES : 0);
      addDataSamples(samples, data, mostWithData(sizes.most, data), spread);
      return { open, samples, bound: samples.map((at) => boundAt(open, at)) };
    } catch (error) {
      if (!(error instanceof ModelError) || i === ways.length - 1) throw error;
    }
  }
  throw new Bug('open-samples', 'there was no way to take samples');
}

const nameList = (graph: Graph): string => graph.nodes.map((n) => `${n.op} ${n.outputs.join()}`).join('\n');

/** Passes must have done the same to all. */
function checkAlike(graphs: readonly Graph[]): void {
  const lists = graphs.map(nameList);
  const other = lists.find((list) => list !== lists[0]);
  if (other === undefined) return;
  const [a, b] = [lists[0].split('\n'), other.split('\n')];
  const at = a.findIndex((line, i) => line !== b[i]);
  throw new ModelError(
    'shape-open',
    `the network differs between sizes: node ${at} is ${a[at] ?? 'not there'} at some, ${b[at] ?? 'not there'} at others`,
    { hint: 'build an engine for each size with --shapes' },
  );
}

/**
 * The dims that inference gave the values of the open graph, fixed sizes put in; where parts of concatenated values begin; and what the
 * data's sizes cannot exceed.
 */
function dimsOf({ read, ops, sizes: { fixed }, data }: OpenModel): Set<Dim> {
  const dims = new Set<Dim>(data.map(({ atMost }) => atMost));
  const add = (dim: Dim): void => {
    if (typeof dim !== 'number') dims.add(bindDim(dim, fixed));
  };
  for (const { shape } of read.values.values()) shape.forEach(add);
  if (data.length === 0) return dims;
  for (const node of read.nodes) {
    const lowering = ops.get(node.op)?.lower;
    if (lowering?.kind !== 'concat') continue;
    const shapes = node.inputs.map((name) => read.values.get(name)?.shape ?? []);
    const axis = lowering.axis(node.attrs, shapes[0].length);
    shapes.reduce<Dim>((start, shape) => {
      const end = addDims(start, shape[axis]);
      add(end);
      return end;
    }, 0);
  }
  return dims;
}

/** One fusion for all: which nodes meet in a kernel must not hang on how the sizes of a sample compare. */
function fuseAlike(graphs: readonly Graph[], ops: ReadonlyMap<string, Op>): readonly Fusion[] {
  const [first] = graphs;
  const fusion = fuse(first, ops);
  return graphs.map((graph) => {
    if (graph === first) return fusion;
    const twins = new Map(first.nodes.map((node, i) => [node, graph.nodes[i]] as const));
    const twin = (node: Node): Node => twins.get(node) as Node;
    return {
      inlined: fusion.inlined,
      clusters: fusion.clusters.map((c) => ({ ...c, root: twin(c.root), behind: c.behind.map(twin) })),
      producers: new Map([...fusion.producers].map(([name, p]) => [name, { ...p, node: twin(p.node) }])),
      readers: new Map([...fusion.readers].map(([name, nodes]) => [name, nodes.map(twin)])),
    };
  });
}

/** The shape of every value as formulas. */
function shapeFormulas(graphs: readonly Graph[], table: SizeTable): Map<string, Shape> {
  const formulas = new Map<string, Shape>();
  for (const [name, { shape }] of graphs[0].values) {
    const shapes = graphs.map((graph) => graph.values.get(name)?.shape);
    // Constants that are equal at some sizes are one there; where a kernel reads such a one, generalise() says so.
    if (graphs[0].constants.has(name) && shapes.includes(undefined)) continue;
    const dims = shape.map((_, d) => table.fit(shapes.map((s) => Number(s?.[d]))));
    if (!dims.every((dim) => dim !== undefined))
      throw new ModelError(
        'shape-open',
        `no formula was found for the shape of "${name}": ${shapes.map((s) => printShape(s ?? [])).join(', ')}`,
        { hint: 'build an engine for each size with --shapes' },
      );
    formulas.set(name, dims);
  }
  return formulas;
}

/**
 * A value that is constant once sizes are known, at the largest ones. What inference knows by then (shapes, and what is computed from
 * them) ends what has to be evaluated for it. Throws ModelError `shape-open` where no such value is found.
 */
function constantAt(open: OpenModel, most: Sizes, name: string): Tensor {
  const bound = boundAt(open, most);
  const { constants: learned } = inferredFacts(bound, open.ops);
  const known = learned.get(name);
  if (known) return known;
  const producers = new Map(bound.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)));
  if (!producers.has(name))
    throw new ModelError('shape-open', `constant "${name}" depends on the sizes, and is no value of the model itself`);
  const needed = new Set<Node>();
  const constants = new Map<string, Tensor>();
  const visit = (value: string): void => {
    const tensor = learned.get(value);
    if (tensor) constants.set(value, tensor);
    const node = producers.get(value);
    if (tensor || !node || needed.has(node)) return;
    needed.add(node);
    node.inputs.forEach(visit);
  };
  visit(name);
  const inputs = [...needed].flatMap((node) => node.inputs.filter((input) => bound.inputs.includes(input)));
  const shapeOnly = new Map(inputs.map((input) => [input, zerosOf(bound, input)] as const));
  const nodes = bound.nodes.filter((n) => needed.has(n));
  const cone = { ...bound, inputs: [...shapeOnly.keys()], outputs: [name], constants, nodes };
  return evalGraph(cone, open.ops, shapeOnly).get(name) as Tensor;
}

/** Only the shape of an input can have gone into a constant. */
const zerosOf = (graph: Graph, name: string): Tensor =>
  zeros(graph.values.get(name)?.dtype ?? 'f32', staticShape(graph.values.get(name)?.shape ?? []));

/**
 * What the formulas say of the values' shapes at the profiles' corners must be what inference says; of sizes that the data decide, with
 * none and with the most that there may be.
 */
function checkCorners(open: OpenModel, shapes: ReadonlyMap<string, Shape>): void {
  const { sizes, data } = open;
  const corners = sizes.corners.flatMap(({ min, opt, max }) => [min, opt, max]);
  for (const at of corners.flatMap((corner) => SHARES.map((share) => withDataSizes(corner, data, share)))) {
    const bound = boundOrNot(open, at);
    if (!bound) continue;
    for (const [name, dims] of shapes) {
      const shape = bound.values.get(name)?.shape;
      const told = dims.map((dim) => bindDim(dim, at));
      if (!shape || shapesEqual(shape, told)) continue;
      throw new ModelError(
        'shape-open',
        `"${name}" is ${printShape(shape)} with ${[...at].map(([n, v]) => `${n} = ${v}`).join(', ')}, the formula found for it says ${printShape(told)}`,
        { hint: 'build an engine for each size with --shapes' },
      );
    }
  }
}

/** Where there are no sizes of the data's all shares are one. */
const SHARES = [0, 0.5, 1];

/** Undefined where the model has no meaning with such sizes of the data: that is for whoever gives the data. */
function boundOrNot(open: OpenModel, at: Sizes): Graph | undefined {
  try {
    return boundAt(open, at);
  } catch (error) {
    if (!(error instanceof ModelError) || open.data.length === 0) throw error;
    return undefined;
  }
}

function profileOf(read: Graph, { fixed, step }: OpenSizes, corner: OpenSizes['corners'][number]): Profile {
  const shapeAt = (name: string, at: Sizes): StaticShape => {
    const all = new Map([...fixed, ...at]);
    return (read.values.get(name)?.shape ?? []).map((dim) => Number(bindDim(dim, all)));
  };
  const inputs = read.inputs.map((name) => ({
    name,
    min: shapeAt(name, corner.min),
    opt: shapeAt(name, corner.opt),
    max: shapeAt(name, corner.max),
  }));
  return { inputs, step };
}
