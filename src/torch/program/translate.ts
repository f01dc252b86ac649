/**
 * An exported program to Graph: each call by its row in the tables of aten-*.ts, in order.
 *
 * Operators that no row translates are reported all at once. An operator that works in place (`relu_`) gives a new value, which takes
 * the place of its argument from there on; where a view of that argument is read later, which would have changed too, the program is
 * refused. Values keep the names that the program gives to inputs and outputs; weights are constants named by their keys.
 */
import { ModelError } from '../../core/errors.ts';
import { type GraphBuilder, graphBuilder } from '../../graph/build.ts';
import type { Graph } from '../../graph/ir.ts';
import type { Op } from '../../ops/op.ts';
import { renameValue } from '../rename-value.ts';
import type { ProgramArchive } from './archive.ts';
import { ATEN, type Translation } from './aten.ts';
import { type Bound, Call, type Result } from './call.ts';
import type { Program, ProgramNode } from './schema.ts';

/** Nodes that a message names for one missing operator. */
const NODES_SHOWN = 4;

/** Throws ModelError `torch-parse`, `torch-unsupported`, or what the builder throws. */
export function translateProgram(archive: ProgramArchive, name: string, ops: ReadonlyMap<string, Op>): Graph {
  const { program } = archive;
  checkOperators(program);
  const builder = graphBuilder(name, ops);
  const scope = new Scope();
  for (const source of program.inputs) scope.set(source.name, bindInput(source, archive, builder));
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

/** Names of the program and what they stand for, with which of them may share memory. */
class Scope {
  readonly #bound = new Map<string, Bound>();
  /** The name that a view goes back to. */
  readonly #owner = new Map<string, string>();
  /** Names whose memory an operator changed through another name. */
  readonly #stale = new Set<string>();

  set(name: string, bound: Bound): void {
    this.#bound.set(name, bound);
  }
  get(name: string): Bound | undefined {
    if (this.#stale.has(name)) {
      throw new ModelError(
        'torch-unsupported',
        `"${name}" of the exported program is read after what it is a view of was changed in place`,
        {
          hint: 'In PyTorch, save program.run_decompositions(), which works without changes in place.',
        },
      );
    }
    return this.#bound.get(name);
  }
  /** `view` may share memory with `of`. */
  share(view: string, of: string): void {
    this.#owner.set(view, this.#ownerOf(of));
  }
  /** `name` now has another value; whatever else shares its memory has changed unseen. */
  overwrite(name: string, bound: Bound): void {
    const owner = this.#ownerOf(name);
    for (const other of this.#bound.keys())
      if (other !== name && this.#ownerOf(other) === owner) this.#stale.add(other);
    this.set(name, bound);
  }
  #ownerOf(name: string): string {
    return this.#owner.get(name) ?? name;
  }
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
  bindOutputs(node, row.translate(call), scope, call);
  const [argument] = node.inputs.values();
  const names = outputNames(node);
  if (argument?.kind !== 'tensor') return;
  if (row.inPlace) {
    // What gives its argument back (detach_, dropout_) changes nothing.
    const bound = scope.get(names[0]) as Bound;
    if (bound !== scope.get(argument.name)) scope.overwrite(argument.name, bound);
    scope.share(names[0], argument.name);
    return;
  }
  // An output that is its argument, or a mere rearrangement of it, may be a view.
  for (const name of names) if (MAY_BE_VIEW.test(node.target)) scope.share(name, argument.name);
}

/** PyTorch's operators that return views of their first argument: https://pytorch.org/docs/stable/tensor_view.html */
const MAY_BE_VIEW =
  /^aten\.(alias|detach|view|reshape|_unsafe_view|transpose|t|permute|expand|expand_as|select|slice|narrow|squeeze|unsqueeze|flatten|unflatten|split|split_with_sizes|chunk|unbind|contiguous|dropout|to|diagonal|swapaxes|movedim|numpy_T|ravel)\b/;

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
    for (const name of names) scope.set(name, result.size);
    return;
  }
  const values = typeof result === 'string' ? [result] : result;
  if (values.length > names.length) call.fail(`it gives ${values.length} tensors, ${names.length} are named`);
  for (const [i, name] of names.entries()) scope.set(name, values[i] ?? '');
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
