import fc from 'fast-check';
import { expect, test } from 'vitest';
import { randomBuffers, randomContract, randomKernel } from '../../tests/random-kernel.ts';
import { Bug } from '../core/errors.ts';
import { evalKernel } from './eval.ts';
import { axis, constant } from './expr.ts';
import type { Kernel } from './ir.ts';
import { parseKernel } from './parse.ts';
import { findFaults, verifyKernel } from './verify.ts';

test('random kernels and contracts are valid, and run', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      for (const kernel of [randomKernel(seed), randomContract(seed)]) {
        verifyKernel(kernel);
        evalKernel(kernel, randomBuffers(kernel, seed));
      }
    }),
    { numRuns: 500 },
  );
});

const map = (body: string, axes = ' for i < 8'): Kernel =>
  parseKernel(`kernel k = map (in x: f32[8], in n: i64[8], in s: f16[4], out y: f32[8])${axes} {\n${body}\n}`);

test.each([
  ['y[i] = x[7 - i]'],
  ['for j < 2 { let a: f32 = x[i]\n y[i] = a }'],
  ['y[i] = select(i - 4 >= 0 && i - 4 < 4, f32(s[i - 4]), 0)'],
  ['y[i] = select(i < 4, f32(s[i]), x[i])'],
  ['if i >= 4 { y[i] = f32(s[i - 4]) }'],
  ['y[(i * 3 + 1) % 8] = x[i // 2]'],
  ['y[i] = x[i32(n[i])]'],
  ['let a: i32 = i + 100\n y[a % 8] = x[i + i - i]'],
])('valid: %s', (body) => expect(findFaults(map(body))).toEqual([]));

test.each([
  ['y[i] = x[i + 1]', 'i + 1 is 1 to 8, "x" has 8 elements'],
  ['y[i - 1] = 0', 'i - 1 is -1 to 6'],
  ['y[i] = x[i // 2 + 8]', 'is 8 to 11'],
  ['y[i] = x[i * 2147483647 * 3]', '"x" has 8 elements'],
  ['x[i] = 0', 'no out buffer'],
  ['y[i] = y[i]', 'no in buffer'],
  ['y[i] = f32(q)', 'no such axis here'],
  ['if i < 2 { let a: f32 = 1 }\n y[i] = a', 'may be read before it is set'],
  ['let a: f32 = 1\n let a: i32 = 1\n y[i] = x[i]', '"a" is f32 elsewhere'],
  ['let i: i32 = 1\n y[0] = x[0]', 'name of an axis'],
  ['for i < 2 { y[i] = 0 }', 'stands inside another'],
  ['y[i] = x[i] + f32(1:f64) * s[i]', 'mul of f32 and f16'],
  ['y[n[i]] = 0', 'n[i] is i64, expected i32'],
  ['y[i] = bitand(x[i], x[i])', 'no bitand of f32'],
  ['y[i] = f32(exp(i))', 'no exp of i32'],
  ['y[i] = f32(bitcast(i32, n[i]))', 'no bitcast from i64 to i32'],
  ['reduce a: bool = add over k < 3 of k < 2\n y[i] = f32(a)', 'no reduction add on bool'],
])('invalid: %s', (body, message) => {
  const kernel = map(body);
  expect(
    findFaults(kernel)
      .map((f) => f.message)
      .join('\n'),
  ).toContain(message);
  expect(() => verifyKernel(kernel)).toThrow(Bug);
});

test('nothing runs in an empty space, so nothing is out of range', () => {
  expect(findFaults(map('y[i + 100] = 0', ' for i < 0'))).toEqual([]);
});

test('the report marks the bad line', () => {
  expect(() => verifyKernel(map('let a: f32 = x[0]\n y[i] = x[i + 1]'))).toThrow(
    /let a: f32 = x\[0\]\n {2}y\[i\] = x\[i \+ 1\]\n {2}\^ i \+ 1 is 1 to 8/,
  );
});

const contract = (a: string, b = 'w[k < 3 stride 1]'): Kernel =>
  parseKernel(`kernel c = contract f32 (in x: f32[8], in w: f32[3], out y: f32[8])
    for m o < 8, n c < 1, k k < 3 a ${a} b ${b} { y[o] = acc }`);

test.each([
  ['x[o + k < 8 stride 1]', 'leaves its extent 8 and is not padded'],
  ['x[o + k - 1 < 9 stride 1 pad]', 'reaches elements 0 to 8'],
  ['x[o + c < 8 stride 1]', 'depends on "c"'],
  ['x[k < 3 stride -1]', 'reaches elements -2 to 0'],
])('invalid contract: %s', (a, message) => {
  expect(
    findFaults(contract(a))
      .map((f) => f.message)
      .join('\n'),
  ).toContain(message);
});

test('a contract whose body is not its own is a fault', () => {
  const kernel = contract('x[o + k - 1 < 8 stride 1 pad]');
  expect(findFaults(kernel)).toEqual([]);
  const store = { kind: 'store', buffer: 'y', index: axis('o'), value: constant('f32', 0) } as const;
  expect(findFaults({ ...kernel, body: [store] })[0].message).toContain('not the one');
});
