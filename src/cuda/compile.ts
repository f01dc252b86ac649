/**
 * PTX text to a cubin, machine code of one chip, by the compiler inside the driver: on this thread, or many texts beside each other.
 */
import { coreCount } from '../host/processor.ts';
import type { Compiler } from './compiler-worker.ts';
import type { Context } from './context.ts';
import type { Driver } from './driver.ts';
import { type CompileOptions, cString, jitOptions, logLines, optionNumbers } from './jit.ts';

/** cuda.h, CUjitInputType. */
const INPUT_PTX = 1;
/** A driver compiles one text in 10 to 300 ms: beyond so many at once starting them takes longer than they save. */
const MAX_COMPILERS = 16;

export interface Compiled {
  readonly cubin: Uint8Array<ArrayBuffer>;
  /** What the compiler had to say; much with `verbose`. */
  readonly log: readonly string[];
}

/** Compiles on this thread. Throws ModelError `device-code` with the compiler's log where the text is not PTX for this GPU. */
export function compilePtx(context: Context, ptx: string, options: CompileOptions = {}): Compiled {
  const driver = context.enter();
  const { memory } = driver.library;
  const jit = jitOptions(memory, options);
  const out = new BigUint64Array(1);
  driver.call('cuLinkCreate_v2', WHAT, jit.count, jit.keys, jit.values, out);
  const link = Number(out[0]);
  const check = (status: number): void => {
    if (status !== 0) throw driver.error(status, WHAT, jit.log().errors);
  };
  try {
    const text = cString(ptx);
    check(driver.status('cuLinkAddData_v2', link, INPUT_PTX, text, text.length, cString('kernels.ptx'), 0, 0, 0));
    const [address, bytes] = [new BigUint64Array(1), new BigUint64Array(1)];
    check(driver.status('cuLinkComplete', link, address, bytes));
    // The cubin belongs to the link.
    return { cubin: memory.readBytes(Number(address[0]), Number(bytes[0])), log: jit.log().info };
  } finally {
    driver.status('cuLinkDestroy', link);
  }
}
const WHAT = 'compile PTX';

/**
 * Compiles all texts, as many at once as there are cores, off this thread; in the order given. Throws as `compilePtx`, for the first of
 * the texts that fail. The context must stay open meanwhile.
 */
export async function compileAll(
  context: Context,
  ptxs: readonly string[],
  options: CompileOptions = {},
): Promise<readonly Compiled[]> {
  const compilers = ptxs.length > 1 ? compilersOf(context.driver, Math.min(coreCount(), ptxs.length)) : [];
  if (compilers.length === 0) return ptxs.map((ptx) => compilePtx(context, ptx, options));
  const results = new Array<Compiled>(ptxs.length);
  const failures: { readonly index: number; readonly cause: unknown }[] = [];
  let next = 0;
  const work = async (compiler: Compiler): Promise<void> => {
    for (let index = next++; index < ptxs.length && failures.length === 0; index = next++) {
      try {
        results[index] = await compileBy(compiler, context, ptxs[index], options);
      } catch (cause) {
        failures.push({ index, cause });
      }
    }
  };
  await Promise.all(compilers.map(work));
  if (failures.length > 0) throw failures.sort((a, b) => a.index - b.index)[0].cause;
  return results;
}

async function compileBy(
  compiler: Compiler,
  context: Context,
  ptx: string,
  options: CompileOptions,
): Promise<Compiled> {
  const job = { context: context.handle, ptx, options: optionNumbers(options) };
  const answer = await compiler.compile(job).catch(() => undefined);
  // A worker that does not start, or ended.
  if (!answer) return compilePtx(context, ptx, options);
  const { status, cubin, info, errors } = answer;
  if (status !== 0) throw context.driver.error(status, WHAT, logLines(errors));
  return { cubin, log: logLines(info) };
}

/** Started once, for the life of the process. */
const started = new WeakMap<Driver, Compiler[]>();

function compilersOf(driver: Driver, count: number): readonly Compiler[] {
  const compilers = started.get(driver) ?? [];
  started.set(driver, compilers);
  while (compilers.length < Math.min(count, MAX_COMPILERS)) {
    const compiler = driver.library.startCompiler();
    if (!compiler) break;
    compilers.push(compiler);
  }
  return compilers.slice(0, count);
}
