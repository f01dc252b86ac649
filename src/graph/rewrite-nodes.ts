/**
 * Rewriting node by node: a rule looks at each node in order, with a builder at hand, and may build what takes its place.
 *
 * The types of what it builds are inferred at once, and so are those of every node that reads it. What must hold: a replacement has
 * the type of what it replaces; the graph keeps its inputs and outputs by name.
 */
import { Bug } from '../core/errors.ts';
import { isStatic, shapesEqual } from '../core/shape.ts';
import { printType, type ValueType } from '../core/tensor.ts';
import { builderOn, type Draft, emptyDraft, type GraphBuilder } from './build.ts';
import { inferContext, inferNode, initialFacts, operatorOf } from './infer.ts';
import { type Graph, type Node, nodeLabel } from './ir.ts';
import { keepOutputNames, namesOf, removeUnread, renameInputs, renameOutputs, tidyGraph } from './rewrite.ts';
import type { InferContext, OpTable } from './semantics.ts';

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

/**
 * Rewrites nodes in order by a rule; the same graph comes back where the rule kept them all. A value that the rule made for a node
 * takes over the name of the output it replaces, so names from the model stay with what they mean. Nodes that lose their last reader
 * are left out. Throws Bug where a replacement's type differs.
 */
export function rewriteNodes(graph: Graph, ops: OpTable, rule: RewriteRule): Graph {
  const draft: Draft = {
    ...emptyDraft(graph.name),
    inputs: [...graph.inputs],
    constants: new Map(graph.constants),
    facts: initialFacts(graph),
    taken: namesOf(graph),
  };
  const b = builderOn(draft, ops);
  /** Replaced values to what their readers take instead. */
  const uses = new Map<string, string>();
  const contextOf = (node: Node): InferContext => inferContext(node, draft.facts);
  let changed = false;

  for (const original of graph.nodes) {
    const node = renameInputs(original, uses);
    const first = draft.nodes.length;
    const made = new Set<string>();
    const results = rule(node, noting(b, made), contextOf);
    if (results) {
      changed = true;
      replaceNode(graph, draft, node, results, first, made, uses);
    } else {
      draft.nodes.length = first;
      inferNode(node, operatorOf(node, ops), draft.facts);
      draft.nodes.push(node);
    }
  }
  if (!changed) return graph;
  const { nodes, constants, facts } = draft;
  const named = keepOutputNames(graph, nodes, uses, facts.types);
  return removeUnread(tidyGraph({ ...graph, nodes: named, constants, values: facts.types }), ops);
}

/** The builder, with the names of constants that it makes added to `made`. */
const noting = (b: GraphBuilder, made: Set<string>): GraphBuilder => ({
  ...b,
  constant(value, name) {
    const given = b.constant(value, name);
    made.add(given);
    return given;
  },
});

/** Puts `results` in the place of a node's outputs; the draft's nodes from `first` on and the constants `made` were made for it. */
function replaceNode(
  graph: Graph,
  draft: Draft,
  node: Node,
  results: readonly string[],
  first: number,
  made: ReadonlySet<string>,
  uses: Map<string, string>,
): void {
  if (results.length !== node.outputs.length) {
    throw new Bug('rewrite-outputs', `${nodeLabel(node)} is replaced by ${results.length} values`);
  }
  const named = new Map<string, string>();
  for (const [i, output] of node.outputs.entries()) {
    if (output === '' || results[i] === '') continue;
    const result = named.get(results[i]) ?? results[i];
    checkReplacement(node, graph.values.get(output), draft.facts.types.get(result));
    if (takeOverName(draft, first, made, result, output, graph.outputs)) named.set(result, output);
    else uses.set(output, result);
  }
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
