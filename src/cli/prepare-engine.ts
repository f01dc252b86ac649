/**
 * From the MODEL argument and the flags to the engine that a command runs.
 */
import { ModelError } from '../core/errors.ts';
import type { Engine } from '../engine/engine.ts';
import type { Graph } from '../graph/ir.ts';
import type { EngineInput, ModelInput } from './model-input.ts';
import { buildOptionsOf, type ModelFlags } from './model-options.ts';
import type { Shapes } from './options.ts';
import { formatType } from './table.ts';
import type { Terminal } from './terminal.ts';

/**
 * The engine of a MODEL: itself, or built now for the shapes of the tensors at hand. `batch` replaces the first dim of every input.
 * Throws ModelError `option-invalid` where an engine is asked to be what it was not built as.
 */
export async function prepareEngine(
  model: ModelInput,
  flags: ModelFlags,
  terminal: Terminal,
  inputShapes: Shapes = {},
  batch?: number,
): Promise<Engine> {
  if (model.kind === 'engine') return checkEngineFlags(model, flags, batch);
  const { buildModel, readModelGraph } = await import('./compile-model.ts');
  const { shapes, ...options } = buildOptionsOf(flags, inputShapes);
  const sized =
    batch === undefined || options.profiles
      ? shapes
      : batchShapes(readModelGraph(model, terminal, shapes), { ...shapes }, batch);
  const sizedOptions = { ...options, ...(sized && { shapes: sized }) };
  return (await buildModel(model, sizedOptions, terminal, flags.timingCache)).engine;
}

function checkEngineFlags({ file, engine }: EngineInput, flags: ModelFlags, batch?: number): Engine {
  const fail = (what: string): never => {
    throw new ModelError('option-invalid', `${file}: ${what}`, { hint: 'Build another engine from the model.' });
  };
  const { target = 'auto', shapes = {} } = flags;
  if (target !== 'auto' && target !== engine.target)
    fail(`the engine was built for target ${engine.target}, not ${target}`);
  // With open sizes the runner sets shapes, and says where the engine does not take them.
  if (engine.profiles) return engine;
  const wanted = batch === undefined ? shapes : { ...shapes, ...sizedShapes(engine.inputs, batch) };
  for (const [name, shape] of Object.entries(wanted)) {
    const input = engine.inputs.find((binding) => binding.name === name);
    if (input === undefined)
      fail(`the engine has no input "${name}", but ${engine.inputs.map((b) => `"${b.name}"`).join(', ')}`);
    else if (input.shape.join() !== shape.join())
      fail(`input "${name}" is ${formatType(input)} in this engine, not [${shape}]`);
  }
  return engine;
}

/** Input shapes with `batch` as first dim; dims that neither the model nor `shapes` settles become 1, as in a build. */
function batchShapes(graph: Graph, shapes: Shapes, batch: number): Shapes {
  const inputs = graph.inputs.map((name) => {
    const stated = graph.values.get(name)?.shape ?? [];
    return { name, shape: shapes[name] ?? stated.map((dim) => (typeof dim === 'number' ? dim : 1)) };
  });
  return sizedShapes(inputs, batch);
}

/** The shapes that a run wants of an engine with open sizes; none of another, whose shapes are its own. */
export function runShapes(engine: Engine, flags: ModelFlags, inputShapes: Shapes, batch?: number): Shapes {
  const [profile] = engine.profiles ?? [];
  if (!profile) return {};
  const usual = profile.inputs.map(({ name, opt }) => ({
    name,
    shape: inputShapes[name] ?? flags.shapes?.[name] ?? opt,
  }));
  const batched = batch === undefined ? {} : sizedShapes(usual, batch);
  return { ...flags.shapes, ...inputShapes, ...batched };
}

const sizedShapes = (
  inputs: readonly { readonly name: string; readonly shape: readonly number[] }[],
  batch: number,
): Shapes =>
  Object.fromEntries(
    inputs.filter(({ shape }) => shape.length > 0).map(({ name, shape }) => [name, [batch, ...shape.slice(1)]]),
  );
