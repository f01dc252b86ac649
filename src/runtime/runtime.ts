/**
 * The runtime entry (`hotrod/runtime`): loads an engine and runs it, in Node and in browsers. Imports core, engine, host and devices;
 * never the compiler.
 *
 *     const engine = await load(bytes);
 *     const context = engine.createContext();
 *     const { probabilities } = context.run({ image });
 */
import type { Engine } from '../engine/engine.ts';
import { wasmDevice } from '../targets/wasm/device.ts';
import { type LoadOptions, loadEngine, type RuntimeEngine } from './load.ts';

export type { DType, TypedArray } from '../core/dtype.ts';
export { Bug, ERROR_CODES, type ErrorCode, ModelError } from '../core/errors.ts';
export type { Tensor } from '../core/tensor.ts';
export type { Device, DeviceInfo } from '../engine/device.ts';
export type { Engine, TargetName } from '../engine/engine.ts';
export type { ExecutionContext, Float16ArrayLike, IoInfo, RuntimeArray, StepProfile } from './context.ts';
export { type LoadOptions, loadEngine, type RuntimeEngine } from './load.ts';

/** Loads an engine file (or an engine) on the devices of this entry: wasm. Throws as `loadEngine` does. */
export const load = (source: Uint8Array | Engine, options: LoadOptions = {}): Promise<RuntimeEngine> =>
  loadEngine(source, { ...options, devices: [wasmDevice] });
