/** The command line as a user calls it: results, JSON, exit codes, and what wrong input leads to. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readNpy, writeNpy } from '../src/cli/npy.ts';
import { fromNumbers, zeros } from '../src/core/tensor.ts';
import { type CliResult, hotrod, hotrodJson, ROOT, temporaryFolder } from './cli-harness.ts';
import { classifierModel, externalModel, imageModel, unsupportedModel } from './cli-models.ts';

/** A folder with the classifier as model.onnx and, where wanted, model.engine. */
function modelFolder(withEngine = false): string {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'model.onnx'), classifierModel());
  if (withEngine) hotrodJson(['build', join(folder, 'model.onnx'), '-o', join(folder, 'model.engine')]);
  return folder;
}

/** Exit 2, one message on stderr that holds all of `parts`, nothing on stdout, no stack. */
function expectRefused({ status, stdout, stderr }: CliResult, ...parts: readonly string[]): void {
  expect(stderr.match(/^error: /gm), stderr).toHaveLength(1);
  for (const part of parts) expect(stderr).toContain(part);
  expect(stderr).not.toMatch(/^ +at /m);
  expect(stdout).toBe('');
  expect(status).toBe(2);
}

describe('what commands give', () => {
  test('build: an engine file and its report', () => {
    const folder = modelFolder();
    const engine = join(folder, 'model.engine');
    const report = hotrodJson(['build', join(folder, 'model.onnx'), '-o', engine, '--target', 'wasm', '--verify']);
    expect(report).toMatchObject({ engine, target: 'wasm', fileBytes: readFileSync(engine).length });
    for (const field of ['machine', 'buildMs', 'stages', 'kernels', 'weightsBytes', 'arenaBytes'])
      expect(report).toHaveProperty(field);
    expect(report.stages).toContainEqual({ name: 'lower', ms: expect.any(Number) });
    expect(readdirSync(folder).sort()).toEqual(['model.engine', 'model.onnx']);
  });

  test('build: the same bytes again', () => {
    const folder = modelFolder(true);
    hotrodJson(['build', join(folder, 'model.onnx'), '-o', join(folder, 'again.engine')]);
    expect(readFileSync(join(folder, 'again.engine')).equals(readFileSync(join(folder, 'model.engine')))).toBe(true);
  });

  test('build: measured times are kept, and the same times give the same engine', () => {
    const folder = modelFolder();
    const times = join(folder, 'times');
    const measured = (name: string) => {
      const options = ['--target', 'wasm', '--threads', '1', '--effort', '2', '--timing-cache', times];
      hotrodJson(['build', join(folder, 'model.onnx'), '-o', join(folder, name), ...options]);
      return readFileSync(join(folder, name));
    };
    const first = measured('first.engine');
    const kept = readFileSync(times, 'utf8');
    expect(kept.length).toBeGreaterThan(0);
    expect(measured('second.engine').equals(first)).toBe(true);
    expect(readFileSync(times, 'utf8')).toBe(kept);
    writeFileSync(times, 'no times');
    expectRefused(
      hotrod(['build', join(folder, 'model.onnx'), '-o', join(folder, 'x'), '--timing-cache', times]),
      times,
    );
  });

  test('run: the same outputs from model and engine, on every target, written as .npy', () => {
    const folder = modelFolder(true);
    const input = join(folder, 'x.npy');
    writeFileSync(
      input,
      writeNpy(
        fromNumbers(
          'f32',
          [2, 12],
          Array.from({ length: 24 }, (_, i) => i / 10 - 1),
        ),
      ),
    );
    const outputs = [
      ['model.onnx', 'wasm'],
      ['model.onnx', 'reference'],
      ['model.engine', 'auto'],
    ].map(([file, target]) => {
      const out = join(folder, `${file}-${target}`);
      const report = hotrodJson<{ outputs: { name: string; file: string }[]; latencyMs: number }>([
        'run',
        join(folder, file),
        '--target',
        target,
        '--input',
        `x=${input}`,
        '--output',
        out,
      ]);
      expect(report.outputs).toMatchObject([{ name: 'y', dtype: 'f32', shape: [2, 7], file: join(out, 'y.npy') }]);
      expect(report.latencyMs).toBeGreaterThan(0);
      return readNpy(readFileSync(report.outputs[0].file), 'y.npy').data as Float32Array;
    });
    for (const y of outputs) {
      expect(y.subarray(0, 7).reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 5);
      for (let i = 0; i < y.length; i++) expect(y[i]).toBeCloseTo(outputs[1][i], 5);
    }
  });

  test('build: precision int8 is calibrated on samples', () => {
    const folder = modelFolder();
    const [model, engine, input] = ['model.onnx', 'int8.engine', 'sample.npy'].map((file) => join(folder, file));
    const values = Array.from({ length: 24 }, (_, i) => i / 10 - 1);
    writeFileSync(input, writeNpy(fromNumbers('f32', [2, 12], values)));
    const options = ['--target', 'wasm', '--precision', 'int8', '--shapes', 'x:2x12', '--sample', `x=${input}`];
    const { stages } = hotrodJson<{ stages: { name: string }[] }>(['build', model, '-o', engine, ...options]);
    expect(stages.map(({ name }) => name)).toContain('calibrate');
    const outputOf = (file: string, more: readonly string[]): Float32Array => {
      const out = `${file}-out`;
      hotrodJson(['run', file, '--input', `x=${input}`, '--output', out, ...more]);
      return readNpy(readFileSync(join(out, 'y.npy')), 'y.npy').data as Float32Array;
    };
    const [bytes, floats] = [outputOf(engine, []), outputOf(model, ['--target', 'wasm'])];
    // Probabilities, by products of 8 bits: a part in a hundred.
    bytes.forEach((y, i) => {
      expect(Math.abs(y - floats[i])).toBeLessThan(0.02);
    });
    expect([...bytes]).not.toEqual([...floats]);
  });

  test('run: inputs that are not given come from the seed', () => {
    const model = join(modelFolder(), 'model.onnx');
    const mean = (seed: string) =>
      hotrodJson<{ outputs: { max: number }[] }>(['run', model, '--seed', seed]).outputs[0].max;
    expect(mean('1')).toBe(mean('1'));
    expect(mean('1')).not.toBe(mean('2'));
  });

  test('bench: statistics, peers in turn, a row a kernel, a chart', () => {
    const folder = modelFolder();
    const chart = join(folder, 'latency.svg');
    const report = hotrodJson<{
      latencyMs: object;
      peers: { name: string; ratio: number }[];
      peak: { gflops: number; gbPerSecond: number };
      layers: { percent: number; gflops: number; gbPerSecond: number; peakPercent: number }[];
    }>([
      ...[
        'bench',
        join(folder, 'model.onnx'),
        '--target',
        'wasm',
        '--threads',
        '1',
        '--warmup',
        '5',
        '--iterations',
        '20',
      ],
      ...['--profile', '--against', 'onnxruntime,reference,torch', '--chart', chart],
    ]);
    expect(report).toMatchObject({ target: 'wasm', threads: 1, iterations: 20, missing: [{ name: 'torch' }] });
    expect(Object.keys(report.latencyMs)).toEqual(['min', 'mean', 'median', 'p90', 'p95', 'p99', 'max']);
    expect(report.peers.map((peer) => peer.name)).toEqual(['onnxruntime', 'reference']);
    for (const { ratio } of report.peers) expect(ratio).toBeGreaterThan(0);
    expect(report.layers.reduce((sum, layer) => sum + layer.percent, 0)).toBeCloseTo(100, 6);
    expect(report.peak.gflops).toBeGreaterThan(1);
    expect(report.peak.gbPerSecond).toBeGreaterThan(0.1);
    for (const { gflops, gbPerSecond, peakPercent } of report.layers) {
      const [arithmetic, traffic] = [gflops / report.peak.gflops, gbPerSecond / report.peak.gbPerSecond];
      expect(gbPerSecond).toBeGreaterThan(0);
      expect(peakPercent).toBeCloseTo(100 * Math.max(arithmetic, traffic), 6);
    }
    expect(readFileSync(chart, 'utf8')).toContain('onnxruntime');
  });

  test('bench: --batch replaces the first dim of --shapes and of what the model leaves open', () => {
    const file = join(temporaryFolder(), 'image.onnx');
    writeFileSync(file, imageModel());
    const quick = ['--batch', '3', '--warmup', '0', '--iterations', '1', '--target', 'reference'];
    const open = hotrodJson<{ throughput: number; latencyMs: { mean: number } }>(['bench', file, ...quick]);
    expect(open).toMatchObject({ batch: 3, iterations: 1 });
    expect(open.throughput).toBeCloseTo(3000 / open.latencyMs.mean, 6);
    const input = join(temporaryFolder(), 'image.npy');
    writeFileSync(input, writeNpy(zeros('f32', [3, 1, 5, 4])));
    expect(hotrod(['bench', file, ...quick, '--shapes', 'image:1x1x5x4', '--input', `image=${input}`]).status).toBe(0);
  });

  test('compare: an engine agrees with the reference, with onnxruntime and with its own outputs in a folder', () => {
    const folder = modelFolder();
    const model = join(folder, 'model.onnx');
    hotrodJson(['run', model, '--seed', '3', '--output', join(folder, 'outputs')]);
    for (const against of ['reference', 'onnxruntime', join(folder, 'outputs')]) {
      const report = hotrodJson<{ outputs: object[] }>([
        'compare',
        model,
        '--seed',
        '3',
        '--against',
        against,
        '--target',
        'wasm',
      ]);
      expect(report).toMatchObject({ passed: true, outputs: [{ name: 'y', top1Agrees: true, passed: true }] });
      for (const field of ['mae', 'maxAbs', 'maxRel', 'rmse', 'cosine'])
        expect(report.outputs[0]).toHaveProperty(field);
    }
  });

  test('compare: exit 1 where the outputs differ, and the layers that do', () => {
    const folder = modelFolder();
    const model = join(folder, 'model.onnx');
    mkdirSync(join(folder, 'wrong'));
    writeFileSync(join(folder, 'wrong', 'y.npy'), writeNpy(zeros('f32', [2, 7])));
    const { status, stdout } = hotrod(['compare', model, '--against', join(folder, 'wrong'), '--layers', '--json']);
    expect(status).toBe(1);
    const report = JSON.parse(stdout) as { layers: { name: string; passed: boolean }[] };
    expect(report).toMatchObject({ passed: false, outputs: [{ name: 'y', passed: false }] });
    // The baseline of layers is the reference, from which nothing parts.
    expect(report.layers.length).toBeGreaterThan(0);
    expect(report.layers.every((layer) => layer.passed)).toBe(true);
  });

  test('inspect: a model by its nodes, an engine by its steps', () => {
    const folder = modelFolder(true);
    const model = hotrodJson<{ layers: object[] }>(['inspect', join(folder, 'model.onnx')]);
    expect(model).toMatchObject({
      kind: 'onnx',
      inputs: [{ name: 'x', shape: [2, 12] }],
      operators: { MatMul: 2, Relu: 1 },
    });
    expect(model.layers).toHaveLength(5);
    const engine = hotrodJson<{ layers: { loc: string[] }[] }>(['inspect', join(folder, 'model.engine')]);
    expect(engine).toMatchObject({ kind: 'engine', inputs: [{ name: 'x' }], outputs: [{ name: 'y' }] });
    expect(new Set(engine.layers.flatMap((layer) => layer.loc))).toEqual(
      new Set(['node0', 'node1', 'node2', 'node3', 'node4']),
    );
  });

  test('devices: every target with its features', () => {
    const { devices } = hotrodJson<{ devices: { target: string }[] }>(['devices']);
    expect(devices).toContainEqual(expect.objectContaining({ target: 'wasm', available: true }));
    expect(devices).toContainEqual(expect.objectContaining({ target: 'reference', available: true }));
  });

  test('text for people holds no escape sequences without a terminal', () => {
    const folder = modelFolder();
    for (const args of [
      ['inspect', join(folder, 'model.onnx')],
      ['devices'],
      ['run', join(folder, 'model.onnx')],
      ['--help'],
    ]) {
      const { status, stdout, stderr } = hotrod(args);
      expect(status, stderr).toBe(0);
      expect(stdout.length).toBeGreaterThan(0);
      expect(stdout + stderr).not.toContain('\x1b');
    }
  });

  test('the help of every command has an example', () => {
    for (const command of ['build', 'run', 'bench', 'compare', 'classify', 'inspect', 'devices', 'demo']) {
      expect(hotrod([command, '--help']).stdout).toContain(`Example: hotrod ${command}`);
    }
  });
});

describe('what is refused', () => {
  test('a model that is cut short, or random, or absent', () => {
    const folder = temporaryFolder();
    const [cut, random] = [join(folder, 'cut.onnx'), join(folder, 'random.onnx')];
    writeFileSync(cut, classifierModel().subarray(0, 300));
    writeFileSync(
      random,
      Uint8Array.from({ length: 5000 }, (_, i) => (i * i * 31 + (i >> 3)) & 255),
    );
    for (const file of [cut, random, join(folder, 'absent.onnx'), folder]) {
      expectRefused(hotrod(['build', file, '-o', join(folder, 'out.engine'), '--json']), file);
    }
    expectRefused(hotrod(['run', cut, '--json']), cut);
    expectRefused(hotrod(['inspect', random, '--json']), random);
    expect(readdirSync(folder).sort()).toEqual(['cut.onnx', 'random.onnx']);
  });

  test('operators that are missing, all of them with their nodes', () => {
    const file = join(temporaryFolder(), 'model.onnx');
    writeFileSync(file, unsupportedModel());
    expectRefused(hotrod(['run', file]), 'Frobnicate', 'node1', 'Zorp', 'node3');
  });

  test('external data that are missing or cut, and used where they are whole', () => {
    const folder = temporaryFolder();
    const [file, weights] = [join(folder, 'model.onnx'), join(folder, 'weights.bin')];
    const { model, data } = externalModel();
    writeFileSync(file, model);
    expectRefused(hotrod(['run', file]), 'weights.bin', 'w1');
    writeFileSync(weights, data.subarray(4));
    expectRefused(hotrod(['run', file]), 'weights.bin', 'w1');
    writeFileSync(weights, data);
    expect(hotrod(['run', file]).status).toBe(0);
  });

  test('inputs of a wrong name, shape, dtype, or no array', () => {
    const folder = modelFolder(true);
    const files = {
      good: fromNumbers('f32', [2, 12], new Float32Array(24)),
      shape: fromNumbers('f32', [2, 11], new Float32Array(22)),
      rank: fromNumbers('f32', [24], new Float32Array(24)),
      dtype: fromNumbers('f64', [2, 12], new Float32Array(24)),
    };
    for (const [name, tensor] of Object.entries(files)) writeFileSync(join(folder, `${name}.npy`), writeNpy(tensor));
    writeFileSync(join(folder, 'text.npy'), 'no array');
    const run = (model: string, input: string) => hotrod(['run', join(folder, model), '--input', input]);
    for (const model of ['model.onnx', 'model.engine']) {
      expectRefused(run(model, `z=${join(folder, 'good.npy')}`), '"z"', '"x"');
      expectRefused(run(model, `x=${join(folder, 'shape.npy')}`), '"x"', '[2,11]');
      expectRefused(run(model, `x=${join(folder, 'dtype.npy')}`), '"x"', 'f64');
    }
    expectRefused(run('model.onnx', `x=${join(folder, 'rank.npy')}`), '"x"', '[24]');
    expectRefused(run('model.engine', `x=${join(folder, 'text.npy')}`), 'text.npy');
    expectRefused(run('model.engine', `x=${join(folder, 'absent.npy')}`), 'absent.npy');
    expect(run('model.engine', `x=${join(folder, 'good.npy')}`).status).toBe(0);
  });

  test('an engine with a flipped bit, cut short, of a newer format, or random', () => {
    const folder = modelFolder(true);
    const engine = readFileSync(join(folder, 'model.engine'));
    const bad = join(folder, 'bad.engine');
    const refuse = (bytes: Uint8Array, ...parts: string[]) => {
      writeFileSync(bad, bytes);
      expectRefused(hotrod(['run', bad]), bad, ...parts);
    };
    for (const at of [3, 20, 60, engine.length >> 1, engine.length - 1]) {
      const flipped = Uint8Array.from(engine);
      flipped[at] ^= 16;
      refuse(flipped);
    }
    refuse(engine.subarray(0, engine.length - 7));
    refuse(new Uint8Array(200));
    const newer = Uint8Array.from(engine);
    newer[8]++;
    refuse(newer, 'format 2');
  });

  test('a picture that does not decode', () => {
    const folder = modelFolder();
    const picture = join(folder, 'picture.png');
    writeFileSync(picture, readFileSync(join(ROOT, 'assets/infinity.png')).subarray(0, 500));
    const file = join(folder, 'image.onnx');
    writeFileSync(file, imageModel());
    expectRefused(hotrod(['classify', file, picture, '--preset', 'grey']), 'picture.png');
    expectRefused(hotrod(['classify', join(folder, 'model.onnx'), picture]), 'does not take one picture');
  });

  test('a place that cannot be written, a disk that is full: nothing half-written stays', () => {
    const folder = modelFolder();
    const model = join(folder, 'model.onnx');
    expectRefused(hotrod(['build', model, '-o', join(folder, 'no/such/folder/x.engine')]), 'x.engine');
    expectRefused(hotrod(['build', model, '-o', folder]), folder);
    expectRefused(hotrod(['build', model, '-o', join(folder, 'x.engine')], { fileLimitKiB: 1 }), 'x.engine');
    expect(readdirSync(folder)).toEqual(['model.onnx']);
    writeFileSync(join(folder, 'old.engine'), 'kept');
    expectRefused(hotrod(['build', model, '-o', join(folder, 'old.engine')], { fileLimitKiB: 1 }), 'old.engine');
    expect(readFileSync(join(folder, 'old.engine'), 'utf8')).toBe('kept');
  });

  test('calls with wrong options', () => {
    const model = join(modelFolder(true), 'model.onnx');
    const engine = model.replace('.onnx', '.engine');
    const calls: readonly (readonly [readonly string[], string])[] = [
      [['frobnicate'], 'frobnicate'],
      [['run', model, '--frobnicate'], '--frobnicate'],
      [['run'], 'model'],
      [['build', model], '--output'],
      [['run', model, '--target', 'abacus'], 'abacus'],
      [['run', model, '--shapes', 'x'], '--shapes'],
      [['run', model, '--shapes', 'x:2x13'], 'x'],
      [['run', model, '--shapes', 'z:2x13'], 'z'],
      [['run', model, '--min-shapes', 'x:4x12', '--max-shapes', 'x:2x12'], 'min <= opt <= max'],
      [['run', model, '--threads', '0'], '--threads'],
      [['run', model, '--target', 'wasm', '--precision', 'fp16'], 'fp16'],
      [['run', model, '--sample', 'x'], 'NAME=FILE.npy'],
      [['run', model, '--sample', `x=${model}`], 'model.onnx'],
      [['run', model, '--workspace', '1B'], 'workspace'],
      [['run', engine, '--target', 'reference'], 'reference'],
      [['build', engine, '-o', `${engine}2`], 'engine already'],
      [['build', model, '-o', `${engine}2`, '--target', 'wasm', '--embed-code'], 'embedded'],
      [['bench', engine, '--against', 'onnxruntime'], '--onnx'],
      [['bench', model, '--against', 'abacus'], 'abacus'],
      [['bench', engine, '--iterations', '1', '--warmup', '0', '--streams', '2'], 'no streams'],
      [['compare', model, '--against', 'abacus'], 'abacus'],
      [['compare', model, '--metric', 'mae'], '--threshold'],
    ];
    for (const [args, part] of calls) expectRefused(hotrod(args), part);
    expect(existsSync(`${engine}2`)).toBe(false);
  });
});
