/**
 * What this processor can execute, asked of it by the `cpuid` instruction in a few bytes of code made here.
 *
 * A feature counts where the processor has it and the system saves the registers that it needs (XGETBV, register XCR0).
 * Leaves and bits: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A, CPUID; volume 1, 13.3 and 14.3.
 */
import type { NativeCalls, NativeSystem } from './native-types.ts';

/** Features that code may be made for, weakest first, by the names that compilers give them. */
export type ProcessorFeature =
  | 'avx'
  | 'f16c'
  | 'fma'
  | 'avx2'
  | 'bmi2'
  | 'avxvnni'
  | 'avx512f'
  | 'avx512dq'
  | 'avx512bw'
  | 'avx512vl'
  | 'avx512vnni';

type Register = 'eax' | 'ebx' | 'ecx' | 'edx';

/** Bits of XCR0: the system saves ymm, and opmasks with all of zmm. */
const YMM_STATE = 0x06;
const ZMM_STATE = 0xe6;
const NO_STATE = 0;

interface Row {
  readonly name: ProcessorFeature;
  readonly leaf: number;
  readonly subleaf: number;
  readonly register: Register;
  readonly bit: number;
  readonly state: number;
}

const row = (name: ProcessorFeature, at: string, state: number): Row => {
  const [leaf, subleaf, register, bit] = at.split(' ');
  return {
    name,
    leaf: Number(leaf),
    subleaf: Number(subleaf),
    register: register as Register,
    bit: Number(bit),
    state,
  };
};

const FEATURES: readonly Row[] = [
  row('avx', '1 0 ecx 28', YMM_STATE),
  row('f16c', '1 0 ecx 29', YMM_STATE),
  row('fma', '1 0 ecx 12', YMM_STATE),
  row('avx2', '7 0 ebx 5', YMM_STATE),
  row('bmi2', '7 0 ebx 8', NO_STATE),
  row('avxvnni', '7 1 eax 4', YMM_STATE),
  row('avx512f', '7 0 ebx 16', ZMM_STATE),
  row('avx512dq', '7 0 ebx 17', ZMM_STATE),
  row('avx512bw', '7 0 ebx 30', ZMM_STATE),
  row('avx512vl', '7 0 ebx 31', ZMM_STATE),
  row('avx512vnni', '7 0 ecx 11', ZMM_STATE),
];

/** Where arguments come in: leaf to eax, subleaf to ecx, out to r8. */
const CPUID_ARGUMENTS: Readonly<Record<NativeCalls['convention'], readonly number[]>> = {
  systemv: [
    ...[0x49, 0x89, 0xd0], // mov r8, rdx
    ...[0x89, 0xf8], // mov eax, edi
    ...[0x89, 0xf1], // mov ecx, esi
  ],
  windows: [
    ...[0x89, 0xc8], // mov eax, ecx
    ...[0x89, 0xd1], // mov ecx, edx
  ],
};
/** cpuid(leaf, subleaf, out): the four registers to out[0..3]. */
const cpuidCode = (convention: NativeCalls['convention']): Uint8Array =>
  new Uint8Array([
    ...[0x53], // push rbx
    ...CPUID_ARGUMENTS[convention],
    ...[0x0f, 0xa2], // cpuid
    ...[0x41, 0x89, 0x00], // mov [r8], eax
    ...[0x41, 0x89, 0x58, 0x04], // mov [r8+4], ebx
    ...[0x41, 0x89, 0x48, 0x08], // mov [r8+8], ecx
    ...[0x41, 0x89, 0x50, 0x0c], // mov [r8+12], edx
    ...[0x5b], // pop rbx
    ...[0xc3], // ret
  ]);
/** The low half of XCR0. */
const XGETBV = new Uint8Array([
  ...[0x31, 0xc9], // xor ecx, ecx
  ...[0x0f, 0x01, 0xd0], // xgetbv
  ...[0xc3], // ret
]);
const XGETBV_OFFSET = 64;
const CODE_BYTES = 4096;

/** OSXSAVE: the system uses XSAVE, and xgetbv may be executed. */
const OSXSAVE_BIT = 27;

/** In the order of the table. Throws Error where the system refuses executable memory. */
export function readProcessorFeatures(system: NativeSystem): ProcessorFeature[] {
  const { ffi } = system;
  const code = system.mapPages(CODE_BYTES);
  try {
    system.write(code, cpuidCode(system.calls.convention));
    system.write(code + XGETBV_OFFSET, XGETBV);
    system.makeExecutable(code, CODE_BYTES);
    const cpuid = ffi.functionAt(code, 'void', ['int', 'int', 'void *']);
    const xgetbv = ffi.functionAt(code + XGETBV_OFFSET, 'int', []);
    return featuresOf((leaf, subleaf) => {
      const [eax, ebx, ecx, edx] = callCpuid(cpuid, leaf, subleaf);
      return { eax, ebx, ecx, edx };
    }, xgetbv);
  } finally {
    system.unmapPages(code, CODE_BYTES);
  }
}

function callCpuid(cpuid: (...args: (number | Uint32Array)[]) => number, leaf: number, subleaf: number): Uint32Array {
  const out = new Uint32Array(4);
  cpuid(leaf, subleaf, out);
  return out;
}

const hasBit = (value: number, bit: number): boolean => ((value >>> bit) & 1) === 1;

/** The features that answers of cpuid and XCR0 tell. */
export function featuresOf(
  cpuid: (leaf: number, subleaf: number) => Readonly<Record<Register, number>>,
  xgetbv: () => number,
): ProcessorFeature[] {
  if (!hasBit(cpuid(1, 0).ecx, OSXSAVE_BIT)) return [];
  const saved = xgetbv();
  const leaves = cpuid(0, 0).eax;
  // A subleaf above the last one that leaf 7 has would answer for another.
  const subleaves = leaves >= 7 ? cpuid(7, 0).eax : 0;
  return FEATURES.filter(
    ({ leaf, subleaf, register, bit, state }) =>
      leaf <= leaves &&
      (leaf !== 7 || subleaf <= subleaves) &&
      (saved & state) === state &&
      hasBit(cpuid(leaf, subleaf)[register], bit),
  ).map(({ name }) => name);
}
