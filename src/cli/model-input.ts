/**
 * The MODEL argument: an ONNX file with its external data beside it, or a built engine. Opened once, told apart by its first bytes.
 */
import { readFileSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { build } from '../build.ts';
import type { BuildOptions, BuildReport } from '../build-options.ts';
import { ModelError } from '../core/errors.ts';
import type { Engine } from '../engine/engine.ts';
import { isEngine } from '../engine/format.ts';
import type { Graph } from '../graph/ir.ts';
import { readOnnx } from '../onnx/read.ts';
import { OPS } from '../ops/all.ts';
import { engineOfBytes } from './engine-file.ts';
import { readInputFile } from './files.ts';
import { buildOptionsOf, type ModelFlags } from './model-options.ts';
import type { Shapes } from './options.ts';
import { startProgress } from './progress.ts';
import { formatMs, formatType } from './table.ts';
import type { Terminal } from './terminal.ts';

export interface OnnxInput {
  readonly kind: 'onnx';
  readonly file: string;
  readonly bytes: Uint8Array;
}
export interface EngineInput {
  readonly kind: 'engine';
  readonly file: string;
  readonly bytes: Uint8Array;
  readonly engine: Engine;
}
export type ModelInput = OnnxInput | EngineInput;

/** Reads the file. Throws ModelError: `file-missing`, or what parsing an engine throws. An ONNX model is parsed when it is built. */
export async function openModel(file: string): Promise<ModelInput> {
  const bytes = readInputFile(file, 'model');
  if (!isEngine(bytes) && extname(file) !== '.engine') return { kind: 'onnx', file, bytes };
  try {
    return { kind: 'engine', file, bytes, engine: await engineOfBytes(bytes) };
  } catch (error) {
    throw withFile(file, error);
  }
}

/** How an ONNX model's external data are found: beside it. Errors are plain: the reader of the model says which tensor misses them. */
export const besideModel =
  (file: string) =>
  (location: string): Uint8Array =>
    readFileSync(join(dirname(file), location));

/** The graph of an ONNX model. Throws what readOnnx throws, with the file named. */
export function readModelGraph(model: OnnxInput, terminal: Terminal): Graph {
  try {
    return readOnnx(model.bytes, { ops: OPS, openExternal: besideModel(model.file), onWarning: terminal.warn });
  } catch (error) {
    throw withFile(model.file, error);
  }
}

/** Builds the model with a progress line on the terminal. `options` are those of the command. */
export async function buildModel(model: OnnxInput, options: BuildOptions, terminal: Terminal): Promise<BuildReport> {
  const progress = await startProgress(terminal, `building ${basename(model.file)}`);
  try {
    const report = await build(model.bytes, {
      openExternal: besideModel(model.file),
      ...options,
      onProgress: progress.update,
      onWarning: terminal.warn,
    });
    progress.done(`built ${basename(model.file)} for ${report.engine.target} in ${formatMs(report.buildMs)}`);
    return report;
  } catch (error) {
    progress.failed();
    throw withFile(model.file, error);
  }
}

/** The same error with the file's name in front; errors that name it already, and defects of Hotrod, as they are. */
function withFile(file: string, error: unknown): unknown {
  if (!(error instanceof ModelError) || error.message.includes(file)) return error;
  const { hint, details, cause } = error;
  return new ModelError(error.code, `${file}: ${error.message}`, {
    ...(hint !== undefined && { hint }),
    details,
    cause,
  });
}

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
  const shapes =
    batch === undefined ? inputShapes : { ...inputShapes, ...batchShapes(readModelGraph(model, terminal), batch) };
  return (await buildModel(model, buildOptionsOf(flags, terminal, shapes), terminal)).engine;
}

function checkEngineFlags({ file, engine }: EngineInput, flags: ModelFlags, batch?: number): Engine {
  const fail = (what: string): never => {
    throw new ModelError('option-invalid', `${file}: ${what}`, { hint: 'Build another engine from the model.' });
  };
  const { target = 'auto', shapes = {} } = flags;
  if (target !== 'auto' && target !== engine.target)
    fail(`the engine was built for target ${engine.target}, not ${target}`);
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

/** Input shapes with `batch` as first dim; other dims that the model leaves open become 1, as in a build. */
function batchShapes(graph: Graph, batch: number): Shapes {
  const inputs = graph.inputs.map((name) => {
    const shape = graph.values.get(name)?.shape ?? [];
    return { name, shape: shape.map((dim) => (typeof dim === 'number' ? dim : 1)) };
  });
  return sizedShapes(inputs, batch);
}

const sizedShapes = (
  inputs: readonly { readonly name: string; readonly shape: readonly number[] }[],
  batch: number,
): Shapes =>
  Object.fromEntries(
    inputs.filter(({ shape }) => shape.length > 0).map(({ name, shape }) => [name, [batch, ...shape.slice(1)]]),
  );
