import { expect, it } from 'vitest';
import { parseKernel } from '../../loop/parse.ts';
import { planNest } from './nest-plan.ts';

it('without an axis for the lanes the innermost loop stays in the lines that it has touched, and is no tile of its own', () => {
  const kernel =
    parseKernel(`kernel k = map (in x: f32[98304], in z: f32[98304], out y: f32[98304]) for i < 32, j < 96, l < 32 {
    y[l + i * 3072 + j * 32] = x[j + l * 3072 + i * 96] + z[l * 3072 + i * 96 + j]
  }`);
  const { lanes, tileAxes, innerAxes, tiles } = planNest(kernel, 4);
  expect(lanes).toBeUndefined();
  expect(tileAxes.map((a) => a.extent)).toEqual([32]);
  expect(innerAxes.map((a) => a.extent)).toEqual([32 * 96]);
  expect(tiles).toBe(32);
});
