import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DTYPES, type DType, isBigInt, isDType, isFloat, storageOf } from './dtype.ts';
import { Bug } from './errors.ts';
import {
  byteLength,
  decodeScalar,
  encodeScalar,
  fromNumbers,
  printType,
  scalarTensor,
  tensor,
  tensorBytes,
  toNumbers,
  zeros,
} from './tensor.ts';

const ALL = Object.keys(DTYPES) as DType[];

describe('tensors', () => {
  it('hold whole numbers of every dtype exactly', () => {
    const dtype = fc.constantFrom(...ALL.filter((d) => d !== 'bool' && storageOf(d) === d));
    fc.assert(
      fc.property(dtype, fc.array(fc.integer({ min: 0, max: 127 })), (d, values) => {
        const t = fromNumbers(d, [values.length], values);
        expect(Array.from(toNumbers(t))).toEqual(values);
        expect(t.data).toBeInstanceOf(DTYPES[d].array);
        expect(tensorBytes(t)).toHaveLength(byteLength(t));
        for (const [i, x] of values.entries()) expect(Number(decodeScalar(d, t.data[i]))).toBe(x);
      }),
    );
  });

  it('round, wrap and truncate as the dtype does', () => {
    expect(Array.from(toNumbers(fromNumbers('f16', [2], [1 / 3, 1e6])))).toEqual([
      0.333251953125,
      Number.POSITIVE_INFINITY,
    ]);
    expect(Array.from(toNumbers(fromNumbers('i8', [2], [200, -129])))).toEqual([-56, 127]);
    expect(Array.from(toNumbers(fromNumbers('bool', [3], [0, 5, Number.NaN])))).toEqual([0, 1, 0]);
    expect(fromNumbers('i64', [2], [2.9, -2.9]).data).toEqual(BigInt64Array.of(2n, -2n));
    expect(encodeScalar('i64', 2n ** 60n)).toBe(2n ** 60n);
  });

  it('have as many elements as their shape says', () => {
    expect(zeros('f64', [2, 0, 3]).data).toHaveLength(0);
    expect(zeros('u8', [])).toEqual(scalarTensor('u8', 0));
    expect(tensor('f32', [2], Float32Array.of(1, 2)).shape).toEqual([2]);
    expect(() => tensor('f32', [3], Float32Array.of(1, 2))).toThrow(Bug);
    expect(() => tensor('f32', [2], Float64Array.of(1, 2))).toThrow(/Float64Array\(2\) is no data for f32\[2\]/);
  });

  it('give their bytes without a copy, from views too', () => {
    const whole = Float32Array.of(1, 2, 3);
    const t = tensor('f32', [2], whole.subarray(1));
    tensorBytes(t).fill(0);
    expect([...whole]).toEqual([1, 0, 0]);
  });
});

describe('dtypes', () => {
  it('have consistent rows', () => {
    for (const d of ALL) {
      const info = DTYPES[d];
      expect(info.bytes).toBe(new info.array(1).byteLength);
      expect(isFloat(d)).toBe(info.kind === 'float');
      expect(typeof new info.array(1)[0]).toBe(isBigInt(d) ? 'bigint' : 'number');
      const limits = fromNumbers(d, [2], [Number(info.min), Number(info.max)]);
      if (!isBigInt(d)) expect(Array.from(toNumbers(limits))).toEqual([info.min, info.max]);
    }
  });

  it('are recognised by name', () => {
    expect(ALL.every(isDType)).toBe(true);
    expect(['float', 'toString', '', 'F32'].some(isDType)).toBe(false);
    expect(printType({ dtype: 'f32', shape: [1, 3] })).toBe('f32[1,3]');
  });
});
