/**
 * `hotrod run`: one inference. Inputs from .npy files or seeded random, outputs summarised and written as .npy.
 */
import { join } from 'node:path';
import type { Command } from 'commander';
import { type Tensor, toNumbers } from '../core/tensor.ts';
import { makeFolder, writeFileAtomically } from '../host/files.ts';
import { openEngineRunner } from './engine-runner.ts';
import { completeInputs, readInputFiles, shapesOf } from './input-tensors.ts';
import { timedRun } from './measure.ts';
import { rootMeanSquare } from './metrics.ts';
import { openModel } from './model-input.ts';
import { addModelOptions, type ModelFlags } from './model-options.ts';
import { npyFileName, writeNpy } from './npy.ts';
import { parseInputFile, parseWhole } from './options.ts';
import { prepareEngine, runShapes } from './prepare-engine.ts';
import { formatMs, formatNumber, formatThreads, formatType, textTable } from './table.ts';
import { processTerminal } from './terminal.ts';

interface RunFlags extends ModelFlags {
  readonly input?: ReadonlyMap<string, string>;
  readonly seed: number;
  readonly output?: string;
}

export function addRunCommand(program: Command): void {
  const command = program
    .command('run')
    .argument('<model>', 'an ONNX file, a PyTorch file or an engine')
    .description('run one inference')
    .option('--input <name=file>', 'an input from a .npy file; repeat for more', parseInputFile)
    .option('--seed <n>', 'seed of the inputs that are not given', parseWhole, 0)
    .option('--output <folder>', 'where to write each output as NAME.npy');
  addModelOptions(command)
    .addHelpText('after', '\nExample: hotrod run resnet18.engine --input input=picture.npy --output answers')
    .action(runCommand);
}

async function runCommand(file: string, flags: RunFlags): Promise<void> {
  const terminal = processTerminal(flags.json === true);
  const given = readInputFiles(flags.input);
  const engine = await prepareEngine(await openModel(file, flags), flags, terminal, shapesOf(given));
  const shapes = runShapes(engine, flags, shapesOf(given));
  const runner = await openEngineRunner(engine, flags, terminal, shapes);
  try {
    runner.setInputs(completeInputs(runner.inputs, given, flags.seed));
    const latencyMs = await timedRun(runner);
    const results = runner.outputs();
    const files = flags.output === undefined ? new Map<string, string>() : writeOutputs(flags.output, results);
    const outputs = [...results].map(([name, tensor]) => ({ name, ...summary(tensor, files.get(name)) }));
    terminal.result({ outputs, latencyMs, target: engine.target, threads: runner.threads }, () =>
      [
        textTable(
          ['output', 'type', 'min', 'max', 'mean', 'rms', 'file'],
          outputs.map((o) => [
            o.name,
            formatType(o),
            ...[o.min, o.max, o.mean, o.rms].map(formatNumber),
            o.file ?? '-',
          ]),
        ),
        '',
        `${formatMs(latencyMs)} on ${engine.target}, ${formatThreads(runner.threads)}`,
      ].join('\n'),
    );
  } finally {
    await runner.dispose();
  }
}

/** Writes each output to the folder; returns the file of each. */
function writeOutputs(folder: string, outputs: ReadonlyMap<string, Tensor>): Map<string, string> {
  makeFolder(folder);
  const files = new Map<string, string>();
  for (const [name, tensor] of outputs) {
    const file = join(folder, npyFileName(name));
    writeFileAtomically(file, writeNpy(tensor));
    files.set(name, file);
  }
  return files;
}

function summary(tensor: Tensor, file: string | undefined) {
  const values = toNumbers(tensor);
  let [min, max, sum] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];
  for (let i = 0; i < values.length; i++) {
    min = Math.min(min, values[i]);
    max = Math.max(max, values[i]);
    sum += values[i];
  }
  const empty = values.length === 0;
  return {
    dtype: tensor.dtype,
    shape: tensor.shape,
    ...(file !== undefined && { file }),
    min: empty ? 0 : min,
    max: empty ? 0 : max,
    mean: empty ? 0 : sum / values.length,
    rms: rootMeanSquare(values),
  };
}
