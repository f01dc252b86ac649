/**
 * Launches: a kernel, its grid and its arguments, laid out once as the driver takes them, then put into streams any number of times.
 */
import { ModelError } from '../core/errors.ts';
import type { CudaFunction } from './module.ts';
import type { Stream } from './stream.ts';

export type Dim3 = readonly [number, number, number];

/** An argument by the type that the kernel declares: u64 is an address too. */
export type KernelArgument =
  | { readonly type: 'u64' | 'u32' | 'i32' | 'f32'; readonly value: number }
  /** A buffer's address. */
  | { readonly address: number };

export interface LaunchOptions {
  readonly grid: Dim3;
  readonly block: Dim3;
  /** Dynamic shared memory, bytes. */
  readonly sharedBytes?: number;
  /** Blocks of a cluster; sm_90 and newer. */
  readonly cluster?: Dim3;
  /**
   * May start while the kernel before it in the stream ends: it must execute griddepcontrol.wait before it touches what that one
   * writes. Where the driver or the chip does not know this, the kernel starts after the other.
   */
  readonly programmatic?: boolean;
  /** All blocks run at once, so they may wait for each other; the driver refuses a grid that does not fit (`occupancy` says what does). */
  readonly cooperative?: boolean;
}

/** cuda.h, CUlaunchAttributeID. */
const ATTRIBUTE_COOPERATIVE = 2;
const ATTRIBUTE_CLUSTER = 4;
const ATTRIBUTE_PROGRAMMATIC = 6;
/** CUlaunchAttribute: a 32-bit number, 4 bytes of padding, a union of 64 bytes. */
const ATTRIBUTE_BYTES = 72;
/** CUlaunchConfig: 7 words, padding, stream at 32, attributes at 40, their number at 48. */
const CONFIG_BYTES = 56;
const CONFIG_STREAM = 32;
const CONFIG_ATTRIBUTES = 40;
const CONFIG_COUNT = 48;
/** The first chip with programmatic dependent launch. */
const PROGRAMMATIC_CAPABILITY = 90;

const MAX_GRID: Dim3 = [2 ** 31 - 1, 65535, 65535];

export class Launch {
  readonly function: CudaFunction;
  readonly options: LaunchOptions;
  /** A slot of 8 bytes an argument, and the addresses of the slots. */
  readonly #slots: Uint8Array;
  readonly #pointers: BigUint64Array;
  readonly #config: Uint8Array | undefined;
  readonly #stream: BigUint64Array;
  /** The driver has its address. */
  readonly #attributes: Uint8Array;

  /** Throws ModelError `option-invalid` where a grid is empty or larger than any GPU takes. */
  constructor(fn: CudaFunction, options: LaunchOptions, args: readonly KernelArgument[]) {
    this.function = fn;
    this.options = options;
    checkGrid(fn.name, options);
    const { driver, device } = fn.module.context;
    const { addressOf } = driver.library.memory;
    this.#slots = writeArguments(args);
    this.#pointers = new BigUint64Array(new ArrayBuffer(8 * args.length));
    if (args.length > 0) {
      const base = addressOf(this.#slots);
      for (const i of args.keys()) this.#pointers[i] = BigInt(base + 8 * i);
    }
    const isProgrammatic = options.programmatic && device.computeCapability >= PROGRAMMATIC_CAPABILITY;
    this.#attributes = writeAttributes(isProgrammatic ? options : { ...options, programmatic: false });
    const count = this.#attributes.byteLength / ATTRIBUTE_BYTES;
    const needsConfig = count > 0 && driver.has('cuLaunchKernelEx');
    const config = needsConfig ? writeConfig(options, addressOf(this.#attributes), count) : undefined;
    this.#config = config;
    this.#stream = new BigUint64Array(config?.buffer ?? new ArrayBuffer(CONFIG_BYTES), CONFIG_STREAM, 1);
    if ((options.cluster || options.cooperative) && !needsConfig)
      throw new ModelError(
        'driver-error',
        `kernel ${fn.name} needs ${options.cluster ? 'clusters' : 'a cooperative launch'}, which this driver does not know`,
        { hint: 'CUDA 11.8 (driver 520) is the oldest that does' },
      );
  }

  /** Puts the launch into the stream. Throws ModelError `device-lost`, `out-of-memory` or `driver-error`. */
  enqueue(stream: Stream): void {
    const { name, handle } = this.function;
    const what = `launch kernel ${name}`;
    if (this.#config) {
      this.#stream[0] = BigInt(stream.handle);
      stream.context.call('cuLaunchKernelEx', what, this.#config, handle, this.#pointers, 0);
      return;
    }
    const { grid, block, sharedBytes = 0 } = this.options;
    stream.context.call(
      'cuLaunchKernel',
      what,
      handle,
      ...grid,
      ...block,
      sharedBytes,
      stream.handle,
      this.#pointers,
      0,
    );
  }
}

function checkGrid(name: string, { grid, block, sharedBytes = 0 }: LaunchOptions): void {
  const isCount = (n: number, max: number): boolean => Number.isInteger(n) && n >= 1 && n <= max;
  if (grid.every((n, i) => isCount(n, MAX_GRID[i])) && block.every((n) => isCount(n, 1024)) && sharedBytes >= 0) return;
  throw new ModelError(
    'option-invalid',
    `kernel ${name} cannot have a grid of ${grid.join('×')} blocks of ${block.join('×')}`,
  );
}

function writeArguments(args: readonly KernelArgument[]): Uint8Array<ArrayBuffer> {
  const slots = new DataView(new ArrayBuffer(8 * args.length));
  for (const [i, argument] of args.entries()) {
    const at = 8 * i;
    if ('address' in argument) slots.setBigUint64(at, BigInt(argument.address), true);
    else WRITERS[argument.type](slots, at, argument.value);
  }
  return new Uint8Array(slots.buffer);
}

const WRITERS = {
  u64: (slots: DataView, at: number, value: number) => slots.setBigUint64(at, BigInt(value), true),
  u32: (slots: DataView, at: number, value: number) => slots.setUint32(at, value, true),
  i32: (slots: DataView, at: number, value: number) => slots.setInt32(at, value, true),
  f32: (slots: DataView, at: number, value: number) => slots.setFloat32(at, value, true),
};

function writeAttributes({ cluster, cooperative, programmatic }: LaunchOptions): Uint8Array<ArrayBuffer> {
  const rows: (readonly [number, readonly number[]])[] = [];
  if (cooperative) rows.push([ATTRIBUTE_COOPERATIVE, [1]]);
  if (cluster) rows.push([ATTRIBUTE_CLUSTER, cluster]);
  if (programmatic) rows.push([ATTRIBUTE_PROGRAMMATIC, [1]]);
  const view = new DataView(new ArrayBuffer(ATTRIBUTE_BYTES * rows.length));
  for (const [i, [id, words]] of rows.entries()) {
    view.setUint32(ATTRIBUTE_BYTES * i, id, true);
    for (const [w, word] of words.entries()) view.setUint32(ATTRIBUTE_BYTES * i + 8 + 4 * w, word, true);
  }
  return new Uint8Array(view.buffer);
}

function writeConfig(
  { grid, block, sharedBytes = 0 }: LaunchOptions,
  attributes: number,
  count: number,
): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(CONFIG_BYTES));
  for (const [i, n] of [...grid, ...block, sharedBytes].entries()) view.setUint32(4 * i, n, true);
  view.setBigUint64(CONFIG_ATTRIBUTES, BigInt(attributes), true);
  view.setUint32(CONFIG_COUNT, count, true);
  return new Uint8Array(view.buffer);
}
