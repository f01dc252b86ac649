/**
 * How passes change graphs: look-ups (users, producers), fresh names, and two ways to rewrite.
 *
 * `editGraph` applies a record of changes at once: nodes put in the place of others, uses redirected, constants added.
 * `rewriteNodes` walks the nodes with a builder at hand and lets a rule build each node's replacement; types are inferred as it goes.
 * Both return a new graph that shares every record they did not have to change, and keep the names of inputs and outputs: an output
 * that becomes equal to an input, a constant or another output is kept as a copy of it.
 */
import { Bug } from '../core/errors.ts';
import { isStatic, shapesEqual } from '../core/shape.ts';
import { printType, type Tensor, type ValueType } from '../core/tensor.ts';
import { builderOn, type Draft, emptyDraft, freshNames, type GraphBuilder } from './build.ts';
import { inferContext, inferNode, initialFacts, operatorOf } from './infer.ts';
import { type Attrs, type AttrValue, type Graph, type Loc, type Node, nodeLabel } from './ir.ts';
import type { InferContext, OpTable } from './semantics.ts';

/** The one operator that rewriting itself makes: output 0 is input 0. */
export const COPY_OP = 'Identity';

/** The values a node reads: its inputs, and what the graphs in its attributes take from outside. Each once. */
export function nodeUses(node: Node): readonly string[] {
  const uses = new Set(node.inputs.filter((name) => name !== ''));
  for (const value of Object.values(node.attrs)) if (isGraph(value)) for (const name of captures(value)) uses.add(name);
  return [...uses];
}

/** Names that a graph reads and does not define. */
export function captures(graph: Graph): ReadonlySet<string> {
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

function namesOf(graph: Graph): Set<string> {
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
function keepOutputNames(
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

const renameOutputs = (node: Node, to: (name: string) => string): Node =>
  node.outputs.some((name) => to(name) !== name) ? { ...node, outputs: node.outputs.map(to) } : node;

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

/**
 * What takes the place of a node: the names of values, one an output ('' where nobody reads it); undefined keeps the node.
 * The node's inputs have their new names already; the builder adds nodes and constants before it. `contextOf` gives what inference
 * knows of the inputs of this node or an earlier one.
 */
export type RewriteRule = (
  node: Node,
  b: GraphBuilder,
  contextOf: (node: Node) => InferContext,
) => readonly string[] | undefined;

export interface RewriteOptions {
  /** The replacement may have another dtype or shape than what it replaces; its readers are inferred again. */
  readonly retype?: boolean;
}

/**
 * Rewrites nodes in order by a rule; the same graph comes back where the rule kept them all. A value that the rule made for a node takes over the name of the output it replaces, so names
 * from the model stay with what they mean. Throws Bug where a replacement's type differs.
 */
export function rewriteNodes(graph: Graph, ops: OpTable, rule: RewriteRule, options: RewriteOptions = {}): Graph {
  const draft: Draft = {
    ...emptyDraft(graph.name),
    inputs: [...graph.inputs],
    constants: new Map(graph.constants),
    facts: initialFacts(graph),
    taken: namesOf(graph),
  };
  const inner = builderOn(draft, ops);
  const made = new Set<string>();
  const b: GraphBuilder = {
    ...inner,
    constant(value, name) {
      const given = inner.constant(value, name);
      made.add(given);
      return given;
    },
  };
  const uses = new Map<string, string>();
  const contextOf = (node: Node): InferContext => inferContext(node, draft.facts);
  let changed = false;

  for (const original of graph.nodes) {
    const node = renameInputs(original, uses);
    const first = draft.nodes.length;
    made.clear();
    const results = rule(node, b, contextOf);
    if (!results) {
      draft.nodes.length = first;
      inferNode(node, operatorOf(node, ops), draft.facts);
      draft.nodes.push(node);
      continue;
    }
    if (results.length !== node.outputs.length) {
      throw new Bug('rewrite-outputs', `${nodeLabel(node)} is replaced by ${results.length} values`);
    }
    changed = true;
    const named = new Map<string, string>();
    for (const [i, output] of node.outputs.entries()) {
      if (output === '' || results[i] === '') continue;
      const result = named.get(results[i]) ?? results[i];
      if (!options.retype) checkReplacement(node, graph.values.get(output), draft.facts.types.get(result));
      if (takeOverName(draft, first, made, result, output, graph.outputs)) named.set(result, output);
      else uses.set(output, result);
    }
  }
  if (!changed) return graph;
  const { nodes, constants, facts } = draft;
  const kept = keepOutputNames(graph, nodes, uses, facts.types);
  return tidyGraph({ ...graph, nodes: kept, constants, values: facts.types });
}

/** Renames `result` to `output` where it was made for this node; false where it was there before, or may not have the name. */
function takeOverName(
  draft: Draft,
  first: number,
  made: ReadonlySet<string>,
  result: string,
  output: string,
  graphOutputs: readonly string[],
): boolean {
  const tail = draft.nodes.slice(first);
  const isConstant = made.has(result) && draft.constants.has(result);
  if (isConstant ? graphOutputs.includes(output) : !tail.some((node) => node.outputs.includes(result))) return false;
  const renamed = new Map([[result, output]]);
  for (const [i, node] of tail.entries()) {
    draft.nodes[first + i] = renameOutputs(renameInputs(node, renamed), (name) => renamed.get(name) ?? name);
  }
  moveKey(draft.facts.types, result, output);
  moveKey(draft.facts.constants, result, output);
  moveKey(draft.facts.dims, result, output);
  moveKey(draft.constants, result, output);
  return true;
}

function moveKey<T>(map: Map<string, T>, from: string, to: string): void {
  const value = map.get(from);
  if (value === undefined) return;
  map.delete(from);
  map.set(to, value);
}

function checkReplacement(node: Node, old: ValueType | undefined, type: ValueType | undefined): void {
  if (!old || !type) throw new Bug('rewrite-value', `a replacement of ${nodeLabel(node)} is not a value`);
  const open = !isStatic(old.shape) || !isStatic(type.shape);
  if (old.dtype === type.dtype && (open ? old.shape.length === type.shape.length : shapesEqual(old.shape, type.shape)))
    return;
  throw new Bug('rewrite-type', `${nodeLabel(node)} gives ${printType(old)}, its replacement ${printType(type)}`);
}
