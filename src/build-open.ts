/**
 * Building for open sizes: the front half of a build, from the model as it was read to kernels for every size in the profiles.
 *
 * The graph is bound, optimised and lowered at a few sample sizes, each as if it were the only one; lower/generalise.ts makes one
 * lowering of them. What the profiles say at their corners is inferred too, so that a size that the model does not take shows here.
 */
import type { BuildRun } from './build-run.ts';
import { ModelError } from './core/errors.ts';
import { bindDim, type Dim, printShape, type Shape, type StaticShape, shapesEqual, staticShape } from './core/shape.ts';
import { type Tensor, zeros } from './core/tensor.ts';
import type { Profile } from './engine/engine.ts';
import { evalGraph } from './graph/eval.ts';
import type { Graph } from './graph/ir.ts';
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
import { fuse } from './lower/fuse.ts';
import { generalise } from './lower/generalise.ts';
import { finishSteps, type LoweredGraph, lowerRaw } from './lower/lower.ts';
import { printLowered } from './lower/print.ts';
import { SizeTable } from './lower/size-table.ts';
import type { Op } from './ops/op.ts';

export interface OpenBuild {
  readonly graph: LoweredGraph;
  readonly profiles: readonly Profile[];
}

/** `optimise` runs the passes. Throws ModelError, `shape-open` where something cannot be built for open sizes. */
export async function lowerOpen(
  run: BuildRun,
  read: Graph,
  ops: ReadonlyMap<string, Op>,
  profiles: readonly ShapeProfile[],
  shapes: Readonly<Record<string, StaticShape>>,
  optimise: (bound: Graph) => Graph | Promise<Graph>,
): Promise<OpenBuild> {
  const { sizes, samples, bound } = await run.stage(
    'infer',
    () => bindSamples(read, ops, openSizes(read, profiles, shapes, run.onWarning)),
    (made) => printGraph(made.bound[0]),
  );
  const graphs = await run.stage(
    'passes',
    async () => {
      const made: Graph[] = [];
      for (const graph of bound) made.push(await optimise(graph));
      return made;
    },
    (made) => printGraph(made[0]),
  );
  checkAlike(graphs);
  const table = new SizeTable(samples, sizes.most, dimsOf(read, sizes));
  const formulas = shapeFormulas(graphs, table);
  const extents = new Map([...formulas].map(([name, dims]) => [name, dims.map((dim) => table.atMost(dim))] as const));
  const fusions = await run.stage('fuse', () => graphs.map((graph) => fuse(graph, ops)));
  const lowered = await run.stage(
    'lower',
    () => {
      const raw = graphs.map((graph, i) =>
        lowerRaw(graph, ops, fusions[i], { extents, other: graphs[(i + 1) % graphs.length] }),
      );
      const general = generalise(raw, table, (name) => constantAt(read, ops, sizes, name));
      const words = general.sizes.formulas.map((formula) => Number(bindDim(formula, sizes.corners[0].opt)));
      return finishSteps(general, {}, words);
    },
    printLowered,
  );
  checkCorners(read, ops, sizes, formulas);
  return { graph: lowered, profiles: sizes.corners.map((corner) => profileOf(read, sizes, corner)) };
}

/** The graph at the samples; where the model does not take such sizes, at multiples of what the profiles' sizes have in common. */
function bindSamples(read: Graph, ops: ReadonlyMap<string, Op>, any: OpenSizes) {
  for (const [i, corner] of any.corners.entries()) {
    for (const [which, at] of Object.entries(corner)) {
      try {
        bindAt(read, ops, any, at);
      } catch (cause) {
        if (!(cause instanceof ModelError)) throw cause;
        const { code, hint, message } = cause;
        throw new ModelError(code, `the ${which} shapes of profile ${i}: ${message}`, { cause, ...(hint && { hint }) });
      }
    }
  }
  const bindAll = (sizes: OpenSizes) => {
    const samples = sampleSizes(sizes, read);
    return { sizes, samples, bound: samples.map((at) => bindAt(read, ops, sizes, at)) };
  };
  try {
    return bindAll(any);
  } catch (error) {
    const steps = inSteps(any);
    if (!(error instanceof ModelError) || steps.step <= 1) throw error;
    return bindAll(steps);
  }
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

/** The dims that inference gave the values of the open graph, fixed sizes put in. */
function dimsOf(read: Graph, { fixed }: OpenSizes): Set<Dim> {
  const dims = new Set<Dim>();
  for (const { shape } of read.values.values())
    for (const dim of shape) if (typeof dim !== 'number') dims.add(bindDim(dim, fixed));
  return dims;
}

/** The shape of every value as formulas. */
function shapeFormulas(graphs: readonly Graph[], table: SizeTable): Map<string, Shape> {
  const formulas = new Map<string, Shape>();
  for (const [name, { shape }] of graphs[0].values) {
    const shapes = graphs.map((graph) => graph.values.get(name)?.shape);
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

/** A value that is constant once sizes are known, at the largest ones. Throws ModelError `shape-open` where no such value is found. */
function constantAt(read: Graph, ops: ReadonlyMap<string, Op>, sizes: OpenSizes, name: string): Tensor {
  const bound = bindAt(read, ops, sizes, sizes.most);
  const known = bound.constants.get(name);
  if (known) return known;
  const producers = new Map(bound.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)));
  const needed = new Set<Graph['nodes'][number]>();
  const visit = (value: string): void => {
    const node = producers.get(value);
    if (!node || needed.has(node)) return;
    needed.add(node);
    node.inputs.forEach(visit);
  };
  visit(name);
  const inputs = [...needed].flatMap((node) => node.inputs.filter((input) => bound.inputs.includes(input)));
  const shapeOnly = new Map(inputs.map((input) => [input, zerosOf(bound, input)] as const));
  if (!producers.has(name))
    throw new ModelError('shape-open', `constant "${name}" depends on the sizes, and is no value of the model itself`);
  const cone = {
    ...bound,
    inputs: [...shapeOnly.keys()],
    outputs: [name],
    nodes: bound.nodes.filter((n) => needed.has(n)),
  };
  return evalGraph(cone, ops, shapeOnly).get(name) as Tensor;
}

/** Only the shape of an input can have gone into a constant. */
const zerosOf = (graph: Graph, name: string): Tensor =>
  zeros(graph.values.get(name)?.dtype ?? 'f32', staticShape(graph.values.get(name)?.shape ?? []));

/** What the formulas say of the values' shapes at the profiles' corners must be what inference says. */
function checkCorners(
  read: Graph,
  ops: ReadonlyMap<string, Op>,
  sizes: OpenSizes,
  shapes: ReadonlyMap<string, Shape>,
): void {
  const corners = sizes.corners.flatMap(({ min, opt, max }) => [min, opt, max]);
  for (const at of corners) {
    const bound = bindAt(read, ops, sizes, at);
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
