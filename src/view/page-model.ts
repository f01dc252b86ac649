/**
 * The page's model: a graph, an engine and measured times in, plain data out. Pure; everything the viewer shows is decided here.
 *
 * Nodes and steps know each other by the ONNX nodes' names, which the compiler keeps to the end (`loc`). A step lies in the innermost
 * block that holds all of its nodes, so both sides fold alike.
 */
import { elements, printShape } from '../core/shape.ts';
import { byteLength, printType, type Tensor } from '../core/tensor.ts';
import type { Engine } from '../engine/engine.ts';
import { type EngineInspection, type InspectedLayer, inspectEngine } from '../engine/inspect.ts';
import type { AttrValue, Graph, Node } from '../graph/ir.ts';
import { printAttr } from '../graph/print.ts';
import type { Op } from '../ops/op.ts';
import { type BlockTree, findBlocks } from './blocks.ts';
import { stepEdges } from './engine-edges.ts';
import type { Fact, PageEdge, PageGroup, PageItem, PageModel, PageSide, PageValue } from './page.ts';
import { summarizeWeight, type WeightSummary } from './weight-summary.ts';

export interface PageSources {
  /** For the head of the page. */
  readonly name: string;
  readonly graph?: Graph;
  readonly engine?: Engine;
  readonly ops: ReadonlyMap<string, Op>;
  /** Milliseconds a step, in the order of the engine's steps, and how they were got. */
  readonly times?: { readonly ms: readonly number[]; readonly how: string };
  /** False where the constants' elements are made up, because their file is missing. */
  readonly weightsKnown?: boolean;
}

/** Longer texts of attributes are cut. */
const LONGEST_FACT = 400;
/** Operators that the title of a step names. */
const MOST_OPS = 3;

export function pageModel({ name, graph, engine, ops, times, weightsKnown = true }: PageSources): PageModel {
  const inspection = engine && inspectEngine(engine);
  const tree = graph ? findBlocks(blockNodes(graph)) : engine ? findBlocks(stepNodes(engine)) : undefined;
  const { groups, groupOf }: BlockTree = tree ?? { groups: [], groupOf: [] };
  const links = graph && engine ? linkSteps(graph, engine) : (engine?.steps.map(() => []) ?? []);
  const stepGroups = graph
    ? withoutLone(
        links.map((nodes) => commonGroup(nodes, groupOf, groups)),
        groups,
      )
    : groupOf;
  const inputs = graph?.inputs.length ?? 0;
  return {
    name,
    groups,
    ...(graph && { graph: graphSide(graph, ops, groupOf, weightsKnown) }),
    ...(engine &&
      inspection &&
      engine.steps.length > 0 && {
        engine: engineSide(engine, inspection, stepGroups, links, graph, times?.ms),
      }),
    links: engine
      ? [
          ...engine.inputs.map(() => []),
          ...links.map((nodes) => nodes.map((i) => i + inputs)),
          ...engine.outputs.map(() => []),
        ]
      : [],
    facts: summary(graph, inspection, times?.ms),
    ...(times && { timing: times.how }),
  };
}

function summary(
  graph: Graph | undefined,
  engine: EngineInspection | undefined,
  ms: readonly number[] | undefined,
): readonly Fact[] {
  const facts: Fact[] = [];
  if (graph) {
    const constants = [...graph.constants.values()];
    facts.push(['nodes', count(graph.nodes.length)]);
    facts.push(['parameters', count(constants.reduce((sum, { shape }) => sum + elements(shape), 0))]);
    facts.push(['weights', bytesText(constants.reduce((sum, tensor) => sum + byteLength(tensor), 0))]);
  }
  if (engine) {
    const folded = engine.layers.length === 0 ? 'runs the graph itself' : count(engine.layers.length);
    facts.push(['target', [engine.target, ...engine.machine].join(' ')], ['steps', folded]);
    facts.push(['precision', engine.precision], ['arena', bytesText(engine.arenaBytes)]);
    if (engine.flops > 0) facts.push(['operations', count(engine.flops)]);
  }
  if (ms) facts.push(['sum of steps', `${ms.reduce((sum, x) => sum + x, 0).toPrecision(3)} ms`]);
  return facts;
}

function graphSide(
  graph: Graph,
  ops: ReadonlyMap<string, Op>,
  groupOf: readonly number[],
  weightsKnown: boolean,
): PageSide {
  const summaries = new Map<Tensor, WeightSummary>();
  const value = (name: string): PageValue => {
    const type = graph.values.get(name);
    const constant = graph.constants.get(name);
    const known = constant && weightsKnown && (summaries.get(constant) ?? summarizeWeight(constant));
    if (constant && known) summaries.set(constant, known);
    return { name, type: type ? printType(type) : '', ...(known && { weight: known }) };
  };
  const values = (names: readonly string[]) => names.filter((name) => name !== '').map(value);
  const precision = (name: string | undefined) => graph.values.get(name ?? '')?.dtype ?? '';
  const offset = graph.inputs.length;
  const ends = (title: 'input' | 'output', names: readonly string[]) =>
    names.map((name) => endItem(title, value(name), precision(name)));
  const items: PageItem[] = [
    ...ends('input', graph.inputs),
    ...graph.nodes.map(
      (node, i): PageItem => ({
        title: node.op,
        name: node.loc.join(' + '),
        kind: ops.get(node.op)?.lower?.kind ?? 'composite',
        group: groupOf[i],
        inputs: values(node.inputs),
        outputs: values(node.outputs),
        facts: attributeFacts(node),
        precision: precision(node.outputs.find((name) => name !== '')),
      }),
    ),
    ...ends('output', graph.outputs),
  ];
  const producer = new Map<string, number>(graph.inputs.map((name, i) => [name, i]));
  for (const [i, { outputs }] of graph.nodes.entries()) for (const name of outputs) producer.set(name, offset + i);
  const edges: PageEdge[] = [];
  const connect = (name: string, to: number): void => {
    const from = producer.get(name);
    if (name !== '' && from !== undefined) edges.push({ from, to, type: value(name).type });
  };
  for (const [i, { inputs }] of graph.nodes.entries()) for (const name of new Set(inputs)) connect(name, offset + i);
  for (const [i, name] of graph.outputs.entries()) connect(name, offset + graph.nodes.length + i);
  return { items, edges };
}

function engineSide(
  engine: Engine,
  { layers }: EngineInspection,
  groups: readonly number[],
  links: readonly (readonly number[])[],
  graph: Graph | undefined,
  ms: readonly number[] | undefined,
): PageSide {
  const bound = (title: 'input' | 'output', { name, dtype, shape }: Engine['inputs'][number]) =>
    endItem(title, { name, type: dtype + printShape(shape) }, dtype);
  const items: PageItem[] = [
    ...engine.inputs.map((binding) => bound('input', binding)),
    ...layers.map((layer, i) => stepItem(layer, stepTitle(links[i], graph) ?? layer.form, groups[i], ms?.[i])),
    ...engine.outputs.map((binding) => bound('output', binding)),
  ];
  const inputs = engine.inputs.length;
  const typeOf = new Map<string, string>();
  for (const item of items) for (const { name, type } of [...item.outputs, ...item.inputs]) typeOf.set(name, type);
  const edges = stepEdges(engine, graph).map(({ from, to, value }) => ({
    from: from < 0 ? -1 - from : from + inputs,
    to: to + inputs,
    type: typeOf.get(value) ?? '',
  }));
  return { items, edges };
}

const endItem = (title: 'input' | 'output', value: PageValue, precision: string): PageItem => ({
  title,
  name: value.name,
  kind: 'end',
  group: -1,
  inputs: title === 'output' ? [value] : [],
  outputs: title === 'input' ? [value] : [],
  facts: [],
  precision,
});

/** The operators that a step computes, in order: `Conv + Add + Relu`. */
function stepTitle(nodes: readonly number[], graph: Graph | undefined): string | undefined {
  const ops = [...new Set(nodes.flatMap((node) => graph?.nodes[node].op ?? []))];
  if (ops.length === 0) return undefined;
  return ops.length <= MOST_OPS ? ops.join(' + ') : `${ops.slice(0, MOST_OPS).join(' + ')} + …`;
}

function stepItem(layer: InspectedLayer, title: string, group: number, ms: number | undefined): PageItem {
  const operands = (role: 'in' | 'out') =>
    layer.operands
      .filter((operand) => operand.role === role)
      .map(({ value, dtype, shape }): PageValue => ({ name: value, type: dtype + printShape(shape) }));
  const precisions = layer.operands.filter(({ role }) => role === 'out').map(({ dtype }) => dtype);
  return {
    title,
    name: layer.name,
    kind: layer.form,
    group,
    inputs: operands('in'),
    outputs: operands('out'),
    facts: [
      ['form', layer.form],
      ['kernel', layer.kernel],
      ['tactic', layer.tactic],
      ['predicted', `${(layer.predictedNs / 1e6).toPrecision(3)} ms`],
      ['threads', `${layer.threads} over ${count(layer.tiles)} tiles`],
      ['barrier before', layer.barrier ? 'yes' : 'no'],
    ],
    precision: precisions[0] ?? '',
    flops: layer.flops,
    bytes: layer.bytes,
    ...(ms !== undefined && { ms }),
  };
}

function attributeFacts({ attrs }: Node): readonly Fact[] {
  return Object.entries(attrs).flatMap(([name, value]): Fact[] =>
    value === undefined ? [] : [[name, attributeText(value)]],
  );
}

function attributeText(value: Exclude<AttrValue, undefined>): string {
  if (typeof value === 'object' && 'nodes' in value) return `a graph of ${count(value.nodes.length)} nodes`;
  if (typeof value === 'object' && 'dtype' in value && elements(value.shape) > 64) return `tensor ${printType(value)}`;
  const text = typeof value === 'string' ? value : printAttr(value);
  return text.length > LONGEST_FACT ? `${text.slice(0, LONGEST_FACT)} …` : text;
}

/** For each step the nodes it computes, ascending. */
function linkSteps(graph: Graph, engine: Engine): readonly (readonly number[])[] {
  const nodesNamed = new Map<string, number[]>();
  for (const [i, { loc }] of graph.nodes.entries()) {
    for (const name of loc) nodesNamed.set(name, [...(nodesNamed.get(name) ?? []), i]);
  }
  return engine.steps.map(({ loc }) =>
    [...new Set(loc.flatMap((name) => nodesNamed.get(name) ?? []))].sort((a, b) => a - b),
  );
}

/** The innermost group that holds all of the nodes. */
function commonGroup(nodes: readonly number[], groupOf: readonly number[], groups: readonly PageGroup[]): number {
  const chain = (group: number): number[] => (group < 0 ? [] : [...chain(groups[group].parent), group]);
  const chains = nodes.map((node) => chain(groupOf[node]));
  const [first = []] = chains;
  const depth = first.findIndex((group, i) => chains.some((other) => other[i] !== group));
  return (depth < 0 ? first : first.slice(0, depth)).at(-1) ?? -1;
}

/** A step that is alone in its block stands in the block around it. */
function withoutLone(stepGroups: readonly number[], groups: readonly PageGroup[]): readonly number[] {
  const steps = new Array<number>(groups.length).fill(0);
  for (const group of stepGroups) for (let g = group; g >= 0; g = groups[g].parent) steps[g]++;
  return stepGroups.map((group) => {
    let g = group;
    while (g >= 0 && steps[g] < 2) g = groups[g].parent;
    return g;
  });
}

function blockNodes(graph: Graph) {
  const producer = new Map<string, number>();
  return graph.nodes.map(({ op, inputs, outputs, loc }, i) => {
    const producers = inputs.flatMap((name) => producer.get(name) ?? []);
    for (const name of outputs) producer.set(name, i);
    return { op, name: loc[0] ?? '', producers, weights: inputs.filter((name) => graph.constants.has(name)) };
  });
}

function stepNodes(engine: Engine) {
  const producers: number[][] = engine.steps.map(() => []);
  for (const { from, to } of stepEdges(engine))
    if (from >= 0 && to < engine.steps.length && from < to) producers[to].push(from);
  return engine.steps.map(({ loc, kernel, values, buffers }, i) => ({
    op: engine.kernels[kernel].form.kind,
    name: loc[0] ?? '',
    producers: producers[i],
    weights: values.filter((_, b) => buffers[b].space === 'weights'),
  }));
}

const count = (n: number): string => Math.round(n).toLocaleString('en-US');

function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${power === 0 ? bytes : (bytes / 1024 ** power).toFixed(1)} ${units[power]}`;
}
