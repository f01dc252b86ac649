/** Kernels over small dtypes compute the same when they are written over u8 and i8: every element to every dtype, and what stands around a cast. */
import { expect, test } from 'vitest';
import { hash } from '../../tests/random.ts';
import { DTYPES, type DType, isBigInt, isFloat, storageOf, type TypedArray } from '../core/dtype.ts';
import { decodeScalar, encodeScalar } from '../core/tensor.ts';
import { encodeSmall } from './encode-small.ts';
import { evalKernel } from './eval.ts';
import { add, axis, binary, cast, constant, load, local, select } from './expr.ts';
import type { Expr, Kernel, Stmt } from './ir.ts';
import { verifyKernel } from './verify.ts';

const ALL = Object.keys(DTYPES) as DType[];
const SMALL = ALL.filter((d) => storageOf(d) !== d);
const PAIRS = ALL.flatMap((from) => ALL.map((to) => [from, to] as const)).filter(
  ([from, to]) => from !== to && [from, to].some((d) => SMALL.includes(d)),
);

function mapKernel(from: DType, to: DType, elements: number, body: (x: Expr) => readonly Stmt[]): Kernel {
  return {
    name: 'map',
    form: { kind: 'map' },
    buffers: [
      { name: 'x', dtype: from, elements, role: 'in' },
      { name: 'y', dtype: to, elements, role: 'out' },
    ],
    axes: [{ name: 'i', extent: elements }],
    body: body(load('x', from, axis('i'))),
  };
}
const store = (value: Expr): Stmt => ({ kind: 'store', buffer: 'y', index: axis('i'), value });

/** All bit patterns of a small dtype; ties, ends and random values of another. */
function samples(dtype: DType): TypedArray {
  const { array, bits, min, max } = DTYPES[dtype];
  if (bits !== undefined) {
    const first = isFloat(dtype) ? 0 : Number(min);
    return array === Int8Array
      ? Int8Array.from({ length: 2 ** bits }, (_, i) => first + i)
      : Uint8Array.from({ length: 2 ** bits }, (_, i) => i);
  }
  const floats = [
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    -0,
    464,
    465,
    -61440,
    2 ** -10,
    3e-39,
  ];
  const random = Array.from({ length: 300 }, (_, i) => (hash(3, i) - 0.5) * 2 ** (20 * hash(4, i) - 4));
  const ends = isBigInt(dtype) ? [] : [Number(min), Number(max)];
  const values = [0, 1, 2.5, 3.5, 5, 7, 8, 15, 16, ...ends, ...(isFloat(dtype) ? floats : []), ...random];
  const data = new array(values.length);
  for (const [i, v] of values.entries()) data[i] = encodeScalar(dtype, isFloat(dtype) ? v : Math.trunc(v)) as never;
  return data;
}

/** Elements of y, with each NaN as one. */
function run(kernel: Kernel, x: TypedArray): number[] {
  verifyKernel(kernel);
  const { dtype } = kernel.buffers[1];
  const y = new DTYPES[dtype].array(x.length).fill((isBigInt(dtype) ? 77n : 77) as never);
  evalKernel(
    kernel,
    new Map([
      ['x', x],
      ['y', y],
    ]),
    { rounding: 'each' },
  );
  return Array.from(y as Uint8Array, Number);
}

test.each(PAIRS)('%s to %s', (from, to) => {
  const x = samples(from);
  const kernel = mapKernel(from, to, x.length, (e) => [store(cast(to, e))]);
  const encoded = encodeSmall(kernel);
  for (const { dtype } of encoded.buffers) expect(storageOf(dtype)).toBe(dtype);
  expect(run(encoded, x)).toEqual(run(kernel, x));
});

// No operator computes in these dtypes, so what infinities do there is nobody's rule.
test.each(SMALL)('%s in locals, choices, constants and arithmetic', (dtype) => {
  const isInfinite = (v: number): boolean => Math.abs(Number(decodeScalar(dtype, v))) === Number.POSITIVE_INFINITY;
  const x = (samples(dtype) as Uint8Array).filter((v) => !isInfinite(v));
  const kernel = mapKernel(dtype, dtype, x.length, (e) => [
    { kind: 'let', local: 'a', dtype, value: select(binary('lt', e, constant(dtype, 1)), constant(dtype, 0), e) },
    { kind: 'let', local: 'b', dtype, value: add(local('a', dtype), e) },
    store(local('b', dtype)),
  ]);
  expect(run(encodeSmall(kernel), x)).toEqual(run(kernel, x));
});
