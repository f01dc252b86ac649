import { chmodSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { temporaryFolder } from '../../tests/cli-harness.ts';
import { measureTrtexec, parseTrtexec } from './trtexec.ts';

/** As TensorRT 8.6 and 10 print it. */
const REPORT = `[11/25/2026-13:00:00] [I] === Performance summary ===
[11/25/2026-13:00:00] [I] Throughput: 1234.5 qps
[11/25/2026-13:00:00] [I] Latency: min = 0.796875 ms, max = 1.10449 ms, mean = 0.812345 ms, median = 0.810059 ms, percentile(90%) = 0.82 ms, percentile(95%) = 0.83 ms, percentile(99%) = 0.9 ms
[11/25/2026-13:00:00] [I] Enqueue Time: min = 0.1 ms, max = 0.2 ms, mean = 0.1 ms, median = 0.1 ms, percentile(90%) = 0.1 ms, percentile(95%) = 0.1 ms, percentile(99%) = 0.1 ms
[11/25/2026-13:00:00] [I] GPU Compute Time: min = 0.7 ms, max = 1 ms, mean = 0.75 ms, median = 0.74 ms, percentile(90%) = 0.8 ms, percentile(95%) = 0.8 ms, percentile(99%) = 0.85 ms
`;
const LATENCY = { min: 0.796875, max: 1.10449, mean: 0.812345, median: 0.810059, p90: 0.82, p95: 0.83, p99: 0.9 };
const INPUTS = [{ name: 'x', dtype: 'f32', shape: [1, 3, 4, 4] }] as const;
const OPTIONS = { warmupMs: 100, durationMs: 2000, precision: 'fp16' };

const path = process.env.PATH;
afterEach(() => {
  process.env.PATH = path;
});

/** Puts a trtexec on the PATH that writes its arguments beside itself and behaves as `script` says. */
function fakeTrtexec(script: string): string {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'trtexec'), `#!/bin/sh\nprintf '%s\\n' "$@" > "${folder}/args"\n${script}\n`);
  chmodSync(join(folder, 'trtexec'), 0o755);
  process.env.PATH = `${folder}${delimiter}${path}`;
  return folder;
}

test('the latency line of the report, not those of its parts', () => {
  expect(parseTrtexec(REPORT)).toEqual(LATENCY);
  expect(parseTrtexec('[I] Starting inference')).toBeUndefined();
});

test('trtexec gets the model, the shapes and the precision', async () => {
  const folder = fakeTrtexec(`cat <<'END'\n${REPORT}END`);
  expect(await measureTrtexec('m.onnx', INPUTS, OPTIONS)).toEqual(LATENCY);
  const { readFileSync } = await import('node:fs');
  const args = readFileSync(join(folder, 'args'), 'utf8').trim().split('\n');
  expect(args).toEqual([
    '--onnx=m.onnx',
    '--warmUp=100',
    '--duration=2',
    '--percentile=90,95,99',
    '--fp16',
    '--shapes=x:1x3x4x4',
  ]);
});

test('a model of fixed sizes is run without shapes', async () => {
  fakeTrtexec(
    `case "$*" in *--shapes*) echo '[E] Static model does not take explicit shapes' >&2; exit 1;; esac\ncat <<'END'\n${REPORT}END`,
  );
  expect(await measureTrtexec('m.onnx', INPUTS, OPTIONS)).toEqual(LATENCY);
});

test('failing and absent are different things', async () => {
  fakeTrtexec("echo '[E] Error[1]: no CUDA-capable device' >&2; exit 1");
  await expect(measureTrtexec('m.onnx', INPUTS, OPTIONS)).rejects.toMatchObject({
    code: 'onnx-unsupported',
    message: expect.stringContaining('no CUDA-capable device'),
  });
  process.env.PATH = temporaryFolder();
  await expect(measureTrtexec('m.onnx', INPUTS, OPTIONS)).rejects.toMatchObject({ code: 'package-missing' });
});
