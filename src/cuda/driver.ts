/**
 * The CUDA driver: libcuda.so.1 or nvcuda.dll, found through koffi. Nothing else of CUDA is needed.
 *
 * A call gives its status as an error that says what was being done. The driver keeps a current context a thread; whoever makes a
 * call that needs one sets it just before (`Context.enter`), since other code of the process may set another.
 */
import { type Ffi, loadFfi, type NativeArgument, type NativeFunction } from '../host/ffi.ts';
import { platformName } from '../host/processor.ts';
import { type Compiler, startCompiler } from './compiler-worker.ts';
import { CUDA_FUNCTIONS, type CudaFunctionName, isOptional } from './functions.ts';
import { CUDA_ERROR_NOT_READY, CUDA_SUCCESS, cudaError, isSticky } from './status.ts';

/** The driver as native functions; a test puts others in their place. An optional function may be absent. */
export interface CudaLibrary {
  readonly functions: Readonly<Partial<Record<CudaFunctionName, NativeFunction>>>;
  /** As the function, called on another thread: for what takes long. Absent where there is no other thread. */
  beside?(name: CudaFunctionName, ...args: NativeArgument[]): Promise<number>;
  /** A compiler that works beside this thread; undefined where there can be none. */
  startCompiler(): Compiler | undefined;
  /** Where it was found. */
  readonly file: string;
  readonly memory: Pick<Ffi, 'addressOf' | 'readBytes' | 'readString'>;
}

const LIBRARIES: Readonly<Record<string, string>> = { linux: 'libcuda.so.1', win32: 'nvcuda.dll' };

export class Driver {
  readonly library: CudaLibrary;
  /** E.g. 13000: CUDA 13.0 is the newest that the driver knows. */
  readonly version: number;
  /** Arguments of calls on other threads, so that nobody takes their memory away. */
  readonly #underWay = new Set<readonly NativeArgument[]>();
  /** True after an error from which this process's use of the GPU does not recover. */
  isLost = false;

  /** Throws ModelError where the driver has no GPU or is too old. */
  constructor(library: CudaLibrary) {
    this.library = library;
    this.call('cuInit', 'start the driver', 0);
    this.version = this.int('cuDriverGetVersion', 'read the version of the driver');
  }

  has(name: CudaFunctionName): boolean {
    return this.library.functions[name] !== undefined;
  }

  /** Calls a function. Throws ModelError `out-of-memory`, `device-lost`, `device-code` or `driver-error`: "CUDA could not {what}: …". */
  call(name: CudaFunctionName, what: string, ...args: NativeArgument[]): void {
    const status = this.status(name, ...args);
    if (status !== CUDA_SUCCESS) throw this.error(status, what);
  }

  /** Calls a function and gives its CUresult. */
  status(name: CudaFunctionName, ...args: NativeArgument[]): number {
    return (this.library.functions[name] as NativeFunction)(...args);
  }

  /** As `status`, on another thread where there is one. Arrays among the arguments are kept meanwhile. */
  async statusBeside(name: CudaFunctionName, ...args: NativeArgument[]): Promise<number> {
    if (!this.library.beside) return this.status(name, ...args);
    this.#underWay.add(args);
    try {
      return await this.library.beside(name, ...args);
    } finally {
      this.#underWay.delete(args);
    }
  }

  /** True where the work asked about is done, false where it goes on. */
  isReady(name: CudaFunctionName, what: string, ...args: NativeArgument[]): boolean {
    const status = this.status(name, ...args);
    if (status === CUDA_SUCCESS) return true;
    if (status === CUDA_ERROR_NOT_READY) return false;
    throw this.error(status, what);
  }

  error(status: number, what: string, details: readonly string[] = []): Error {
    if (isSticky(status)) this.isLost = true;
    return cudaError(status, this.describe(status), what, details);
  }

  /** The 32-bit integer that a function writes to its first argument. */
  int(name: CudaFunctionName, what: string, ...args: NativeArgument[]): number {
    const out = new Int32Array(1);
    this.call(name, what, out, ...args);
    return out[0];
  }

  /** The handle, address or size that a function writes to its first argument. */
  handle(name: CudaFunctionName, what: string, ...args: NativeArgument[]): number {
    const out = new BigUint64Array(1);
    this.call(name, what, out, ...args);
    return Number(out[0]);
  }

  /** "CUDA_ERROR_OUT_OF_MEMORY (out of memory)". */
  describe(status: number): string {
    const text = (name: CudaFunctionName): string | undefined => {
      const out = new BigUint64Array(1);
      if (this.status(name, status, out) !== CUDA_SUCCESS || out[0] === 0n) return undefined;
      return this.library.memory.readString(Number(out[0]));
    };
    const name = text('cuGetErrorName');
    return name === undefined ? `CUresult ${status}` : `${name} (${text('cuGetErrorString') ?? status})`;
  }
}

let finding: Promise<Driver | string> | undefined;

/** The driver, or the reason why there is none here. Asked once. */
export function findDriver(): Promise<Driver | string> {
  finding ??= openDriver();
  return finding;
}

async function openDriver(): Promise<Driver | string> {
  const file = LIBRARIES[platformName() ?? ''];
  if (file === undefined) return `NVIDIA has no driver for ${platformName() ?? 'this host'}`;
  const ffi = await loadFfi();
  if (typeof ffi === 'string') return ffi;
  const library = loadLibrary(ffi, file);
  if (typeof library === 'string') return library;
  try {
    // Takes a tenth of a second or two, which others may use; the driver is told again below, and answers at once.
    await library.beside?.('cuInit', 0);
    return new Driver(library);
  } catch (cause) {
    return cause instanceof Error ? cause.message : String(cause);
  }
}

function loadLibrary(ffi: Ffi, file: string): CudaLibrary | string {
  const functions: Partial<Record<CudaFunctionName, NativeFunction>> = {};
  for (const name of Object.keys(CUDA_FUNCTIONS) as CudaFunctionName[]) {
    try {
      functions[name] = ffi.symbol(file, name, 'int', CUDA_FUNCTIONS[name].args);
    } catch (cause) {
      if (name === 'cuInit') return `there is no NVIDIA driver here: ${(cause as Error).message} (${file})`;
      if (!isOptional(name))
        return `the NVIDIA driver is too old: it has no ${name}; CUDA 11.4 (driver 470) is the oldest`;
    }
  }
  const beside = (name: CudaFunctionName, ...args: NativeArgument[]): Promise<number> =>
    ffi.asyncSymbol(file, name, 'int', CUDA_FUNCTIONS[name].args)(...args);
  return { functions, file, memory: ffi, beside, startCompiler: () => startCompiler(file) };
}
