/** Whether native code can run here, and what for: asked of the processor and the system once. */
import { openNativeSystem } from '../../host/native-system.ts';
import type { NativeSystem } from '../../host/native-types.ts';
import { processorKind } from '../../host/processor.ts';
import { type ProcessorFeature, readProcessorFeatures } from '../../host/processor-features.ts';

/** What the assembler's code needs of a processor, and what it needs more for 16 lanes: all of it or none. */
export const BASE_FEATURES: readonly ProcessorFeature[] = ['avx', 'avx2', 'fma', 'f16c', 'bmi2'];
export const WIDE_FEATURES: readonly ProcessorFeature[] = ['avx512f', 'avx512dq', 'avx512bw', 'avx512vl'];

/** A machine that can run native code. */
export interface X64Machine {
  readonly system: NativeSystem;
  readonly features: readonly ProcessorFeature[];
}

let finding: Promise<X64Machine | string> | undefined;
let found: readonly ProcessorFeature[] = [];

/** This machine, or the reason why it cannot run native code. Asked once. */
export function x64Machine(): Promise<X64Machine | string> {
  finding ??= findMachine();
  return finding;
}

/** Empty until the machine was asked for, and where it cannot run native code. */
export const x64Features = (): readonly ProcessorFeature[] => found;

async function findMachine(): Promise<X64Machine | string> {
  const kind = processorKind();
  if (kind !== 'x64') return `the processor is ${kind ?? 'not known'}, not x64`;
  const system = await openNativeSystem();
  if (typeof system === 'string') return system;
  try {
    const features = readProcessorFeatures(system);
    const lacking = BASE_FEATURES.filter((feature) => !features.includes(feature));
    if (lacking.length > 0) return `the processor lacks ${lacking.join(', ')}`;
    const isWide = WIDE_FEATURES.every((feature) => features.includes(feature));
    const more = features.filter((feature) => feature === 'avxvnni' || (isWide && feature === 'avx512vnni'));
    found = [...BASE_FEATURES, ...(isWide ? WIDE_FEATURES : []), ...more];
    return { system, features: found };
  } catch (cause) {
    return cause instanceof Error ? cause.message : String(cause);
  }
}
