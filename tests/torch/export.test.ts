/** PyTorch in, ONNX out: onnxruntime answers as PyTorch does, Debian's onnx accepts the files, the command does what it says. */
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ModelError } from '../../src/core/errors.ts';
import { type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { graphBuilder } from '../../src/graph/build.ts';
import { evalGraph } from '../../src/graph/eval.ts';
import { OLDEST_EXPRESSIBLE_OPSET } from '../../src/onnx/older-opsets.ts';
import { readOnnx } from '../../src/onnx/read.ts';
import { writeOnnx } from '../../src/onnx/write.ts';
import { OPS } from '../../src/ops/all.ts';
import { readTorch } from '../../src/torch/read.ts';
import { hotrod, hotrodJson } from '../cli-harness.ts';
import { runModel } from '../onnxruntime.ts';
import { MISSING_ONNX, onnxComplaint } from '../oracles/check-onnx.ts';
import { askTorchvision, MISSING_TORCHVISION, type NetAnswer } from '../oracles/networks.ts';
import { fixture } from './fixtures.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrod-export-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Largest difference over the root mean square of what is expected. */
function distance(got: Tensor | undefined, expected: Tensor): number {
  expect(got?.shape).toEqual(expected.shape);
  const [a, b] = [toNumbers(got as Tensor), toNumbers(expected)];
  let [worst, squares] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    worst = Math.max(worst, Math.abs(a[i] - b[i]));
    squares += b[i] ** 2;
  }
  return worst / Math.sqrt(squares / b.length);
}

describe('older opsets', () => {
  const PROGRAMS = ['resnet', 'vit', 'convnext', 'tokens', 'seg', 'math', 'rows', 'vit-decomposed'];
  const OPSETS = [OLDEST_EXPRESSIBLE_OPSET, 18, 19, 20];

  test.each(PROGRAMS)('%s reads back as what it was, from each', (name) => {
    const { graph } = readTorch(fixture(`${name}.pt2`), { ops: OPS });
    const { inputs } = JSON.parse(new TextDecoder().decode(fixture(`${name}.json`)));
    const named = new Map(
      graph.inputs.map((input, i): [string, Tensor] => {
        const { shape, dtype, data } = inputs[i];
        const bytes = new Uint8Array(Buffer.from(data, 'base64')).buffer;
        return dtype === 'int64'
          ? [input, tensor('i64', shape, new BigInt64Array(bytes))]
          : [input, tensor('f32', shape, new Float32Array(bytes))];
      }),
    );
    const expected = evalGraph(graph, OPS, named);
    for (const opset of OPSETS) {
      const back = readOnnx(writeOnnx(graph, { ops: OPS, opset }), { ops: OPS });
      const got = evalGraph(back, OPS, named);
      for (const [output, want] of expected) {
        if (want.dtype !== 'f32') expect(got.get(output), `${output}, opset ${opset}`).toEqual(want);
        else expect(distance(got.get(output), want), `${output}, opset ${opset}`).toBeLessThan(1e-5);
      }
    }
  });

  test('onnxruntime answers as PyTorch did: an open batch, operators that the set does not have yet', async () => {
    for (const name of ['vit-batch', 'vit', 'convnext', 'seg']) {
      const { graph } = readTorch(fixture(`${name}.pt2`), { ops: OPS });
      const { inputs, outputs } = JSON.parse(new TextDecoder().decode(fixture(`${name}.json`)));
      const recorded = ({ shape, data }: { shape: number[]; data: string }): Tensor =>
        tensor('f32', shape, new Float32Array(new Uint8Array(Buffer.from(data, 'base64')).buffer));
      const model = writeOnnx(graph, { ops: OPS, opset: OLDEST_EXPRESSIBLE_OPSET });
      const got = await runModel(model, new Map([[graph.inputs[0], recorded(inputs[0])]]));
      for (const [i, output] of graph.outputs.entries()) {
        expect(distance(got.get(output), recorded(outputs[i])), `${name} ${output}`).toBeLessThan(1e-5);
      }
    }
  });

  test.skipIf(MISSING_ONNX)('the checker of ONNX accepts them as the oldest', () => {
    const files = PROGRAMS.map((name) => {
      const file = join(folder, `${name}.onnx`);
      const { graph } = readTorch(fixture(`${name}.pt2`), { ops: OPS });
      writeFileSync(file, writeOnnx(graph, { ops: OPS, opset: OLDEST_EXPRESSIBLE_OPSET }));
      return file;
    });
    expect(onnxComplaint(files)).toBe('');
    const broken = join(folder, 'broken.onnx');
    // Its opset is declared wrongly: the checker must be one that can refuse.
    const { graph } = readTorch(fixture('vit.pt2'), { ops: OPS });
    writeFileSync(broken, Buffer.from(writeOnnx(graph, { ops: OPS })).subarray(0, 900));
    expect(onnxComplaint([broken])).not.toBe('');
  });

  test('what an older opset has no form for is refused by name', () => {
    const b = graphBuilder('g', OPS);
    const x = b.input('x', 'f32', [1, 2, 5]);
    const pads = b.constant(tensor('i64', [6], new BigInt64Array([0n, 0n, 1n, 0n, 0n, 1n])));
    b.output(b.node('Pad', [x, pads], { attrs: { mode: 'wrap' }, loc: ['edge'] })[0]);
    const graph = b.finish();
    const write = (opset: number) => writeOnnx(graph, { ops: OPS, opset });
    expect(() => write(18)).toThrow(/Pad "edge" cannot be written as opset 18: mode "wrap"/);
    expect(() => write(18)).toThrow(ModelError);
    expect(write(19).length).toBeGreaterThan(0);
  });
});

describe.skipIf(MISSING_TORCHVISION)(`hotrod export ${MISSING_TORCHVISION || 'of a checkpoint of torchvision'}`, () => {
  const checkpoint = join(folder, 'net.pth');
  const file = (name: string): string => join(folder, name);
  let answer: NetAnswer;
  beforeAll(() => {
    answer = askTorchvision({ arch: 'resnet18', size: 65, seed: 3, file: checkpoint, classes: 10 });
  });
  const shapes = ['--shapes', 'input:1x3x65x65'];
  const exported = (name: string, ...args: string[]) =>
    hotrodJson<Record<string, unknown>>(['export', checkpoint, '-o', file(name), ...args, '--json']);
  const run = async (name: string, input: Tensor): Promise<Tensor | undefined> =>
    (await runModel(file(name), new Map([['input', input]]))).get('output');

  test('as asked for: JSON, and the answers of PyTorch from onnxruntime', async () => {
    const report = exported('net.onnx', ...shapes);
    expect(report).toMatchObject({
      arch: 'resnet18',
      nodes: 49,
      parameters: 11181642,
      file: file('net.onnx'),
      opset: 17,
    });
    expect(distance(await run('net.onnx', answer.input), answer.output)).toBeLessThan(1e-5);
  });

  test('batch normalisation kept, an open batch, weights beside the model, another opset', async () => {
    expect(exported('norms.onnx', ...shapes, '--keep-batch-norm')).toMatchObject({ nodes: 69 });
    expect(exported('batch.onnx', ...shapes, '--dynamic-batch', '--external-data')).toMatchObject({
      dataFile: file('batch.onnx.data'),
    });
    expect(exported('new.onnx', ...shapes, '--opset', '21')).toMatchObject({ opset: 21 });
    expect(statSync(file('batch.onnx')).size).toBeLessThan(100_000);
    for (const name of ['norms.onnx', 'batch.onnx', 'new.onnx']) {
      expect(distance(await run(name, answer.input), answer.output), name).toBeLessThan(1e-5);
    }
    const twice = (t: Tensor): Tensor => {
      const data = new Float32Array(2 * t.data.length);
      data.set(t.data as Float32Array);
      data.set(t.data as Float32Array, t.data.length);
      return tensor('f32', [2, ...t.shape.slice(1)], data);
    };
    expect(distance(await run('batch.onnx', twice(answer.input)), twice(answer.output))).toBeLessThan(1e-5);
    if (!MISSING_ONNX) expect(onnxComplaint([file('net.onnx'), file('norms.onnx'), file('batch.onnx')])).toBe('');
  });

  test('what cannot be exported says why, and leaves nothing behind', () => {
    const before = readdirSync(folder);
    for (const [args, message] of [
      [['--arch', 'resnet34'], 'do not fit resnet34'],
      [['--opset', '16'], '17 to 28 can be written'],
      [['--shapes', 'input:1x4x65x65'], 'input has 4 channels'],
      [['--external-data', '--opset', '99'], 'can be written'],
    ] as const) {
      const { status, stderr } = hotrod(['export', checkpoint, '-o', file('never.onnx'), ...args]);
      expect([status, stderr]).toEqual([2, expect.stringContaining(message)]);
    }
    expect(hotrod(['export', file('net.onnx'), '-o', file('never.onnx')]).stderr).toContain('is no PyTorch file');
    expect(readdirSync(folder)).toEqual(before);
  });

  test('the same checkpoint builds, runs, compares and inspects as a model does', () => {
    const engine = file('net.engine');
    expect(hotrodJson(['build', checkpoint, '-o', engine, ...shapes, '--target', 'wasm', '--json'])).toMatchObject({
      target: 'wasm',
    });
    expect(hotrodJson(['inspect', checkpoint, '--json'])).toMatchObject({
      kind: 'torch',
      arch: 'resnet18',
      parameters: 11181642,
    });
    for (const against of ['reference', 'onnxruntime']) {
      const report = hotrodJson(['compare', checkpoint, ...shapes, '--target', 'wasm', '--against', against, '--json']);
      expect(report).toMatchObject({ passed: true });
    }
    const bad = hotrod(['build', checkpoint, '-o', engine, '--arch', 'vgg11', '--target', 'wasm']);
    expect([bad.status, bad.stderr]).toEqual([
      2,
      expect.stringMatching(/net\.pth: the weights do not fit vgg11\. .* missing/),
    ]);
  });
});
