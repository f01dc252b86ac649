import { expect, test } from 'vitest';
import { kernelCost } from './cost.ts';
import { parseKernel } from './parse.ts';

test.each<[string, string, { flops: number; bytesRead: number; bytesWritten: number }]>([
  [
    'a map counts its operations a point, not its index arithmetic',
    'kernel k = map (in x: f32[128], out y: f32[128]) for i < 128 { y[i * 1 + 0] = max(x[127 - i], 0) }',
    { flops: 128, bytesRead: 512, bytesWritten: 512 },
  ],
  [
    'a contract is two operations a product; padding is not counted',
    `kernel k = contract f32 (in x: f32[8], in w: f16[3], out y: f32[8]) for m o < 8, k r < 3
       a x[o + r - 1 < 8 stride 1 pad]  b w[r < 3 stride 1] { y[o] = acc }`,
    { flops: 48, bytesRead: 38, bytesWritten: 32 },
  ],
  [
    'a broadcast element is read once, an unread buffer never',
    'kernel k = map (in x: f32[1], in z: f32[64], out y: f32[64]) for i < 64 { y[i] = x[0] }',
    { flops: 0, bytesRead: 4, bytesWritten: 256 },
  ],
  [
    'a shared subexpression counts once',
    `kernel k = map (in x: f32[4], out y: f32[4]) for i < 4 {
       y[i] = (#1 = x[i] + 1 - 2 + 3 - 4) * #1 }`,
    { flops: 4 * 5, bytesRead: 16, bytesWritten: 16 },
  ],
  [
    'an empty space costs nothing',
    'kernel k = map (in x: f32[4], out y: f32[4]) for i < 0 { y[i] = x[i] }',
    { flops: 0, bytesRead: 0, bytesWritten: 0 },
  ],
])('%s', (_name, text, cost) => expect(kernelCost(parseKernel(text))).toEqual(cost));
