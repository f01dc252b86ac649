/** Features of the processor: rules on recorded answers of cpuid, and the real ones against what the system says. */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { openNativeSystem } from './native-system.ts';
import { processorKind } from './processor.ts';
import { featuresOf, readProcessorFeatures } from './processor-features.ts';

type Registers = Readonly<Record<'eax' | 'ebx' | 'ecx' | 'edx', number>>;
const ALL = 0xffffffff;
const ALL_BITS: Registers = { eax: ALL, ebx: ALL, ecx: ALL, edx: ALL };

/** A processor with every feature, but for what `change` says. */
const ask =
  (change: (leaf: number, subleaf: number) => Partial<Registers> = () => ({})) =>
  (leaf: number, subleaf: number): Registers => ({
    ...ALL_BITS,
    ...(leaf === 0 && { eax: 13 }),
    ...change(leaf, subleaf),
  });

describe('a feature needs the processor and the system', () => {
  test('all of both', () => {
    expect(featuresOf(ask(), () => 0xe7)).toEqual([
      ...['avx', 'f16c', 'fma', 'avx2', 'bmi2', 'avxvnni'],
      ...['avx512f', 'avx512dq', 'avx512bw', 'avx512vl', 'avx512vnni'],
    ]);
  });
  test('a system that saves no zmm', () => {
    expect(featuresOf(ask(), () => 0x07)).toEqual(['avx', 'f16c', 'fma', 'avx2', 'bmi2', 'avxvnni']);
  });
  test('a system that saves xmm only', () => {
    expect(featuresOf(ask(), () => 0x03)).toEqual(['bmi2']);
  });
  test('a system without XSAVE is not asked what it saves', () => {
    const noXsave = ask((leaf) => (leaf === 1 ? { ecx: ~(1 << 27) } : {}));
    expect(
      featuresOf(noXsave, () => {
        throw new Error('xgetbv is not there');
      }),
    ).toEqual([]);
  });
  test('a processor without leaf 7', () => {
    expect(
      featuresOf(
        ask((leaf) => (leaf === 0 ? { eax: 6 } : {})),
        () => 0xe7,
      ),
    ).toEqual(['avx', 'f16c', 'fma']);
  });
  test('a processor without subleaf 1 of leaf 7', () => {
    const features = featuresOf(
      ask((leaf, subleaf) => (leaf === 7 && subleaf === 0 ? { eax: 0 } : {})),
      () => 0x07,
    );
    expect(features).not.toContain('avxvnni');
    expect(features).toContain('avx2');
  });
});

const system = await openNativeSystem();
const CPUINFO = '/proc/cpuinfo';
/** Names that Linux gives to features of ours. */
const LINUX_NAMES: Readonly<Record<string, string>> = { avxvnni: 'avx_vnni', avx512vnni: 'avx512_vnni' };

test.skipIf(typeof system === 'string' || processorKind() !== 'x64' || !existsSync(CPUINFO))(
  'this processor has what the system says',
  () => {
    if (typeof system === 'string') return;
    const flags = new Set(/^flags\s*:(.*)$/m.exec(readFileSync(CPUINFO, 'utf8'))?.[1].trim().split(' '));
    const all = featuresOf(ask(), () => 0xe7);
    expect(readProcessorFeatures(system)).toEqual(all.filter((name) => flags.has(LINUX_NAMES[name] ?? name)));
  },
);
