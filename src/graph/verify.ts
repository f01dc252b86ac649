/**
 * The graph verifier: what every pass may rely on and must leave behind.
 *
 * Single assignment; nodes in topological order; every name defined; types of all values present and as inference gives them;
 * attributes complete; no value, input or output listed twice. A broken graph is a defect of whoever made it: a Bug whose message is
 * the printed graph with marks under the bad lines (as Cranelift's verifier prints).
 */
import { Bug, ModelError } from '../core/errors.ts';
import { type Dim, isStatic, shapesEqual } from '../core/shape.ts';
import { printType, type ValueType } from '../core/tensor.ts';
import { addConstant, type Facts, inferNode, noFacts } from './infer.ts';
import type { Graph, Node } from './ir.ts';
import { type PrintedLine, printLines } from './print.ts';
import { nodeUses } from './rewrite.ts';
import type { OpSemantics, OpTable } from './semantics.ts';

interface GraphProblem {
  readonly kind: PrintedLine['kind'];
  /** Index of the input, constant, node or output. */
  readonly index: number;
  readonly message: string;
}

/** Throws Bug `graph-invalid` with the marked graph where it is not well formed. `after` names the pass to blame. */
export function verifyGraph(graph: Graph, ops: OpTable, after?: string): void {
  const problems = graphProblems(graph, ops);
  if (problems.length === 0) return;
  const found = `${problems.length} ${problems.length === 1 ? 'problem' : 'problems'}`;
  throw new Bug(
    'graph-invalid',
    `graph "${graph.name}"${after === undefined ? '' : ` after ${after}`} has ${found}:\n${markedGraph(graph, problems)}\n`,
  );
}

/** The printed graph with a line under each line that has a problem. */
function markedGraph(graph: Graph, problems: readonly GraphProblem[]): string {
  return printLines(graph, { inlineElements: 4 })
    .flatMap((line) => [
      line.text,
      ...problems.filter((p) => p.kind === line.kind && p.index === line.index).map((p) => `  ^ ${p.message}`),
    ])
    .join('\n');
}

/** Everything that is wrong with a graph, in order. */
function graphProblems(graph: Graph, ops: OpTable): readonly GraphProblem[] {
  const problems: GraphProblem[] = [];
  const report = (kind: GraphProblem['kind'], index: number, message: string): void => {
    problems.push({ kind, index, message });
  };
  const defined = new Set<string>();
  const define = (kind: GraphProblem['kind'], index: number, name: string): void => {
    if (defined.has(name)) report(kind, index, `"${name}" is defined already`);
    if (!graph.values.has(name)) report(kind, index, `"${name}" has no type`);
    defined.add(name);
  };
  const facts = noFacts();

  for (const [i, name] of graph.inputs.entries()) {
    define('input', i, name);
    facts.types.set(name, graph.values.get(name) ?? { dtype: 'f32', shape: [] });
  }
  for (const [i, [name, value]] of [...graph.constants].entries()) {
    define('const', i, name);
    const type = graph.values.get(name);
    if (type && !sameType(type, value)) report('const', i, `"${name}" has type ${printType(type)}`);
    addConstant(facts, name, value);
  }
  for (const [i, node] of graph.nodes.entries()) {
    for (const name of nodeUses(node)) {
      if (!defined.has(name)) report('node', i, `"${name}" is not defined before this`);
    }
    for (const name of node.outputs) if (name !== '') define('node', i, name);
    for (const message of nodeProblems(node, graph, ops, facts)) report('node', i, message);
  }
  for (const [i, name] of graph.outputs.entries()) {
    if (!defined.has(name)) report('output', i, `"${name}" is not defined`);
    if (graph.outputs.indexOf(name) !== i) report('output', i, `"${name}" is an output already`);
  }
  for (const name of graph.values.keys()) {
    if (!defined.has(name)) report('close', 0, `the type of "${name}" belongs to no value`);
  }
  return problems;
}

/** Problems of operator, attributes and types. Leaves the types that the graph claims in `facts`, so one error stays one. */
function nodeProblems(node: Node, graph: Graph, ops: OpTable, facts: Facts): readonly string[] {
  const op = ops.get(node.op);
  const problems = op
    ? [...attrProblems(node, op), ...typeProblems(node, op, graph, facts)]
    : [`no operator ${node.op}`];
  for (const name of node.outputs) {
    const claimed = graph.values.get(name);
    if (claimed) facts.types.set(name, claimed);
  }
  return problems;
}

function attrProblems(node: Node, op: OpSemantics): readonly string[] {
  const problems: string[] = [];
  const complete = caught(problems, () =>
    op.completeAttrs(node.attrs, (message) => {
      throw new ModelError('model-invalid', message);
    }),
  );
  if (!complete) return problems;
  return Object.keys(complete)
    .filter((key) => !Object.hasOwn(node.attrs, key))
    .map((key) => `attribute "${key}" is not filled in`);
}

function typeProblems(node: Node, op: OpSemantics, graph: Graph, facts: Facts): readonly string[] {
  const problems: string[] = [];
  const inferred = caught(problems, () => inferNode(node, op, facts));
  for (const [i, name] of node.outputs.entries()) {
    const claimed = graph.values.get(name);
    if (name === '' || !inferred || !claimed || agrees(claimed, inferred[i])) continue;
    problems.push(`"${name}" is ${printType(claimed)}, inferred is ${printType(inferred[i])}`);
  }
  return problems;
}

/** The result, or its ModelError as a problem. */
function caught<T>(problems: string[], compute: () => T): T | undefined {
  try {
    return compute();
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    problems.push(error.message);
    return undefined;
  }
}

const sameType = (a: ValueType, b: ValueType): boolean => a.dtype === b.dtype && shapesEqual(a.shape, b.shape);

/** Numbers must be equal. Names need not: a size that only running tells is named after its value, and values are renamed. */
const agrees = (claimed: ValueType, inferred: ValueType): boolean =>
  claimed.dtype === inferred.dtype &&
  claimed.shape.length === inferred.shape.length &&
  claimed.shape.every((dim, i) => dimsAgree(dim, inferred.shape[i]));
const dimsAgree = (a: Dim, b: Dim): boolean =>
  isStatic([a]) && isStatic([b]) ? a === b : isStatic([a]) === isStatic([b]);
