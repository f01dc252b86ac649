/** Trained networks through the command line: the demo's answer, and pictures whose right classes are known. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { decodePicture } from '../src/vision/decode.ts';
import { hotrod, hotrodJson, ROOT, temporaryFolder } from './cli-harness.ts';

test('demo: the right answer, in agreement with the reference, and everything it promises to write', async () => {
  const folder = temporaryFolder();
  const report = hotrodJson<{ files: string[]; latencies: { name: string }[]; answer: { confidence: number } }>([
    ...['demo', '--target', 'wasm', '--duration', '0.2', '--output', folder],
  ]);
  expect(report).toMatchObject({
    answer: { index: 184, label: 'infinity' },
    correct: true,
    accuracy: { passed: true },
    missing: [],
  });
  expect(report.answer.confidence).toBeCloseTo(0.984, 2);
  expect(report.latencies.map((row) => row.name)).toEqual(['hotrod wasm', 'reference', 'onnxruntime']);
  expect(report.files).toEqual(
    ['symbols.engine', 'latency.svg', 'latency.png', 'report.md', 'graph.html', 'report.html'].map((name) =>
      join(folder, name),
    ),
  );
  expect(readFileSync(join(folder, 'report.md'), 'utf8')).toContain('"infinity" (class 184), confidence 98.');
  const page = readFileSync(join(folder, 'report.html'), 'utf8');
  for (const part of [
    'data:image/png;base64,',
    'infinity',
    'Conv + Relu',
    'onnxruntime',
    'Environment',
    process.version,
  ])
    expect(page).toContain(part);
  // Two graphs and the chart, and nothing from anywhere else.
  expect(page.match(/<svg/g)).toHaveLength(3);
  expect(page.match(/(src|href)="(?!data:|graph\.html)[^"]*"/g)).toBeNull();
  expect(readFileSync(join(folder, 'latency.svg'), 'utf8')).toContain('onnxruntime');
  expect(
    (await decodePicture(readFileSync(join(folder, 'latency.png')), { file: 'latency.png' })).width,
  ).toBeGreaterThan(700);
});

test('demo: another network and picture, or a hint', () => {
  const folder = temporaryFolder();
  const model = join(ROOT, 'node_modules/detypify-service/train/model.onnx');
  const picture = join(ROOT, 'assets/infinity.png');
  const common = ['--target', 'wasm', '--duration', '0', '--output', folder];
  const report = hotrodJson<{ files: string[]; latencies: { name: string }[] }>([
    ...['demo', '--model', model, '--picture', picture, '--preset', 'grey', ...common],
  ]);
  expect(report).toMatchObject({
    model: 'model',
    answer: { index: 184, label: 'class 184' },
    accuracy: { passed: true },
  });
  expect(report).not.toHaveProperty('correct');
  expect(report.latencies.map(({ name }) => name)).toContain('onnxruntime');
  const half = hotrod(['demo', '--model', model, ...common]);
  expect(half.status).toBe(2);
  expect(half.stderr).toContain('--model and --picture');
});

test('demo: says what it does, stage by stage, and prints the answer', () => {
  const { status, stdout, stderr } = hotrod(['demo', '--duration', '0', '--output', temporaryFolder()]);
  expect(status, stderr).toBe(0);
  for (const stage of ['read', 'passes', 'lower', 'emit']) expect(stderr).toContain(`: ${stage} (`);
  expect(stdout).toContain('The picture shows "infinity" (class 184)');
  expect(stdout).toMatch(/cosine 0\.99999|cosine 1\.0/);
});

const REAL = join(ROOT, '../shared/real');
describe.skipIf(!existsSync(REAL))(`SqueezeNet of the folder shared/real${existsSync(REAL) ? '' : ' (absent)'}`, () => {
  const pictures = ['hotdog.jpg', 'chelsea.png', 'coffee.png'].map((file) => join(REAL, file));
  const model = join(REAL, 'SqueezeNet_fp16.onnx');
  const options = ['--preset', 'squeezenet', '--labels', join(REAL, 'imagenet-classes.txt'), '--target', 'wasm'];

  test('classify: classes and confidences as onnxruntime gives them', () => {
    const { images } = hotrodJson<{
      images: { file: string; classes: { index: number; label: string; confidence: number }[] }[];
    }>([...['classify', model, ...pictures, ...options]]);
    // Measured with sharp's resize, which is Lanczos too but not Pillow's bit for bit: hence 0.02.
    const expected = [
      { index: 934, label: 'hotdog, hot dog, red hot', confidence: 0.992 },
      { index: 285, label: 'Egyptian cat', confidence: 0.607 },
      { index: 967, label: 'espresso', confidence: 1 },
    ];
    for (const [i, { index, label, confidence }] of expected.entries()) {
      const [best] = images[i].classes;
      expect(images[i].file).toBe(pictures[i]);
      expect(images[i].classes).toHaveLength(5);
      expect(best).toMatchObject({ index, label });
      expect(Math.abs(best.confidence - confidence)).toBeLessThanOrEqual(0.02);
    }
  });

  test('classify: top and threshold, single steps, text', () => {
    const engine = join(temporaryFolder(), 'squeezenet.engine');
    hotrodJson(['build', model, '-o', engine, '--target', 'wasm']);
    const classes = (...more: string[]) =>
      hotrodJson<{ images: { classes: { index: number; confidence: number }[] }[] }>([
        ...['classify', engine, pictures[1], ...options, ...more],
      ]).images[0].classes;
    expect(classes('--top', '2')).toHaveLength(2);
    expect(classes('--threshold', '0.5')).toHaveLength(1);
    // Of the preset's three steps each matters: with another channel order the confidence is another.
    const [swapped] = classes('--order', 'rgb');
    expect(Math.abs(swapped.confidence - 0.607)).toBeGreaterThan(0.02);
    expect(hotrod(['classify', engine, pictures[0], ...options]).stdout).toContain('hotdog, hot dog, red hot');
  });
});
