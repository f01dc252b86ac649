/**
 * Runs one kernel as WebAssembly or as machine code on plain typed arrays, for tests and benchmarks: no engine, no runtime, no threads.
 *
 * Buffers lie in one memory with gaps between them. Outputs and gaps are filled with a poison pattern first, so that an
 * element not written, and one written beyond its buffer, are both seen.
 */
import { setFlagsFromString } from 'node:v8';
import { DTYPES, type TypedArray } from '../../src/core/dtype.ts';
import type { Tactic } from '../../src/engine/engine.ts';
import type { SharedPlace } from '../../src/loop/in-place.ts';
import type { Kernel } from '../../src/loop/ir.ts';
import type { Asm } from '../../src/targets/cpu/asm.ts';
import { emitKernel, templateOf } from '../../src/targets/cpu/emit.ts';
import type { Params } from '../../src/targets/target.ts';
import { WasmAsm } from '../../src/targets/wasm/asm.ts';
import { ModuleBuilder } from '../../src/targets/wasm/module.ts';
import { vnniOf } from '../../src/targets/x64/byte-ops.ts';
import { addressOf, loadX64, withoutVnni, withoutWideVnni, withoutWideX64, withoutX64 } from '../asm/x64-runner.ts';

setFlagsFromString('--experimental-wasm-relaxed-simd');

const GAP_BYTES = 256;
/** A NaN as f32, f64 and f16; a large number as an integer. */
const POISON = 0xff;
const PAGE_BYTES = 65536;

export interface LoadedKernel {
  /** The buffers in the machine's memory. */
  readonly data: ReadonlyMap<string, TypedArray>;
  /** Does the tiles [begin, end). */
  run(begin: number, end: number): void;
  /** Byte addresses between buffers that no longer hold the poison. */
  damagedGaps(): number[];
}

function relaxedSimd(): boolean {
  const asm = new WasmAsm(0, { relaxed: true });
  const acc = asm.reg('vf32');
  asm.move(acc, asm.const('vf32', 0));
  asm.fma(acc, acc, acc);
  asm.if(asm.extract(acc, 0).type === 'f32' ? asm.convert('i32', asm.extract(acc, 0)) : asm.const('i32', 0), () => {});
  return WebAssembly.validate(moduleOf([asm.finish()], 0, 1) as Uint8Array<ArrayBuffer>);
}

function moduleOf(bodies: readonly (readonly number[])[], buffers: number, pages: number): Uint8Array {
  const module = new ModuleBuilder();
  module.importMemory('env', 'memory', { min: pages });
  bodies.forEach((body, i) => {
    const index = module.declare(`kernel${i}`, { params: new Array(2 + buffers).fill('i32'), results: [] });
    module.define(index, body);
    module.exportFunction(`kernel${i}`, index);
  });
  return module.build();
}

/** A kernel in memory: `run` does the tiles [begin, end) on buffers at byte offsets of the memory. */
interface Instance {
  readonly memory: ArrayBuffer;
  run(begin: number, end: number, offsets: readonly number[]): void;
}

/** Something that runs kernels. */
export interface KernelMachine {
  readonly name: string;
  /** What tactics may use. */
  readonly features: readonly string[];
  /** Why it cannot run here. */
  readonly absent: string | undefined;
  /** `params` are the tactic's: lanes and instructions may be among them. */
  instantiate(emit: (asm: Asm) => void, buffers: number, bytes: number, params: Params): Instance;
}

function wasmMachine(name: string, relaxed: boolean): KernelMachine {
  return {
    name,
    features: [],
    absent: relaxed && !relaxedSimd() ? 'relaxed SIMD is off' : undefined,
    instantiate: (emit, buffers, bytes) => {
      const pages = Math.ceil(bytes / PAGE_BYTES);
      const asm = new WasmAsm(buffers, { relaxed });
      emit(asm);
      const code = moduleOf([asm.finish()], buffers, pages) as Uint8Array<ArrayBuffer>;
      const memory = new WebAssembly.Memory({ initial: pages });
      const instance = new WebAssembly.Instance(new WebAssembly.Module(code), { env: { memory } });
      const kernel = instance.exports.kernel0 as (...args: number[]) => void;
      return { memory: memory.buffer, run: (begin, end, offsets) => kernel(begin, end, ...offsets) };
    },
  };
}

/** Code is unmapped when its caller is gone. */
const unloading = new FinalizationRegistry<() => void>((free) => free());

const x64Machine = (name: string, features: readonly string[], absent: string | undefined): KernelMachine => ({
  name,
  features,
  absent,
  instantiate: (emit, buffers, bytes, params) => {
    const code = loadX64(emit, buffers, params.lanes === 16 ? 16 : 8, vnniOf(params));
    const memory = new ArrayBuffer(bytes);
    const base = addressOf(new Uint8Array(memory));
    const run: Instance['run'] = (begin, end, offsets) =>
      code.run(
        begin,
        end,
        offsets.map((offset) => base + offset),
      );
    unloading.register(run, code.free);
    return { memory, run };
  },
});
const X64 = x64Machine('x64-avx2', ['avx2', 'fma', 'bmi2'], withoutX64);
const X64_WIDE = x64Machine('x64-avx512', ['avx2', 'fma', 'bmi2', 'avx512f'], withoutWideX64);
const X64_VNNI = x64Machine('x64-avxvnni', ['avx2', 'fma', 'bmi2', 'avxvnni'], withoutVnni);
const X64_WIDE_VNNI = x64Machine('x64-avx512vnni', ['avx2', 'fma', 'bmi2', 'avx512f', 'avx512vnni'], withoutWideVnni);

export const WASM = wasmMachine('wasm-simd128', false);
export const WASM_RELAXED = wasmMachine('wasm-relaxed', true);
export const KERNEL_MACHINES: readonly KernelMachine[] = [WASM, WASM_RELAXED, X64, X64_WIDE];
/** Machines that differ in what they do with bytes only. */
export const BYTE_MACHINES: readonly KernelMachine[] = [X64_VNNI, X64_WIDE_VNNI];

/**
 * Inputs are copied from `inputs`, packed already where the tactic wants it; a buffer may be longer than the kernel says. `shared`: an out
 * buffer that lies where an in buffer does, which then holds that one's elements in place of the poison.
 */
export function loadKernel(
  kernel: Kernel,
  tactic: Pick<Tactic, 'template' | 'params'>,
  inputs: ReadonlyMap<string, TypedArray>,
  machine: KernelMachine,
  shared?: SharedPlace,
): LoadedKernel {
  let address = GAP_BYTES;
  const places = kernel.buffers.map((b) => {
    const { bytes, array } = DTYPES[b.dtype];
    const length = inputs.get(b.name)?.length ?? b.elements;
    const place = { ...b, address, length, array };
    address = Math.ceil((address + length * bytes + GAP_BYTES) / 64) * 64;
    return place;
  });
  const from = places.find(({ name }) => name === shared?.from);
  for (const place of places) if (from && place.name === shared?.to) place.address = from.address;
  const scratch = { address, bytes: templateOf(tactic).scratchBytes?.(kernel, tactic.params) ?? 0 };
  if (scratch.bytes > 0) address = Math.ceil((address + scratch.bytes + GAP_BYTES) / 64) * 64;
  const emit = (asm: Asm): void => emitKernel(asm, kernel, { ...tactic, predictedNs: 0 });
  const pointers = kernel.buffers.length + (scratch.bytes > 0 ? 1 : 0);
  const { memory, run } = machine.instantiate(emit, pointers, address + GAP_BYTES, tactic.params);
  const memoryBytes = new Uint8Array(memory).fill(POISON);
  const isGap = new Uint8Array(memoryBytes.length).fill(1);
  isGap.fill(0, scratch.address, scratch.address + scratch.bytes);
  const data = new Map<string, TypedArray>();
  for (const p of places) {
    const view = new p.array(memory, p.address, p.length);
    isGap.fill(0, p.address, p.address + view.byteLength);
    const input = inputs.get(p.name);
    if (input) view.set(input as never);
    data.set(p.name, view);
  }
  const addresses = [...places.map((p) => p.address), ...(scratch.bytes > 0 ? [scratch.address] : [])];
  return {
    data,
    run: (begin, end) => run(begin, end, addresses),
    damagedGaps: () => {
      const damaged: number[] = [];
      for (let i = 0; i < isGap.length; i++) if (isGap[i] && memoryBytes[i] !== POISON) damaged.push(i);
      return damaged;
    },
  };
}
