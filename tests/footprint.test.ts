import { expect, test } from 'vitest';
import { footprint, touchedBytes } from '../src/loop/footprint.ts';
import { parseKernel } from '../src/loop/parse.ts';
import { kernelAt } from '../src/lower/at-sizes.ts';

const CONVOLUTION = `kernel k = contract f32 (in x: f32[64], in w: f32[3], out y: f32[64], in sizes: i32[1])
  for m n < 8 upto sizes[0], m o < 8, k r < 3
  a x[n < 8 stride 8, o + r - 1 < 8 stride 1 pad]  b w[r < 3 stride 1] { y[n * 8 + o] = acc }`;

test.each<[string, string, Record<string, number>]>([
  [
    'a convolution touches all of its operands, each element once',
    CONVOLUTION.replace(' upto sizes[0]', ''),
    { x: 64, w: 3, y: 64 },
  ],
  [
    'an access touches as many elements as the axes of its index have points',
    'kernel k = map (in x: f32[64], in z: f32[9], out y: f32[64]) for i < 4, j < 8 { y[i * 8 + j] = x[j] + z[0] }',
    { x: 8, z: 1, y: 32 },
  ],
  [
    'what memory says of places is unknown, and may be everywhere',
    'kernel k = map (in x: f32[64], in at: i32[4], out y: f32[4]) for i < 4 { y[i] = x[at[i]] }',
    { x: 64, at: 4, y: 4 },
  ],
])('%s', (_, text, touched) => {
  expect(Object.fromEntries(footprint(parseKernel(text)))).toEqual(touched);
});

test('a kernel at some of its open sizes touches less than its buffers hold', () => {
  const kernel = parseKernel(CONVOLUTION);
  expect(touchedBytes(kernelAt(kernel, [8]), (buffer) => buffer !== 'sizes')).toBe(4 * (64 + 3 + 64));
  expect(Object.fromEntries(footprint(kernelAt(kernel, [1])))).toEqual({ x: 8, w: 3, y: 8 });
});
