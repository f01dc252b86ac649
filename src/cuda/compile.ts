/**
 * PTX text to a cubin, machine code of one chip, by the compiler inside the driver.
 *
 * Many texts are compiled at once: a link belongs to the context in which it was made, here, and the call that does the work may then be
 * made on any thread, so it runs on koffi's. (Threads of our own would each need the library and a context, and take 0.1 s to start.)
 */
import { coreCount } from '../host/processor.ts';
import type { Context } from './context.ts';
import type { Driver } from './driver.ts';
import { type CompileOptions, cString, type JitOptions, jitOptions } from './jit.ts';

/** cuda.h, CUjitInputType. */
const INPUT_PTX = 1;
const CUDA_ERROR_INVALID_CONTEXT = 201;

export interface Compiled {
  readonly cubin: Uint8Array<ArrayBuffer>;
  /** What the compiler had to say; much with `verbose`. */
  readonly log: readonly string[];
}

/** Compiles on this thread. Throws ModelError `device-code` with the compiler's log where the text is not PTX for this GPU. */
export function compilePtx(context: Context, ptx: string, options: CompileOptions = {}): Compiled {
  const link = new Link(context.enter(), ptx, options);
  try {
    link.add();
    return link.complete();
  } finally {
    link.destroy();
  }
}

/**
 * Compiles all texts, as many at once as there are cores, off this thread; in the order given. Throws as `compilePtx`, for the first of
 * the texts that fail.
 */
export async function compileAll(
  context: Context,
  ptxs: readonly string[],
  options: CompileOptions = {},
): Promise<readonly Compiled[]> {
  const results = new Array<Compiled>(ptxs.length);
  const failures: { readonly index: number; readonly cause: unknown }[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let index = next++; index < ptxs.length && failures.length === 0; index = next++) {
      try {
        results[index] = await compileAside(context, ptxs[index], options);
      } catch (cause) {
        failures.push({ index, cause });
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(coreCount(), ptxs.length) }, work));
  if (failures.length > 0) throw failures.sort((a, b) => a.index - b.index)[0].cause;
  return results;
}

async function compileAside(context: Context, ptx: string, options: CompileOptions): Promise<Compiled> {
  const link = new Link(context.enter(), ptx, options);
  try {
    await link.addAsync(context);
    context.enter();
    return link.complete();
  } finally {
    link.destroy();
  }
}

class Link {
  readonly #driver: Driver;
  readonly #handle: number;
  readonly #jit: JitOptions;
  readonly #arguments: readonly [number, number, Uint8Array, number, Uint8Array, number, number, number];

  constructor(driver: Driver, ptx: string, options: CompileOptions) {
    this.#driver = driver;
    this.#jit = jitOptions(driver.library.memory, options);
    const { count, keys, values } = this.#jit;
    const out = new BigUint64Array(1);
    driver.call('cuLinkCreate_v2', 'compile PTX', count, keys, values, out);
    this.#handle = Number(out[0]);
    const text = cString(ptx);
    this.#arguments = [this.#handle, INPUT_PTX, text, text.length, cString('kernels.ptx'), 0, 0, 0];
  }

  add(): void {
    this.#check(this.#driver.status('cuLinkAddData_v2', ...this.#arguments));
  }

  async addAsync(context: Context): Promise<void> {
    const status = await this.#driver.library.linkAddDataAsync(...this.#arguments);
    if (status !== CUDA_ERROR_INVALID_CONTEXT) return this.#check(status);
    // A driver that wants a context on the thread that compiles.
    context.enter();
    this.add();
  }

  complete(): Compiled {
    const [address, bytes] = [new BigUint64Array(1), new BigUint64Array(1)];
    this.#check(this.#driver.status('cuLinkComplete', this.#handle, address, bytes));
    // The cubin belongs to the link.
    const cubin = this.#driver.library.memory.readBytes(Number(address[0]), Number(bytes[0]));
    return { cubin, log: this.#jit.log().info };
  }

  destroy(): void {
    this.#driver.status('cuLinkDestroy', this.#handle);
  }

  #check(status: number): void {
    if (status !== 0) throw this.#driver.error(status, 'compile PTX', this.#jit.log().errors);
  }
}
