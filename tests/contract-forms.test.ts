/**
 * The contracts that products and convolutions become: their axes by role, which templates choose by.
 */
import { describe, expect, it } from 'vitest';
import type { Attrs } from '../src/graph/ir.ts';
import { OPS } from '../src/ops/all.ts';
import type { ContractSpec, Op } from '../src/ops/op.ts';
import { buildSpec, drawCase, type Layout } from './lowering-harness.ts';

function contractOf(
  name: string,
  shapes: readonly (readonly number[])[],
  attrs: Attrs = {},
  layout?: Layout,
): ContractSpec {
  const inputs = shapes.map((shape) => ({ dtype: 'f32', shape }) as const);
  const spec = buildSpec(drawCase(OPS.get(name) as Op, { name, inputs, attrs }), layout);
  if (!('finish' in spec)) throw new Error(`${name} became a ${spec.form.kind}`);
  return spec;
}
/** `batch 2 · m 5 · n 3 · k 7`. */
const roles = (spec: ContractSpec): string => spec.axes.map((a) => `${a.role} ${a.extent}`).join(' · ');

describe('MatMul', () => {
  it.each([
    ['a plain product', [5, 7], [7, 3], 'm 5 · n 3 · k 7'],
    ['batched rows times one matrix: one big product', [2, 5, 7], [7, 3], 'm 2 · m 5 · n 3 · k 7'],
    ['one matrix times a batch', [5, 7], [4, 7, 3], 'n 4 · m 5 · n 3 · k 7'],
    ['a batch of both', [2, 3, 5, 7], [2, 3, 7, 4], 'batch 2 · batch 3 · m 5 · n 4 · k 7'],
    ['batches that broadcast', [2, 1, 5, 7], [1, 3, 7, 4], 'm 2 · n 3 · m 5 · n 4 · k 7'],
    ['vectors', [7], [7], 'k 7'],
    ['a column', [5, 1], [1, 3], 'm 5 · n 3'],
  ])('%s', (_, a, b, expected) => {
    expect(roles(contractOf('MatMul', [a, b]))).toBe(expected);
  });
});

describe('Conv', () => {
  const channelsLast = 'channels-last';

  it('is a plain product where the window is one pixel', () => {
    const spec = contractOf(
      'Conv',
      [
        [1, 16, 4, 5],
        [8, 16, 1, 1],
      ],
      {},
      channelsLast,
    );
    expect(roles(spec)).toBe('m 4 · m 5 · n 8 · k 16');
    expect(spec.a.padded).toBe(false);
  });

  it('sums over the window, then over channels', () => {
    const spec = contractOf(
      'Conv',
      [
        [2, 16, 4, 5],
        [8, 16, 3, 3],
      ],
      { pads: [1, 1, 1, 1] },
      channelsLast,
    );
    expect(roles(spec)).toBe('m 2 · m 4 · m 5 · n 8 · k 3 · k 3 · k 16');
    expect(spec.a.padded).toBe(true);
  });

  it('is padded only where a tap can leave the input', () => {
    const reaches = contractOf(
      'Conv',
      [
        [1, 3, 7, 7],
        [4, 3, 3, 3],
      ],
      { pads: [0, 0, 1, 1], strides: [2, 2] },
    );
    expect(reaches.a.padded).toBe(false);
    expect(
      contractOf(
        'Conv',
        [
          [1, 3, 7, 7],
          [4, 3, 3, 3],
        ],
        { pads: [0, 0, 1, 1] },
      ).a.padded,
    ).toBe(true);
  });

  it('has the group as batch axis', () => {
    const spec = contractOf(
      'Conv',
      [
        [1, 6, 4, 5],
        [8, 3, 3, 1],
      ],
      { group: 2 },
      channelsLast,
    );
    expect(roles(spec)).toBe('m 2 · m 5 · batch 2 · n 4 · k 3 · k 3');
  });

  it('has the channel as batch axis where it is depthwise', () => {
    const spec = contractOf(
      'Conv',
      [
        [1, 6, 5, 5],
        [6, 1, 3, 3],
      ],
      { group: 6 },
      channelsLast,
    );
    expect(roles(spec)).toBe('m 3 · m 3 · batch 6 · k 3 · k 3');
  });
});

it('Gemm reads transposed operands in place', () => {
  const spec = contractOf('Gemm', [[7, 5], [3, 7], [3]], { transA: true, transB: true });
  expect(roles(spec)).toBe('m 5 · n 3 · k 7');
  const name = (role: string) => spec.axes.find((a) => a.role === role)?.name;
  expect(spec.a.at.map((c) => c.terms[0].axis)).toEqual([name('k'), name('m')]);
  expect(spec.b.at.map((c) => c.terms[0].axis)).toEqual([name('n'), name('k')]);
});

it('Einsum of two operands is the contract that its letters say', () => {
  const spec = contractOf(
    'Einsum',
    [
      [2, 3, 5, 4],
      [2, 3, 7, 4],
    ],
    { equation: 'bhid,bhjd->bhij' },
  );
  expect(roles(spec)).toBe('batch 2 · batch 3 · m 5 · n 7 · k 4');
});
