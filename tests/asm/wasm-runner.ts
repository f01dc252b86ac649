/** Runs a program written against `Asm` as a WebAssembly kernel over a given memory. */
import { setFlagsFromString } from 'node:v8';
import type { Asm } from '../../src/targets/cpu/asm.ts';
import { WasmAsm } from '../../src/targets/wasm/asm.ts';
import { ModuleBuilder } from '../../src/targets/wasm/module.ts';

setFlagsFromString('--experimental-wasm-relaxed-simd');

/** The module of one kernel: imports env.memory, exports `kernel`. */
export function assembleKernel(
  program: (asm: Asm) => void,
  buffers: number,
  relaxed: boolean,
): Uint8Array<ArrayBuffer> {
  const asm = new WasmAsm(buffers, { relaxed });
  program(asm);
  const module = new ModuleBuilder();
  module.importMemory('env', 'memory', { min: 1 });
  const kernel = module.declare('kernel', { params: asm.params.map(() => 'i32'), results: [] });
  module.define(kernel, asm.finish());
  module.exportFunction('kernel', kernel);
  return new Uint8Array(module.build());
}

/** memory is read and replaced by what the kernel leaves; args are begin, end and the buffers' addresses. */
export function runWasm(
  program: (asm: Asm) => void,
  memory: ArrayBuffer,
  args: readonly number[],
  relaxed: boolean,
): void {
  const machine = new WebAssembly.Memory({ initial: Math.ceil(memory.byteLength / 65536) });
  new Uint8Array(machine.buffer).set(new Uint8Array(memory));
  const module = new WebAssembly.Module(assembleKernel(program, args.length - 2, relaxed));
  const instance = new WebAssembly.Instance(module, { env: { memory: machine } });
  (instance.exports.kernel as (...args: number[]) => void)(...args);
  new Uint8Array(memory).set(new Uint8Array(machine.buffer, 0, memory.byteLength));
}
