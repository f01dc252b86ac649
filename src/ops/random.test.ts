/**
 * That generated numbers are distributed as they say, and what they depend on.
 */
import { describe, expect, it } from 'vitest';
import { fromNumbers, type Tensor, toNumbers } from '../core/tensor.ts';
import { graphBuilder } from '../graph/build.ts';
import { evalGraph } from '../graph/eval.ts';
import type { Attrs } from '../graph/ir.ts';
import { OPS } from './all.ts';

const COUNT = 20_000;

function draw(op: string, attrs: Attrs, input?: Tensor): readonly number[] {
  const b = graphBuilder('random', OPS);
  const inputs = input ? [b.input('x', input.dtype, input.shape)] : [];
  b.output(b.node(op, inputs, { attrs, outputs: ['y'] })[0]);
  return Array.from(toNumbers(evalGraph(b.finish(), OPS, new Map(input && [['x', input]])).get('y')!));
}

const meanOf = (values: readonly number[]): number => values.reduce((sum, v) => sum + v, 0) / values.length;
function moments(values: readonly number[]): {
  readonly mean: number;
  readonly deviation: number;
  readonly lag: number;
} {
  const mean = meanOf(values);
  const deviation = Math.sqrt(meanOf(values.map((v) => (v - mean) ** 2)));
  const lag = meanOf(values.slice(1).map((v, i) => (v - mean) * (values[i] - mean))) / deviation ** 2;
  return { mean, deviation, lag };
}

/** Five standard errors of a mean of COUNT numbers of deviation 1: a right generator fails one seed in a million. */
const BOUND = 5 / Math.sqrt(COUNT);

describe('random numbers', () => {
  it.each([1, 2, 77])('are normal, seed %s', (seed) => {
    const { mean, deviation, lag } = moments(draw('RandomNormal', { seed, shape: [COUNT], mean: 3, scale: 2 }));
    expect(Math.abs(mean - 3) / 2).toBeLessThan(BOUND);
    expect(Math.abs(deviation / 2 - 1)).toBeLessThan(BOUND);
    expect(Math.abs(lag)).toBeLessThan(BOUND);
  });
  it.each([1, 2, 77])('are uniform, seed %s', (seed) => {
    const values = draw('RandomUniform', { seed, shape: [COUNT], low: -1, high: 3 });
    const { mean, deviation, lag } = moments(values);
    expect(Math.min(...values)).toBeGreaterThanOrEqual(-1);
    expect(Math.max(...values)).toBeLessThanOrEqual(3);
    expect(Math.abs(mean - 1)).toBeLessThan(4 * BOUND);
    expect(Math.abs(deviation / (4 / Math.sqrt(12)) - 1)).toBeLessThan(BOUND);
    expect(Math.abs(lag)).toBeLessThan(BOUND);
  });
  it('are 1 as often as Bernoulli is told', () => {
    const p = fromNumbers('f32', [COUNT], new Array<number>(COUNT).fill(0.2));
    expect(Math.abs(meanOf(draw('Bernoulli', { seed: 9 }, p)) - 0.2)).toBeLessThan(BOUND);
  });
  it('are classes as often as their probabilities say', () => {
    const logits = fromNumbers('f32', [1, 3], [Math.log(0.5), Math.log(0.2), Math.log(0.3)]);
    const classes = draw('Multinomial', { seed: 3, sample_size: COUNT }, logits);
    for (const [c, p] of [0.5, 0.2, 0.3].entries()) {
      expect(Math.abs(classes.filter((v) => v === c).length / COUNT - p)).toBeLessThan(BOUND);
    }
  });
  it('depend on the seed, and on nothing else', () => {
    const attrs = { shape: [100] };
    expect(draw('RandomNormal', { ...attrs, seed: 1 })).toEqual(draw('RandomNormal', { ...attrs, seed: 1 }));
    const other = draw('RandomNormal', { ...attrs, seed: 2 });
    const same = draw('RandomNormal', { ...attrs, seed: 1 }).filter((v, i) => v === other[i]);
    expect(same).toEqual([]);
  });
});
