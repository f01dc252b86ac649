/**
 * `compare --layers` finds a fault that was planted: an engine file with one wrong weight, or with a wrong kernel, and the model that it
 * was built from. The node whose kernel is wrong is named, and none before it.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { build } from '../src/build.ts';
import { fromNumbers } from '../src/core/tensor.ts';
import type { Engine } from '../src/engine/engine.ts';
import { serializeEngine } from '../src/engine/format.ts';
import { graphBuilder } from '../src/graph/build.ts';
import type { Graph } from '../src/graph/ir.ts';
import { writeOnnx } from '../src/onnx/write.ts';
import { OPS } from '../src/ops/all.ts';
import { hotrod, hotrodJson, temporaryFolder } from './cli-harness.ts';

const DEPTH = 9;

/** A chain of convolutions with activations; a residual sum after every third, and a concatenation at the end. */
function network(): Graph {
  const b = graphBuilder('chain', OPS);
  let x = b.input('x', 'f32', [1, 8, 10, 10]);
  let skip = x;
  for (let i = 0; i < DEPTH; i++) {
    const values = Array.from({ length: 8 * 8 * 9 }, (_, k) => Math.sin(k * (0.37 + i)) / 6);
    const w = b.constant(fromNumbers('f32', [8, 8, 3, 3], values), `w${i}`);
    [x] = b.node('Conv', [x, w], { attrs: { pads: [1, 1, 1, 1] }, loc: [`/block${i}/conv/Conv`] });
    [x] = b.node('Relu', [x], { loc: [`/block${i}/relu/Relu`] });
    if (i % 3 === 2) [x] = b.node('Add', [x, skip], { loc: [`/block${i}/Add`] });
    if (i % 3 === 2) skip = x;
  }
  const [pooled] = b.node('GlobalAveragePool', [x], { loc: ['/pool'] });
  b.output(b.node('Flatten', [pooled], { attrs: { axis: 1 }, loc: ['/flatten'] })[0]);
  return b.finish();
}

interface Compared {
  readonly passed: boolean;
  readonly layers: readonly { readonly name: string; readonly passed: boolean; readonly nodes: readonly string[] }[];
}

/** The engine with weight `w{i}` made wrong by one element, wherever its packing has put it. */
function withWrongWeight(engine: Engine, i: number): Engine {
  const weight = engine.weights.find(({ name }) => name === `w${i}`);
  if (!weight) throw new Error(`the engine has no weight w${i}, but ${engine.weights.map(({ name }) => name)}`);
  const weightBytes = engine.weightBytes.slice();
  const values = new Float32Array(weightBytes.buffer, weight.byteOffset, weight.bytes / 4);
  values[values.findIndex((value) => value !== 0)] += 3;
  return { ...engine, weightBytes };
}

for (const target of ['wasm', 'reference'] as const) {
  test(`an engine without a fault parts nowhere (${target})`, async () => {
    const folder = temporaryFolder();
    const [onnx, file] = [join(folder, 'm.onnx'), join(folder, 'm.engine')];
    const graph = network();
    writeFileSync(onnx, writeOnnx(graph, { ops: OPS }));
    writeFileSync(file, serializeEngine((await build(graph, { target })).engine));
    const report = hotrodJson<Compared>(['compare', file, '--onnx', onnx, '--layers', '--threads', '1']);
    expect(report.passed).toBe(true);
    expect(report.layers.every((layer) => layer.passed)).toBe(true);
  });
}

for (const wrong of [0, 4, DEPTH - 1]) {
  test(`one wrong weight in convolution ${wrong} of ${DEPTH} is found`, async () => {
    const folder = temporaryFolder();
    const [onnx, file] = [join(folder, 'm.onnx'), join(folder, 'm.engine')];
    const graph = network();
    writeFileSync(onnx, writeOnnx(graph, { ops: OPS }));
    const { engine } = await build(graph, { target: 'wasm' });
    writeFileSync(file, serializeEngine(withWrongWeight(engine, wrong)));
    const { status, stdout, stderr } = hotrod([
      'compare',
      file,
      '--onnx',
      onnx,
      '--layers',
      '--threads',
      '1',
      '--json',
    ]);
    expect(status, stderr).toBe(1);
    const { passed, layers } = JSON.parse(stdout) as Compared;
    expect(passed).toBe(false);
    const first = layers.find((layer) => !layer.passed);
    expect(first?.nodes).toContain(`/block${wrong}/conv/Conv`);
    const before = layers.slice(0, layers.indexOf(first as Compared['layers'][number]));
    expect(before.every((layer) => layer.passed)).toBe(true);
    const text = hotrod(['compare', file, '--onnx', onnx, '--layers', '--threads', '1']);
    expect(text.stdout).toMatch(new RegExp(`They part at .*/block${wrong}/conv/Conv`));
  });
}
