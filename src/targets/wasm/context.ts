/**
 * One use of an engine: an arena in the engine's memory, and arrays for inputs and outputs.
 *
 * In a shared memory the arrays are views of the arena. A memory that is not shared drops its views when it grows, so there the
 * arrays are the context's own and are copied in and out around each run.
 */
import { DTYPES, type TypedArray } from '../../core/dtype.ts';
import { ModelError } from '../../core/errors.ts';
import { elements } from '../../core/shape.ts';
import type { DeviceContext } from '../../engine/device.ts';
import { type Binding, type Engine, sizesBinding } from '../../engine/engine.ts';
import { now } from '../../host/clock.ts';
import type { EngineMemory } from './memory.ts';
import type { Team } from './team.ts';

/** `onDispose` is called once. Throws ModelError `out-of-memory`. */
export function createContext(engine: Engine, memory: EngineMemory, team: Team, onDispose: () => void): DeviceContext {
  const arena = memory.takeArena();
  const view = ({ dtype, shape, buffer }: Binding): TypedArray => {
    const base = buffer.space === 'weights' ? memory.weightsAddress : arena;
    return new DTYPES[dtype].array(memory.buffer, base + buffer.byteOffset, elements(shape));
  };
  const own = ({ dtype, shape }: Binding): TypedArray => new DTYPES[dtype].array(elements(shape));
  const arrays = memory.shared ? view : own;
  const table = sizesBinding(engine);
  const inputs = engine.inputs.map(arrays);
  const sizes = table && (arrays(table) as Int32Array);
  const written = sizes ? [...inputs, sizes] : inputs;
  const outputs = engine.outputs.map(arrays);
  let views = viewsOf(engine, memory, view);
  let disposed = false;

  const around = (work: () => void): void => {
    if (disposed) throw new ModelError('disposed', `a context of engine "${engine.name}" was used after dispose`);
    if (memory.shared) {
      work();
      return;
    }
    if (views.buffer !== memory.buffer) views = viewsOf(engine, memory, view);
    copyAll(views.inputs, written);
    work();
    copyAll(outputs, views.outputs);
    // Steps may have stored sizes that the data decide.
    sizes?.set(views.inputs[inputs.length] as Int32Array);
  };
  const run = (): void => team.run(arena);

  return {
    inputs,
    outputs,
    ...(sizes && { sizes }),
    execute: () => around(run),
    profile: (ns) =>
      around(() => {
        for (let i = 0; i < engine.steps.length; i++) {
          const start = now();
          team.step(i, arena);
          ns[i] += now() - start;
        }
      }),
    dispose: () => {
      if (disposed) return;
      disposed = true;
      memory.returnArena(arena);
      onDispose();
    },
  };
}

/** What is written before a run: the inputs, and the table of sizes where there is one. */
function inputsOf(engine: Engine): readonly Binding[] {
  const table = sizesBinding(engine);
  return table ? [...engine.inputs, table] : engine.inputs;
}

/** Where inputs and outputs lie in the memory as it is now. */
const viewsOf = (engine: Engine, memory: EngineMemory, view: (binding: Binding) => TypedArray) => ({
  buffer: memory.buffer,
  inputs: inputsOf(engine).map(view),
  outputs: engine.outputs.map(view),
});

/** Arrays of equal dtypes and lengths. */
function copyAll(to: readonly TypedArray[], from: readonly TypedArray[]): void {
  for (let i = 0; i < to.length; i++) (to[i] as Float32Array).set(from[i] as Float32Array);
}
