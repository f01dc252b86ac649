/**
 * Runs one kernel as WebAssembly on plain typed arrays, for tests and benchmarks: no engine, no runtime, no threads.
 *
 * Buffers lie in the module's memory with gaps between them. Outputs and gaps are filled with a poison pattern first, so that an
 * element not written, and one written beyond its buffer, are both seen.
 */
import { DTYPES, type TypedArray } from '../../src/core/dtype.ts';
import type { Tactic } from '../../src/engine/engine.ts';
import type { Kernel } from '../../src/loop/ir.ts';
import { emitKernel } from '../../src/targets/cpu/emit.ts';
import { WasmAsm } from '../../src/targets/wasm/asm.ts';
import { ModuleBuilder } from '../../src/targets/wasm/module.ts';

const GAP_BYTES = 256;
/** A NaN as f32, f64 and f16; a large number as an integer. */
const POISON = 0xff;
const PAGE_BYTES = 65536;

export interface LoadedKernel {
  /** The buffers in the module's memory. */
  readonly data: ReadonlyMap<string, TypedArray>;
  /** Does the tiles [begin, end). */
  run(begin: number, end: number): void;
  /** Byte addresses between buffers that no longer hold the poison. */
  damagedGaps(): number[];
}

export function relaxedSimd(): boolean {
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

/** Inputs are copied from `inputs`, packed already where the tactic wants it; a buffer may be longer than the kernel says. */
export function loadKernel(
  kernel: Kernel,
  tactic: Pick<Tactic, 'template' | 'params'>,
  inputs: ReadonlyMap<string, TypedArray>,
  relaxed: boolean,
): LoadedKernel {
  let address = GAP_BYTES;
  const places = kernel.buffers.map((b) => {
    const { bytes, array } = DTYPES[b.dtype];
    const length = inputs.get(b.name)?.length ?? b.elements;
    const place = { ...b, address, length, array };
    address = Math.ceil((address + length * bytes + GAP_BYTES) / 64) * 64;
    return place;
  });
  const pages = Math.ceil((address + GAP_BYTES) / PAGE_BYTES);
  const asm = new WasmAsm(kernel.buffers.length, { relaxed });
  emitKernel(asm, kernel, { ...tactic, predictedNs: 0 });
  const bytes = moduleOf([asm.finish()], kernel.buffers.length, pages);
  const memory = new WebAssembly.Memory({ initial: pages });
  const module = new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>);
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  const kernelFunction = instance.exports.kernel0 as (...args: number[]) => void;
  const memoryBytes = new Uint8Array(memory.buffer).fill(POISON);
  const isGap = new Uint8Array(memoryBytes.length).fill(1);
  const data = new Map<string, TypedArray>();
  for (const p of places) {
    const view = new p.array(memory.buffer, p.address, p.length);
    isGap.fill(0, p.address, p.address + view.byteLength);
    const input = inputs.get(p.name);
    if (input) view.set(input as never);
    data.set(p.name, view);
  }
  const addresses = places.map((p) => p.address);
  return {
    data,
    run: (begin, end) => kernelFunction(begin, end, ...addresses),
    damagedGaps: () => {
      const damaged: number[] = [];
      for (let i = 0; i < isGap.length; i++) if (isGap[i] && memoryBytes[i] !== POISON) damaged.push(i);
      return damaged;
    },
  };
}
