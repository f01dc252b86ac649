/**
 * Calls out of JavaScript into the system's libraries and into code made here, through koffi, an optional package.
 *
 * Addresses are numbers: user space ends at 2^47. Nothing here owns memory; whoever passes an address keeps what lies there alive.
 */
import { nodeModule } from './node-module.ts';

export type NativeType = 'void' | 'int' | 'uint' | 'intptr' | 'uintptr' | 'void *';
/**
 * An argument of type `void *` may be a typed array: the callee gets the address of its first byte for the time of the call. Whoever
 * keeps that address longer needs an array over an ArrayBuffer of its own (small arrays without one are moved about).
 */
export type NativeArgument = number | ArrayBufferView;
export type NativeFunction = (...args: NativeArgument[]) => number;
/** The same function called on another thread, beside other such calls; arrays among the arguments must stay referenced until it answers. */
export type AsyncNativeFunction = (...args: NativeArgument[]) => Promise<number>;

export interface Ffi {
  /** A function of a shared library; null: of the process itself, with the C library. Throws Error where there is none. */
  symbol(library: string | null, name: string, result: NativeType, args: readonly NativeType[]): NativeFunction;
  /** The function whose code begins at an address, by the system's calling convention. */
  functionAt(address: number, result: NativeType, args: readonly NativeType[]): NativeFunction;
  /** As `symbol`, for calls that take long: they run on threads of the package's own. */
  asyncSymbol(
    library: string | null,
    name: string,
    result: NativeType,
    args: readonly NativeType[],
  ): AsyncNativeFunction;
  /** Where an array's bytes lie; they stay there as long as the array's buffer lives. */
  addressOf(array: ArrayBufferView): number;
  /** The memory at an address as it is: whoever asks sees that it is there as long as the buffer. */
  viewOf(address: number, bytes: number): ArrayBuffer;
  /** A copy of the bytes at an address. */
  readBytes(address: number, bytes: number): Uint8Array<ArrayBuffer>;
  /** The text of a zero-terminated string at an address. */
  readString(address: number): string;
}

type Answer = (error: Error | null, result: number) => void;
type KoffiFunction = NativeFunction & { readonly async: (...args: (NativeArgument | Answer)[]) => void };

interface KoffiSettings {
  readonly sync_stack_size: number;
  readonly async_stack_size: number;
}

/** Native code runs on a stack of koffi's. A compiler needs as much as threads have, and by default it would have 128 KiB. */
export const STACK_BYTES = 8 * 2 ** 20;

/** The part of koffi that is used, typed by hand so that this package's own types do not need it. */
interface Koffi {
  config(): KoffiSettings;
  config(settings: KoffiSettings): void;
  load(path: string | null): {
    func(name: string, result: NativeType, args: readonly NativeType[]): KoffiFunction;
  };
  proto(result: NativeType, args: readonly NativeType[]): object;
  decode(address: number, type: object): NativeFunction;
  decode(pointer: BigUint64Array, type: 'string'): string;
  address(value: unknown): bigint;
  view(address: number, bytes: number): ArrayBuffer;
}

let loading: Promise<Ffi | string> | undefined;

/** The way out, or the reason why there is none. Asked once. */
export function loadFfi(): Promise<Ffi | string> {
  loading ??= importKoffi();
  return loading;
}

/** The name is not in the import expression, so that bundlers of web pages do not look for the package. */
export async function importKoffi(name = 'koffi'): Promise<Ffi | string> {
  try {
    const module = (await import(/* @vite-ignore */ name)) as { readonly default: Koffi };
    return ffiOf(module.default);
  } catch (cause) {
    const { code, message } = cause as { readonly code?: string; readonly message?: string };
    if (code === 'ERR_MODULE_NOT_FOUND') return 'native code needs the package koffi: npm i koffi';
    return `the package koffi does not load: ${(message ?? String(cause)).split('\n')[0]}`;
  }
}

function ffiOf(koffi: Koffi): Ffi {
  const isRoomy = widenStacks(koffi);
  // In a worker thread koffi must have loaded a library before it may be given a bare address.
  const self = koffi.load(null);
  return {
    symbol: (library, name, result, args) =>
      (library === null ? self : koffi.load(library)).func(name, result, [...args]),
    asyncSymbol: (library, name, result, args) => {
      const call = (library === null ? self : koffi.load(library)).func(name, result, [...args]);
      // Another user of the package has set its stacks for good.
      if (!isRoomy) return async (...values) => call(...values);
      return (...values) =>
        new Promise((resolve, reject) =>
          call.async(...values, (error, status) => (error ? reject(error) : resolve(status))),
        );
    },
    functionAt: (address, result, args) => koffi.decode(address, koffi.proto(result, [...args])),
    addressOf: (array) => Number(koffi.address(array)),
    viewOf: (address, bytes) => koffi.view(address, bytes),
    readBytes: (address, bytes) => new Uint8Array(koffi.view(address, bytes)).slice(),
    readString: (address) => koffi.decode(new BigUint64Array([BigInt(address)]), 'string'),
  };
}

/** True where calls on other threads have stacks large enough. */
function widenStacks(koffi: Koffi): boolean {
  try {
    koffi.config({ ...koffi.config(), sync_stack_size: STACK_BYTES, async_stack_size: STACK_BYTES });
    return true;
  } catch {
    // Settings cannot change any more once a library was loaded.
    return koffi.config().async_stack_size >= STACK_BYTES;
  }
}

/** Where the package is, for threads that load it themselves; undefined where it is not. */
export function koffiPath(): string | undefined {
  const module = nodeModule<NodeModules>('node:module');
  try {
    return module?.createRequire(import.meta.url).resolve('koffi');
  } catch {
    return undefined;
  }
}
interface NodeModules {
  createRequire(from: string): { resolve(name: string): string };
}
