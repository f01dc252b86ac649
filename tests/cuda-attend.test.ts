/**
 * Attention on tensor cores without a GPU: each row of tiles is emitted, taken by ptxas where that program is present, and interpreted,
 * against softmax row by row in float64: odd tails, shared heads, masks, rows without a key, keys split over warps and blocks.
 *
 * Tolerance: inputs are multiples of 1/64 in [-2, 2], exact in both half types. A weight is rounded once, so a mean of values up to 2 is off
 * by half a unit of a number up to 2, a result (with its bias up to 4) by half a unit of 4 where it is stored; scores are sums in f32.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DTYPES, type TypedArray } from '../src/core/dtype.ts';
import { decodeScalar, encodeScalar } from '../src/core/tensor.ts';
import type { Kernel } from '../src/loop/ir.ts';
import { attend } from '../src/targets/cuda/attend.ts';
import { chipFeatures } from '../src/targets/cuda/machine.ts';
import type { Chip } from '../src/targets/cuda/program.ts';
import type { Params } from '../src/targets/target.ts';
import { assemble, ptxasIsPresent } from './ptx/ptxas.ts';
import { CHIPS, emitTactic, runTactic } from './ptx/run-kernel.ts';
import { hash } from './random.ts';
import { type AttendShape, attendOf, expectedAttend } from './support/attend-kernels.ts';

const PTXAS = ptxasIsPresent();
const [, SM80, SM90] = CHIPS;
const NO_FACTS = { constant: new Set<string>() };

const UNIT = { f16: 2 ** -11, bf16: 2 ** -8 };
const withinOf = (dtype: 'f16' | 'bf16'): number => UNIT[dtype] * (2 + 4) + 1e-4;

type HalfShape = AttendShape & { readonly dtype: 'f16' | 'bf16' };

const shapes = (): fc.Arbitrary<HalfShape> =>
  fc.record({
    batch: fc.constantFrom(1, 2),
    heads: fc.constantFrom(1, 3),
    group: fc.constantFrom(1, 2),
    queries: fc.constantFrom(1, 2, 5, 16, 17, 29),
    keys: fc.constantFrom(1, 2, 7, 16, 31, 49, 64, 97, 150),
    inner: fc.constantFrom(8, 32, 40),
    value: fc.constantFrom(8, 32, 40),
    layout: fc.constantFrom('heads', 'tokens'),
    mask: fc.constantFrom('none', 'key', 'full', 'head', 'bool'),
    scale: fc.constantFrom(1, 0.125),
    empty: fc.constantFrom('nan', 'zero'),
    epilogue: fc.constantFrom('none', 'bias-relu'),
    dtype: fc.constantFrom('f16', 'bf16'),
  });

/** Numbers as f32, and as the kernel reads them. `hide` of 64 masked places are -inf. */
function inputsOf(kernel: Kernel, seed: number, hide: number) {
  const wide = new Map<string, TypedArray>();
  const narrow = new Map<string, TypedArray>();
  for (const [i, { name, dtype, elements, role }] of kernel.buffers.entries()) {
    if (role === 'out') continue;
    const data = Float32Array.from({ length: elements }, (_, j) => {
      const x = Math.floor(256 * hash(seed + i, j));
      if (name === 'mask' && x % 64 < hide) return dtype === 'bool' ? 0 : Number.NEGATIVE_INFINITY;
      return dtype === 'bool' ? 1 : x / 64 - 2;
    });
    wide.set(name, data);
    const raw = new DTYPES[dtype].array(elements) as Uint16Array;
    for (const [j, x] of data.entries()) raw[j] = Number(encodeScalar(dtype, x));
    narrow.set(name, raw);
  }
  return { wide, narrow };
}

const tacticsOf = (kernel: Kernel, chip: Chip): readonly Params[] =>
  attend.candidates(kernel, NO_FACTS, chipFeatures(chip));

function check(shape: HalfShape, chip: Chip, params: Params, seed: number, hide = 12): void {
  const kernel = attendOf(shape);
  const { wide, narrow } = inputsOf(kernel, seed, hide);
  const emitted = emitTactic(kernel, { template: 'attend', params }, chip);
  const label = `${JSON.stringify({ ...shape, params })} on sm_${chip.computeCapability}`;
  const expected = expectedAttend(shape, wide);
  for (const outputs of runTactic(kernel, emitted, narrow)) {
    const y = outputs.get('y') as TypedArray;
    for (const [i, want] of expected.entries()) {
      const got = Number(decodeScalar(shape.dtype, y[i]));
      if (Number.isNaN(want) ? Number.isNaN(got) : Math.abs(got - want) <= withinOf(shape.dtype)) continue;
      expect.fail(`${label}: y[${i}] is ${got}, expected ${want}`);
    }
  }
}

const NETWORKS: readonly (readonly [name: string, shape: Partial<HalfShape>])[] = [
  ['ViT', { heads: 2, queries: 37, keys: 197, inner: 64, value: 64, layout: 'tokens' }],
  ['Swin', { batch: 2, heads: 2, queries: 49, keys: 49, inner: 32, value: 32, layout: 'tokens', mask: 'head' }],
  ['BERT', { heads: 2, queries: 20, keys: 128, inner: 64, value: 64, layout: 'tokens', mask: 'key' }],
  ['Whisper', { heads: 1, queries: 33, keys: 300, inner: 64, value: 64 }],
  ['head of 80', { heads: 1, queries: 21, keys: 77, inner: 80, value: 80 }],
  ['head of 128', { heads: 1, group: 4, queries: 5, keys: 131, inner: 128, value: 128, mask: 'bool' }],
  ['decoding', { heads: 1, group: 4, queries: 1, keys: 515, inner: 64, value: 64, mask: 'full' }],
];
const PLAIN: HalfShape = {
  batch: 1,
  heads: 1,
  group: 1,
  queries: 16,
  keys: 16,
  inner: 64,
  value: 64,
  layout: 'heads',
  mask: 'none',
  scale: 0.125,
  empty: 'nan',
  epilogue: 'none',
  dtype: 'f16',
};

describe('attention on tensor cores', () => {
  it('takes generated shapes, each by some of its rows of tiles', () => {
    fc.assert(
      fc.property(shapes(), fc.constantFrom(SM80, SM90), fc.nat(), fc.nat(), (shape, chip, pick, seed) => {
        const rows = tacticsOf(attendOf(shape), chip);
        expect(rows.length).toBeGreaterThan(0);
        check(shape, chip, rows[pick % rows.length], seed, pick % 3 === 0 ? 40 : 12);
      }),
      { numRuns: 30 },
    );
  });

  it.each(NETWORKS)('%s: keys by one block and by several', (name, part) => {
    const shape = { ...PLAIN, ...part };
    const rows = tacticsOf(attendOf(shape), SM90);
    // One of each number of blocks that share the keys, each network's another.
    for (const split of [1, 2, 4, 8]) {
      const own = rows.filter((r) => r.split === split);
      if (own.length > 0) check(shape, SM90, own[(7 * split + name.length) % own.length], 5);
    }
  });

  it.skipIf(!PTXAS)('ptxas takes every row for sm_80 and sm_90', () => {
    for (const [, part] of NETWORKS) {
      const kernel = attendOf({ ...PLAIN, ...part });
      for (const chip of [SM80, SM90]) {
        const rows = tacticsOf(kernel, chip).filter((_, i) => i % 9 === 0);
        for (const params of rows) {
          const { program } = emitTactic(kernel, { template: 'attend', params }, chip);
          for (const text of program.modules) expect(assemble(text, /\.target (\S+)/.exec(text)![1])).toBe('');
        }
      }
    }
  });

  it('refuses what it cannot read in 16 bytes, f32, and chips without cp.async', () => {
    const none = (shape: AttendShape, chip = SM90, facts = NO_FACTS) =>
      expect(attend.candidates(attendOf(shape), facts, chipFeatures(chip))).toEqual([]);
    none({ ...PLAIN, inner: 20 });
    none({ ...PLAIN, value: 12 });
    none({ ...PLAIN, layout: 'turned' });
    none({ ...PLAIN, dtype: 'f32' });
    none({ ...PLAIN, queries: 0 });
    none(PLAIN, CHIPS[0]);
    none(PLAIN, SM90, { constant: new Set(), unaligned: new Set(['k']) } as typeof NO_FACTS);
  });
});
