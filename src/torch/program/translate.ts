/**
 * An exported program to Graph: each call by its row in the tables of aten-*.ts, in order.
 *
 * Operators that no row translates are reported all at once. An operator that works in place (`relu_`) gives a new value of its argument:
 * see scope.ts. Values keep the names that the program gives to inputs and outputs; weights are constants named by their keys.
 */
import { ModelError } from '../../core/errors.ts';
import { type GraphBuilder, graphBuilder } from '../../graph/build.ts';
import type { Graph } from '../../graph/ir.ts';
import type { Op } from '../../ops/op.ts';
import { renameValue } from '../rename-value.ts';
import type { ProgramArchive } from './archive.ts';
import { ATEN, type Translation } from './aten.ts';
import { Call, type Result } from './call.ts';
import type { Program, ProgramNode } from './schema.ts';
import { Scope } from './scope.ts';

/** Nodes that a message names for one missing operator. */
const NODES_SHOWN = 4;

/** Throws ModelError `torch-parse`, `torch-unsupported`, or what the builder throws. */
export function translateProgram(archive: ProgramArchive, name: string, ops: ReadonlyMap<string, Op>): Graph {
  const { program } = archive;
  checkOperators(program);
  const builder = graphBuilder(name, ops);
  const scope = new Scope(builder, (node, argument, value) => replay(node, argument, value, program, builder));
  for (const source of program.inputs) scope.define(source.name, bindInput(source, archive, builder));
  for (const node of program.nodes) translateNode(node, program, builder, scope);
  return finish(program, builder, scope);
}

function checkOperators({ nodes }: Program): void {
  const missing = new Map<string, string[]>();
  for (const node of nodes) {
    if (rowOf(node.target)) continue;
    missing.set(node.target, [...(missing.get(node.target) ?? []), `"${node.name}"`]);
  }
  if (missing.size === 0) return;
  const lines = [...missing].map(([target, names]) => {
    const more = names.length > NODES_SHOWN ? ` and ${names.length - NODES_SHOWN} more` : '';
    return `${target} (${names.slice(0, NODES_SHOWN).join(', ')}${more})`;
  });
  throw new ModelError(
    'torch-unsupported',
    `the exported program uses operators that are not translated: ${lines.join('; ')}`,
    {
      details: lines,
      hint: 'In PyTorch, try program.run_decompositions() before saving it, or torch.onnx.export.',
    },
  );
}

interface Row {
  readonly translate: Translation;
  readonly inPlace: boolean;
}

/** `aten.NAME.overload` by its name; `NAME_` is NAME in place. */
function rowOf(target: string): Row | undefined {
  const [, space, name] = /^(aten|_operator|math)\.(\w+)/.exec(target) ?? [];
  if (name === undefined) return undefined;
  const key = space === 'aten' ? name : `${space}.${name}`;
  if (Object.hasOwn(ATEN, key)) return { translate: ATEN[key], inPlace: false };
  const base = key.replace(/([^_])_$/, '$1');
  return base !== key && Object.hasOwn(ATEN, base) ? { translate: ATEN[base], inPlace: true } : undefined;
}

function bindInput(source: Program['inputs'][number], archive: ProgramArchive, builder: GraphBuilder): string {
  if (source.kind === 'user') {
    const type = archive.program.types.get(source.name);
    if (type) return builder.input(source.name, type.dtype, type.shape);
    throw new ModelError('torch-parse', `input "${source.name}" of the exported program has no type`);
  }
  const tensors = source.kind === 'weight' ? archive.weights : archive.constants;
  const tensor = tensors.get(source.key) ?? archive.weights.get(source.key) ?? archive.constants.get(source.key);
  if (tensor) return builder.constant(tensor, builder.fresh(source.key));
  throw new ModelError('torch-parse', `"${source.key}" of the exported program is missing from its archive`);
}

function translateNode(node: ProgramNode, program: Program, builder: GraphBuilder, scope: Scope): void {
  const row = rowOf(node.target) as Row;
  const call = new Call(builder, node, (name) => scope.get(name), program.types);
  const [argument] = node.inputs.values();
  const names = outputNames(node);
  // Read before the outputs are bound: that is what they may be views of.
  const before = row.inPlace && argument?.kind === 'tensor' ? scope.get(argument.name) : undefined;
  bindOutputs(node, row.translate(call), scope, call);
  if (argument?.kind !== 'tensor') return;
  if (row.inPlace) {
    const after = scope.get(names[0]);
    // What gives its argument back (detach_, dropout_) changes nothing. The output is the argument by another name.
    if (after !== before && typeof after === 'string') scope.write(argument.name, after);
    scope.share(names[0], { node: { ...node, target: ALIAS }, of: argument.name, isCertain: true });
    return;
  }
  const isCertain = IS_VIEW.test(node.target);
  if (!isCertain && !MAY_BE_VIEW.test(node.target)) return;
  for (const name of names) scope.share(name, { node, of: argument.name, isCertain });
}

/** The same translation on another value of the argument, whatever its dtype. */
function replay(node: ProgramNode, argument: string, value: string, program: Program, builder: GraphBuilder) {
  const names = outputNames(node);
  const { dtype } = builder.type(value);
  const types = new Map(program.types);
  for (const name of names) types.set(name, { dtype, shape: program.types.get(name)?.shape ?? [] });
  const call = new Call(builder, node, (name) => (name === argument ? value : undefined), types);
  const result = node.target === ALIAS ? value : (rowOf(node.target) as Row).translate(call);
  const values = typeof result === 'string' ? [result] : Array.isArray(result) ? (result as readonly string[]) : [];
  return new Map(names.map((name, i): [string, string] => [name, values[i] ?? '']));
}

const ALIAS = 'aten.alias.default';
/** PyTorch's operators that always give views of their first argument: https://pytorch.org/docs/stable/tensor_view.html */
const IS_VIEW =
  /^aten\.(alias|detach|view|transpose|t|permute|expand|expand_as|select|slice|narrow|squeeze|unsqueeze|unflatten|split|split_with_sizes|chunk|unbind|swapaxes|movedim|numpy_T)\b/;
/** Those that do where strides allow, or that may give back their argument. */
const MAY_BE_VIEW = /^aten\.(reshape|_unsafe_view|flatten|contiguous|dropout|to|ravel)\b/;

function outputNames({ outputs }: ProgramNode): string[] {
  return outputs.flatMap((output) => {
    if (output.kind === 'tensor') return [output.name];
    if (output.kind === 'tensors') return output.names.map((name) => name ?? '');
    return output.kind === 'number' && typeof output.value === 'string' ? [output.value] : [];
  });
}

function bindOutputs(node: ProgramNode, result: Result, scope: Scope, call: Call): void {
  const names = outputNames(node);
  if (typeof result === 'object' && 'size' in result) {
    for (const name of names) scope.define(name, result.size);
    return;
  }
  const values = typeof result === 'string' ? [result] : result;
  if (values.length > names.length) call.fail(`it gives ${values.length} tensors, ${names.length} are named`);
  for (const [i, name] of names.entries()) if (name !== '') scope.define(name, values[i] ?? '');
}

function finish(program: Program, builder: GraphBuilder, scope: Scope): Graph {
  const given = new Set<string>();
  const inputs = new Set(program.inputs.filter(({ kind }) => kind === 'user').map(({ name }) => scope.get(name)));
  const renames: [string, string][] = [];
  for (const name of program.outputs) {
    const bound = scope.get(name);
    if (typeof bound !== 'string' || bound === '') {
      throw new ModelError('torch-unsupported', `output "${name}" of the exported program is not computed here`);
    }
    // An output is a value of its own: not an input, a weight or another output.
    const isOwn = !given.has(bound) && !inputs.has(bound) && builder.constantValue(bound) === undefined;
    const value = isOwn ? bound : builder.node('Identity', [bound])[0];
    given.add(value);
    builder.output(value);
    renames.push([value, name]);
  }
  const graph = builder.finish();
  return renames.reduce((g, [from, to]) => (g.values.has(to) ? g : renameValue(g, from, to)), graph);
}
