import fc from 'fast-check';
import { expect, test } from 'vitest';
import { randomBuffers, randomContract, randomKernel } from '../../tests/random-kernel.ts';
import type { DType, TypedArray } from '../core/dtype.ts';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from '../core/float16.ts';
import { decodeScalar } from '../core/tensor.ts';
import { evalKernel } from './eval.ts';
import { add, axis, cast, constant, load } from './expr.ts';
import { emulateHalves, isHalf, roundOnStore } from './halves.ts';
import type { Expr, Kernel } from './ir.ts';
import { printKernel } from './print.ts';
import { verifyKernel } from './verify.ts';

const elementwise = (from: DType, to: DType, elements: number, value: (x: Expr) => Expr): Kernel => ({
  name: 'k',
  form: { kind: 'map' },
  buffers: [
    { name: 'x', dtype: from, elements, role: 'in' },
    { name: 'y', dtype: to, elements, role: 'out' },
  ],
  axes: [{ name: 'i', extent: elements }],
  body: [{ kind: 'store', buffer: 'y', index: axis('i'), value: value(load('x', from, axis('i'))) }],
});

test('only the store rounds', () => {
  const twice = elementwise('f16', 'f16', 4, (x) => add(cast('f16', add(cast('f32', x), cast('f32', x))), x));
  expect(printKernel(roundOnStore(twice))).toContain('y[i] = f16(f32(x[i]) + f32(x[i]) + f32(x[i]))');
  const plain = elementwise('f32', 'f32', 4, (x) => add(x, x));
  expect(roundOnStore(plain)).toBe(plain);
});

test('2048 + 1.25 + 1.25 is 2050 rounded once, and 2052 rounded each time', () => {
  const more = (x: Expr): Expr => cast('f16', add(cast('f32', x), constant('f32', 1.25)));
  const kernel = elementwise('f16', 'f16', 1, (x) => more(more(x)));
  const run = (k: Kernel): number => {
    const y = new Uint16Array(1);
    evalKernel(
      k,
      new Map([
        ['x', Uint16Array.of(numberToF16(2048))],
        ['y', y],
      ]),
    );
    return f16ToNumber(y[0]);
  };
  expect(run(kernel)).toBe(2052);
  expect(run(roundOnStore(kernel))).toBe(2050);
});

/** Every kind of f32: ties between halves, numbers beside them, subnormals, what overflows and what just does not, infinities, NaN. */
function awkward(): Float32Array {
  const values: number[] = [
    0,
    -0,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    65504,
    65519.996,
    65520,
    3e38,
  ];
  for (const exponent of [-40, -26, -25, -24, -20, -15, -14, -13, -1, 0, 1, 10, 15, 16]) {
    for (const mantissa of [
      1,
      1 + 2 ** -11,
      1 + 3 * 2 ** -11,
      1 + 2 ** -11 + 2 ** -23,
      1.5,
      1 + 2 ** -8,
      1 + 3 * 2 ** -8,
      2 - 2 ** -23,
    ])
      values.push(mantissa * 2 ** exponent, -mantissa * 2 ** exponent);
  }
  return Float32Array.from(values);
}

test.each([
  ['f16', f16ToNumber, numberToF16],
  ['bf16', bf16ToNumber, numberToBf16],
] as const)('emulated %s stores round as the dtype does', (dtype, decode, encode) => {
  const x = awkward();
  const y = new Float32Array(x.length).fill(7);
  evalKernel(
    emulateHalves(elementwise('f32', dtype, x.length, (v) => v)),
    new Map([
      ['x', x],
      ['y', y],
    ]),
  );
  for (const [i, v] of x.entries()) expect(y[i], String(v)).toBe(decode(encode(v)));
});

test('emulated kernels compute what kernels that round where they store do', () => {
  const numbers = (dtype: DType, data: TypedArray): unknown[] =>
    Array.from(data as Float32Array, (v) => (isHalf(dtype) ? decodeScalar(dtype, v) : v));
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      for (const kernel of [randomKernel(seed), randomContract(seed)]) {
        const once = roundOnStore(kernel);
        const emulated = emulateHalves(kernel);
        verifyKernel(once);
        verifyKernel(emulated);
        expect(emulated.buffers.some((b) => isHalf(b.dtype))).toBe(false);
        const buffers = randomBuffers(kernel, seed);
        const wide = new Map(
          kernel.buffers.map(({ name, dtype }) => {
            const data = buffers.get(name) as TypedArray;
            return [name, isHalf(dtype) ? Float32Array.from(numbers(dtype, data) as number[]) : data.slice()] as const;
          }),
        );
        evalKernel(once, buffers, { rounding: 'each' });
        evalKernel(emulated, wide as ReadonlyMap<string, TypedArray>, { rounding: 'each' });
        for (const { name, dtype, role } of kernel.buffers) {
          if (role !== 'out') continue;
          const got = wide.get(name) as TypedArray;
          expect(Array.from(got as Float32Array), printKernel(kernel)).toEqual(
            numbers(dtype, buffers.get(name) as TypedArray),
          );
        }
      }
    }),
    { numRuns: 300 },
  );
});
