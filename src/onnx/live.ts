/**
 * Which values of a model its outputs need. Exporters leave dead nodes behind, some with operators that nothing could run (sequences
 * that a loop carries along and nobody reads), so they are dropped before anything else is asked of them.
 *
 * One reachability search over the names of all blocks at once: an output of If needs the same output of both branches; a value
 * that Loop carries needs its start and what the body makes of it; a name not defined in a block is looked up in the one around it.
 */
import type { FunctionProto, GraphProto, NodeProto } from './onnx_pb.ts';
import type { ParsedModel } from './parse-model.ts';

/** A list of nodes with inputs and outputs. */
export type Block = GraphProto | FunctionProto;
export type IsNeeded = (block: Block, value: string) => boolean;

/** Loop's inputs before the carried values, its body's inputs before them, its body's outputs before them. */
export const LOOP = { inputs: 2, bodyInputs: 2, bodyOutputs: 1 } as const;

export const inputsOf = (block: Block): readonly string[] =>
  block.input.map((i) => (typeof i === 'string' ? i : i.name));
export const outputsOf = (block: Block): readonly string[] =>
  block.output.map((o) => (typeof o === 'string' ? o : o.name));
export const subgraph = (node: NodeProto, attr: string): GraphProto | undefined =>
  node.attribute.find((a) => a.name === attr)?.g;

interface Ref {
  readonly scope: Scope;
  readonly name: string;
}
interface Scope {
  readonly block: Block;
  readonly around: Scope | undefined;
  /** What each value that the block defines needs. */
  readonly definitions: Map<string, () => readonly Ref[]>;
  readonly needed: Set<string>;
}

/** The graph's outputs are needed, and every output of every function. */
export function neededValues(model: ParsedModel): IsNeeded {
  const scopes = new Map<Block, Scope>();
  const roots = [model.graph, ...model.functions].map((block) => scopeOf(block, undefined, scopes));
  const open: Ref[] = roots.flatMap((scope) => outputsOf(scope.block).map((name) => ({ scope, name })));
  for (let ref = open.pop(); ref; ref = open.pop()) {
    const scope = definingScope(ref);
    if (scope === undefined || scope.needed.has(ref.name)) continue;
    scope.needed.add(ref.name);
    for (const next of scope.definitions.get(ref.name)?.() ?? []) open.push(next);
  }
  return (block, value) => scopes.get(block)?.needed.has(value) ?? false;
}

function definingScope({ scope, name }: Ref): Scope | undefined {
  let at: Scope | undefined = scope;
  while (at && !at.definitions.has(name)) at = at.around;
  return at;
}

function scopeOf(block: Block, around: Scope | undefined, scopes: Map<Block, Scope>): Scope {
  const scope: Scope = { block, around, definitions: new Map(), needed: new Set() };
  scopes.set(block, scope);
  for (const name of inputsOf(block)) scope.definitions.set(name, () => []);
  if ('initializer' in block) for (const { name } of block.initializer) scope.definitions.set(name, () => []);
  for (const node of block.node) defineOutputs(node, scope, scopes);
  return scope;
}

function defineOutputs(node: NodeProto, scope: Scope, scopes: Map<Block, Scope>): void {
  const refs = (at: Scope, names: readonly (string | undefined)[]): Ref[] =>
    names.flatMap((name) => (name ? [{ scope: at, name }] : []));
  const bodies = node.attribute.flatMap((a) => (a.g ? [scopeOf(a.g, scope, scopes)] : []));
  const bodyOutput = (k: number): Ref[] => bodies.flatMap((b) => refs(b, [outputsOf(b.block)[k]]));

  if (node.opType === 'Loop' && bodies.length === 1) {
    const [body] = bodies;
    const start = (k: number): string | undefined =>
      LOOP.inputs + k < node.input.length ? node.input[LOOP.inputs + k] : undefined;
    for (const [i, name] of inputsOf(body.block).entries()) {
      const k = i - LOOP.bodyInputs;
      if (k >= 0) body.definitions.set(name, () => [...refs(scope, [start(k)]), ...bodyOutput(LOOP.bodyOutputs + k)]);
    }
    const control = () => [...refs(scope, node.input.slice(0, LOOP.inputs)), ...bodyOutput(0)];
    for (const [k, name] of node.output.entries()) {
      scope.definitions.set(name, () => [
        ...control(),
        ...refs(scope, [start(k)]),
        ...bodyOutput(LOOP.bodyOutputs + k),
      ]);
    }
    return;
  }
  const isIf = node.opType === 'If';
  for (const [k, name] of node.output.entries()) {
    const inside = (): Ref[] => (isIf ? bodyOutput(k) : bodies.flatMap((b) => refs(b, outputsOf(b.block))));
    scope.definitions.set(name, () => [...refs(scope, node.input), ...inside()]);
  }
}
