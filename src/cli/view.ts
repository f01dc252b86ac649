/**
 * `hotrod view`: the graph of a model beside the engine that runs it, in a page served to this machine only, or written as one file.
 */
import { basename, extname } from 'node:path';
import type { Command } from 'commander';
import { ModelError } from '../core/errors.ts';
import type { Engine } from '../engine/engine.ts';
import { writeFileAtomically } from '../host/files.ts';
import { OPS } from '../ops/all.ts';
import type { PageModel } from '../view/page.ts';
import { pageHtml } from '../view/page-html.ts';
import { pageModel } from '../view/page-model.ts';
import { openEngineRunner } from './engine-runner.ts';
import { completeInputs } from './input-tensors.ts';
import { timedRun } from './measure.ts';
import { type ModelInput, openModel } from './model-input.ts';
import { addModelOptions, type ModelFlags } from './model-options.ts';
import { parseWhole } from './options.ts';
import { modelBehind } from './peers.ts';
import { prepareEngine } from './prepare-engine.ts';
import { profileLayers } from './profile-layers.ts';
import { readProfile, type StepTimes } from './read-profile.ts';
import { openInBrowser, servePage } from './serve-page.ts';
import { formatThreads } from './table.ts';
import { processTerminal, type Terminal } from './terminal.ts';
import { viewGraph } from './view-graph.ts';
import { readTemplate } from './viewer-template.ts';

interface ViewFlags extends ModelFlags {
  readonly html?: string;
  readonly onnx?: string;
  readonly profile?: string | true;
  readonly engine: boolean;
  readonly open: boolean;
  readonly port: number;
}

export function addViewCommand(program: Command): void {
  const command = program
    .command('view')
    .argument('<model>', 'an ONNX file, a PyTorch file or an engine')
    .description('show a model and its engine side by side in the browser')
    .option('--html <file>', 'write one self-contained page instead of serving it')
    .option('--onnx <file>', 'the model behind an engine, to show beside it')
    .option('--profile [file]', 'colour by time: measured now, or read from what bench --profile --json printed')
    .option('--no-engine', 'show the model only, without building an engine')
    .option('--no-open', 'do not open a browser')
    .option('--port <n>', 'where to serve; 0 is any free port', parseWhole, 0);
  addModelOptions(command)
    .addHelpText('after', '\nExample: hotrod view resnet18.onnx --profile --html resnet18.html')
    .action(viewCommand);
}

async function viewCommand(file: string, flags: ViewFlags): Promise<void> {
  const terminal = processTerminal(flags.json === true);
  const model = await openModel(file, flags);
  const page = await makePage(model, flags, terminal);
  const bytes = new TextEncoder().encode(pageHtml(readTemplate(), page));
  const report = {
    name: page.name,
    nodes: page.graph?.items.length ?? 0,
    steps: page.engine?.items.length ?? 0,
    blocks: page.groups.length,
    bytes: bytes.byteLength,
  };
  if (flags.html !== undefined) {
    writeFileAtomically(flags.html, bytes);
    return terminal.result({ ...report, html: flags.html }, () => `wrote ${flags.html}`);
  }
  const url = await servePage(bytes, flags.port);
  terminal.result({ ...report, url }, () => url);
  terminal.note('serving to this machine until interrupted (Ctrl-C)');
  if (flags.open) openInBrowser(url);
}

async function makePage(model: ModelInput, flags: ViewFlags, terminal: Terminal): Promise<PageModel> {
  const named = { name: basename(model.file, extname(model.file)), ops: OPS };
  const behind = await modelBehind(model, flags.onnx);
  const read = behind && viewGraph(behind, terminal, flags.shapes);
  if (model.kind === 'engine') {
    const times = await stepTimes(model.engine, flags, terminal);
    return pageModel({ ...named, engine: model.engine, ...read, ...(times && { times }) });
  }
  if (!read) throw new ModelError('option-invalid', `${model.file} has no graph to show`);
  if (!flags.engine) return pageModel({ ...named, ...read });
  if (!read.weightsKnown) {
    terminal.warn('without its weights no engine is built; the model is shown alone');
    return pageModel({ ...named, ...read });
  }
  const engine = await prepareEngine(model, flags, terminal);
  const times = await stepTimes(engine, flags, terminal);
  return pageModel({ ...named, ...read, engine, ...(times && { times }) });
}

/** Milliseconds a step: measured now on seeded random inputs, or read from a file. */
async function stepTimes(engine: Engine, flags: ViewFlags, terminal: Terminal): Promise<StepTimes | undefined> {
  if (flags.profile === undefined) return undefined;
  if (typeof flags.profile === 'string') return readProfile(flags.profile, engine);
  const runner = await openEngineRunner(engine, flags, terminal);
  try {
    runner.setInputs(completeInputs(runner.inputs, new Map(), 0));
    for (let i = 0; i < 3; i++) await timedRun(runner);
    const ms = profileLayers(runner).map((layer) => layer.ms);
    return {
      ms,
      how: `measured step by step on target ${engine.target}, engine opened with ${formatThreads(runner.threads)}`,
    };
  } finally {
    await runner.dispose();
  }
}
