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
    'an attend computes a score once, whatever the number of values',
    `kernel k = attend f32 nan (in q: f32[12], in k: f32[20], in v: f32[10], out y: f32[6])
       for query s < 3, value e < 2, key t < 5, inner d < 4
       q q[s < 3 stride 4, d < 4 stride 1]  k k[t < 5 stride 4, d < 4 stride 1]  v v[t < 5 stride 2, e < 2 stride 1] {
         let score: f32 = dot * 0.5
       } { y[s * 2 + e] = acc }`,
    { flops: 15 * (2 * 4 + 2 * 2 + 18 + 1), bytesRead: 4 * (12 + 20 + 10), bytesWritten: 24 },
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
