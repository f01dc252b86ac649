/**
 * PTX text to a cubin, machine code of one chip, by the compiler inside the driver.
 */
import type { Context } from './context.ts';
import { type CompileOptions, cString, jitOptions } from './jit.ts';

/** cuda.h, CUjitInputType. */
const INPUT_PTX = 1;

export interface Compiled {
  readonly cubin: Uint8Array<ArrayBuffer>;
  /** What the compiler had to say; much with `verbose`. */
  readonly log: readonly string[];
}

/** Throws ModelError `device-code` with the compiler's log where the text is not PTX for this GPU. */
export function compilePtx(context: Context, ptx: string, options: CompileOptions = {}): Compiled {
  const driver = context.enter();
  const { memory } = driver.library;
  const what = 'compile PTX';
  const jit = jitOptions(memory, options);
  const text = cString(ptx);
  const created = new BigUint64Array(1);
  driver.call('cuLinkCreate_v2', what, jit.count, jit.keys, jit.values, created);
  const link = Number(created[0]);
  try {
    const check = (status: number): void => {
      if (status !== 0) throw driver.error(status, what, jit.log().errors);
    };
    check(driver.status('cuLinkAddData_v2', link, INPUT_PTX, text, text.length, cString('kernels.ptx'), 0, 0, 0));
    const [address, bytes] = [new BigUint64Array(1), new BigUint64Array(1)];
    check(driver.status('cuLinkComplete', link, address, bytes));
    // The cubin belongs to the link.
    return { cubin: memory.readBytes(Number(address[0]), Number(bytes[0])), log: jit.log().info };
  } finally {
    driver.status('cuLinkDestroy', link);
  }
}
