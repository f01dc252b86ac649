/**
 * How passes change graphs: look-ups (users, producers), fresh names, and edits.
 *
 * `editGraph` applies a record of changes at once: nodes put in the place of others, uses redirected, constants added. It returns a
 * new graph that shares every record it did not have to change, and keeps the names of inputs and outputs: an output that becomes
 * equal to an input, a constant or another output is kept as a copy of it. To build replacements node by node there is
 * `rewriteNodes`.
 */
import { Bug } from '../core/errors.ts';
import type { Tensor, ValueType } from '../core/tensor.ts';
import { freshNames } from './build.ts';
import type { Attrs, AttrValue, Graph, Loc, Node } from './ir.ts';
import type { OpTable } from './semantics.ts';

/** The one operator that rewriting itself makes: output 0 is input 0. */
const COPY_OP = 'Identity';

/** The values a node reads: its inputs, and what the graphs in its attributes take from outside. Each once. */
export function nodeUses(node: Node): readonly string[] {
  const uses = new Set(node.inputs.filter((name) => name !== ''));
  for (const value of Object.values(node.attrs)) if (isGraph(value)) for (const name of captures(value)) uses.add(name);
  return [...uses];
}

/** Names that a graph reads and does not define. */
function captures(graph: Graph): ReadonlySet<string> {
  const defined = new Set([...graph.inputs, ...graph.constants.keys(), ...graph.nodes.flatMap((node) => node.outputs)]);
  return new Set([...graph.nodes.flatMap(nodeUses), ...graph.outputs].filter((name) => !defined.has(name)));
}

const isGraph = (value: AttrValue): value is Graph =>
  typeof value === 'object' && !Array.isArray(value) && 'nodes' in value;

/** Value name to the nodes that read it, in order. A value that no node reads is absent; graph outputs do not count. */
export function usersOf(graph: Graph): ReadonlyMap<string, readonly Node[]> {
  const users = new Map<string, Node[]>();
  for (const node of graph.nodes) {
    for (const name of nodeUses(node)) {
      const list = users.get(name);
      if (list) list.push(node);
      else users.set(name, [node]);
    }
  }
  return users;
}

/** Value name to the node that computes it. Inputs and constants are absent. */
export const producersOf = (graph: Graph): ReadonlyMap<string, Node> =>
  new Map(
    graph.nodes.flatMap((node) => node.outputs.filter((name) => name !== '').map((name) => [name, node] as const)),
  );

/** A source of value names that the graph does not have. */
export const freshNamesFor = (graph: Graph): ((hint: string) => string) => freshNames(namesOf(graph));

/** Every value name in the graph. */
export function namesOf(graph: Graph): Set<string> {
  const names = new Set([...graph.values.keys(), ...graph.inputs, ...graph.constants.keys()]);
  for (const node of graph.nodes) for (const name of [...node.outputs, ...nodeUses(node)]) names.add(name);
  return names;
}

/** The ONNX nodes that a node made of two stands for, each once. */
export const mergeLocs = (a: Loc, b: Loc): Loc => [...new Set([...a, ...b])];

/** The node with value names put for others, in its inputs and in what its graphs take from outside. */
export function renameInputs(node: Node, renamed: ReadonlyMap<string, string>): Node {
  if (renamed.size === 0 || !nodeUses(node).some((name) => renamed.has(name))) return node;
  const attrs: Attrs = Object.fromEntries(
    Object.entries(node.attrs).map(([key, value]) => [key, isGraph(value) ? renameCaptures(value, renamed) : value]),
  );
  return { ...node, inputs: node.inputs.map((name) => renamed.get(name) ?? name), attrs };
}

function renameCaptures(graph: Graph, renamed: ReadonlyMap<string, string>): Graph {
  const free = captures(graph);
  const inside = new Map([...renamed].filter(([name]) => free.has(name)));
  if (inside.size === 0) return graph;
  return {
    ...graph,
    outputs: graph.outputs.map((name) => inside.get(name) ?? name),
    nodes: graph.nodes.map((node) => renameInputs(node, inside)),
  };
}

export interface GraphEdit {
  /** What stands in the place of a node: nothing to remove it; itself with others before it to insert. */
  readonly nodes?: ReadonlyMap<Node, readonly Node[]>;
  /** Value to the value that its readers, and the graph's outputs, take instead. Chains are followed. */
  readonly uses?: ReadonlyMap<string, string>;
  readonly constants?: ReadonlyMap<string, Tensor>;
  /** Types of the outputs of new nodes. */
  readonly types?: ReadonlyMap<string, ValueType>;
}

/** The graph after all changes of an edit. Values and constants that nothing defines or reads any more are left out. */
export function editGraph(graph: Graph, edit: GraphEdit): Graph {
  const uses = resolveChains(edit.uses ?? new Map());
  const nodes = graph.nodes.flatMap((node) => edit.nodes?.get(node) ?? [node]).map((node) => renameInputs(node, uses));
  const types = new Map([...graph.values, ...(edit.types ?? [])]);
  const constants = new Map([...graph.constants, ...(edit.constants ?? [])]);
  for (const [name, value] of edit.constants ?? []) types.set(name, { dtype: value.dtype, shape: value.shape });
  return tidyGraph({ ...graph, nodes: keepOutputNames(graph, nodes, uses, types), values: types, constants });
}

/** Values to their replacements' replacements, to the end. */
function resolveChains(uses: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const resolve = (name: string): string => {
    let last = name;
    for (let steps = 0; uses.has(last); steps++) {
      if (steps > uses.size) throw new Bug('rewrite-cycle', `value "${name}" is replaced by itself`);
      last = uses.get(last) as string;
    }
    return last;
  };
  return new Map([...uses.keys()].map((name) => [name, resolve(name)]));
}

/**
 * Makes nodes compute the graph's outputs under their own names, where `uses` says that another value takes an output's place:
 * the other value is renamed where it may be, else copied. `old` is the graph before. Adds types of what it names.
 */
export function keepOutputNames(
  old: Graph,
  nodes: readonly Node[],
  uses: ReadonlyMap<string, string>,
  types: Map<string, ValueType>,
): readonly Node[] {
  const { outputs } = old;
  const replaced = new Set(outputs.filter((name) => uses.has(name)));
  if (replaced.size === 0) return nodes;
  const oldProducers = producersOf(old);
  // The names are about to be defined by others; the nodes that defined them so far give them up.
  const live = nodes
    .map((node) => renameOutputs(node, (name) => (replaced.has(name) ? '' : name)))
    .filter((node) => node.outputs.some((name) => name !== ''));
  const produced = new Set(live.flatMap((node) => node.outputs));
  const renamed = new Map<string, string>();
  const copies: Node[] = [];
  for (const output of replaced) {
    const source = uses.get(output) as string;
    types.set(output, types.get(source) as ValueType);
    if (produced.has(source) && !outputs.includes(source) && !renamed.has(source)) renamed.set(source, output);
    else {
      const loc = oldProducers.get(output)?.loc ?? [output];
      copies.push({ op: COPY_OP, inputs: [source], outputs: [output], attrs: {}, loc });
    }
  }
  const rename = (node: Node): Node => renameOutputs(renameInputs(node, renamed), (name) => renamed.get(name) ?? name);
  return [...live, ...copies].map(rename);
}

export const renameOutputs = (node: Node, to: (name: string) => string): Node =>
  node.outputs.some((name) => to(name) !== name) ? { ...node, outputs: node.outputs.map(to) } : node;

/**
 * The graph without nodes of which no output is read on the way to a graph output, and without the constants that only they read.
 * Impure nodes stay, and so do graph inputs: they are the model's interface. The same graph where there are none.
 */
export function removeUnread(graph: Graph, ops: OpTable): Graph {
  const live = new Set(graph.outputs);
  const nodes = graph.nodes
    .toReversed()
    .filter((node) => {
      const isLive = node.outputs.some((name) => live.has(name)) || ops.get(node.op)?.traits?.impure === true;
      if (isLive) for (const name of nodeUses(node)) live.add(name);
      return isLive;
    })
    .reverse();
  const isClean = nodes.length === graph.nodes.length && [...graph.constants.keys()].every((name) => live.has(name));
  return isClean ? graph : tidyGraph({ ...graph, nodes });
}

/** The graph without constants that nothing reads and without types of values that it does not have. */
export function tidyGraph(graph: Graph): Graph {
  const read = new Set([...graph.outputs, ...graph.nodes.flatMap(nodeUses)]);
  const constants = new Map([...graph.constants].filter(([name]) => read.has(name)));
  const values = new Map<string, ValueType>();
  const keep = (name: string): void => {
    const type = graph.values.get(name);
    if (name !== '' && type) values.set(name, type);
  };
  graph.inputs.forEach(keep);
  for (const name of constants.keys()) keep(name);
  for (const node of graph.nodes) node.outputs.forEach(keep);
  return { ...graph, constants, values };
}
