/**
 * One use of an engine: an arena of its own, whose inputs and outputs JavaScript sees as typed arrays.
 *
 * The arrays are views of the arena itself. They stay valid, though of no use, after dispose: the arena is freed when nobody
 * has them any more.
 */
import { DTYPES, type TypedArray } from '../../core/dtype.ts';
import { ModelError } from '../../core/errors.ts';
import { elements } from '../../core/shape.ts';
import type { DeviceContext } from '../../engine/device.ts';
import { type Binding, type Engine, sizesBinding } from '../../engine/engine.ts';
import { now } from '../../host/clock.ts';
import type { NativeBlock } from './memory.ts';
import type { Team } from './team.ts';

/** `onDispose` is called once. */
export function createContext(
  engine: Engine,
  team: Team,
  weights: NativeBlock,
  arena: NativeBlock,
  onDispose: () => void,
): DeviceContext {
  const view = ({ dtype, shape, buffer }: Binding): TypedArray => {
    const { bytes } = buffer.space === 'weights' ? weights : arena;
    return new DTYPES[dtype].array(bytes.buffer, bytes.byteOffset + buffer.byteOffset, elements(shape));
  };
  const sizes = sizesBinding(engine);
  let open: NativeBlock | undefined = arena;
  const memory = (): NativeBlock => {
    if (open) return open;
    throw new ModelError('disposed', `a context of engine "${engine.name}" was used after dispose`);
  };
  return {
    inputs: engine.inputs.map(view),
    outputs: engine.outputs.map(view),
    ...(sizes && { sizes: view(sizes) as Int32Array }),
    execute: () => team.run(weights, memory()),
    profile: (ns) => {
      const own = memory();
      for (let i = 0; i < engine.steps.length; i++) {
        const start = now();
        team.step(i, weights, own);
        ns[i] += now() - start;
      }
    },
    dispose: () => {
      if (!open) return;
      open = undefined;
      onDispose();
    },
  };
}
