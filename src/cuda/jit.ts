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

export interface JitOptions {
  readonly count: number;
  readonly keys: Int32Array;
  readonly values: BigUint64Array;
  /** What the compiler wrote, lines without the empty ones. */
  log(): { readonly info: readonly string[]; readonly errors: readonly string[] };
}

export function jitOptions(memory: Pick<Ffi, 'addressOf'>, options: CompileOptions): JitOptions {
  const { optimizationLevel, computeCapability, verbose, threads } = options;
  const info = new Uint8Array(new ArrayBuffer(LOG_BYTES));
  const errors = new Uint8Array(new ArrayBuffer(LOG_BYTES));
  const rows: (readonly [keyof typeof OPTIONS, number])[] = [
    ['infoLogBuffer', memory.addressOf(info)],
    ['infoLogBytes', LOG_BYTES],
    ['errorLogBuffer', memory.addressOf(errors)],
    ['errorLogBytes', LOG_BYTES],
  ];
  if (optimizationLevel !== undefined) rows.push(['optimizationLevel', optimizationLevel]);
  if (computeCapability !== undefined) rows.push(['target', computeCapability]);
  if (verbose) rows.push(['logVerbose', 1]);
  if (threads !== undefined) rows.push(['splitCompile', threads]);
  const keys = new Int32Array(new ArrayBuffer(4 * rows.length));
  const values = new BigUint64Array(new ArrayBuffer(8 * rows.length));
  for (const [i, [key, value]] of rows.entries()) {
    keys[i] = OPTIONS[key];
    values[i] = BigInt(value);
  }
  return { count: rows.length, keys, values, log: () => ({ info: lines(info), errors: lines(errors) }) };
}

const lines = (log: Uint8Array): string[] =>
  new TextDecoder()
    .decode(log.subarray(0, Math.max(0, log.indexOf(0))))
    .split('\n')
    .filter((line) => line.trim() !== '');

/** Zero-terminated, as the driver takes names and PTX. */
export const cString = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(`${text}\0`);
