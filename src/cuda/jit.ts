/**
 * Options of the driver's compiler (cuda.h, CUjit_option), as the two parallel tables that it takes, and the logs it writes.
 */
import type { Ffi } from '../host/ffi.ts';

const OPTIONS = {
  infoLogBuffer: 3,
  infoLogBytes: 4,
  errorLogBuffer: 5,
  errorLogBytes: 6,
  optimizationLevel: 7,
  target: 9,
  logVerbose: 12,
  splitCompile: 34,
} as const;

export interface CompileOptions {
  /** 0 to 4, the default. */
  readonly optimizationLevel?: number;
  /** Compiles for this compute capability instead of the context's, e.g. 80. */
  readonly computeCapability?: number;
  /** Registers, spills and shared memory of each kernel in the log. */
  readonly verbose?: boolean;
  /** Threads that the driver may use for one compilation; 0: as many as cores. Drivers before 12.9 know no such option. */
  readonly threads?: number;
}

const LOG_BYTES = 16384;

/** The options that are numbers, as the driver takes them. */
export function optionNumbers(options: CompileOptions): readonly (readonly [key: number, value: number])[] {
  const { optimizationLevel, computeCapability, verbose, threads } = options;
  const rows: (readonly [number, number])[] = [];
  if (optimizationLevel !== undefined) rows.push([OPTIONS.optimizationLevel, optimizationLevel]);
  if (computeCapability !== undefined) rows.push([OPTIONS.target, computeCapability]);
  if (verbose) rows.push([OPTIONS.logVerbose, 1]);
  if (threads !== undefined) rows.push([OPTIONS.splitCompile, threads]);
  return rows;
}

export interface JitOptions {
  readonly count: number;
  readonly keys: Int32Array;
  readonly values: BigUint64Array;
  /** What the compiler wrote, lines without the empty ones. */
  log(): { readonly info: readonly string[]; readonly errors: readonly string[] };
}

export function jitOptions(memory: Pick<Ffi, 'addressOf'>, options: CompileOptions): JitOptions {
  const info = new Uint8Array(new ArrayBuffer(LOG_BYTES));
  const errors = new Uint8Array(new ArrayBuffer(LOG_BYTES));
  const rows: (readonly [number, number])[] = [
    [OPTIONS.infoLogBuffer, memory.addressOf(info)],
    [OPTIONS.infoLogBytes, LOG_BYTES],
    [OPTIONS.errorLogBuffer, memory.addressOf(errors)],
    [OPTIONS.errorLogBytes, LOG_BYTES],
    ...optionNumbers(options),
  ];
  const keys = new Int32Array(new ArrayBuffer(4 * rows.length));
  const values = new BigUint64Array(new ArrayBuffer(8 * rows.length));
  for (const [i, [key, value]] of rows.entries()) {
    keys[i] = key;
    values[i] = BigInt(value);
  }
  return {
    count: rows.length,
    keys,
    values,
    log: () => ({ info: logLines(textOf(info)), errors: logLines(textOf(errors)) }),
  };
}

/** Of a text that ends with a zero. */
const textOf = (log: Uint8Array): string => new TextDecoder().decode(log.subarray(0, Math.max(0, log.indexOf(0))));
/** Those that say something. */
export const logLines = (log: string): string[] => log.split('\n').filter((line) => line.trim() !== '');

/** Zero-terminated, as the driver takes names and PTX. */
export const cString = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(`${text}\0`);
