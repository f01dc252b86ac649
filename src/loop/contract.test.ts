import { expect, test } from 'vitest';
import { accessGuard, accessIndex, contractKernel } from './contract.ts';
import { evalKernel } from './eval.ts';
import { axis, cast, index, load, local } from './expr.ts';
import type { Access, Affine, Buffer, Contract } from './ir.ts';

const at = (terms: Record<string, number>, constant = 0): Affine => ({
  terms: Object.entries(terms).map(([name, coef]) => ({ axis: name, coef })),
  constant,
});

/** A convolution over one row with padding, one channel in, n channels out. */
function convolution(size: number, taps: number, channels: number, stride: number, pad: number) {
  const out = Math.floor((size + 2 * pad - taps) / stride) + 1;
  const a: Access = {
    buffer: 'x',
    dims: [{ at: at({ o: stride, k: 1 }, -pad), extent: size, stride: 1, padded: pad > 0 }],
  };
  const b: Access = {
    buffer: 'w',
    dims: [
      { at: at({ c: 1 }), extent: channels, stride: taps, padded: false },
      { at: at({ k: 1 }), extent: taps, stride: 1, padded: false },
    ],
  };
  const form: Contract = {
    kind: 'contract',
    axes: [
      { name: 'k', extent: taps, role: 'k' },
      { name: 'o', extent: out, role: 'm' },
      { name: 'c', extent: channels, role: 'n' },
    ],
    a,
    b,
    acc: 'f32',
    epilogue: [
      {
        kind: 'store',
        buffer: 'y',
        index: { kind: 'binary', dtype: 'i32', op: 'add', a: axis('o'), b: index(0) },
        value: local('acc', 'f32'),
      },
    ],
  };
  return { form, out };
}

test.each([
  [7, 3, 1, 1, 1],
  [8, 3, 1, 2, 1],
  [5, 5, 1, 1, 4],
  [9, 1, 1, 3, 0],
])('size %i, %i taps, %i channels, stride %i, pad %i equals the direct sum', (size, taps, channels, stride, pad) => {
  const { form, out } = convolution(size, taps, channels, stride, pad);
  const buffers: Buffer[] = [
    { name: 'x', dtype: 'f32', elements: size, role: 'in' },
    { name: 'w', dtype: 'f32', elements: taps * channels, role: 'in' },
    { name: 'y', dtype: 'f32', elements: out, role: 'out' },
  ];
  const kernel = contractKernel('contract_f32', buffers, form);
  expect(kernel.axes.map((a) => a.name)).toEqual(['o', 'c']);
  const x = Float32Array.from({ length: size }, (_, i) => i + 1);
  const w = Float32Array.from({ length: taps }, (_, i) => 2 * i - 1);
  const y = new Float32Array(out);
  evalKernel(
    kernel,
    new Map([
      ['x', x],
      ['w', w],
      ['y', y],
    ]),
  );
  const wanted = Array.from({ length: out }, (_, o) =>
    w.reduce((sum, tap, k) => sum + tap * (x[o * stride + k - pad] ?? 0), 0),
  );
  expect([...y]).toEqual(wanted);
});

test('i8 operands are widened before the product', () => {
  const form: Contract = {
    kind: 'contract',
    axes: [
      { name: 'i', extent: 1, role: 'm' },
      { name: 'k', extent: 3, role: 'k' },
    ],
    a: { buffer: 'x', dims: [{ at: at({ k: 1 }), extent: 3, stride: 1, padded: false }] },
    b: { buffer: 'w', dims: [{ at: at({ k: 1 }), extent: 3, stride: 1, padded: false }] },
    acc: 'i32',
    epilogue: [{ kind: 'store', buffer: 'y', index: axis('i'), value: local('acc', 'i32') }],
  };
  const y = new Int32Array(1);
  const kernel = contractKernel(
    'contract_i8',
    [
      { name: 'x', dtype: 'i8', elements: 3, role: 'in' },
      { name: 'w', dtype: 'u8', elements: 3, role: 'in' },
      { name: 'y', dtype: 'i32', elements: 1, role: 'out' },
    ],
    form,
  );
  evalKernel(
    kernel,
    new Map<string, Int8Array | Uint8Array | Int32Array>([
      ['x', Int8Array.of(-128, 127, 100)],
      ['w', Uint8Array.of(255, 255, 200)],
      ['y', y],
    ]),
  );
  expect(y[0]).toBe(-128 * 255 + 127 * 255 + 100 * 200);
});

test('an access without padding has no guard; its index is the sum of coordinate · stride', () => {
  const access: Access = {
    buffer: 'w',
    dims: [
      { at: at({ c: 1 }), extent: 4, stride: 3, padded: false },
      { at: at({ k: 2 }, 1), extent: 9, stride: 1, padded: false },
    ],
  };
  expect(accessGuard(access)).toBeUndefined();
  const kernel = {
    name: 'move',
    form: { kind: 'move' },
    buffers: [
      { name: 'w', dtype: 'i32', elements: 12, role: 'in' },
      { name: 'y', dtype: 'i64', elements: 4, role: 'out' },
    ],
    axes: [
      { name: 'c', extent: 2 },
      { name: 'k', extent: 2 },
    ],
    body: [
      {
        kind: 'store',
        buffer: 'y',
        index: { kind: 'binary', dtype: 'i32', op: 'add', a: axis('c'), b: axis('k') },
        value: cast('i64', load('w', 'i32', accessIndex(access))),
      },
    ],
  } as const;
  const y = new BigInt64Array(4);
  evalKernel(
    kernel,
    new Map<string, Int32Array | BigInt64Array>([
      ['w', Int32Array.from({ length: 12 }, (_, i) => i)],
      ['y', y],
    ]),
  );
  expect([...y]).toEqual([1n, 4n, 6n, 0n]);
});
