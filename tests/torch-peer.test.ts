/** PyTorch beside an engine: the same network by TorchScript or by its module and weights, its times, and what is refused. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { fromNumbers } from '../src/core/tensor.ts';
import { graphBuilder } from '../src/graph/build.ts';
import { writeOnnx } from '../src/onnx/write.ts';
import { OPS } from '../src/ops/all.ts';
import { hotrod, hotrodJson, temporaryFolder } from './cli-harness.ts';

const PYTHON = ['python3', '/usr/bin/python3'].find(
  (command) => spawnSync(command, ['-c', 'import torch'], { stdio: 'ignore' }).status === 0,
);
const skip = PYTHON === undefined;

/** A network of a convolution, an activation and a linear layer, as ONNX, and the same with the same weights as TorchScript. */
function makeNetworks(folder: string): { readonly onnx: string; readonly script: string } {
  const values = (count: number, step: number) =>
    Array.from({ length: count }, (_, i) => Math.fround(Math.sin(i * step)));
  const b = graphBuilder('net', OPS);
  const x = b.input('x', 'f32', [2, 3, 9, 7]);
  const w = b.constant(fromNumbers('f32', [5, 3, 3, 3], values(135, 0.7)), 'w');
  const v = b.constant(fromNumbers('f32', [175, 4], values(700, 0.3)), 'v');
  const [conv] = b.node('Conv', [x, w], { attrs: { strides: [1, 1] } });
  const [relu] = b.node('Relu', [conv]);
  const [flat] = b.node('Flatten', [relu], { attrs: { axis: 1 } });
  const [y] = b.node('MatMul', [flat, v], { outputs: ['y'] });
  b.output(y);
  const onnx = join(folder, 'net.onnx');
  writeFileSync(onnx, writeOnnx(b.finish(), { ops: OPS }));
  const script = join(folder, 'net.pt');
  const python = `
import torch, math, struct
f = lambda n, s: torch.tensor([math.sin(i * s) for i in range(n)], dtype=torch.float64).float()
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(f(135, 0.7).reshape(5, 3, 3, 3)); self.v = torch.nn.Parameter(f(700, 0.3).reshape(175, 4))
    def forward(self, x):
        return torch.flatten(torch.relu(torch.nn.functional.conv2d(x, self.w)), 1) @ self.v
torch.jit.script(Net()).save(${JSON.stringify(script)})`;
  // TorchScript reads the source of what it compiles, so it must be a file.
  const source = join(folder, 'net.py');
  writeFileSync(source, python);
  const { status, stderr } = spawnSync(PYTHON as string, [source], { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  return { onnx, script };
}

test.skipIf(skip)(
  `PyTorch is measured in its own process and answers the same${skip ? ' (no python3 with torch)' : ''}`,
  () => {
    const folder = temporaryFolder();
    const { onnx, script } = makeNetworks(folder);
    const common = ['--target', 'wasm', '--threads', '1', '--torch-module', script];
    const compared = hotrodJson<{ passed: boolean; outputs: { name: string; cosine: number }[] }>([
      'compare',
      onnx,
      '--against',
      'torch',
      ...common,
    ]);
    expect(compared.passed).toBe(true);
    expect(compared.outputs[0]).toMatchObject({ name: 'y' });
    const bench = hotrodJson<{ peers: { name: string; latencyMs: { median: number } }[] }>([
      'bench',
      onnx,
      '--against',
      'torch',
      '--duration',
      '0.1',
      '--warmup',
      '10',
      ...common,
    ]);
    expect(bench.peers[0].name).toMatch(/^torch [\d.]+/);
    expect(bench.peers[0].latencyMs.median).toBeGreaterThan(0);
  },
);

test.skipIf(skip)('a module that is not this network is refused; a guessed one is left out', () => {
  const folder = temporaryFolder();
  const { onnx } = makeNetworks(folder);
  const named = hotrod([
    'bench',
    onnx,
    '--against',
    'torch',
    '--duration',
    '0.1',
    '--target',
    'wasm',
    '--torch-module',
    'torch.nn:Identity',
  ]);
  expect(named.status).toBe(2);
  expect(named.stderr).toMatch(/torch.nn:Identity gives f32\[2,3,9,7\], the engine f32\[2,4\]/);
  const guessed = hotrodJson<{ peers: unknown[]; missing: { name: string; reason: string }[] }>([
    'bench',
    onnx,
    '--against',
    'torch',
    '--duration',
    '0.1',
    '--target',
    'wasm',
  ]);
  expect(guessed.peers).toEqual([]);
  expect(guessed.missing[0].reason).toMatch(/--torch-module/);
});
