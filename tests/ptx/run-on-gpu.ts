/**
 * Target cuda as a runner of graphs on the GPU here, in one context for all of them: where thousands of small graphs are run, opening an
 * engine each would take longer than the rest together. Code is compiled by the driver in this thread and kept nowhere.
 */
import { build } from '../../src/build.ts';
import { DTYPES } from '../../src/core/dtype.ts';
import { elements } from '../../src/core/shape.ts';
import type { Tensor } from '../../src/core/tensor.ts';
import type { Context } from '../../src/cuda/context.ts';
import { DeviceBuffer } from '../../src/cuda/memory.ts';
import { Module } from '../../src/cuda/module.ts';
import { Stream } from '../../src/cuda/stream.ts';
import type { Engine } from '../../src/engine/engine.ts';
import type { Graph } from '../../src/graph/ir.ts';
import { cudaDevice } from '../../src/targets/cuda/device.ts';
import { type Chip, emitProgram } from '../../src/targets/cuda/program.ts';
import { GPU, gpuHere, launchHere } from '../cuda/gpu-here.ts';
import { argumentIn } from './arguments.ts';
import { runOpened } from './run-engine.ts';

/** The engine's outputs by name. Its arena begins as NaN; launches overlap, as they do in a context. */
function runEngine(gpu: Context, chip: Chip, engine: Engine, inputs: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const program = emitProgram(engine, chip);
  const spaces = [engine.arenaBytes, engine.weightBytes.byteLength, program.scratchBytes];
  const [arena, weights, scratch] = spaces.map((bytes) => new DeviceBuffer(gpu, Math.max(1, bytes)));
  const modules = program.modules.map((text) => new Module(gpu, text));
  const stream = new Stream(gpu);
  try {
    stream.fill(arena.address, 0xff, arena.byteLength);
    stream.fill(scratch.address, 0, scratch.byteLength);
    stream.upload(weights, engine.weightBytes);
    for (const { name, buffer } of engine.inputs) stream.upload(arena, inputs.get(name)!.data, buffer.byteOffset);
    const valueIn = argumentIn({
      buffer: ({ space, byteOffset }) => (space === 'arena' ? arena : weights).address + byteOffset,
      scratch: scratch.address,
    });
    for (const { module, entry, args, step: _, beside: __, ...launch } of program.launches) {
      const { programmatic } = program;
      // A u32 is the lower half of its slot.
      const values = args.map((arg) => ({ address: valueIn(arg) }));
      launchHere({ gpu, stream }, modules[module].function(entry), { ...launch, programmatic }, values);
    }
    const outputs = engine.outputs.map(({ name, dtype, shape, buffer }): [string, Tensor] => {
      const data = new DTYPES[dtype].array(elements(shape));
      if (data.byteLength > 0) stream.download(data, arena, buffer.byteOffset);
      return [name, { dtype, shape, data }];
    });
    stream.synchronize();
    return new Map(outputs);
  } finally {
    stream.dispose();
    for (const thing of [...modules, arena, weights, scratch]) thing.dispose();
  }
}

/** Runs a graph as an engine for the GPU here would. Engines with open sizes need a runtime around them: sizes go in and come out. */
export async function runOnGpu(graph: Graph, inputs: ReadonlyMap<string, Tensor>): Promise<Map<string, Tensor>> {
  const { gpu } = gpuHere();
  const { engine } = await build(graph, { target: 'cuda', verify: true });
  return engine.sizes ? runOpened(cudaDevice, engine, inputs) : runEngine(gpu, GPU!.chip, engine, inputs);
}
