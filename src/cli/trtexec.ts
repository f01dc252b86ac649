/**
 * TensorRT as a peer: its own trtexec on the PATH builds an engine from the ONNX file and reports latencies, which are read from its
 * report. It runs in a process of its own, before the others and not in turn with them; its latency counts the copies in and out, as ours.
 */
import { execFile } from 'node:child_process';
import { ModelError } from '../core/errors.ts';
import type { NamedType } from './runner.ts';
import type { Statistics } from './statistics.ts';

export interface TrtexecOptions {
  readonly warmupMs: number;
  readonly durationMs: number;
  readonly precision: string;
}

const PRECISION_FLAGS: Readonly<Record<string, readonly string[]>> = {
  fp32: ['--noTF32'],
  tf32: [],
  fp16: ['--fp16'],
  bf16: ['--bf16'],
  int8: ['--int8'],
  auto: ['--best'],
};
/** Building takes its time. */
const LIMIT_MS = 30 * 60_000;

/** Throws ModelError `package-missing` where there is no trtexec or no GPU for it, `onnx-unsupported` where it fails. */
export async function measureTrtexec(
  modelFile: string,
  inputs: readonly NamedType[],
  options: TrtexecOptions,
): Promise<Statistics> {
  const shapes = inputs.map(({ name, shape }) => `${name}:${shape.join('x')}`).join(',');
  const settings = [
    `--onnx=${modelFile}`,
    `--warmUp=${Math.round(options.warmupMs)}`,
    `--duration=${Math.max(1, Math.round(options.durationMs / 1e3))}`,
    '--percentile=90,95,99',
    ...(PRECISION_FLAGS[options.precision] ?? []),
  ];
  const dynamic = await runTrtexec([...settings, `--shapes=${shapes}`]);
  // A model of fixed sizes refuses --shapes.
  const output = dynamic.ok || !/static|explicit dim/i.test(dynamic.text) ? dynamic : await runTrtexec(settings);
  const latency = output.ok ? parseTrtexec(output.text) : undefined;
  if (latency) return latency;
  const last =
    output.text
      .trim()
      .split('\n')
      .findLast((line) => /\[E\]|error/i.test(line)) ?? 'its report has no latency';
  throw new ModelError('onnx-unsupported', `trtexec does not run ${modelFile}: ${last.trim()}`);
}

function runTrtexec(args: readonly string[]): Promise<{ readonly ok: boolean; readonly text: string }> {
  return new Promise((resolve, reject) => {
    execFile('trtexec', args, { timeout: LIMIT_MS, maxBuffer: 1 << 27 }, (error, stdout, stderr) => {
      if ((error as NodeJS.ErrnoException | null)?.code === 'ENOENT') {
        const hint = 'It comes with TensorRT; put its folder on the PATH.';
        reject(new ModelError('package-missing', 'there is no trtexec on the PATH', { hint }));
      } else resolve({ ok: error === null, text: `${stdout}\n${stderr}` });
    });
  });
}

/** The `Latency:` line of the report; undefined where there is none. Older ones give a single percentile, `percentile(99%)`. */
export function parseTrtexec(report: string): Statistics | undefined {
  const line = report.split('\n').findLast((each) => /\bLatency: min = /.test(each));
  if (line === undefined) return undefined;
  const read = (name: string): number =>
    Number(new RegExp(`\\b${name} = ([\\d.e+-]+) ms`).exec(line)?.[1] ?? Number.NaN);
  const percentile = (p: number): number =>
    Number(new RegExp(`percentile\\(${p}%\\) = ([\\d.e+-]+) ms`).exec(line)?.[1] ?? Number.NaN);
  const stats = {
    min: read('min'),
    mean: read('mean'),
    median: read('median'),
    p90: percentile(90),
    p95: percentile(95),
    p99: percentile(99),
    max: read('max'),
  };
  return Number.isFinite(stats.min) && Number.isFinite(stats.median) ? stats : undefined;
}
