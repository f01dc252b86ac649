/**
 * The entry `hotrod/cuda`: the CUDA driver in TypeScript, with nothing installed but the driver and koffi. Imports core and host only.
 *
 *     const driver = await openCuda();
 *     using context = new Context(driver, listDevices(driver)[0]);
 *     const saxpy = new Module(context, ptx).function('saxpy');
 *     using stream = new Stream(context);
 *     using x = new DeviceBuffer(context, 4 * n);
 *     stream.upload(x, new Float32Array(n));
 *     new Launch(saxpy, { grid: [blocks, 1, 1], block: [256, 1, 1] }, [x, …, { type: 'u32', value: n }]).enqueue(stream);
 *     stream.synchronize();
 */
import { ModelError } from '../core/errors.ts';
import { type Driver, findDriver } from './driver.ts';

export { ModelError } from '../core/errors.ts';
export { type Compiled, compileAll, compilePtx } from './compile.ts';
export { Context, type MemoryInfo } from './context.ts';
export { type CudaDevice, type DeviceAttributes, listDevices } from './device.ts';
export type { CudaLibrary, Driver } from './driver.ts';
export { Graph } from './graph.ts';
export type { CompileOptions } from './jit.ts';
export { type Dim3, type KernelArgument, Launch, type LaunchOptions } from './launch.ts';
export { DeviceBuffer, PinnedBuffer } from './memory.ts';
export { CudaFunction, type FunctionAttributes, Module } from './module.ts';
export { Event, Stream } from './stream.ts';

/** The driver of this machine. Throws ModelError `target-unavailable` with the reason where there is none. */
export async function openCuda(): Promise<Driver> {
  const driver = await findDriver();
  if (typeof driver === 'string') throw new ModelError('target-unavailable', driver);
  return driver;
}
