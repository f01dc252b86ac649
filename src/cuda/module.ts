/**
 * Modules, code loaded on a GPU, and their functions.
 */
import { ModelError } from '../core/errors.ts';
import type { Context } from './context.ts';
import { type CompileOptions, cString, jitOptions } from './jit.ts';

/** cuda.h, CUfunction_attribute. */
const FUNCTION_ATTRIBUTES = {
  maxThreadsPerBlock: 0,
  staticSharedBytes: 1,
  constantBytes: 2,
  localBytes: 3,
  registers: 4,
  ptxVersion: 5,
  binaryVersion: 6,
  maxDynamicSharedBytes: 8,
} as const;
export type FunctionAttributes = { readonly [A in keyof typeof FUNCTION_ATTRIBUTES]: number };

export class Module {
  readonly context: Context;
  readonly handle: number;
  readonly #free: () => void;

  /**
   * Loads PTX text, which the driver compiles, or a cubin for this chip. Throws ModelError `device-code` with the compiler's log, or
   * `out-of-memory`.
   */
  constructor(context: Context, code: string | Uint8Array, options: CompileOptions = {}) {
    this.context = context;
    const driver = context.enter();
    if (typeof code !== 'string') checkImage(code);
    const jit = jitOptions(driver.library.memory, options);
    const image = typeof code === 'string' ? cString(code) : code;
    const out = new BigUint64Array(1);
    const status = driver.status('cuModuleLoadDataEx', out, image, jit.count, jit.keys, jit.values);
    if (status !== 0) throw driver.error(status, `load code on GPU ${context.device.ordinal}`, jit.log().errors);
    const handle = Number(out[0]);
    this.handle = handle;
    this.#free = context.own(this, () => void driver.status('cuModuleUnload', handle));
  }

  /** The kernel of that name. Throws ModelError `driver-error` where there is none. */
  function(name: string): CudaFunction {
    const handle = this.context
      .enter()
      .handle('cuModuleGetFunction', `find kernel ${name}`, this.handle, cString(name));
    return new CudaFunction(this, name, handle);
  }

  /** Where a variable of the module lies, and how many bytes it has. */
  global(name: string): { readonly address: number; readonly bytes: number } {
    const [address, bytes] = [new BigUint64Array(1), new BigUint64Array(1)];
    this.context.call('cuModuleGetGlobal_v2', `find variable ${name}`, address, bytes, this.handle, cString(name));
    return { address: Number(address[0]), bytes: Number(bytes[0]) };
  }

  dispose(): void {
    this.#free();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * The driver trusts what a cubin says of itself, and takes the process down where it lies beyond the end: a file cut short must not
 * reach it. ELF64: section headers from e_shoff (byte 40), e_shnum (60) of e_shentsize (58) bytes.
 */
function checkImage(image: Uint8Array): void {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const isElf = image.length >= 64 && view.getUint32(0) === 0x7f454c46 && image[4] === 2;
  const end = isElf ? Number(view.getBigUint64(40, true)) + view.getUint16(58, true) * view.getUint16(60, true) : 0;
  if (isElf && end <= image.length) return;
  throw new ModelError('device-code', isElf ? 'the cubin is cut short' : 'the bytes are not a cubin', {
    hint: 'PTX is given as a string, a cubin as its whole file',
  });
}

/** A kernel of a module, which it keeps loaded. */
export class CudaFunction {
  readonly module: Module;
  readonly name: string;
  readonly handle: number;

  constructor(module: Module, name: string, handle: number) {
    this.module = module;
    this.name = name;
    this.handle = handle;
  }

  attributes(): FunctionAttributes {
    const driver = this.module.context.enter();
    return Object.fromEntries(
      Object.entries(FUNCTION_ATTRIBUTES).map(([name, number]) => [
        name,
        driver.int('cuFuncGetAttribute', `read ${name} of kernel ${this.name}`, number, this.handle),
      ]),
    ) as FunctionAttributes;
  }

  /** Lets launches ask for so much dynamic shared memory; needed above 48 KiB. */
  setSharedBytes(bytes: number): void {
    const what = `give kernel ${this.name} ${bytes} bytes of shared memory`;
    this.module.context.call('cuFuncSetAttribute', what, this.handle, FUNCTION_ATTRIBUTES.maxDynamicSharedBytes, bytes);
  }

  /** Blocks of that many threads that a multiprocessor can hold at once. */
  occupancy(threads: number, sharedBytes = 0): number {
    const what = `ask how many blocks of kernel ${this.name} fit`;
    return this.module.context
      .enter()
      .int('cuOccupancyMaxActiveBlocksPerMultiprocessor', what, this.handle, threads, sharedBytes);
  }
}
