/**
 * `hotrod export`: a PyTorch file to an ONNX model, as torch.onnx.export would write it: input `input`, output `output`, weights by their
 * keys, batch normalisation folded into the convolutions before it unless it is to be kept.
 */
import { basename, dirname, join } from 'node:path';
import type { Command } from 'commander';
import { ModelError } from '../core/errors.ts';
import { type Shape, sym } from '../core/shape.ts';
import { byteLength } from '../core/tensor.ts';
import { bindShapes } from '../graph/bind.ts';
import type { Graph } from '../graph/ir.ts';
import { OutputFile, writeFileAtomically } from '../host/files.ts';
import { OLDEST_EXPRESSIBLE_OPSET } from '../onnx/older-opsets.ts';
import { NEWEST_OPSET } from '../onnx/opsets.ts';
import { type ExternalDataOptions, writeOnnx } from '../onnx/write.ts';
import { OPS } from '../ops/all.ts';
import { eliminateDeadCode } from '../passes/eliminate-dead-code.ts';
import { foldChannelAffine } from '../passes/fold-channel-affine.ts';
import { foldConstants } from '../passes/fold-constants.ts';
import type { PassContext } from '../passes/pass.ts';
import type { TorchModel } from '../torch/read.ts';
import { readTorchModel } from './compile-model.ts';
import { withFile } from './files.ts';
import { openModel, type TorchInput } from './model-input.ts';
import { parseCount, parseShapes, type Shapes } from './options.ts';
import { formatBytes, formatNumber } from './table.ts';
import { processTerminal, type Terminal } from './terminal.ts';

interface ExportFlags {
  readonly output: string;
  readonly arch?: string;
  readonly shapes?: Shapes;
  readonly opset?: number;
  readonly dynamicBatch?: boolean;
  readonly keepBatchNorm?: boolean;
  readonly externalData?: boolean;
  readonly json?: boolean;
}

/** A protobuf message ends at 2 GiB; nodes and names need some of it. */
const MOST_INSIDE_BYTES = 2 ** 31 - 2 ** 26;
/** Tensors below this stay in the model even where the others lie beside it. */
const LEAST_OUTSIDE_BYTES = 1024;
const BATCH = 'batch';

export function addExportCommand(program: Command): void {
  program
    .command('export')
    .argument('<checkpoint>', 'a PyTorch file: .pth, .pt, .safetensors or .pt2')
    .requiredOption('-o, --output <file>', 'the ONNX model to write')
    .description('turn a PyTorch file into an ONNX model')
    .option(
      '--arch <name>',
      'the architecture of a checkpoint, such as resnet50; recognised from its weights if not given',
    )
    .option('--shapes <list>', 'size of the input, input:1x3x224x224', parseShapes)
    .option(
      '--opset <n>',
      `operator set to write, ${OLDEST_EXPRESSIBLE_OPSET} to ${NEWEST_OPSET}; the oldest that has what the model needs if not given`,
      parseCount,
    )
    .option('--dynamic-batch', 'leave the batch open')
    .option('--keep-batch-norm', 'do not fold batch normalisation into convolutions')
    .option('--external-data', 'put the weights into a file beside the model, as happens above 2 GB anyway')
    .option('--json', 'print one JSON object on stdout and nothing else there')
    .addHelpText('after', '\nExample: hotrod export resnet50.pth -o resnet50.onnx --dynamic-batch')
    .action(exportCommand);
}

async function exportCommand(file: string, flags: ExportFlags): Promise<void> {
  const terminal = processTerminal(flags.json === true);
  const model = await openModel(file, flags);
  if (model.kind !== 'torch') {
    throw new ModelError('option-invalid', `${file} is no PyTorch file`, {
      hint: 'Give a .pth, .pt, .safetensors or .pt2 file.',
    });
  }
  const { graph, arch, parameters } = exportedGraph(model, flags, terminal);
  const written = writeModel(graph, flags, file);
  const report = { arch: arch ?? null, nodes: graph.nodes.length, parameters, file: flags.output, ...written };
  terminal.result(report, () =>
    [
      `model       ${flags.output} (${formatBytes(written.bytes)}, opset ${written.opset})`,
      ...(written.dataFile === undefined
        ? []
        : [`weights     ${written.dataFile} (${formatBytes(written.dataBytes)})`]),
      `network     ${arch ?? 'exported program'}, ${graph.nodes.length} nodes, ${formatNumber(parameters)} parameters`,
    ].join('\n'),
  );
}

/** The graph as it is written: constants folded, and batch normalisation unless it is kept. */
function exportedGraph(model: TorchInput, flags: ExportFlags, terminal: Terminal) {
  const read = boundProgram(readTorchModel(model, flags.shapes), flags, terminal);
  const { graph, ...facts } = flags.dynamicBatch ? readTorchModel(model, openBatch(read, model.file)) : read;
  const context: PassContext = { ops: OPS, computes: new Set(), onWarning: terminal.warn };
  const folded = foldConstants(graph, context);
  const joined = flags.keepBatchNorm ? folded : foldChannelAffine(folded, context);
  return { ...facts, graph: eliminateDeadCode(joined, context) };
}

/** A checkpoint is read for the shapes asked for; what an exported program leaves open is bound to them. */
function boundProgram(read: TorchModel, { shapes }: ExportFlags, terminal: Terminal): TorchModel {
  if (read.arch !== undefined || shapes === undefined) return read;
  return { ...read, graph: bindShapes(read.graph, OPS, shapes, terminal.warn) };
}

/** Input shapes with a batch that is open. */
function openBatch({ graph, arch }: TorchModel, file: string): Readonly<Record<string, Shape>> {
  const shapes = graph.inputs.map((name): [string, Shape] => [name, graph.values.get(name)?.shape ?? []]);
  if (arch === undefined && shapes.some(([, [batch]]) => typeof batch === 'number')) {
    throw new ModelError('option-invalid', `${file}: an exported program has the sizes that it was exported with`, {
      hint: 'Leave --dynamic-batch out, or export it in PyTorch with dynamic_shapes.',
    });
  }
  return Object.fromEntries(shapes.map(([name, shape]) => [name, [sym(BATCH), ...shape.slice(1)]]));
}

interface Written {
  readonly opset: number;
  readonly bytes: number;
  readonly dataFile?: string;
  readonly dataBytes: number;
}

function writeModel(graph: Graph, flags: ExportFlags, source: string): Written {
  const weightBytes = [...graph.constants.values()].reduce((sum, tensor) => sum + byteLength(tensor), 0);
  const isBeside = flags.externalData === true || weightBytes > MOST_INSIDE_BYTES;
  const location = `${basename(flags.output)}.data`;
  const dataFile = join(dirname(flags.output), location);
  const data = isBeside ? new OutputFile(dataFile) : undefined;
  try {
    const externalData = data && {
      location,
      thresholdBytes: LEAST_OUTSIDE_BYTES,
      append: (bytes: Uint8Array) => data.append(bytes),
    };
    const { opset, bytes } = encode(graph, flags.opset, externalData);
    data?.finish();
    writeFileAtomically(flags.output, bytes);
    return { opset, bytes: bytes.length, ...(data && { dataFile }), dataBytes: data?.bytes ?? 0 };
  } catch (error) {
    data?.discard();
    throw withFile(source, error);
  }
}

/** The model in the opset asked for, or in the oldest that expresses it. */
function encode(graph: Graph, opset: number | undefined, externalData: ExternalDataOptions | undefined) {
  const chosen = opset ?? oldestOpset(graph);
  return { opset: chosen, bytes: writeOnnx(graph, { ops: OPS, opset: chosen, ...(externalData && { externalData }) }) };
}

/** The oldest opset that has all that the graph needs: more tools read it. */
function oldestOpset(graph: Graph): number {
  const isWritable = (opset: number): boolean => {
    try {
      // Where the weights lie makes no difference here.
      const nowhere = { location: 'weights', thresholdBytes: 0, append: () => {} };
      writeOnnx(graph, { ops: OPS, opset, externalData: nowhere });
      return true;
    } catch (error) {
      if (error instanceof ModelError && error.code === 'option-invalid') return false;
      throw error;
    }
  };
  for (let opset = OLDEST_EXPRESSIBLE_OPSET; opset < NEWEST_OPSET; opset++) if (isWritable(opset)) return opset;
  return NEWEST_OPSET;
}
