/**
 * `hotrod bench`: latency and throughput of an engine, alone or in turn with other runtimes over the same inputs.
 */
import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import type { Engine } from '../engine/engine.ts';
import { writeFileAtomically } from '../host/files.ts';
import { chartFile } from './chart.ts';
import { openEngineRunner } from './engine-runner.ts';
import { completeInputs, readInputFiles, shapesOf } from './input-tensors.ts';
import { measureInTurn } from './measure.ts';
import { openModel } from './model-input.ts';
import { addModelOptions, type ModelFlags } from './model-options.ts';
import { parseAmount, parseCount, parseInputFile, parseWhole } from './options.ts';
import { isPeerName, modelBehind, openPeers, PEER_NAMES, type PeerName } from './peers.ts';
import { type PhaseReport, phaseReport, phaseWarnings } from './phases.ts';
import { prepareEngine } from './prepare-engine.ts';
import { type LayerTime, profileLayers } from './profile-layers.ts';
import { coefficientOfVariation, type Statistics, statistics } from './statistics.ts';
import { formatMs, formatNumber, formatThreads, textTable } from './table.ts';
import { processTerminal, type Terminal } from './terminal.ts';

interface BenchFlags extends ModelFlags {
  readonly input?: ReadonlyMap<string, string>;
  readonly seed: number;
  readonly warmup: number;
  readonly duration: number;
  readonly iterations?: number;
  readonly batch?: number;
  readonly profile?: boolean;
  readonly against?: readonly PeerName[];
  readonly onnx?: string;
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
    .option('--profile', 'a row for each kernel')
    .option('--against <list>', `other runtimes, measured in turn: ${PEER_NAMES.join(',')}`, parsePeers)
    .option('--onnx <file>', 'the model behind an engine, for --against')
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

/** A peer's row; `ratio` is the engine's median latency over the peer's: below 1 the engine is faster. */
export interface PeerRow {
  readonly name: string;
  readonly latencyMs: Statistics;
  readonly ratio: number;
}

async function benchCommand(file: string, flags: BenchFlags): Promise<void> {
  const terminal = processTerminal(flags.json === true);
  const model = await openModel(file, flags);
  const given = readInputFiles(flags.input);
  const engine = await prepareEngine(model, flags, terminal, shapesOf(given), flags.batch);
  const runner = await openEngineRunner(engine, flags, terminal);
  const inputs = completeInputs(runner.inputs, given, flags.seed);
  const { peers, missing } = await openPeers(
    flags.against ?? [],
    await modelBehind(model, flags.onnx),
    runner,
    terminal,
  );
  const runners = [runner, ...peers];
  try {
    for (const each of runners) each.setInputs(inputs);
    terminal.note(`measuring ${runners.map((each) => each.name).join(', ')}`);
    const samples = await measureInTurn(runners, {
      warmupMs: flags.warmup,
      durationMs: flags.duration * 1e3,
      ...(flags.iterations !== undefined && { iterations: flags.iterations }),
    });
    const latencyMs = statistics(samples[0]);
    const rows = peers.map((peer, i): PeerRow => {
      const peerMs = statistics(samples[i + 1]);
      return { name: peer.name, latencyMs: peerMs, ratio: latencyMs.median / peerMs.median };
    });
    const times = runner.phases(Math.min(samples[0].length, MOST_PHASES));
    const phases = times && phaseReport(times);
    const layers = flags.profile ? profileLayers(runner) : undefined;
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
      peers: rows,
      missing,
      ...(layers && { layers }),
    };
    if (flags.chart !== undefined) await writeChart(flags.chart, engine, latencyMs, rows);
    terminal.result(report, () => benchText(report, phases, layers));
    if (report.variation > UNSTABLE) warnUnstable(report.variation, terminal);
    if (phases) phaseWarnings(phases).forEach(terminal.warn);
  } finally {
    for (const each of runners) await each.dispose();
  }
}

async function writeChart(
  file: string,
  engine: Engine,
  latencyMs: Statistics,
  peers: readonly PeerRow[],
): Promise<void> {
  const bars = [
    { name: `hotrod ${engine.target}`, value: latencyMs.median, ours: true },
    ...peers.map((peer) => ({ name: peer.name, value: peer.latencyMs.median, ours: false })),
  ];
  writeFileAtomically(file, await chartFile(file, engine.name, bars));
}

interface BenchReport {
  readonly target: string;
  readonly threads: number;
  readonly iterations: number;
  readonly latencyMs: Statistics;
  readonly throughput: number;
  readonly peers: readonly PeerRow[];
  readonly missing: readonly { readonly name: string; readonly reason: string }[];
}

function benchText(
  report: BenchReport,
  phases: PhaseReport | undefined,
  layers: readonly LayerTime[] | undefined,
): string {
  const columns = ['min', 'max', 'mean', 'median', 'p90', 'p95', 'p99'] as const;
  const cells = (latency: Statistics) => columns.map((column) => formatMs(latency[column]));
  const parts = [
    `Throughput: ${formatNumber(report.throughput)} inferences/s (${report.iterations} measured, ${formatThreads(report.threads)})`,
    textTable(
      ['latency', ...columns],
      [
        [`hotrod ${report.target}`, ...cells(report.latencyMs)],
        ...(phases
          ? [
              ['GPU compute', ...cells(phases.gpuMs)],
              ['copies to the GPU', ...cells(phases.h2dMs)],
              ['copies from the GPU', ...cells(phases.d2hMs)],
              ['starting the kernels', ...cells(phases.enqueueMs)],
            ]
          : []),
        ...report.peers.map((peer) => [peer.name, ...cells(peer.latencyMs)]),
      ],
    ),
    ...report.peers.map((peer) => ratioText(peer)),
    ...report.missing.map(({ name, reason }) => `${name} was not measured: ${reason}`),
  ];
  if (layers) parts.push(layerTable(layers));
  return parts.join('\n\n');
}

const ratioText = ({ name, ratio }: PeerRow): string =>
  ratio <= 1
    ? `${formatNumber(1 / ratio)} times as fast as ${name}`
    : `${formatNumber(ratio)} times the latency of ${name}`;

const layerTable = (layers: readonly LayerTime[]): string =>
  textTable(
    ['ms', 'share', 'tactic', 'layer'],
    layers.map((layer) => [formatNumber(layer.ms), `${layer.percent.toFixed(1)} %`, layer.tactic, layer.name]),
  );

function warnUnstable(variation: number, terminal: Terminal): void {
  terminal.warn(
    `latency is unstable: its coefficient of variation is ${(100 * variation).toFixed(1)} %; close other programs, or measure longer`,
  );
}
