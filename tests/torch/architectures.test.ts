/**
 * Checkpoints that torchvision writes, read by name and shape alone, answer as torchvision does. A few in every run; all of them with
 * `npm run test:torch`.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { build } from '../../src/build.ts';
import { readInputFile } from '../../src/cli/files.ts';
import type { TypedArray } from '../../src/core/dtype.ts';
import { type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { evalGraph } from '../../src/graph/eval.ts';
import type { Graph } from '../../src/graph/ir.ts';
import { OPS } from '../../src/ops/all.ts';
import { wasmDevice } from '../../src/targets/wasm/device.ts';
import { ARCHITECTURES } from '../../src/torch/architectures/all.ts';
import { readTorch } from '../../src/torch/read.ts';
import { askTorchvision, MISSING_TORCHVISION } from '../oracles/networks.ts';

/** Small in weights, and between them all layers: those that every run affords. */
const EVERY_RUN = ['resnet18', 'mobilenet_v3_small', 'squeezenet1_0', 'efficientnet_b0'];
const WANTED = process.env.HOTROD_TEST_TORCH === 'all' ? [...ARCHITECTURES.keys()] : EVERY_RUN;

/** 2.5 GB of weights, and as much again as they are packed, do not fit into one memory of 4 GiB. */
const TOO_LARGE_FOR_WASM = new Set(['vit_h_14']);

/** Largest difference over the root mean square of what is expected. */
function distance(got: Tensor, expected: Tensor): number {
  expect(got.shape).toEqual(expected.shape);
  const [a, b] = [toNumbers(got), toNumbers(expected)];
  let [worst, squares] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    worst = Math.max(worst, Math.abs(a[i] - b[i]));
    squares += b[i] ** 2;
  }
  return worst / Math.sqrt(squares / b.length);
}

async function runOnWasm(graph: Graph, input: Tensor): Promise<Tensor> {
  const { engine } = await build(graph, { target: 'wasm' });
  const open = await wasmDevice.open(engine, { threads: 1, onWarning: () => {} });
  try {
    const context = open.createContext();
    context.inputs[0].set(input.data as never);
    context.execute();
    const [{ dtype, shape }] = engine.outputs;
    return tensor(dtype, shape, context.outputs[0].slice() as TypedArray);
  } finally {
    open.dispose();
  }
}

/** Odd sizes everywhere where 65 fits; patches need multiples of theirs, and the poolings of some more room. */
function pictureSize(arch: string): number {
  if (arch.startsWith('vit')) return arch.endsWith('14') ? 28 : 64;
  return arch === 'alexnet' ? 95 : 65;
}

describe.skipIf(MISSING_TORCHVISION)(`checkpoints ${MISSING_TORCHVISION || 'of torchvision'}`, () => {
  test.each(WANTED.map((arch, seed) => ({ arch, seed })))(
    '$arch',
    async ({ arch, seed }) => {
      const folder = mkdtempSync(join(tmpdir(), 'hotrod-torch-'));
      try {
        const file = join(folder, 'weights.pth');
        const size = pictureSize(arch);
        const { input, output } = askTorchvision({
          arch,
          size,
          seed,
          file,
          legacy: seed % 2 === 1,
          classes: 1000 - seed,
        });
        const model = readTorch(readInputFile(file, 'checkpoint'), { ops: OPS, shapes: { input: input.shape } });
        expect(model.arch).toBe(arch);
        const [reference] = evalGraph(model.graph, OPS, new Map([['input', input]])).values();
        // float32 in PyTorch against float64 here, over as many as 200 layers.
        expect(distance(reference, output), 'reference').toBeLessThan(1e-4);
        if (TOO_LARGE_FOR_WASM.has(arch)) return;
        expect(distance(await runOnWasm(model.graph, input), output), 'wasm').toBeLessThan(1e-4);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
    300_000,
  );
});
