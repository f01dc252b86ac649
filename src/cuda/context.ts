/**
 * A GPU in use by this process: its primary context (the one that other libraries of the process share), and all that was made in it.
 *
 * Whatever is made here is freed once: by its own dispose, with the context, or when nobody has it any more. Order does not matter
 * to the caller: a context frees what is left in it, the youngest first, before it lets go of the GPU.
 */
import { ModelError } from '../core/errors.ts';
import type { NativeArgument } from '../host/ffi.ts';
import type { CudaDevice } from './device.ts';
import type { Driver } from './driver.ts';
import type { CudaFunctionName } from './functions.ts';
import { CUDA_SUCCESS } from './status.ts';

export interface MemoryInfo {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** Frees what was never disposed of. Callbacks hold what is to be freed, never its owner. */
const forgotten = new FinalizationRegistry<() => void>((free) => free());

export class Context {
  readonly driver: Driver;
  readonly device: CudaDevice;
  readonly handle: number;
  readonly #owned = new Set<() => void>();
  readonly #release: () => void;
  #isOpen = true;

  /** Throws ModelError `out-of-memory`, `device-lost` or `driver-error`. */
  constructor(driver: Driver, device: CudaDevice) {
    this.driver = driver;
    this.device = device;
    this.handle = driver.handle(
      'cuDevicePrimaryCtxRetain',
      `use GPU ${device.ordinal} (${device.name})`,
      device.handle,
    );
    const owned = this.#owned;
    const token = {};
    this.#release = () => {
      forgotten.unregister(token);
      for (const free of [...owned].reverse()) free();
      driver.status('cuDevicePrimaryCtxRelease_v2', device.handle);
    };
    forgotten.register(this, this.#release, token);
  }

  /**
   * Begins to use a GPU, on another thread where there is one: a context that is made once this is done need not wait for it. What it
   * resolves to ends that use. What the driver refuses shows when a context is made.
   */
  static async begin(driver: Driver, device: CudaDevice): Promise<() => void> {
    const out = new BigUint64Array(new ArrayBuffer(8));
    const status = await driver.statusBeside('cuDevicePrimaryCtxRetain', out, device.handle);
    return () => {
      if (status === CUDA_SUCCESS) driver.status('cuDevicePrimaryCtxRelease_v2', device.handle);
    };
  }

  /** Makes this the context of the calls that follow. Throws ModelError `disposed`. */
  enter(): Driver {
    if (!this.#isOpen) throw new ModelError('disposed', `GPU ${this.device.ordinal} was used after dispose`);
    this.driver.call('cuCtxSetCurrent', `use GPU ${this.device.ordinal}`, this.handle);
    return this.driver;
  }

  /** As `Driver.call`, in this context. */
  call(name: CudaFunctionName, what: string, ...args: NativeArgument[]): void {
    this.enter().call(name, what, ...args);
  }

  /** Memory of the whole GPU, as all its users leave it. */
  memoryInfo(): MemoryInfo {
    const [free, total] = [new BigUint64Array(1), new BigUint64Array(1)];
    this.call('cuMemGetInfo_v2', 'ask for the free memory', free, total);
    return { freeBytes: Number(free[0]), totalBytes: Number(total[0]) };
  }

  /** Returns when all work in the context is done. */
  synchronize(): void {
    this.call('cuCtxSynchronize', 'wait for the GPU');
  }

  /**
   * Ties `owner` to what `free` frees, which is then called once, in this context; the result does it now. `free` must not refer to
   * the owner. What the driver answers is left aside: after a fault it frees nothing, and takes all with the context.
   */
  own(owner: object, free: (driver: Driver) => void): () => void {
    const [driver, owned, handle, token] = [this.driver, this.#owned, this.handle, {}];
    const dispose = (): void => {
      if (!owned.delete(dispose)) return;
      forgotten.unregister(token);
      if (driver.status('cuCtxSetCurrent', handle) === CUDA_SUCCESS) free(driver);
    };
    owned.add(dispose);
    forgotten.register(owner, dispose, token);
    return dispose;
  }

  /** Frees all that was made in the context, and lets go of the GPU. Calling twice is harmless. */
  dispose(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#release();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
