/**
 * What this host's WebAssembly can do, and how to have it compile at once with the optimising compiler.
 *
 * Features are found by validating tiny modules. Node 20's V8 has relaxed SIMD behind a flag, which is set here: it admits more
 * modules and changes nothing for others.
 */
import { setV8Flags } from './v8-flags.ts';

export interface WasmFeatures {
  readonly simd: boolean;
  readonly relaxedSimd: boolean;
  /** Shared memory and atomics; in browsers only on pages that are cross-origin isolated. */
  readonly threads: boolean;
  /** The thread that asks may sleep in Atomics.wait; a page's own thread may not. */
  readonly mayWait: boolean;
}

const HEADER = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
/** A module of one function () -> v128 with these instructions. */
function moduleOf(code: readonly number[]): Uint8Array<ArrayBuffer> {
  const body = [0, ...code, 0x0b];
  return new Uint8Array([
    ...HEADER,
    ...[0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b],
    ...[0x03, 0x02, 0x01, 0x00],
    ...[0x0a, body.length + 2, 0x01, body.length, ...body],
  ]);
}
/** i32.const 0; i32x4.splat */
const SPLAT = [0x41, 0x00, 0xfd, 0x11];
const SIMD = moduleOf(SPLAT);
/** f32x4.relaxed_madd */
const RELAXED = moduleOf([...SPLAT, ...SPLAT, ...SPLAT, 0xfd, 0x85, 0x02]);
/** A shared memory of one page. */
const SHARED = new Uint8Array([...HEADER, 0x05, 0x04, 0x01, 0x03, 0x01, 0x01]);

let known: WasmFeatures | undefined;

export function wasmFeatures(): WasmFeatures {
  known ??= probe();
  return known;
}

function probe(): WasmFeatures {
  if (typeof WebAssembly === 'undefined') return { simd: false, relaxedSimd: false, threads: false, mayWait: false };
  if (!WebAssembly.validate(RELAXED)) {
    setV8Flags(['--experimental-wasm-relaxed-simd']);
  }
  const shares = typeof SharedArrayBuffer !== 'undefined' && typeof Atomics !== 'undefined';
  return {
    simd: WebAssembly.validate(SIMD),
    relaxedSimd: WebAssembly.validate(RELAXED),
    threads: shares && WebAssembly.validate(SHARED),
    mayWait: shares && canWait(),
  };
}

/** Atomics.wait throws where it is forbidden, and returns at once when the value differs. */
function canWait(): boolean {
  try {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 1, 0);
    return true;
  } catch {
    return false;
  }
}

export interface CompiledModule {
  readonly module: WebAssembly.Module;
  /** Compiled by the optimising compiler already; otherwise the host starts with slower code and replaces it as it runs. */
  readonly optimized: boolean;
}

/**
 * Compiles a module; in Node with V8's optimising compiler from the start, by flags that are put back at once. Compilation is
 * synchronous there, so no other module of this thread sees the flags.
 */
export async function compileWasm(bytes: Uint8Array): Promise<CompiledModule> {
  const source = bytes as Uint8Array<ArrayBuffer>;
  if (!setV8Flags(EAGER_FLAGS)) return { module: await WebAssembly.compile(source), optimized: false };
  try {
    return { module: new WebAssembly.Module(source), optimized: true };
  } finally {
    setV8Flags(DEFAULT_FLAGS);
  }
}

/** No baseline code, and no waiting for the first call. */
const EAGER_FLAGS = ['--no-liftoff', '--no-wasm-lazy-compilation'];
const DEFAULT_FLAGS = ['--liftoff', '--wasm-lazy-compilation'];
