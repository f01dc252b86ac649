/**
 * The compiler as commands use it: a model's file to its graph or to an engine, with progress on the terminal and the file named in
 * errors. Commands import this file only when there is something to compile: running an engine loads none of it.
 */
import { basename, dirname, join } from 'node:path';
import { build } from '../build.ts';
import type { BuildOptions, BuildReport } from '../build-options.ts';
import type { Graph } from '../graph/ir.ts';
import { fileInPieces } from '../host/file-pieces.ts';
import type { ExternalFile } from '../onnx/external-data.ts';
import { readOnnx } from '../onnx/read.ts';
import { OPS } from '../ops/all.ts';
import { readTorch, type TorchModel, type TorchOptions } from '../torch/read.ts';
import { withFile } from './files.ts';
import type { OnnxInput, SourceInput, TorchInput } from './model-input.ts';
import type { Shapes } from './options.ts';
import { startProgress } from './progress.ts';
import { formatMs } from './table.ts';
import type { Terminal } from './terminal.ts';
import { readTimingCache, writeTimingCache } from './timing-cache-file.ts';

/** How an ONNX model's external data are found: beside it. Errors are plain: the reader of the model says which tensor misses them. */
const besideModel =
  (file: string) =>
  (location: string): ExternalFile =>
    fileInPieces(join(dirname(file), location));

/**
 * The graph of a model. A checkpoint's is made for `shapes`, or for its usual ones. Throws what readOnnx and readTorch throw, with the
 * file named.
 */
export function readModelGraph(model: SourceInput, terminal: Terminal, shapes: Shapes = {}): Graph {
  return model.kind === 'torch' ? readTorchModel(model, shapes).graph : readOnnxGraph(model, terminal);
}

/** A PyTorch file's graph and what is known of it. Throws what readTorch throws, with the file named. */
export function readTorchModel(model: TorchInput, shapes: TorchOptions['shapes'] = {}): TorchModel {
  try {
    return readTorch(model.bytes, { ops: OPS, shapes, ...(model.arch !== undefined && { arch: model.arch }) });
  } catch (error) {
    throw withFile(model.file, error);
  }
}

function readOnnxGraph(model: OnnxInput, terminal: Terminal): Graph {
  try {
    return readOnnx(model.bytes, { ops: OPS, openExternal: besideModel(model.file), onWarning: terminal.warn });
  } catch (error) {
    throw withFile(model.file, error);
  }
}

/**
 * Builds the model with a progress line on the terminal. `options` are those of the command; measured times are read from and kept in
 * `timingCacheFile` where one is named.
 */
export async function buildModel(
  model: SourceInput,
  options: BuildOptions,
  terminal: Terminal,
  timingCacheFile?: string,
): Promise<BuildReport> {
  const timingCache = timingCacheFile === undefined ? undefined : readTimingCache(timingCacheFile);
  const progress = await startProgress(terminal, `building ${basename(model.file)}`);
  try {
    const report = await build(model.bytes, {
      openExternal: besideModel(model.file),
      ...(model.kind === 'torch' && model.arch !== undefined && { arch: model.arch }),
      ...options,
      ...(timingCache && { timingCache }),
      onProgress: progress.update,
      onWarning: terminal.warn,
    });
    if (timingCacheFile !== undefined && timingCache) writeTimingCache(timingCacheFile, timingCache);
    progress.done(`built ${basename(model.file)} for ${report.engine.target} in ${formatMs(report.buildMs)}`);
    return report;
  } catch (error) {
    progress.failed();
    throw withFile(model.file, error);
  }
}
