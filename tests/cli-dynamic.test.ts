/**
 * The command line on a model with open sizes: an engine built with profiles takes arrays of other sizes than it was tuned for.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readNpy, writeNpy } from '../src/cli/npy.ts';
import { sym } from '../src/core/shape.ts';
import { fromNumbers, toNumbers } from '../src/core/tensor.ts';
import { graphBuilder } from '../src/graph/build.ts';
import { writeOnnx } from '../src/onnx/write.ts';
import { OPS } from '../src/ops/all.ts';
import { hotrod, hotrodJson, temporaryFolder } from './cli-harness.ts';

interface Output {
  readonly outputs: readonly { readonly name: string; readonly shape: readonly number[] }[];
}

it('an engine with a profile runs, is compared, measured and inspected at the sizes it is given', () => {
  const folder = temporaryFolder();
  const b = graphBuilder('rows', OPS);
  const x = b.input('x', 'f32', [sym('n'), sym('s')]);
  b.output(b.node('Softmax', [b.node('Mul', [x, x])[0]], { outputs: ['y'] })[0]);
  const model = join(folder, 'rows.onnx');
  const engine = join(folder, 'rows.engine');
  writeFileSync(model, writeOnnx(b.finish(), { ops: OPS }));
  const profile = ['--min-shapes', 'x:1x1', '--opt-shapes', 'x:2x16', '--max-shapes', 'x:8x64'];
  hotrodJson(['build', model, '-o', engine, '--target', 'wasm', ...profile]);

  const input = join(folder, 'x.npy');
  writeFileSync(
    input,
    writeNpy(
      fromNumbers(
        'f32',
        [3, 5],
        Array.from({ length: 15 }, (_, i) => (i % 5 === 0 ? 9 : 0)),
      ),
    ),
  );
  const run = hotrodJson<Output>(['run', engine, '--input', `x=${input}`, '--output', folder]);
  expect(run.outputs[0].shape).toEqual([3, 5]);
  const y = readNpy(readFileSync(join(folder, 'y.npy')), 'y.npy');
  expect(y.shape).toEqual([3, 5]);
  expect(Array.from(toNumbers(y), Math.round)).toEqual([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0]);

  // Without an input the usual shape; --shapes and --batch choose within the profile.
  expect(hotrodJson<Output>(['run', engine]).outputs[0].shape).toEqual([2, 16]);
  expect(hotrodJson<Output>(['run', engine, '--shapes', 'x:8x64']).outputs[0].shape).toEqual([8, 64]);
  expect(hotrodJson<Output>(['run', model, '--target', 'wasm', ...profile]).outputs[0].shape).toEqual([2, 16]);
  const bench = hotrodJson<{ iterations: number; batch: number }>([
    'bench',
    engine,
    '--batch',
    '7',
    '--iterations',
    '3',
    '--warmup',
    '1',
    '--json',
  ]);
  expect(bench).toMatchObject({ iterations: 3, batch: 7 });
  const compare = ['compare', engine, '--onnx', model, '--shapes', 'x:5x33', '--layers'];
  expect(hotrodJson<{ passed: boolean }>(compare)).toMatchObject({ passed: true });
  expect(hotrodJson<{ profiles: unknown[] }>(['inspect', engine]).profiles).toEqual([
    { inputs: [{ name: 'x', min: [1, 1], opt: [2, 16], max: [8, 64] }], step: 1 },
  ]);
  const outside = hotrod(['run', engine, '--shapes', 'x:9x64']);
  expect(outside.status).toBe(2);
  expect(outside.stderr).toContain('[1,1] to [8,64]');
});

it('an engine whose output sizes the data decide runs, is compared, measured and inspected', () => {
  const folder = temporaryFolder();
  const b = graphBuilder('picked', OPS);
  const x = b.input('x', 'f32', [4, 6]);
  const [positions] = b.node('NonZero', [b.node('Relu', [x])[0]], { outputs: ['at'] });
  b.output(positions);
  const [rows] = b.node('Transpose', [positions], { attrs: { perm: [1, 0] } });
  b.output(b.node('Exp', [b.node('GatherND', [x, rows])[0]], { outputs: ['y'] })[0]);
  const model = join(folder, 'picked.onnx');
  const engine = join(folder, 'picked.engine');
  const input = join(folder, 'x.npy');
  writeFileSync(model, writeOnnx(b.finish(), { ops: OPS }));
  const values = Array.from({ length: 24 }, (_, i) => (i % 5 === 0 ? 1 : -1));
  writeFileSync(input, writeNpy(fromNumbers('f32', [4, 6], values)));

  for (const target of ['wasm', 'reference']) {
    hotrodJson(['build', model, '-o', engine, '--target', target]);
    const run = hotrodJson<Output>(['run', engine, '--input', `x=${input}`, '--output', folder]);
    expect(run.outputs.map(({ shape }) => shape)).toEqual([[2, 5], [5]]);
    const at = readNpy(readFileSync(join(folder, 'at.npy')), 'at.npy');
    expect(Array.from(toNumbers(at))).toEqual([0, 0, 1, 2, 3, 0, 5, 4, 3, 2]);
    const compared = hotrodJson<{ passed: boolean }>(['compare', engine, '--onnx', model, '--input', `x=${input}`]);
    expect(compared.passed).toBe(true);
    expect(hotrodJson<{ iterations: number }>(['bench', engine, '--iterations', '3', '--warmup', '1']).iterations).toBe(
      3,
    );
  }
  hotrodJson(['build', model, '-o', engine, '--target', 'wasm']);
  expect(hotrodJson<object>(['inspect', engine])).toMatchObject({ dataSizes: [{ name: 'nonzero(at)', atMost: '24' }] });
  expect(hotrod(['inspect', engine]).stdout).toMatch(/outputs +at i64\[2,nonzero\(at\)\], y f32\[nonzero\(at\)\]/);
  expect(hotrodJson<{ passed: boolean }>(['compare', model, '--layers', '--target', 'wasm']).passed).toBe(true);
  hotrodJson(['view', model, '--html', join(folder, 'picked.html')]);
});
