/**
 * The report of `bench`, for people: as trtexec's, throughput first, then latencies, how they spread, and the peers.
 */
import { histogramText } from './histogram.ts';
import type { PhaseReport } from './phases.ts';
import type { LayerTime } from './profile-layers.ts';
import type { Statistics } from './statistics.ts';
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
  readonly peers: readonly PeerRow[];
  readonly missing: readonly { readonly name: string; readonly reason: string }[];
}

export function benchText(
  report: BenchReport,
  phases: PhaseReport | undefined,
  layers: readonly LayerTime[] | undefined,
  samples: readonly number[],
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
