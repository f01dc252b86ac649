/**
 * A device without a machine, and an engine for it: each output's elements are the elements of the input of the same number, moved
 * unchanged. It counts what is done to it.
 */
import { DTYPES, type DType, type TypedArray } from '../src/core/dtype.ts';
import { elements, type StaticShape } from '../src/core/shape.ts';
import type { Device } from '../src/engine/device.ts';
import type { Binding, Engine } from '../src/engine/engine.ts';

const binding = (name: string, dtype: DType, shape: StaticShape): Binding => ({
  name,
  dtype,
  shape,
  buffer: { space: 'arena', byteOffset: 0, bytes: elements(shape) * DTYPES[dtype].bytes },
});

/** Inputs of these types, and an output `name_out` for each. */
export const copyEngine = (
  io: readonly (readonly [string, DType, StaticShape])[],
  machine: readonly string[] = [],
): Engine => ({
  name: 'copy',
  target: 'wasm',
  builtBy: 'test',
  machine,
  precision: 'fp32',
  inputs: io.map((b) => binding(...b)),
  outputs: io.map(([name, dtype, shape]) => binding(`${name}_out`, dtype, shape)),
  kernels: [{ name: 'move_f32', form: { kind: 'move' }, buffers: [], axes: [], body: [] }],
  steps: [
    {
      kernel: 0,
      tactic: { template: 'generated', params: {}, predictedNs: 1 },
      buffers: [],
      values: [],
      loc: ['/copy'],
      tiles: 1,
      maxThreads: 1,
      barrier: false,
      flops: 0,
      bytesMoved: 0,
    },
  ],
  weights: [],
  weightBytes: new Uint8Array(0),
  arenaBytes: 0,
  code: [],
});

export interface FakeDevice extends Device {
  readonly counts: { opened: number; disposed: number; contexts: number; executed: number };
}

/** What was put into streams: addresses. */
export type FakeStreams = { from: number[]; to: (number | undefined)[] }[];

export function fakeDevice(features: readonly string[] = [], warning?: string, streams?: FakeStreams): FakeDevice {
  const counts = { opened: 0, disposed: 0, contexts: 0, executed: 0 };
  return {
    counts,
    target: 'wasm',
    probe: async () => ({ target: 'wasm', name: 'fake', available: true, features }),
    open: async (engine, options) => {
      counts.opened++;
      if (warning) options.onWarning(warning);
      return {
        threads: options.threads === 'auto' ? 2 : options.threads,
        features,
        memoryBytes: () => 100 * counts.contexts,
        createContext: () => {
          counts.contexts++;
          const make = ({ dtype, shape }: Binding): TypedArray => new DTYPES[dtype].array(elements(shape));
          const [inputs, outputs] = [engine.inputs.map(make), engine.outputs.map(make)];
          const execute = (): void => {
            counts.executed++;
            for (let i = 0; i < inputs.length; i++) outputs[i].set(inputs[i] as never);
          };
          return {
            inputs,
            outputs,
            execute,
            ...(streams && {
              enqueue: (_, from, to) => {
                counts.executed++;
                streams.push({ from: from.map((m) => m.address), to: to.map((m) => m?.address) });
              },
              phases: (count: number) => {
                const each = (ns: number): Float64Array => new Float64Array(count).fill(ns);
                return { enqueueNs: each(9e3), h2dNs: each(2e4), gpuNs: each(1e4), d2hNs: each(1e3) };
              },
            }),
            profile: (ns) => {
              execute();
              ns[0] += 5;
            },
            dispose: () => {
              counts.contexts--;
            },
          };
        },
        dispose: () => {
          counts.disposed++;
        },
      };
    },
  };
}
