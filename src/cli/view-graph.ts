/**
 * The graph of a model for looking at: as for building, but a model whose weights lie in a file that is missing is shown without them.
 */
import { ModelError } from '../core/errors.ts';
import type { Graph } from '../graph/ir.ts';
import { describeOnnx } from '../onnx/describe.ts';
import { readOnnx } from '../onnx/read.ts';
import { OPS } from '../ops/all.ts';
import { readModelGraph } from './compile-model.ts';
import { withFile } from './files.ts';
import type { OnnxInput, SourceInput } from './model-input.ts';
import type { Shapes } from './options.ts';
import type { Terminal } from './terminal.ts';

export function viewGraph(
  model: SourceInput,
  terminal: Terminal,
  shapes: Shapes = {},
): { readonly graph: Graph; readonly weightsKnown: boolean } {
  try {
    return { graph: readModelGraph(model, terminal, shapes), weightsKnown: true };
  } catch (error) {
    if (!(error instanceof ModelError) || error.code !== 'onnx-external-data' || model.kind !== 'onnx') throw error;
    terminal.warn(`${error.message}; weights are shown by their shapes only`);
    const stand = new Uint8Array(externalBytes(model));
    try {
      const graph = readOnnx(model.bytes, { ops: OPS, openExternal: () => stand, onWarning: terminal.warn });
      return { graph, weightsKnown: false };
    } catch (cause) {
      throw withFile(model.file, cause);
    }
  }
}

/** At least as many bytes as any of the model's files beside it has. */
const externalBytes = ({ bytes }: OnnxInput): number => {
  const { parameterBytes } = describeOnnx(bytes);
  // Tensors in the file are aligned; a page a tensor is more than any exporter spends.
  return parameterBytes * 2 + (1 << 20);
};
