/**
 * The runtime entry (`hotrod/runtime`): loads an engine and runs it, in Node and in browsers. Imports core, engine, host and devices;
 * never the compiler. Devices that make machine code are loaded when an engine asks for them.
 *
 *     const engine = await load(bytes);
 *     const context = engine.createContext();
 *     const { probabilities } = context.run({ image });
 */
import type { Device } from '../engine/device.ts';
import type { Engine, TargetName } from '../engine/engine.ts';
import { mapOrReadFile } from '../host/mapped-file.ts';
import { readSharedFile } from '../host/shared-file.ts';
import { wasmDevice } from '../targets/wasm/device.ts';
import { type LoadOptions, loadEngine, type RuntimeEngine } from './load.ts';

export type { DType, TypedArray } from '../core/dtype.ts';
export { Bug, ERROR_CODES, type ErrorCode, ModelError } from '../core/errors.ts';
export type { Tensor } from '../core/tensor.ts';
export type { Device, DeviceInfo, DeviceMemory, DeviceStream, PhaseTimes } from '../engine/device.ts';
export type { Engine, TargetName } from '../engine/engine.ts';
export type { ExecutionContext, Float16ArrayLike, IoInfo, RuntimeArray, StepProfile } from './context.ts';
export { type LoadOptions, loadEngine, type RuntimeEngine } from './load.ts';

const lazyDevice = (target: TargetName, device: () => Promise<Device>): Device => ({
  target,
  probe: async () => (await device()).probe(),
  recall: async (engine, options) => (await device()).recall?.(engine, options),
  open: async (engine, options) => (await device()).open(engine, options),
});

const DEVICES: readonly Device[] = [
  lazyDevice('cuda', async () => (await import('../targets/cuda/device.ts')).cudaDevice),
  lazyDevice('x64', async () => (await import('../targets/x64/device.ts')).x64Device),
  wasmDevice,
];

/** How an engine file is loaded by its path. */
export interface LoadFileOptions extends LoadOptions {
  /** False: the file is read at once and may change afterwards, at the price of memory of its own; true by default. */
  readonly map?: boolean;
}

/**
 * Loads an engine file by its path, in Node. On Linux the file is mapped: device x64 uses weights where they lie in the system's cache of it,
 * which all processes share. Then it must not be written into or cut short while it is loaded; replacing it by another file is harmless, and
 * is what `hotrod build` does. Elsewhere, and with `map: false`, it is read once into memory that device x64 uses as it is. Either way all
 * of it is hashed, but for weights that an earlier load of the file has hashed, where nobody has written to the file since (`cache`). Throws as `load` does, and as Node does where the file cannot be read.
 */
export const loadFile = async (
  path: string,
  { map = true, ...options }: LoadFileOptions = {},
): Promise<RuntimeEngine> => load(map ? await mapOrReadFile(path) : readSharedFile(path), options);

/** Loads an engine file (or an engine) on the devices of this entry: cuda, x64 and wasm. Throws as `loadEngine` does. */
export const load = (source: Uint8Array | Engine, options: LoadOptions = {}): Promise<RuntimeEngine> =>
  loadEngine(source, { ...options, devices: DEVICES });
