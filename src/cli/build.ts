/**
 * `hotrod build`: a model to an engine file, with progress by stage.
 */
import type { Command } from 'commander';
import { ModelError } from '../core/errors.ts';
import { TARGETS } from '../targets/all.ts';
import type { Target } from '../targets/target.ts';
import { buildModel } from './compile-model.ts';
import { loadOnce, writeEngineFile } from './engine-file.ts';
import { openModel } from './model-input.ts';
import { addModelOptions, buildOptionsOf, type ModelFlags } from './model-options.ts';
import { formatBytes, formatMs, formatType, textTable } from './table.ts';
import { processTerminal } from './terminal.ts';

export function addBuildCommand(program: Command): void {
  const command = program
    .command('build')
    .argument(
      '<model>',
      'an ONNX file with its external data beside it, or a PyTorch file (.pth, .pt, .safetensors, .pt2)',
    )
    .requiredOption('-o, --output <file>', 'the engine file to write')
    .option('--embed-code', 'put the compiled GPU code into the file too; it is used with --trusted')
    .description('turn a model into an engine file');
  addModelOptions(command)
    .addHelpText(
      'after',
      '\nExample: hotrod build resnet18.onnx -o resnet18.engine --target wasm --shapes input:1x3x224x224',
    )
    .action(buildCommand);
}

interface BuildFlags extends ModelFlags {
  readonly output: string;
  readonly embedCode?: boolean;
}

async function buildCommand(file: string, flags: BuildFlags): Promise<void> {
  const terminal = processTerminal(flags.json === true);
  const model = await openModel(file, flags);
  if (model.kind === 'engine') {
    throw new ModelError('option-invalid', `${file} is an engine already, built by Hotrod ${model.engine.builtBy}`, {
      hint: 'Give the model it was built from.',
    });
  }
  const options = { ...buildOptionsOf(flags), ...(flags.embedCode && { embedCode: true }) };
  const { engine, buildMs, stages } = await buildModel(model, options, terminal, flags.timingCache);
  const fileBytes = writeEngineFile(flags.output, engine);
  // A device that keeps what it makes; an engine for another GPU is made anew there.
  const { device } = TARGETS.find(({ name }) => name === engine.target) as Target;
  if (device.recall && options.gpuArch === undefined) await loadOnce(flags.output, options.threads ?? 'auto');
  const report = {
    engine: flags.output,
    target: engine.target,
    machine: engine.machine,
    buildMs,
    stages,
    kernels: engine.kernels.length,
    steps: engine.steps.length,
    weightsBytes: engine.weightBytes.byteLength,
    arenaBytes: engine.arenaBytes,
    fileBytes,
  };
  terminal.result(report, () =>
    [
      textTable(
        ['stage', 'time'],
        stages.map(({ name, ms }) => [name, formatMs(ms)]),
      ),
      '',
      `engine   ${flags.output} (${formatBytes(fileBytes)})`,
      `target   ${engine.target} ${engine.machine.join(' ')}`,
      `inputs   ${engine.inputs.map((b) => `${b.name} ${formatType(b)}`).join(', ')}`,
      `outputs  ${engine.outputs.map((b) => `${b.name} ${formatType(b)}`).join(', ')}`,
      `kernels  ${report.kernels} in ${report.steps} steps`,
      `memory   ${formatBytes(report.weightsBytes)} of weights, ${formatBytes(report.arenaBytes)} arena`,
    ].join('\n'),
  );
}
