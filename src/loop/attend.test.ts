import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type AttendShape, attendOf, expectedAttend } from '../../tests/support/attend-kernels.ts';
import { DTYPES, type TypedArray } from '../core/dtype.ts';
import { clampIndices } from './clamp-indices.ts';
import { evalKernel } from './eval.ts';
import type { Attend, Kernel } from './ir.ts';
import { legalizeKernel } from './legalize.ts';
import { parseKernel } from './parse.ts';
import { kernelKey, printKernel } from './print.ts';
import { simplifyKernel } from './simplify.ts';
import { findFaults, verifyKernel } from './verify.ts';

const SHAPE: AttendShape = {
  batch: 2,
  heads: 2,
  group: 1,
  queries: 3,
  keys: 5,
  inner: 4,
  value: 3,
  layout: 'heads',
  mask: 'none',
  scale: 0.5,
  empty: 'nan',
  epilogue: 'none',
};

const shapes = (): fc.Arbitrary<AttendShape> =>
  fc.record({
    batch: fc.constantFrom(1, 2),
    heads: fc.constantFrom(1, 3),
    group: fc.constantFrom(1, 2),
    queries: fc.constantFrom(0, 1, 2, 5),
    keys: fc.constantFrom(1, 2, 7),
    inner: fc.constantFrom(1, 3, 8),
    value: fc.constantFrom(1, 5),
    layout: fc.constantFrom('heads', 'tokens', 'turned'),
    mask: fc.constantFrom('none', 'key', 'full', 'head', 'bool'),
    scale: fc.constantFrom(1, 0.125),
    empty: fc.constantFrom('nan', 'zero'),
    epilogue: fc.constantFrom('none', 'bias-relu'),
  });

/** Inputs of small numbers; masks hide some keys. */
function buffersOf(kernel: Kernel, seed: number): Map<string, TypedArray> {
  let state = seed | 0;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  };
  return new Map(
    kernel.buffers.map((b) => {
      const data = new DTYPES[b.dtype].array(b.elements) as Float32Array;
      data.forEach((_, i) => {
        data[i] = b.role === 'out' ? Number.NaN : b.dtype === 'bool' ? Number(next() > -0.3) : next() * 2;
      });
      if (b.name === 'mask' && b.dtype === 'f32')
        data.forEach((x, i) => {
          if (x > 1) data[i] = Number.NEGATIVE_INFINITY;
        });
      return [b.name, data];
    }),
  );
}

/**
 * Sums of so few products of numbers below 2 in f64, rounded once, err by a unit of 2^-24; with each operation rounded, by as many as there
 * are in a row. Rows that are no numbers agree exactly.
 */
function expectClose(got: TypedArray, wanted: Float64Array, within = 1e-6): void {
  const far = [...wanted].findIndex((y, i) => {
    const x = Number(got[i]);
    return Number.isNaN(y) ? !Number.isNaN(x) : !(Math.abs(x - y) <= within * Math.max(1, Math.abs(y)));
  });
  expect(far < 0 ? undefined : `element ${far} is ${got[far]}, expected ${wanted[far]}`).toBeUndefined();
}

test('attends are what softmax row by row gives, valid, and as text the same', () => {
  fc.assert(
    fc.property(shapes(), fc.integer(), (shape, seed) => {
      const kernel = attendOf(shape);
      verifyKernel(kernel);
      expect(parseKernel(printKernel(kernel))).toEqual(kernel);
      if (shape.queries > 0) expect(clampIndices(kernel)).toBe(kernel);
      const buffers = buffersOf(kernel, seed);
      evalKernel(kernel, buffers);
      expectClose(buffers.get('y') as TypedArray, expectedAttend(shape, buffers));
    }),
    { numRuns: 200 },
  );
});

test('simplified and legalized attends compute the same', () => {
  fc.assert(
    fc.property(shapes(), fc.integer(), (shape, seed) => {
      const kernel = attendOf(shape);
      const simple = simplifyKernel(kernel);
      verifyKernel(simple);
      const legal = legalizeKernel(simple, { unary: new Set(['neg', 'floor']), binary: new Set() });
      const buffers = buffersOf(kernel, seed);
      const wanted = expectedAttend(shape, buffers);
      for (const [k, rounding, within] of [
        [simple, 'store', 1e-6],
        [legal, 'each', 1e-5],
      ] as const) {
        (buffers.get('y') as TypedArray).fill(Number.NaN as never);
        evalKernel(k, buffers, { rounding });
        expectClose(buffers.get('y') as TypedArray, wanted, within);
      }
    }),
    { numRuns: 60 },
  );
});

test.each([
  ['huge scores', (b: Map<string, TypedArray>) => b.get('q')?.fill(1e18 as never)],
  ['a NaN among the keys', (b: Map<string, TypedArray>) => b.get('k')?.fill(Number.NaN as never, 3, 4)],
  ['a score of inf', (b: Map<string, TypedArray>) => b.get('mask')?.fill(Number.POSITIVE_INFINITY as never, 1, 2)],
  ['the least finite mask', (b: Map<string, TypedArray>) => b.get('mask')?.fill(-3.4028234663852886e38 as never)],
  ['all keys masked', (b: Map<string, TypedArray>) => b.get('mask')?.fill(Number.NEGATIVE_INFINITY as never)],
  [
    'the first keys masked',
    (b: Map<string, TypedArray>) => b.get('mask')?.fill(Number.NEGATIVE_INFINITY as never, 0, 4),
  ],
])('%s', (_, spoil) => {
  for (const empty of ['nan', 'zero'] as const) {
    const shape: AttendShape = { ...SHAPE, mask: 'key', empty };
    const kernel = attendOf(shape);
    const buffers = buffersOf(kernel, 7);
    spoil(buffers);
    evalKernel(kernel, buffers);
    expectClose(buffers.get('y') as TypedArray, expectedAttend(shape, buffers));
  }
});

test('text and faults', () => {
  const kernel = attendOf({ ...SHAPE, batch: 1, heads: 1, mask: 'full', empty: 'zero' });
  expect(printKernel(kernel).split('\n')).toEqual([
    'kernel attend_f32_1x1x1x3x3 = attend f32 zero (in q: f32[12], in k: f32[20], in v: f32[15], in mask: f32[15], out y: f32[9]) for batch b < 1, batch h < 1, query g < 1, query s < 3, value e < 3, key t < 5, inner d < 4',
    '  q q[b < 1 stride 12, h < 1 stride 12, g < 1 stride 12, s < 3 stride 4, d < 4 stride 1]',
    '  k k[b < 1 stride 20, h < 1 stride 20, t < 5 stride 4, d < 4 stride 1]',
    '  v v[b < 1 stride 15, h < 1 stride 15, t < 5 stride 3, e < 3 stride 1] {',
    '  let score: f32 = dot * 0.5 + mask[s * 5 + t]',
    '} {',
    '  y[b * 9 + h * 9 + g * 9 + s * 3 + e] = acc',
    '}',
  ]);
  const faultsOf = (form: Partial<Attend>): string =>
    findFaults({ ...kernel, form: { ...(kernel.form as Attend), ...form } })
      .map((f) => f.message)
      .join('; ');
  const { k, score } = kernel.form as Attend;
  expect(faultsOf({})).toBe('');
  expect(faultsOf({ empty: 'nan' })).toContain('is not the one that the form of the attend implies');
  expect(faultsOf({ q: k })).toContain('depends on "t"');
  expect(faultsOf({ k: { ...k, buffer: 'none' } })).toContain('no buffer');
  expect(faultsOf({ score: score.map((s) => ({ ...s, local: 'sum' }) as (typeof score)[number]) })).toContain(
    'sets "sum"',
  );
  expect(() => parseKernel(printKernel(kernel).replace('key t', 'value t'))).toThrow('one axis of keys');
  expect(kernelKey(kernel)).not.toBe(kernelKey(attendOf({ ...SHAPE, batch: 1, heads: 1, mask: 'full' })));
});
