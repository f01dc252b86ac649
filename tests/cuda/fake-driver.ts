/**
 * A CUDA driver without a GPU, behind the same table of functions: what it is called with is checked, memory and handles are real enough
 * to run on, and whatever was made and not destroyed is listed.
 *
 * Work runs at once (or when its graph is launched), so order within a stream holds. A kernel is a TypeScript function by its name, or
 * with `runsPtx` its PTX, interpreted. "PTX" is any text with `.entry NAME`; with the word `broken` in it the compiler refuses it.
 */

import type { CompileAnswer, CompileJob } from '../../src/cuda/compiler-worker.ts';
import type { CudaLibrary } from '../../src/cuda/driver.ts';
import { CUDA_FUNCTIONS, type CudaFunctionName } from '../../src/cuda/functions.ts';
import type { Dim3 } from '../../src/cuda/launch.ts';
import type { NativeArgument, NativeType } from '../../src/host/ffi.ts';
import { PtxProgram } from '../ptx/machine.ts';
import { GlobalMemory } from '../ptx/memory.ts';

export const STATUS = {
  ok: 0,
  invalidValue: 1,
  outOfMemory: 2,
  noDevice: 100,
  invalidImage: 200,
  invalidContext: 201,
  noBinary: 209,
  invalidPtx: 218,
  invalidHandle: 400,
  notFound: 500,
  illegalAddress: 700,
  captureInvalid: 901,
} as const;

const ATTRIBUTE_VALUES: Readonly<Record<number, number>> = { 1: 1024, 10: 32, 16: 132, 97: 232448 };

interface Geometry {
  readonly grid: Dim3;
  readonly block: Dim3;
  readonly sharedBytes: number;
  readonly cluster?: Dim3;
  /** Numbers of the attributes of the launch. */
  readonly attributes: readonly number[];
}

/** Arguments of a launch: slots of 8 bytes, and the memory that addresses in them mean. */
export interface FakeLaunch extends Geometry {
  /** An argument as an address: the bytes from there to the end of the allocation. */
  pointer(index: number): Uint8Array;
  u32(index: number): number;
}
export type FakeKernel = (launch: FakeLaunch) => void;

/** Thrown by a kernel to fault, as a wrong address would. */
export class FakeFault extends Error {}

type Kind = 'context' | 'memory' | 'pinned' | 'stream' | 'event' | 'module' | 'graph' | 'exec' | 'link';
type Work = () => void;

/** Bytes at addresses: of the host, or of the device. */
interface Block {
  readonly base: number;
  readonly length: number;
  readonly host?: Uint8Array;
}
const holds = ({ base, length }: Block, address: number): boolean => address >= base && address < base + length;

interface Options {
  readonly devices?: number;
  /** Device memory; more cannot be had. */
  readonly totalBytes?: number;
  readonly kernels?: Readonly<Record<string, FakeKernel>>;
  /** Runs the text of kernels that are not among `kernels`. */
  readonly runsPtx?: boolean;
  /** Kernels reach pinned memory of the host. */
  readonly hostAddresses?: boolean;
  /** Of the device: 90 if not given. */
  readonly computeCapability?: number;
  readonly without?: readonly CudaFunctionName[];
  readonly version?: number;
  /** False: nothing can be compiled beside this thread. */
  readonly compilers?: boolean;
}

export class FakeDriver {
  /** Names of the functions called, in order. */
  readonly calls: CudaFunctionName[] = [];
  readonly library: CudaLibrary;
  /** The next call of that function gives this status, and does nothing. */
  readonly failNext = new Map<CudaFunctionName, number>();
  compiled = 0;
  readonly #options: Options;
  readonly #live = new Map<number, { readonly kind: Kind; readonly data: unknown }>();
  readonly #blocks: Block[] = [];
  readonly #shadows = new Map<number, number>();
  /** Of the device. */
  readonly #memory = new GlobalMemory();
  readonly #programs = new Map<string, PtxProgram>();
  readonly #hostBases = new Map<ArrayBufferLike, number>();
  readonly #functions = new Map<number, { readonly entry: string; readonly text: string }>();
  readonly #events = new Map<number, number>();
  #next = 0x1000;
  #nextAddress = 2 ** 40;
  #current = 0;
  /** The context of the device, while someone retains it. */
  #primary: number | undefined;
  #retained = 0;
  #capturing: { readonly stream: number; readonly work: Work[] } | undefined;
  #clock = 0;
  #used = 0;
  #lost = false;

  constructor(options: Options = {}) {
    this.#options = options;
    const table = this.#table();
    const functions: Partial<Record<CudaFunctionName, (...args: NativeArgument[]) => number>> = {};
    for (const name of Object.keys(CUDA_FUNCTIONS) as CudaFunctionName[]) {
      if (options.without?.includes(name)) continue;
      functions[name] = (...args) => {
        this.calls.push(name);
        checkArguments(name, CUDA_FUNCTIONS[name].args, args);
        const failure = this.failNext.get(name);
        this.failNext.delete(name);
        if (failure !== undefined) return failure;
        if (this.#lost && !/^cu(Get|Driver|DeviceGet|CtxSetCurrent|.*Release)/.test(name)) return STATUS.illegalAddress;
        return table[name](...(args as never[]));
      };
    }
    this.library = {
      functions,
      beside: async (name, ...args) => {
        await undefined;
        return functions[name]!(...args);
      },
      startCompiler: () => (options.compilers === false ? undefined : { compile: (job) => this.#compileAside(job) }),
      file: 'fake',
      memory: {
        addressOf: (array) => this.#addressOf(array),
        readBytes: (address, bytes) => this.bytesAt(address).slice(0, bytes) as Uint8Array<ArrayBuffer>,
        readString: (address) => new TextDecoder().decode(this.bytesAt(address)).split('\0')[0],
      },
    };
  }

  /** What was made and not destroyed, by kind. */
  live(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { kind } of this.#live.values()) counts[kind] = (counts[kind] ?? 0) + 1;
    return counts;
  }

  /** The bytes from the address to the end of its block, as they lie now. Throws where nothing lies. */
  bytesAt(address: number): Uint8Array {
    const block = this.#blocks.find((b) => holds(b, address));
    if (!block) throw new FakeFault(`nothing lies at ${address}`);
    const bytes = block.host ?? this.#memory.bytesAt(block.base, block.length);
    return bytes.subarray(address - block.base);
  }

  #place(host: Uint8Array): number {
    const base = this.#nextAddress;
    this.#nextAddress += Math.ceil((host.length + 1) / 4096) * 4096;
    this.#blocks.push({ base, length: host.length, host });
    return base;
  }

  #addressOf(array: ArrayBufferView): number {
    let base = this.#hostBases.get(array.buffer);
    if (base === undefined) {
      base = this.#place(new Uint8Array(array.buffer));
      this.#hostBases.set(array.buffer, base);
    }
    return base + array.byteOffset;
  }

  #make(kind: Kind, data: unknown = undefined, handle = this.#next++): number {
    this.#live.set(handle, { kind, data });
    return handle;
  }

  #destroy(kind: Kind, handle: number): number {
    if (this.#live.get(handle)?.kind !== kind) return STATUS.invalidHandle;
    this.#live.delete(handle);
    return STATUS.ok;
  }

  #is(kind: Kind, handle: number): boolean {
    return this.#live.get(handle)?.kind === kind;
  }

  /** Now, or when the graph runs that is being recorded. */
  #work(stream: number, work: Work): number {
    if (this.#current === 0) return STATUS.invalidContext;
    if (!this.#is('stream', stream)) return STATUS.invalidHandle;
    if (this.#capturing?.stream === stream) {
      this.#capturing.work.push(work);
      return STATUS.ok;
    }
    return this.#run([work]);
  }

  #run(works: readonly Work[]): number {
    try {
      for (const work of works) work();
      return STATUS.ok;
    } catch (error) {
      if (!(error instanceof FakeFault)) throw error;
      this.#lost = true;
      return STATUS.ok; // launches are asynchronous: whoever waits is told
    }
  }

  async #compileAside({ context, ptx }: CompileJob): Promise<CompileAnswer> {
    await undefined;
    const answer = (status: number, cubin = new Uint8Array(0)): CompileAnswer => ({
      status,
      cubin,
      info: '',
      errors: status === 0 ? '' : 'line 1: no PTX\n',
    });
    if (!this.#is('context', context)) return answer(STATUS.invalidContext);
    const text = this.#load(new TextEncoder().encode(`${ptx}\0`));
    if (typeof text === 'number') return answer(text);
    this.compiled++;
    return answer(STATUS.ok, fakeCubin(text));
  }

  #load(image: Uint8Array): string | number {
    const isElf = image[0] === 0x7f;
    const text = new TextDecoder().decode(isElf ? image.subarray(64) : image).split('\0')[0];
    if (text.includes('broken')) return STATUS.invalidPtx;
    if (text.includes('sm_999')) return STATUS.noBinary;
    return text.includes('.entry') ? text : STATUS.invalidImage;
  }

  #launch(fn: number, geometry: Geometry, pointers: readonly bigint[]): Work {
    const { entry, text } = this.#functions.get(fn) as { entry: string; text: string };
    // The driver copies arguments when a launch is made.
    const slots = pointers.map((p) => new DataView(this.bytesAt(Number(p)).slice(0, 8).buffer));
    return () => {
      this.#clock += 1000;
      const kernel = this.#options.kernels?.[entry];
      if (!kernel && this.#options.runsPtx) return this.#runPtx(text, entry, geometry, slots);
      kernel?.({
        ...geometry,
        pointer: (i) => this.bytesAt(Number(slots[i].getBigUint64(0, true))),
        u32: (i) => slots[i].getUint32(0, true),
      });
    };
  }

  #runPtx(text: string, entry: string, geometry: Geometry, slots: readonly DataView[]): void {
    const program = this.#programs.get(text) ?? new PtxProgram(text);
    this.#programs.set(text, program);
    const args = slots.map((slot) => slot.getBigUint64(0, true));
    const host = this.#blocks.filter((block) => block.host && args.some((arg) => holds(block, Number(arg))));
    // The interpreter has the device's memory only: what a kernel reaches of the host's is there for as long as it runs.
    const shadows = host.map((block) => ({ ...block, at: this.#shadow(block) }));
    const moved = args.map((arg) => {
      const shadow = shadows.find((block) => holds(block, Number(arg)));
      return shadow ? BigInt(Number(arg) - shadow.base + shadow.at) : arg;
    });
    program.run(this.#memory, { entry, ...geometry, args: moved });
    for (const { host: bytes, at, length } of shadows) bytes?.set(this.#memory.bytesAt(at, length));
  }

  #shadow({ base, length, host }: Block): number {
    const at = this.#shadows.get(base) ?? this.#memory.alloc(`host memory at ${base}`, length);
    this.#shadows.set(base, at);
    if (host) this.#memory.bytesAt(at, length).set(host);
    return at;
  }

  #table(): Record<CudaFunctionName, (...args: never[]) => number> {
    const { devices = 1, totalBytes = 2 ** 36, version = 13000, computeCapability = 90 } = this.#options;
    const out = (target: ArrayBufferView, value: number): number => {
      if (target instanceof BigUint64Array) target[0] = BigInt(value);
      else (target as Int32Array | Float32Array)[0] = value;
      return STATUS.ok;
    };
    const make = (target: ArrayBufferView, kind: Kind, data?: unknown): number =>
      this.#current === 0 ? STATUS.invalidContext : out(target, this.#make(kind, data));
    const text = (prefix: string) => (status: number, target: BigUint64Array) =>
      out(target, this.#place(new TextEncoder().encode(`${prefix}${status}\0`)));
    const valid = (ordinal: number): number => (ordinal < devices ? STATUS.ok : STATUS.invalidValue);
    const copy = (to: Uint8Array, from: Uint8Array, bytes: number): void => to.set(from.subarray(0, bytes));
    const hostBytes = (a: ArrayBufferView, bytes: number): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, bytes);
    const kernelPointers = (pointers: BigUint64Array): bigint[] => [...pointers];
    return {
      cuInit: () => (devices > 0 ? STATUS.ok : STATUS.noDevice),
      cuDriverGetVersion: (target: Int32Array) => out(target, version),
      cuGetErrorName: text('FAKE_ERROR_'),
      cuGetErrorString: text('fake error '),
      cuDeviceGetCount: (target: Int32Array) => out(target, devices),
      cuDeviceGet: (target: Int32Array, ordinal: number) => valid(ordinal) || out(target, ordinal),
      cuDeviceGetName: (target: Uint8Array) => {
        target.set(new TextEncoder().encode('Fake GPU\0'));
        return STATUS.ok;
      },
      cuDeviceGetUuid_v2: (target: Uint8Array) => {
        target.set(Array.from({ length: 16 }, (_, i) => i));
        return STATUS.ok;
      },
      cuDeviceGetAttribute: (target: Int32Array, attribute: number) => {
        if (attribute === 75) return out(target, Math.floor(computeCapability / 10));
        if (attribute === 76) return out(target, computeCapability % 10);
        if (attribute === 91) return out(target, this.#options.hostAddresses ? 1 : 0);
        return out(target, ATTRIBUTE_VALUES[attribute] ?? 0);
      },
      cuDeviceTotalMem_v2: (target: BigUint64Array) => out(target, totalBytes),
      cuDevicePrimaryCtxRetain: (target: BigUint64Array, device: number) => {
        if (device >= devices) return STATUS.invalidValue;
        this.#primary ??= this.#make('context');
        this.#retained++;
        return out(target, this.#primary);
      },
      cuDevicePrimaryCtxRelease_v2: () => {
        if (this.#retained === 0) return STATUS.invalidContext;
        if (--this.#retained > 0) return STATUS.ok;
        // What a fault has left goes with the context; what was forgotten stays, to be seen.
        if (this.#lost) this.#live.clear();
        else this.#live.delete(this.#primary as number);
        this.#current = 0;
        this.#primary = undefined;
        return STATUS.ok;
      },
      cuCtxSetCurrent: (handle: number) => {
        if (!this.#is('context', handle)) return STATUS.invalidContext;
        this.#current = handle;
        return STATUS.ok;
      },
      cuCtxSynchronize: () => (this.#current === 0 ? STATUS.invalidContext : STATUS.ok),
      cuMemGetInfo_v2: (free: BigUint64Array, total: BigUint64Array) => {
        out(free, totalBytes - this.#used);
        return out(total, totalBytes);
      },
      cuMemAlloc_v2: (target: BigUint64Array, bytes: number) => {
        if (this.#current === 0) return STATUS.invalidContext;
        if (this.#used + bytes > totalBytes) return STATUS.outOfMemory;
        this.#used += bytes;
        // What fresh memory holds is not known: NaN in every float type.
        const base = this.#memory.alloc(`allocation ${this.#next}`, bytes);
        this.#blocks.push({ base, length: bytes });
        return out(target, this.#make('memory', bytes, base));
      },
      cuMemFree_v2: (address: number) => {
        this.#used -= (this.#live.get(address)?.data as number | undefined) ?? 0;
        const at = this.#blocks.findIndex(({ base }) => base === address);
        if (at >= 0) this.#blocks.splice(at, 1);
        return this.#destroy('memory', address);
      },
      cuMemHostRegister_v2: (pages: Uint8Array, bytes: number) => {
        if (this.#addressOf(pages) % 4096 !== 0 || bytes % 4096 !== 0) return STATUS.invalidValue;
        this.#make('pinned', undefined, this.#addressOf(pages));
        return STATUS.ok;
      },
      cuMemHostUnregister: (pages: Uint8Array) => this.#destroy('pinned', this.#addressOf(pages)),
      cuMemcpyAsync: (to: number, from: number, bytes: number, stream: number) =>
        this.#work(stream, () => copy(this.bytesAt(to), this.bytesAt(from), bytes)),
      cuMemcpyHtoDAsync_v2: (to: number, from: ArrayBufferView, bytes: number, stream: number) =>
        this.#work(stream, () => copy(this.bytesAt(to), hostBytes(from, bytes), bytes)),
      cuMemcpyDtoHAsync_v2: (to: ArrayBufferView, from: number, bytes: number, stream: number) =>
        this.#work(stream, () => copy(hostBytes(to, bytes), this.bytesAt(from), bytes)),
      cuMemsetD8Async: (to: number, value: number, bytes: number, stream: number) =>
        this.#work(stream, () => void this.bytesAt(to).fill(value, 0, bytes)),
      cuStreamCreate: (target: BigUint64Array) => make(target, 'stream'),
      cuStreamDestroy_v2: (handle: number) => this.#destroy('stream', handle),
      cuStreamSynchronize: (handle: number) => {
        if (this.#capturing?.stream === handle) return STATUS.captureInvalid;
        if (this.#lost) return STATUS.illegalAddress;
        return this.#is('stream', handle) ? STATUS.ok : STATUS.invalidHandle;
      },
      cuStreamQuery: (handle: number) => (this.#is('stream', handle) ? STATUS.ok : STATUS.invalidHandle),
      cuStreamWaitEvent: (stream: number, event: number) =>
        this.#is('stream', stream) && this.#is('event', event) ? STATUS.ok : STATUS.invalidHandle,
      cuStreamBeginCapture_v2: (stream: number) => {
        if (!this.#is('stream', stream)) return STATUS.invalidHandle;
        this.#capturing = { stream, work: [] };
        return STATUS.ok;
      },
      cuStreamEndCapture: (stream: number, target: BigUint64Array) => {
        if (this.#capturing?.stream !== stream) return STATUS.captureInvalid;
        const { work } = this.#capturing;
        this.#capturing = undefined;
        return make(target, 'graph', work);
      },
      cuEventCreate: (target: BigUint64Array) => make(target, 'event'),
      cuEventDestroy_v2: (handle: number) => this.#destroy('event', handle),
      cuEventRecord: (event: number, stream: number) => {
        if (!this.#is('event', event)) return STATUS.invalidHandle;
        if (this.#capturing?.stream === stream) return STATUS.captureInvalid;
        return this.#work(stream, () => void this.#events.set(event, this.#clock));
      },
      cuEventRecordWithFlags: (event: number, stream: number) =>
        this.#capturing?.stream === stream
          ? this.#work(stream, () => void this.#events.set(event, this.#clock))
          : STATUS.captureInvalid,
      cuEventSynchronize: (handle: number) => (this.#is('event', handle) ? STATUS.ok : STATUS.invalidHandle),
      cuEventQuery: (handle: number) => (this.#is('event', handle) ? STATUS.ok : STATUS.invalidHandle),
      cuEventElapsedTime: (target: Float32Array, start: number, end: number) => {
        const [from, to] = [this.#events.get(start), this.#events.get(end)];
        return from === undefined || to === undefined ? STATUS.invalidHandle : out(target, (to - from) / 1e6);
      },
      cuModuleLoadDataEx: (target: BigUint64Array, image: Uint8Array) => {
        const text = this.#load(image);
        return typeof text === 'number' ? text : make(target, 'module', text);
      },
      cuModuleUnload: (handle: number) => this.#destroy('module', handle),
      cuModuleGetFunction: (target: BigUint64Array, module: number, name: Uint8Array) => {
        const entry = new TextDecoder().decode(name).slice(0, -1);
        const code = this.#live.get(module)?.data as string | undefined;
        if (!code?.split(/\s+|\(/).includes(entry)) return STATUS.notFound;
        const handle = this.#next++;
        this.#functions.set(handle, { entry, text: code });
        return out(target, handle);
      },
      cuModuleGetGlobal_v2: () => STATUS.notFound,
      cuFuncGetAttribute: (target: Int32Array, attribute: number) => out(target, attribute),
      cuFuncSetAttribute: (_: number, __: number, bytes: number) => (bytes > 232448 ? STATUS.invalidValue : STATUS.ok),
      cuOccupancyMaxActiveBlocksPerMultiprocessor: (target: Int32Array, _: number, threads: number) =>
        out(target, Math.floor(2048 / threads)),
      cuLaunchKernel: (...all: (number | BigUint64Array)[]) => {
        const [fn, x, y, z, bx, by, bz, shared, stream] = all as number[];
        const pointers = all[9] as BigUint64Array;
        const geometry: Geometry = { grid: [x, y, z], block: [bx, by, bz], sharedBytes: shared, attributes: [] };
        return this.#work(stream, this.#launch(fn, geometry, kernelPointers(pointers)));
      },
      cuLaunchKernelEx: (config: Uint8Array, fn: number, pointers: BigUint64Array) => {
        const view = new DataView(config.buffer, config.byteOffset);
        const words = Array.from({ length: 7 }, (_, i) => view.getUint32(4 * i, true));
        const count = view.getUint32(48, true);
        const list = new DataView(this.bytesAt(Number(view.getBigUint64(40, true))).slice().buffer);
        const attributes = Array.from({ length: count }, (_, i) => list.getUint32(72 * i, true));
        // CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION: three words behind the 8 bytes of its number.
        const cluster = attributes.indexOf(4);
        const geometry: Geometry = {
          grid: [words[0], words[1], words[2]],
          block: [words[3], words[4], words[5]],
          sharedBytes: words[6],
          attributes,
          ...(cluster >= 0 && {
            cluster: [0, 1, 2].map((i) => list.getUint32(72 * cluster + 8 + 4 * i, true)) as unknown as Dim3,
          }),
        };
        const work = this.#launch(fn, geometry, kernelPointers(pointers));
        return this.#work(Number(view.getBigUint64(32, true)), work);
      },
      cuGraphInstantiateWithFlags: (target: BigUint64Array, graph: number) =>
        this.#is('graph', graph) ? make(target, 'exec', this.#live.get(graph)?.data) : STATUS.invalidHandle,
      cuGraphGetNodes: (graph: number, _: number, count: BigUint64Array) =>
        out(count, (this.#live.get(graph) as { data: Work[] }).data.length),
      cuGraphUpload: (exec: number) => (this.#is('exec', exec) ? STATUS.ok : STATUS.invalidHandle),
      cuGraphLaunch: (exec: number, stream: number) => {
        if (!this.#is('exec', exec) || !this.#is('stream', stream)) return STATUS.invalidHandle;
        return this.#run(this.#live.get(exec)?.data as Work[]);
      },
      cuGraphExecDestroy: (handle: number) => this.#destroy('exec', handle),
      cuGraphDestroy: (handle: number) => this.#destroy('graph', handle),
      cuLinkCreate_v2: (_: number, __: Int32Array, ___: BigUint64Array, target: BigUint64Array) =>
        make(target, 'link', { text: '' }),
      cuLinkAddData_v2: (link: number, type: number, data: Uint8Array, bytes: number) => {
        if (!this.#is('link', link) || type !== 1 || data[bytes - 1] !== 0) return STATUS.invalidValue;
        const text = this.#load(data);
        if (typeof text === 'number') return text;
        (this.#live.get(link) as { data: { text: string } }).data.text = text;
        return STATUS.ok;
      },
      cuLinkComplete: (link: number, address: BigUint64Array, size: BigUint64Array) => {
        this.compiled++;
        const cubin = fakeCubin((this.#live.get(link) as { data: { text: string } }).data.text);
        out(address, this.#place(cubin));
        return out(size, cubin.length);
      },
      cuLinkDestroy: (handle: number) => this.#destroy('link', handle),
    };
  }
}

/** An ELF header without sections, and the text. */
function fakeCubin(text: string): Uint8Array<ArrayBuffer> {
  const cubin = new Uint8Array([...new Uint8Array(64), ...new TextEncoder().encode(`${text}\0`)]);
  cubin.set([0x7f, 0x45, 0x4c, 0x46, 2, 1]);
  return cubin;
}

function checkArguments(name: string, types: readonly NativeType[], args: readonly NativeArgument[]): void {
  if (args.length !== types.length) throw new Error(`${name} takes ${types.length} arguments, got ${args.length}`);
  for (const [i, type] of types.entries()) {
    const value = args[i];
    const isPointer = type === 'void *' && (ArrayBuffer.isView(value) || Number.isSafeInteger(value));
    const isNumber = Number.isSafeInteger(value) && (type === 'int' || (value as number) >= 0);
    if (!isPointer && !isNumber) throw new Error(`${name}: argument ${i} of type ${type} is ${String(value)}`);
  }
}
