/**
 * A PyTorch file to Graph: a checkpoint whose architecture is known, or a program of torch.export.
 *
 * A checkpoint's graph has one input `input`, pictures [N, 3, H, W], and one output `output`, as torch.onnx.export is usually told to name them.
 * Weights are constants named by their keys, in f32; those that were f32 in the file are views on its bytes.
 */

import { ModelError } from '../core/errors.ts';
import type { Shape } from '../core/shape.ts';
import { graphBuilder } from '../graph/build.ts';
import type { Graph } from '../graph/ir.ts';
import type { Op } from '../ops/op.ts';
import { Network } from './architectures/network.ts';
import { readCheckpoint } from './checkpoint.ts';
import { isZip } from './is-torch-file.ts';
import { isProgramArchive, type ProgramArchive, readProgramArchive } from './program/archive.ts';
import { translateProgram } from './program/translate.ts';
import { type Recognised, recognise } from './recognise.ts';
import { renameValue } from './rename-value.ts';
import type { StateDict } from './state-dict.ts';
import { openZip } from './zip.ts';

export interface TorchOptions {
  readonly ops: ReadonlyMap<string, Op>;
  /** The architecture of a checkpoint; recognised from its keys and shapes where not given. */
  readonly arch?: string;
  /** Sizes of inputs by name; the usual ones of the architecture where not given. */
  readonly shapes?: Readonly<Record<string, Shape>>;
}

export interface TorchModel {
  readonly graph: Graph;
  /** The architecture's name; undefined for an exported program. */
  readonly arch: string | undefined;
  /** Elements of all parameters, as PyTorch counts them. */
  readonly parameters: number;
}

const INPUT = 'input';
const OUTPUT = 'output';

/**
 * Throws ModelError: `torch-parse`, `torch-refused`, `torch-unsupported`, `architecture-unknown`, `weights-mismatch`, `option-invalid`,
 * or `shape-mismatch` where the network does not take pictures of that size.
 */
export function readTorch(bytes: Uint8Array, options: TorchOptions): TorchModel {
  const zip = isZip(bytes) ? openZip(bytes) : undefined;
  if (zip && isProgramArchive(zip)) return readProgram(readProgramArchive(zip, bytes.length), options);
  const recognised = recognise(readCheckpoint(bytes), options.arch);
  const graph = graphOf(recognised, inputShape(recognised, options.shapes ?? {}), options.ops);
  return { graph, arch: recognised.architecture.name, parameters: parameterCount(recognised.weights) };
}

/** An exported program says its own shapes; those that it leaves open are bound when it is built. */
function readProgram(archive: ProgramArchive, { ops, arch }: TorchOptions): TorchModel {
  if (arch !== undefined) {
    throw new ModelError('option-invalid', 'an exported program has a graph of its own, no architecture', {
      hint: 'Leave --arch out.',
    });
  }
  const graph = translateProgram(archive, 'program', ops);
  return { graph, arch: undefined, parameters: parameterCount(archive.weights) };
}

/** Statistics of batch normalisation are weights, but no parameters: training counts them, and does not learn them. */
const STATISTIC = /(^|\.)(running_mean|running_var|num_batches_tracked)$/;

const parameterCount = (weights: StateDict): number =>
  [...weights].reduce((sum, [key, { data }]) => sum + (STATISTIC.test(key) ? 0 : data.length), 0);

function inputShape(recognised: Recognised, shapes: Readonly<Record<string, Shape>>): Shape {
  const { architecture, family, weights } = recognised;
  const size = family.imageSizeOf?.(weights) ?? architecture.imageSize;
  const { [INPUT]: shape = [1, 3, size, size], ...others } = shapes;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) {
    throw new ModelError('input-unknown', `a shape is given for "${unknown}", which is not an input of the model`, {
      hint: `Its one input is "${INPUT}".`,
    });
  }
  return shape;
}

function graphOf({ architecture, weights }: Recognised, shape: Shape, ops: ReadonlyMap<string, Op>): Graph {
  const builder = graphBuilder(architecture.name, ops);
  const logits = architecture.define(new Network(weights, builder), builder.input(INPUT, 'f32', shape));
  builder.output(logits);
  return renameValue(builder.finish(), logits, OUTPUT);
}
