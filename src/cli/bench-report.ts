/**
 * The report of `bench`, for people: as trtexec's, throughput first, then latencies, how they spread, and the peers.
 */
import { histogramText } from './histogram.ts';
import type { MachinePeak } from './machine-peak.ts';
import type { PhaseReport } from './phases.ts';
import { type LayerTime, percentOfPeak } from './profile-layers.ts';
import type { Statistics } from './statistics.ts';
import type { StreamReport } from './streams.ts';
import { formatMs, formatNumber, formatThreads, textTable } from './table.ts';

/** A peer's row; `ratio` is the engine's median latency over the peer's: below 1 the engine is faster. */
export interface PeerRow {
  readonly name: string;
  readonly latencyMs: Statistics;
  readonly ratio: number;
}

export interface BenchReport {
  readonly target: string;
  readonly threads: number;
  readonly iterations: number;
  readonly latencyMs: Statistics;
  readonly throughput: number;
  readonly streamed?: StreamReport;
  readonly peers: readonly PeerRow[];
  readonly missing: readonly { readonly name: string; readonly reason: string }[];
}

export function benchText(
  report: BenchReport,
  phases: PhaseReport | undefined,
  layers: readonly BenchLayer[] | undefined,
  samples: readonly number[],
  peak: MachinePeak | undefined,
): string {
  const columns = ['min', 'max', 'mean', 'median', 'p90', 'p95', 'p99'] as const;
  const cells = (latency: Statistics) => columns.map((column) => formatMs(latency[column]));
  const histogram = histogramText(samples);
  const spread = histogram === undefined ? [] : [`Latencies of hotrod ${report.target}:\n${histogram}`];
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
    ...spread,
    ...(report.streamed
      ? [`With ${report.streamed.streams} in flight: ${formatNumber(report.streamed.throughput)} inferences/s`]
      : []),
    ...report.peers.map((peer) => ratioText(peer)),
    ...report.missing.map(({ name, reason }) => `${name} was not measured: ${reason}`),
  ];
  if (layers) parts.push(layerTable(layers));
  if (peak) parts.push(peakText(peak));
  return parts.join('\n\n');
}

const ratioText = ({ name, ratio }: PeerRow): string =>
  ratio <= 1
    ? `${formatNumber(1 / ratio)} times as fast as ${name}`
    : `${formatNumber(ratio)} times the latency of ${name}`;

const peakText = ({ gflops, gbPerSecond }: MachinePeak): string =>
  `This machine on one thread reaches ${formatNumber(gflops)} GFLOP/s in cache and ${formatNumber(gbPerSecond)} GB/s to and from memory.`;

interface BenchLayer extends LayerTime {
  readonly peakPercent?: number;
}

export const withPeak = (layer: LayerTime, peak: MachinePeak | undefined): BenchLayer =>
  peak ? { ...layer, peakPercent: percentOfPeak(layer, peak) } : layer;

const layerTable = (layers: readonly BenchLayer[]): string =>
  textTable(
    ['ms', 'share', 'GFLOP/s', 'GB/s', 'of peak', 'tactic', 'layer'],
    layers.map((layer) => [
      formatNumber(layer.ms),
      `${layer.percent.toFixed(1)} %`,
      formatNumber(layer.gflops),
      formatNumber(layer.gbPerSecond),
      layer.peakPercent === undefined ? '' : `${layer.peakPercent.toFixed(0)} %`,
      layer.tactic,
      layer.name,
    ]),
  );
