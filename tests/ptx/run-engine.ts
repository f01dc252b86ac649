/**
 * Target cuda as a runner of graphs where there is no GPU: built for an architecture, its launches interpreted one after the other over
 * an arena that begins as NaN.
 */
import { build } from '../../src/build.ts';
import type { BuildOptions } from '../../src/build-options.ts';
import { DTYPES } from '../../src/core/dtype.ts';
import { elements } from '../../src/core/shape.ts';
import type { Tensor } from '../../src/core/tensor.ts';
import type { Device } from '../../src/engine/device.ts';
import type { Engine } from '../../src/engine/engine.ts';
import type { Graph } from '../../src/graph/ir.ts';
import { loadEngine } from '../../src/runtime/load.ts';
import { type Chip, emitProgram } from '../../src/targets/cuda/program.ts';
import { fakeDevice } from '../cuda/fake-device.ts';
import { argumentIn } from './arguments.ts';
import { PtxProgram } from './machine.ts';
import { GlobalMemory } from './memory.ts';

/** The engine's outputs by name. */
export function interpretEngine(engine: Engine, chip: Chip, inputs: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const program = emitProgram(engine, chip);
  const memory = new GlobalMemory();
  const arena = memory.alloc('arena', engine.arenaBytes);
  const weights = memory.alloc('weights', engine.weightBytes, true);
  const valueIn = argumentIn({
    buffer: ({ space, byteOffset }) => (space === 'arena' ? arena : weights) + byteOffset,
    scratch: memory.alloc('scratch', new Uint8Array(program.scratchBytes)),
  });
  const modules = program.modules.map((text) => new PtxProgram(text));
  for (const { name, buffer } of engine.inputs) {
    const { data } = inputs.get(name) as Tensor;
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    memory.bytesAt(arena + buffer.byteOffset, data.byteLength).set(bytes);
  }
  // Steps that share a launch may not touch what the others write.
  for (const { module, args, beside, ...launch } of program.launches)
    modules[module].run(memory, { ...launch, args: args.map(valueIn), concurrent: beside !== undefined });
  return new Map(
    engine.outputs.map(({ name, dtype, shape, buffer }) => {
      const count = elements(shape);
      const bytes = memory.bytesAt(arena + buffer.byteOffset, count * DTYPES[dtype].bytes).slice();
      return [name, { dtype, shape, data: new DTYPES[dtype].array(bytes.buffer, 0, count) }];
    }),
  );
}

/** Engines with open sizes need a runtime around them: sizes go in and come out. */
export async function runOpened(
  device: Device,
  engine: Engine,
  inputs: ReadonlyMap<string, Tensor>,
): Promise<Map<string, Tensor>> {
  const loaded = await loadEngine(engine, { devices: [device] });
  const context = loaded.createContext();
  const results = context.run(Object.fromEntries(engine.inputs.map(({ name }) => [name, inputs.get(name) as Tensor])));
  const outputs = engine.outputs.map(({ name, dtype }): [string, Tensor] => [
    name,
    { dtype, shape: context.shapeOf(name), data: results[name] },
  ]);
  loaded.dispose();
  return new Map(outputs);
}

/** Runs a graph as an engine for the chip would. */
export const runInterpreted =
  (chip: Chip, options: BuildOptions = {}) =>
  async (graph: Graph, inputs: ReadonlyMap<string, Tensor>): Promise<Map<string, Tensor>> => {
    const gpuArch = `sm_${chip.computeCapability}`;
    const { engine } = await build(graph, { target: 'cuda', gpuArch, verify: true, ...options });
    return engine.sizes
      ? runOpened(fakeDevice(chip.computeCapability).device, engine, inputs)
      : interpretEngine(engine, chip, inputs);
  };
