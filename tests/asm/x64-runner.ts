/** Runs a program written against `Asm` as machine code on this processor, over a given memory; says why not where it cannot. */
import { openNativeSystem } from '../../src/host/native-system.ts';
import type { NativeSystem } from '../../src/host/native-types.ts';
import { type ProcessorFeature, readProcessorFeatures } from '../../src/host/processor-features.ts';
import type { Asm } from '../../src/targets/cpu/asm.ts';
import { X64Asm } from '../../src/targets/x64/asm.ts';
import type { VectorLanes } from '../../src/targets/x64/builder.ts';
import type { Vnni } from '../../src/targets/x64/byte-ops.ts';
import { Encoder } from '../../src/targets/x64/encode.ts';
import { BASE_FEATURES, WIDE_FEATURES } from '../../src/targets/x64/machine.ts';

async function open(): Promise<NativeSystem | string> {
  if (process.arch !== 'x64') return `this is ${process.arch}`;
  const system = await openNativeSystem();
  if (typeof system === 'string') return system;
  const missing = lacking(system, BASE_FEATURES);
  return missing ?? system;
}

function lacking(system: NativeSystem, needed: readonly ProcessorFeature[]): string | undefined {
  const features = readProcessorFeatures(system);
  const missing = needed.filter((feature) => !features.includes(feature));
  return missing.length > 0 ? `the processor lacks ${missing.join(', ')}` : undefined;
}

const system = await open();
/** Why machine code cannot run here, of 8 lanes and of 16; undefined where it can. */
export const withoutX64: string | undefined = typeof system === 'string' ? system : undefined;
export const withoutWideX64: string | undefined = typeof system === 'string' ? system : lacking(system, WIDE_FEATURES);
/** And dot products of bytes, with AVX-512 and without. */
export const withoutWideVnni: string | undefined =
  typeof system === 'string' ? system : lacking(system, [...WIDE_FEATURES, 'avx512vnni']);
export const withoutVnni: string | undefined = typeof system === 'string' ? system : lacking(system, ['avxvnni']);

export interface LoadedCode {
  /** Calls kernel(begin, end, buffer addresses). */
  run(begin: number, end: number, addresses: readonly number[]): void;
  free(): void;
}

/** Where an array's first byte lies. */
export function addressOf(array: ArrayBufferView): number {
  return machine().ffi.addressOf(array);
}

function machine(): NativeSystem {
  if (typeof system === 'string') throw new Error(system);
  return system;
}

export function loadX64(program: (asm: Asm) => void, buffers: number, lanes: VectorLanes = 8, vnni?: Vnni): LoadedCode {
  const native = machine();
  const encoder = new Encoder();
  const asm = new X64Asm(encoder, buffers, lanes, vnni);
  program(asm);
  const entry = asm.finish();
  const bytes = encoder.finish();
  const address = native.mapPages(bytes.length);
  native.write(address, bytes);
  native.makeExecutable(address, bytes.length);
  const kernel = native.ffi.functionAt(address + encoder.offsetOf(entry), 'void', ['int', 'int', 'void *']);
  return {
    run: (begin, end, addresses) => {
      kernel(begin, end, BigInt64Array.from(addresses, BigInt));
    },
    free: () => native.unmapPages(address, bytes.length),
  };
}

/** memory becomes what the kernel leaves; args are begin, end and where the buffers lie in it. */
export function runX64(
  program: (asm: Asm) => void,
  memory: ArrayBuffer,
  args: readonly number[],
  lanes: VectorLanes = 8,
  vnni?: Vnni,
): void {
  const [begin, end, ...offsets] = args;
  const code = loadX64(program, offsets.length, lanes, vnni);
  try {
    const base = addressOf(new Uint8Array(memory));
    const addresses = offsets.map((offset) => base + offset);
    code.run(begin, end, addresses);
  } finally {
    code.free();
  }
}
