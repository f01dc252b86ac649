/**
 * The shared architectures in fp16 where there is no GPU: the kernels of target cuda computed by this machine's processor with the roundings
 * that they make there, against what onnxruntime gave in f32. ZOO_FP16=all takes all of them (`npm run test:zoo`) and prints the table.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { runHalves } from './run-halves.ts';
import { openZooModel, worstError, ZOO_NAMES } from './zoo.ts';

/** What fp16 is held to, relative to the output's root mean square. */
const TOLERANCE = 2e-2;
/** Attention whose scores magnify every rounding, a mask of infinities, values that overflow, depthwise convolutions. */
const EVERY_RUN = ['t5_encoder', 'bert', 'efficientvit_b0', 'mobilenet_v3_small'];
/** Of two boxes with nearly the same score f16 puts another first: its rows are no sample of accuracy. */
const DETECTOR = 'ssdlite320_mobilenet_v3_large';
const NAMES = ZOO_NAMES.filter(
  (name) => name !== DETECTOR && (process.env.ZOO_FP16 === 'all' || EVERY_RUN.includes(name)),
);

const errors = new Map<string, number>();
afterAll(() => {
  for (const [name, error] of errors) console.log(`${name.padEnd(32)}${error.toExponential(1).padStart(10)}`);
});

describe('zoo in fp16', () => {
  it.each(NAMES)('%s', { timeout: 600_000 }, async (name) => {
    const model = await openZooModel(name);
    try {
      const shapes = Object.fromEntries([...model.inputs].map(([input, t]) => [input, t.shape]));
      const { openExternal } = model;
      const error = worstError(model, await runHalves(model.bytes, model.inputs, 'fp16', { shapes, openExternal }));
      errors.set(name, error);
      expect(error).toBeLessThanOrEqual(TOLERANCE);
    } finally {
      model.dispose();
    }
  });
  if (NAMES.length === 0) it.skip('../shared/zoo is absent', () => {});
});
