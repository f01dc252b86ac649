/**
 * An engine opened to run from the command line, as one runner among others.
 */
import type { TypedArray } from '../core/dtype.ts';
import { type Tensor, tensor, zeros } from '../core/tensor.ts';
import type { Engine } from '../engine/engine.ts';
import type { StepProfile } from '../runtime/context.ts';
import { loadEngine } from '../runtime/load.ts';
import { TARGETS } from '../targets/all.ts';
import type { ModelFlags } from './model-options.ts';
import type { Runner } from './runner.ts';
import type { Terminal } from './terminal.ts';

export interface EngineRunner extends Runner {
  readonly engine: Engine;
  /** Runs once over the inputs set last, timing each step. */
  profile(): readonly StepProfile[];
}

/** Opens the engine with `--threads`, or a thread a core. Dispose it, or its threads keep their memory. */
export async function openEngineRunner(engine: Engine, flags: ModelFlags, terminal: Terminal): Promise<EngineRunner> {
  const loaded = await loadEngine(engine, {
    devices: TARGETS.map((target) => target.device),
    threads: flags.threads ?? 'auto',
    onWarning: terminal.warn,
  });
  const context = loaded.createContext();
  const results: Record<string, TypedArray> = Object.fromEntries(
    engine.outputs.map(({ name, dtype, shape }) => [name, zeros(dtype, shape).data]),
  );
  let feeds: Readonly<Record<string, Tensor>> = {};
  return {
    name: `hotrod ${engine.target}`,
    engine,
    inputs: engine.inputs,
    threads: loaded.threads,
    setInputs: (inputs) => {
      feeds = Object.fromEntries(inputs);
    },
    run: () => {
      context.run(feeds, results);
    },
    outputs: () =>
      new Map(engine.outputs.map(({ name, dtype, shape }) => [name, tensor(dtype, shape, results[name].slice())])),
    profile: () => context.profile(feeds),
    dispose: () => loaded.dispose(),
  };
}
