/**
 * The report of the demo: one record, told to the terminal as text and to a file as Markdown.
 */
import type { OutputRow } from './compare-tensors.ts';
import type { MissingPeer } from './peers.ts';
import type { Statistics } from './statistics.ts';
import { formatBytes, formatMs, formatNumber, formatThreads, textTable } from './table.ts';

export interface Answer {
  readonly index: number;
  readonly label: string;
  readonly confidence: number;
}

export interface DemoReport {
  readonly model: string;
  readonly picture: string;
  /** The most likely, and with it those that come next. */
  readonly answer: Answer;
  readonly answers: readonly Answer[];
  /** Where it is known what the picture shows. */
  readonly correct?: boolean;
  /** The engine's output against the reference's. */
  readonly accuracy: OutputRow;
  readonly build: {
    readonly target: string;
    readonly machine: readonly string[];
    readonly buildMs: number;
    readonly stages: readonly { readonly name: string; readonly ms: number }[];
  };
  readonly engine: { readonly file: string; readonly fileBytes: number; readonly steps: number };
  readonly threads: number;
  readonly latencies: readonly { readonly name: string; readonly ours: boolean; readonly latencyMs: Statistics }[];
  readonly missing: readonly MissingPeer[];
}

export const LATENCY_HEAD = ['runtime', 'median', 'min', 'p99', 'against the engine'];

export function demoText(report: DemoReport, files: readonly string[]): string {
  return [
    answerLine(report),
    accuracyLine(report),
    textTable(LATENCY_HEAD, latencyRows(report)),
    `Written: ${files.join(', ')}`,
  ].join('\n\n');
}

export function demoMarkdown(report: DemoReport): string {
  const { build, engine } = report;
  const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [
    '# Hotrod demo',
    answerLine(report),
    accuracyLine(report),
    '## Engine',
    `${formatBytes(engine.fileBytes)}, ${engine.steps} steps, target ${build.target} (${build.machine.join(', ')}), built in ${formatMs(build.buildMs)}: ` +
      `${build.stages.map(({ name, ms }) => `${name} ${formatMs(ms)}`).join(', ')}.`,
    '## Latency',
    `One inference, ${formatThreads(report.threads)} (the reference runs on one), measured in turn in one process.`,
    [row(LATENCY_HEAD), row(['---', '---:', '---:', '---:', '---:']), ...latencyRows(report).map(row)].join('\n'),
    ...report.missing.map(({ name, reason }) => `${name} was not measured: ${reason}.`),
    '![Median latency of each runtime](latency.svg)',
    '',
  ].join('\n\n');
}

function answerLine({ answer, correct }: DemoReport): string {
  const verdict = correct === undefined ? '.' : correct ? ': right.' : ': WRONG.';
  return `The picture shows "${answer.label}" (class ${answer.index}), confidence ${(100 * answer.confidence).toFixed(2)} %${verdict}`;
}

const accuracyLine = ({ accuracy }: DemoReport): string =>
  `Engine against reference: mean absolute error ${formatNumber(accuracy.mae)}, maximum ${formatNumber(accuracy.maxAbs)}, cosine ${accuracy.cosine.toFixed(9)}.`;

export function latencyRows({ latencies }: DemoReport): string[][] {
  const ours = latencies.find((row) => row.ours)?.latencyMs.median ?? Number.NaN;
  return latencies.map(({ name, latencyMs }) => [
    name,
    ...[latencyMs.median, latencyMs.min, latencyMs.p99].map(formatMs),
    `${formatNumber(latencyMs.median / ours)} x`,
  ]);
}
