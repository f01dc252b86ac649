/**
 * An engine opened to run from the command line, as one runner among others.
 */
import { type Tensor, tensor } from '../core/tensor.ts';
import type { Engine } from '../engine/engine.ts';
import { chooseTarget } from '../targets/all.ts';
import type { ModelFlags } from './model-options.ts';
import type { Runner } from './runner.ts';
import type { Terminal } from './terminal.ts';

export interface EngineRunner extends Runner {
  readonly engine: Engine;
  /** Runs once, adding each step's nanoseconds to `ns`. */
  profile(ns: Float64Array): void;
}

/** Opens the engine with `--threads`, or a thread a core. Dispose it, or its threads keep the process alive. */
export async function openEngineRunner(engine: Engine, flags: ModelFlags, terminal: Terminal): Promise<EngineRunner> {
  const { device } = await chooseTarget(engine.target);
  const open = await device.open(engine, { threads: flags.threads ?? 'auto', onWarning: terminal.warn });
  const context = open.createContext();
  return {
    name: `hotrod ${engine.target}`,
    engine,
    inputs: engine.inputs,
    threads: open.threads,
    setInputs: (inputs) => {
      for (const [i, { name }] of engine.inputs.entries()) {
        context.inputs[i].set((inputs.get(name) as Tensor).data as never);
      }
    },
    run: () => context.execute(),
    outputs: () =>
      new Map(
        engine.outputs.map(({ name, dtype, shape }, i) => [name, tensor(dtype, shape, context.outputs[i].slice())]),
      ),
    profile: (ns) => context.profile(ns),
    dispose: () => {
      context.dispose();
      open.dispose();
    },
  };
}
