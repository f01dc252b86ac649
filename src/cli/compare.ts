/**
 * `hotrod compare`: how far an engine's outputs are from a baseline's on the same inputs, and layer by layer where they part.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { Option } from 'commander';
import { ModelError } from '../core/errors.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Engine } from '../engine/engine.ts';
import { compareLayers, type LayerRow } from './compare-layers.ts';
import { compareTensors, type OutputRow, type PassRule } from './compare-tensors.ts';
import { openEngineRunner } from './engine-runner.ts';
import { readInputFile } from './files.ts';
import { completeInputs, readInputFiles, shapesOf } from './input-tensors.ts';
import { timedRun } from './measure.ts';
import { METRIC_NAMES } from './metrics.ts';
import { type ModelInput, openModel, type SourceInput } from './model-input.ts';
import { addModelOptions, type ModelFlags } from './model-options.ts';
import { npyFileName, readNpy } from './npy.ts';
import { parseAmount, parseInputFile, parseWhole } from './options.ts';
import { isPeerName, modelBehind, openPeers } from './peers.ts';
import { prepareEngine, runShapes } from './prepare-engine.ts';
import { probeSteps } from './probe-steps.ts';
import type { Runner } from './runner.ts';
import { formatNumber, textTable } from './table.ts';
import { processTerminal, type Terminal } from './terminal.ts';

interface CompareFlags extends ModelFlags, PassRule {
  readonly against: string;
  readonly onnx?: string;
  readonly layers?: boolean;
  readonly input?: ReadonlyMap<string, string>;
  readonly seed: number;
  readonly torchModule?: string;
  readonly torchWeights?: string;
}

export function addCompareCommand(program: Command): void {
  const command = program
    .command('compare')
    .argument('<model>', 'an ONNX file, a PyTorch file or an engine')
    .description('compare the outputs of an engine with a baseline on the same inputs')
    .option('--against <baseline>', 'reference, onnxruntime, torch, or a folder of NAME.npy files', 'reference')
    .option('--onnx <file>', 'the model behind an engine, for the baseline to run')
    .option(
      '--torch-module <name>',
      'the same network in PyTorch: torchvision.models:resnet50, a TorchScript .pt or a .pt2',
    )
    .option('--torch-weights <file>', 'the state dict of the PyTorch module')
    .option('--atol <x>', 'absolute tolerance of an element (1e-3 of the rms of the output)', parseAmount)
    .option('--rtol <x>', 'relative tolerance of an element (1e-3)', parseAmount)
    .addOption(new Option('--metric <name>', 'judge by one metric').choices(Object.keys(METRIC_NAMES)))
    .option('--threshold <x>', 'most the metric may be (least, for cosine)', parseAmount)
    .option('--layers', 'compare the values between kernels too, and name the first that differs')
    .option('--input <name=file>', 'an input from a .npy file; repeat for more', parseInputFile)
    .option('--seed <n>', 'seed of the inputs that are not given', parseWhole, 0);
  addModelOptions(command)
    .addHelpText(
      'after',
      '\nExample: hotrod compare resnet18.onnx --against onnxruntime --metric cosine --threshold 0.9999',
    )
    .action(compareCommand);
}

async function compareCommand(file: string, flags: CompareFlags): Promise<void> {
  const terminal = processTerminal(flags.json === true);
  if ((flags.metric === undefined) !== (flags.threshold === undefined)) {
    throw new ModelError('option-invalid', '--metric and --threshold are given together or not at all');
  }
  const model = await openModel(file, flags);
  const given = readInputFiles(flags.input);
  const engine = await prepareEngine(model, flags, terminal, shapesOf(given));
  const shapes = runShapes(engine, flags, shapesOf(given));
  const runner = await openEngineRunner(engine, flags, terminal, shapes);
  try {
    const inputs = completeInputs(runner.inputs, given, flags.seed);
    await runner.setInputs(inputs);
    await timedRun(runner);
    const got = runner.outputs();
    const want = await baselineOutputs(model, engine, flags, runner, inputs, terminal);
    const outputs = [...got].map(([name, tensor]) => compareTensors(name, tensor, want.get(name), flags));
    const passed = outputs.every((output) => output.passed);
    const layers = flags.layers ? await layerRows(model, engine, inputs, passed, flags, terminal) : undefined;
    const report = { outputs, passed, target: engine.target, against: flags.against, ...(layers && { layers }) };
    terminal.result(report, () => compareText(outputs, layers, flags.against));
    if (!passed) process.exitCode = 1;
  } finally {
    await runner.dispose();
  }
}

async function baselineOutputs(
  model: ModelInput,
  engine: Engine,
  flags: CompareFlags,
  ours: Runner,
  inputs: ReadonlyMap<string, Tensor>,
  terminal: Terminal,
): Promise<ReadonlyMap<string, Tensor>> {
  if (!isPeerName(flags.against)) return readBaseline(flags.against, [...ours.outputs().keys()]);
  const behind = await modelBehind(model, flags.onnx);
  const options = { ...flags, gpu: engine.target === 'cuda', outputs: engine.outputs };
  const { peers, missing } = await openPeers([flags.against], behind, ours, options, terminal);
  if (missing.length > 0) throw new ModelError('package-missing', missing[0].reason);
  const [peer] = peers;
  try {
    await peer.setInputs(inputs);
    await timedRun(peer);
    return peer.outputs();
  } finally {
    await peer.dispose();
  }
}

function readBaseline(folder: string, names: readonly string[]): ReadonlyMap<string, Tensor> {
  if (!existsSync(folder)) {
    throw new ModelError('option-invalid', `--against ${folder}: neither reference, onnxruntime nor a folder`);
  }
  return new Map(
    names.map((name) => {
      const file = join(folder, npyFileName(name));
      return [name, readNpy(readInputFile(file, `baseline of output "${name}"`), file)];
    }),
  );
}

/**
 * The values between kernels. A given engine is looked into itself, as it need not be what a build makes of the model today; so is one
 * whose outputs are wrong though another build, with all its values as outputs, is right.
 */
async function layerRows(
  model: ModelInput,
  engine: Engine,
  inputs: ReadonlyMap<string, Tensor>,
  passed: boolean,
  flags: CompareFlags,
  terminal: Terminal,
): Promise<readonly LayerRow[]> {
  const source = await layerModel(model, flags);
  // The places of an engine with open sizes are larger than its values: a build for these shapes has the same steps.
  if (engine.profiles) return await compareLayers(source, engine, inputs, flags, terminal);
  if (model.kind === 'engine' && engine.steps.length > 0) return probeSteps(source, engine, inputs, flags, terminal);
  const rows = await compareLayers(source, engine, inputs, flags, terminal);
  if (passed || engine.steps.length === 0 || rows.some((row) => !row.passed)) return rows;
  return probeSteps(source, engine, inputs, flags, terminal);
}

async function layerModel(model: ModelInput, { onnx }: CompareFlags): Promise<SourceInput> {
  const behind = await modelBehind(model, onnx);
  if (behind !== undefined) return behind;
  throw new ModelError('option-invalid', '--layers needs the model that the engine was built from', {
    hint: 'Name it with --onnx FILE.',
  });
}

function compareText(outputs: readonly OutputRow[], layers: readonly LayerRow[] | undefined, against: string): string {
  const head = ['mae', 'max abs', 'max rel', 'rmse', 'cosine', 'top-1', ''];
  const cells = (row: OutputRow) => [
    ...[row.mae, row.maxAbs, row.maxRel, row.rmse].map(formatNumber),
    row.cosine.toFixed(7),
    row.top1Agrees ? 'agrees' : 'differs',
    row.passed ? 'passed' : 'FAILED',
  ];
  const parts = [
    `against ${against}`,
    textTable(
      ['output', ...head],
      outputs.map((row) => [row.name, ...cells(row)]),
    ),
  ];
  if (layers) {
    const first = layers.find((layer) => !layer.passed);
    parts.push(
      textTable(
        ['value', ...head, 'nodes'],
        layers.map((row) => [row.name, ...cells(row), row.nodes.join(' ')]),
      ),
    );
    parts.push(
      first === undefined
        ? 'No layer parts from the baseline.'
        : `They part at "${first.name}" (${first.nodes.join(', ')}).`,
    );
  }
  return parts.join('\n\n');
}
