/**
 * `hotrod bench`: latency and throughput of an engine, alone or in turn with other runtimes over the same inputs.
 */
import { basename, extname } from 'node:path';
import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { ModelError } from '../core/errors.ts';
import type { Engine } from '../engine/engine.ts';
import { writeFileAtomically } from '../host/files.ts';
import { benchText, type PeerRow, withPeak } from './bench-report.ts';
import { chartFile } from './chart.ts';
import { openEngineRunner } from './engine-runner.ts';
import { completeInputs, readInputFiles, shapesOf } from './input-tensors.ts';
import { measurePeak } from './machine-peak.ts';
import { measureInTurn } from './measure.ts';
import { openModel, type SourceInput } from './model-input.ts';
import { addModelOptions, type ModelFlags } from './model-options.ts';
import { parseAmount, parseCount, parseInputFile, parseWhole } from './options.ts';
import { isPeerName, type MissingPeer, modelBehind, openPeers, PEER_NAMES, type PeerName } from './peers.ts';
import { phaseReport, phaseWarnings } from './phases.ts';
import { prepareEngine, runShapes } from './prepare-engine.ts';
import { profileLayers } from './profile-layers.ts';
import type { Runner } from './runner.ts';
import { coefficientOfVariation, type Statistics, statistics } from './statistics.ts';
import { processTerminal, type Terminal } from './terminal.ts';
import { measureTrtexec } from './trtexec.ts';

interface BenchFlags extends ModelFlags {
  readonly input?: ReadonlyMap<string, string>;
  readonly seed: number;
  readonly warmup: number;
  readonly duration: number;
  readonly iterations?: number;
  readonly batch?: number;
  readonly streams?: number;
  readonly profile?: boolean;
  readonly against?: readonly PeerName[];
  readonly onnx?: string;
  readonly torchModule?: string;
  readonly torchWeights?: string;
  readonly chart?: string;
}

/** Above this coefficient of variation a latency is called unstable. */
const UNSTABLE = 0.025;
/** Inferences whose copies and kernels are timed by themselves, at most. */
const MOST_PHASES = 500;

export function addBenchCommand(program: Command): void {
  const command = program
    .command('bench')
    .argument('<model>', 'an ONNX file, a PyTorch file or an engine')
    .description('measure latency and throughput')
    .option('--warmup <ms>', 'time to run before measuring', parseAmount, 200)
    .option('--duration <s>', 'time to measure', parseAmount, 3)
    .option('--iterations <n>', 'inferences to measure, instead of a time', parseCount)
    .option('--batch <n>', 'size of the first dim of every input', parseCount)
    .option('--streams <n>', 'inferences in flight at once, for throughput (target cuda)', parseCount)
    .option('--profile', "a row for each kernel: time, GFLOP/s, GB/s, share of the machine's measured peak")
    .option('--against <list>', `other runtimes, measured in turn: ${PEER_NAMES.join(',')}`, parsePeers)
    .option('--onnx <file>', 'the model behind an engine, for --against')
    .option(
      '--torch-module <name>',
      'the same network in PyTorch: torchvision.models:resnet50, a TorchScript .pt or a .pt2',
    )
    .option('--torch-weights <file>', 'the state dict of the PyTorch module')
    .option('--chart <file>', 'draw the latencies as FILE.svg or FILE.png')
    .option('--input <name=file>', 'an input from a .npy file; repeat for more', parseInputFile)
    .option('--seed <n>', 'seed of the inputs that are not given', parseWhole, 0);
  addModelOptions(command)
    .addHelpText('after', '\nExample: hotrod bench resnet18.onnx --threads 2 --against onnxruntime --chart latency.svg')
    .action(benchCommand);
}

function parsePeers(text: string): readonly PeerName[] {
  return text.split(',').map((name) => {
    if (!isPeerName(name)) throw new InvalidArgumentError(`"${name}" is none of ${PEER_NAMES.join(', ')}.`);
    return name;
  });
}

async function benchCommand(file: string, flags: BenchFlags): Promise<void> {
  const terminal = processTerminal(flags.json === true);
  const model = await openModel(file, flags);
  const given = readInputFiles(flags.input);
  const engine = await prepareEngine(model, flags, terminal, shapesOf(given), flags.batch);
  const shapes = runShapes(engine, flags, shapesOf(given), flags.batch);
  const runner = await openEngineRunner(engine, flags, terminal, shapes);
  const inputs = completeInputs(runner.inputs, given, flags.seed);
  const behind = await modelBehind(model, flags.onnx);
  const names = flags.against ?? [];
  const options = { ...flags, gpu: engine.target === 'cuda', outputs: engine.outputs };
  const inTurn = names.filter((name) => name !== 'tensorrt');
  const { peers, missing } = await openPeers(inTurn, behind, runner, options, terminal);
  const runners = [runner, ...peers];
  try {
    for (const each of runners) await each.setInputs(inputs);
    const tensorrt = names.includes('tensorrt') ? await trtexecRow(behind, runner, flags) : undefined;
    terminal.note(`measuring ${runners.map((each) => each.name).join(', ')}`);
    const samples = await measureInTurn(runners, {
      warmupMs: flags.warmup,
      durationMs: flags.duration * 1e3,
      ...(flags.iterations !== undefined && { iterations: flags.iterations }),
    });
    const latencyMs = statistics(samples[0]);
    const timed = peers.map((peer, i) => ({ name: peer.name, latencyMs: statistics(samples[i + 1]) }));
    if (tensorrt && 'latencyMs' in tensorrt) timed.push(tensorrt);
    const rows = timed.map((peer): PeerRow => ({ ...peer, ratio: latencyMs.median / peer.latencyMs.median }));
    const times = runner.phases(Math.min(samples[0].length, MOST_PHASES));
    const phases = times && phaseReport(times);
    const peak = flags.profile ? await measurePeak(engine.target, terminal) : undefined;
    const streamed =
      flags.streams === undefined ? undefined : await runner.streams(flags.streams, flags.duration * 1e3);
    const layers = flags.profile ? profileLayers(runner).map((layer) => withPeak(layer, peak)) : undefined;
    const batch = flags.batch ?? 1;
    const report = {
      target: engine.target,
      threads: runner.threads,
      iterations: samples[0].length,
      batch,
      latencyMs,
      throughput: (1e3 * batch) / latencyMs.mean,
      variation: coefficientOfVariation(samples[0]),
      ...phases,
      ...(streamed && { streamed: { ...streamed, throughput: batch * streamed.throughput } }),
      peers: rows,
      missing: tensorrt && 'reason' in tensorrt ? [...missing, tensorrt] : missing,
      ...(peak && { peak }),
      ...(layers && { layers }),
    };
    if (flags.chart !== undefined)
      await writeChart(flags.chart, basename(model.file, extname(model.file)), engine, latencyMs, rows);
    terminal.result(report, () => benchText(report, phases, layers, samples[0], peak));
    if (report.variation > UNSTABLE) warnUnstable(report.variation, terminal);
    if (phases) phaseWarnings(phases).forEach(terminal.warn);
  } finally {
    for (const each of runners) await each.dispose();
  }
}

/** TensorRT's latencies through its own trtexec, or why there are none. */
async function trtexecRow(
  model: SourceInput | undefined,
  { inputs }: Runner,
  flags: BenchFlags,
): Promise<{ name: string; latencyMs: Statistics } | MissingPeer> {
  const name = 'tensorrt';
  if (model?.kind !== 'onnx') return { name, reason: 'it reads ONNX files; name the model with --onnx FILE' };
  try {
    const times = { warmupMs: flags.warmup, durationMs: flags.duration * 1e3, precision: flags.precision ?? 'fp32' };
    return { name, latencyMs: await measureTrtexec(model.file, inputs, times) };
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    return { name, reason: [error.message, error.hint].filter(Boolean).join('; ') };
  }
}

async function writeChart(
  file: string,
  title: string,
  engine: Engine,
  latencyMs: Statistics,
  peers: readonly PeerRow[],
): Promise<void> {
  const bars = [
    { name: `hotrod ${engine.target}`, value: latencyMs.median, ours: true },
    ...peers.map((peer) => ({ name: peer.name, value: peer.latencyMs.median, ours: false })),
  ];
  writeFileAtomically(file, await chartFile(file, title, bars));
}

function warnUnstable(variation: number, terminal: Terminal): void {
  terminal.warn(
    `latency is unstable: its coefficient of variation is ${(100 * variation).toFixed(1)} %; close other programs, or measure longer`,
  );
}
