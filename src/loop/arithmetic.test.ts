import { expect, test } from 'vitest';
import type { DType, Scalar } from '../core/dtype.ts';
import { binaryFn, bitcastFn, castFn, identity, roundEven, unaryFn } from './arithmetic.ts';
import type { BinaryOp, UnaryOp } from './ir.ts';

test.each<[BinaryOp, DType, Scalar, Scalar, Scalar]>([
  ['add', 'i32', 2 ** 31 - 1, 1, -(2 ** 31)],
  ['add', 'u8', 255, 2, 1],
  ['mul', 'i32', 65537, 65537, 131073],
  ['mul', 'u32', 0xffffffff, 0xffffffff, 1],
  ['mul', 'i64', 2n ** 62n, 4n, 0n],
  ['sub', 'u64', 0n, 1n, 2n ** 64n - 1n],
  ['div', 'i32', -7, 2, -3],
  ['div', 'i32', -(2 ** 31), -1, -(2 ** 31)],
  ['div', 'i64', 5n, 0n, 0n],
  ['floordiv', 'i32', -7, 2, -4],
  ['floordiv', 'i64', -7n, 2n, -4n],
  ['floordiv', 'i64', 6n, -2n, -3n],
  ['mod', 'i32', -7, 3, 2],
  ['mod', 'i64', -7n, 3n, 2n],
  ['mod', 'i32', 7, -3, -2],
  ['mod', 'f32', -7.5, 3, 1.5],
  ['mod', 'f32', 7.5, -3, -1.5],
  ['rem', 'i32', -7, 3, -1],
  ['rem', 'i64', -7n, 3n, -1n],
  ['pow', 'i32', 3, 4, 81],
  ['pow', 'i32', 2, -1, 0],
  ['pow', 'i64', -1n, -3n, -1n],
  ['pow', 'f32', 1, Number.NaN, 1],
  ['pow', 'f32', -1, Number.POSITIVE_INFINITY, 1],
  ['min', 'f32', Number.NaN, 1, Number.NaN],
  ['max', 'f32', -0, 0, 0],
  ['shr', 'i32', -8, 1, -4],
  ['shr', 'u32', 2 ** 31, 31, 1],
  ['shr', 'i8', -8, 1, -4],
  ['shl', 'i8', 64, 1, -128],
  ['lt', 'u64', 1n, 2n, 1],
  ['lt', 'f32', Number.NaN, 1, 0],
  ['xor', 'bool', 1, 1, 0],
])('%s on %s: %s, %s is %s', (op, dtype, a, b, wanted) => expect(binaryFn(op, dtype)?.(a, b)).toBe(wanted));

test.each<[UnaryOp, DType, Scalar, Scalar]>([
  ['neg', 'i8', -128, -128],
  ['abs', 'i64', -(2n ** 63n), -(2n ** 63n)],
  ['sign', 'u8', 200, 1],
  ['sign', 'f32', -0, -0],
  ['bitnot', 'u16', 0, 65535],
  ['isinf', 'f32', Number.NEGATIVE_INFINITY, 1],
])('%s on %s: %s is %s', (op, dtype, x, wanted) => expect(unaryFn(op, dtype)?.(x)).toBe(wanted));

test.each([
  [0.5, 0],
  [1.5, 2],
  [2.5, 2],
  [-0.5, -0],
  [-1.5, -2],
  [-0.2, -0],
  [-0, -0],
  [2 ** 53, 2 ** 53],
  [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
  [Number.NaN, Number.NaN],
])('%d rounds to %d', (x, wanted) => expect(roundEven(x)).toBe(wanted));

test.each<[DType, DType, Scalar, Scalar]>([
  ['f32', 'i8', 300.7, 127],
  ['f32', 'i8', -1.9, -1],
  ['f32', 'u8', -3, 0],
  ['f32', 'i32', Number.NaN, 0],
  ['f64', 'i64', 1e300, 2n ** 63n - 1n],
  ['f32', 'i32', -0.5, 0],
  ['i32', 'i8', 200, -56],
  ['i64', 'u32', -1n, 2 ** 32 - 1],
  ['i32', 'u64', -1, 2n ** 64n - 1n],
  ['f64', 'f16', 1.0001, 1],
  ['i32', 'f32', 2 ** 24 + 1, 2 ** 24],
  ['f32', 'bool', Number.NaN, 1],
  ['i64', 'bool', 0n, 0],
])('%s to %s: %s is %s', (from, to, x, wanted) => expect(castFn(from, to)(x)).toBe(wanted));

test('bits, identities, and what does not exist', () => {
  expect(bitcastFn('f32', 'i32')?.(1)).toBe(0x3f800000);
  expect(bitcastFn('i64', 'f64')?.(0x3ff0000000000000n)).toBe(1);
  expect(bitcastFn('f32', 'i64')).toBeUndefined();
  expect([identity('add', 'i64'), identity('mul', 'f32'), identity('min', 'f32'), identity('max', 'u8')]).toEqual([
    0n,
    1,
    Number.POSITIVE_INFINITY,
    0,
  ]);
  expect(unaryFn('exp', 'i32')).toBeUndefined();
  expect(binaryFn('add', 'bool')).toBeUndefined();
});
