/**
 * Compilers beside the main thread: workers with the library of their own, in which a PTX text becomes a cubin.
 *
 * Each worker makes the caller's context its own: a driver crashed when several links were worked on by threads that had none (koffi's
 * own threads, where one cannot be set).
 * A worker takes about 0.1 s to start, so those that are idle wait for the next texts; they do not keep the process alive.
 */
import { koffiPath, STACK_BYTES } from '../host/ffi.ts';
import { type HostWorker, spawnWorker } from '../host/workers.ts';
import { CUDA_FUNCTIONS, type CudaFunctionName } from './functions.ts';

export interface CompileJob {
  /** The handle of the context. */
  readonly context: number;
  readonly ptx: string;
  /** cuda.h's CUjit_option and its value. */
  readonly options: readonly (readonly [number, number])[];
}
export interface CompileAnswer {
  /** A CUresult. */
  readonly status: number;
  readonly cubin: Uint8Array<ArrayBuffer>;
  readonly info: string;
  readonly errors: string;
}

/** One text at a time. */
export interface Compiler {
  /** Rejects where the worker fails to start or ends. */
  compile(job: CompileJob): Promise<CompileAnswer>;
}

const NEEDED: readonly CudaFunctionName[] = [
  'cuCtxSetCurrent',
  'cuLinkCreate_v2',
  'cuLinkAddData_v2',
  'cuLinkComplete',
  'cuLinkDestroy',
];

/** `file` is the driver's library, `koffi` where the package is. Undefined where workers cannot find it. */
export function startCompiler(file: string, koffi = koffiPath()): Compiler | undefined {
  if (koffi === undefined) return undefined;
  let worker: HostWorker | undefined;
  return {
    compile: async (job) => {
      if (!worker) {
        worker = spawnWorker(SOURCE);
        const signatures = NEEDED.map((name) => [name, CUDA_FUNCTIONS[name].args]);
        worker.start({ koffi, file, stackBytes: STACK_BYTES, signatures });
      }
      worker.start(job);
      return (await worker.next()) as CompileAnswer;
    },
  };
}

const SOURCE = `
const LOG_BYTES = 16384;
receive(({ koffi: path, file, stackBytes, signatures }) => {
  const koffi = load(path);
  koffi.config({ ...koffi.config(), sync_stack_size: stackBytes });
  const library = koffi.load(file);
  const cuda = Object.fromEntries(signatures.map(([name, args]) => [name, library.func(name, 'int', args)]));
  const bytesOf = (text) => new TextEncoder().encode(text + '\\0');
  const textOf = (log) => new TextDecoder().decode(log.subarray(0, Math.max(0, log.indexOf(0))));

  function compile({ context, ptx, options }) {
    const [info, errors] = [new Uint8Array(new ArrayBuffer(LOG_BYTES)), new Uint8Array(new ArrayBuffer(LOG_BYTES))];
    const rows = [[3, koffi.address(info)], [4, LOG_BYTES], [5, koffi.address(errors)], [6, LOG_BYTES], ...options];
    const keys = new Int32Array(new ArrayBuffer(4 * rows.length));
    const values = new BigUint64Array(new ArrayBuffer(8 * rows.length));
    rows.forEach(([key, value], i) => { keys[i] = key; values[i] = BigInt(value); });
    const answer = (status, cubin = new Uint8Array(0)) => ({ status, cubin, info: textOf(info), errors: textOf(errors) });
    const out = new BigUint64Array(1);
    let status = cuda.cuCtxSetCurrent(context) || cuda.cuLinkCreate_v2(rows.length, keys, values, out);
    if (status !== 0) return answer(status);
    const link = Number(out[0]);
    const text = bytesOf(ptx);
    const [address, size] = [new BigUint64Array(1), new BigUint64Array(1)];
    status = cuda.cuLinkAddData_v2(link, 1, text, text.length, bytesOf('kernels.ptx'), 0, 0, 0)
      || cuda.cuLinkComplete(link, address, size);
    const cubin = status === 0 ? new Uint8Array(koffi.view(Number(address[0]), Number(size[0]))).slice() : undefined;
    cuda.cuLinkDestroy(link);
    return answer(status, cubin);
  }
  const next = (job) => {
    receive(next);
    send(compile(job));
  };
  receive(next);
});
`;
