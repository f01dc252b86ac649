/**
 * An engine opened to run from the command line, as one runner among others.
 */
import type { TypedArray } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { elements } from '../core/shape.ts';
import { type Tensor, tensor, zeros } from '../core/tensor.ts';
import type { Device, PhaseTimes } from '../engine/device.ts';
import type { Binding, Engine, TargetName } from '../engine/engine.ts';
import type { StepProfile } from '../runtime/context.ts';
import { loadEngine } from '../runtime/load.ts';
import { wasmDevice } from '../targets/wasm/device.ts';
import type { ModelFlags } from './model-options.ts';
import type { Shapes } from './options.ts';
import type { NamedType, Runner } from './runner.ts';
import type { StreamReport } from './streams.ts';
import type { Terminal } from './terminal.ts';

export interface EngineRunner extends Runner {
  readonly engine: Engine;
  setInputs(inputs: ReadonlyMap<string, Tensor>): void;
  /** Runs once over the inputs set last, timing each step. */
  profile(): readonly StepProfile[];
  /** Times copies and kernels of `count` inferences by themselves; undefined where the target cannot tell them apart. */
  phases(count: number): PhaseTimes | undefined;
  /** Throughput with that many inferences in flight. Throws ModelError `option-invalid` where the target has no streams. */
  streams(count: number, durationMs: number): Promise<StreamReport>;
}

/**
 * Opens the engine with `--threads`, or a thread a core, and inputs of these shapes where it leaves sizes open. Dispose it, or its
 * threads keep their memory.
 */
export async function openEngineRunner(
  engine: Engine,
  flags: ModelFlags,
  terminal: Terminal,
  shapes: Shapes = {},
): Promise<EngineRunner> {
  const loaded = await loadEngine(engine, {
    devices: await devicesFor(engine.target),
    threads: flags.threads ?? 'auto',
    trusted: flags.trusted === true,
    onWarning: terminal.warn,
  });
  const context = loaded.createContext();
  for (const [name, shape] of Object.entries(shapes)) context.setShape(name, shape);
  const typesOf = (bindings: readonly Binding[]): NamedType[] =>
    bindings.map(({ name, dtype }) => ({ name, dtype, shape: context.shapeOf(name) }));
  // Where the context's own arrays stay as they are, a run is what the network takes, and no copy beside it.
  const resultsNow = (): Record<string, TypedArray> =>
    Object.fromEntries(
      engine.outputs.map(({ name, dtype, shape: largest }) => {
        const shape = context.isDecidedByData(name) ? largest : context.shapeOf(name);
        return [name, context.keepsInputs ? context.outputArray(name) : zeros(dtype, shape).data];
      }),
    );
  let results = resultsNow();
  let given: ReadonlyMap<string, Tensor> = new Map();
  let feeds: Readonly<Record<string, Tensor | TypedArray>> = {};
  return {
    name: `hotrod ${engine.target}`,
    engine,
    inputs: typesOf(engine.inputs),
    threads: loaded.threads,
    setInputs: (inputs) => {
      given = inputs;
      feeds = Object.fromEntries(inputs);
      for (const [name, { shape }] of inputs) context.setShape(name, shape);
      results = resultsNow();
      if (!context.keepsInputs) return;
      context.run(feeds);
      feeds = Object.fromEntries([...inputs.keys()].map((name) => [name, context.inputArray(name)]));
    },
    run: () => {
      context.run(feeds, results);
    },
    outputs: () =>
      new Map(
        typesOf(engine.outputs).map(({ name, dtype, shape }) => [
          name,
          tensor(dtype, shape, results[name].slice(0, elements(shape))),
        ]),
      ),
    profile: () => context.profile(feeds),
    phases: (count) => context.phases(feeds, count),
    streams: async (count, durationMs) => {
      if (engine.target !== 'cuda')
        throw new ModelError('option-invalid', `target ${engine.target} has no streams`, {
          hint: 'leave --streams out',
        });
      const { measureStreams } = await import('./streams.ts');
      return measureStreams(loaded, given, count, durationMs);
    },
    dispose: () => loaded.dispose(),
  };
}

/** Devices that may open an engine of the target. One is at hand; asking all targets would load what only building needs. */
async function devicesFor(target: TargetName): Promise<readonly Device[]> {
  if (target === wasmDevice.target) return [wasmDevice];
  if (target === 'x64') return [(await import('../targets/x64/device.ts')).x64Device];
  const { TARGETS } = await import('../targets/all.ts');
  return TARGETS.map(({ device }) => device);
}
