/**
 * Convolutions of few channels, packed, against the same ones as they were: random windows, from runs that do not fit to ones that do.
 * Both are evaluated in float64, so they differ by the order of sums alone.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { randomTensor } from '../../tests/random.ts';
import { type Tensor, toNumbers } from '../core/tensor.ts';
import { graphBuilder } from '../graph/build.ts';
import { evalGraph } from '../graph/eval.ts';
import type { Graph } from '../graph/ir.ts';
import { packChannels } from '../passes/pack-channels.ts';
import { OPS } from './all.ts';

interface Case {
  readonly x: readonly number[];
  readonly filters: number;
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly pads: readonly number[];
}

const dim = (channels: number, spatial: number): fc.Arbitrary<Case> =>
  fc
    .record({
      batch: fc.integer({ min: 0, max: 2 }),
      filters: fc.integer({ min: 1, max: 3 }),
      dims: fc.array(
        fc.record({
          size: fc.integer({ min: 1, max: 13 }),
          kernel: fc.integer({ min: 1, max: 7 }),
          stride: fc.integer({ min: 1, max: 5 }),
          before: fc.integer({ min: 0, max: 3 }),
          after: fc.integer({ min: 0, max: 3 }),
        }),
        { minLength: spatial, maxLength: spatial },
      ),
    })
    .filter(({ dims }) => dims.every((d) => d.size + d.before + d.after >= d.kernel))
    .map(({ batch, filters, dims }) => ({
      x: [batch, channels, ...dims.map((d) => d.size)],
      filters,
      kernel: dims.map((d) => d.kernel),
      strides: dims.map((d) => d.stride),
      pads: [...dims.map((d) => d.before), ...dims.map((d) => d.after)],
    }));

const cases = fc
  .tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 3 }))
  .chain(([channels, spatial]) => dim(channels, spatial));

function convGraph({ x, filters, kernel, strides, pads }: Case): Graph {
  const b = graphBuilder('conv', OPS);
  const weight = b.constant(randomTensor('f32', [filters, x[1], ...kernel], 5), 'w');
  const bias = b.constant(randomTensor('f32', [filters], 6), 'b');
  const [y] = b.node('Conv', [b.input('x', 'f32', x), weight, bias], { attrs: { strides, pads }, outputs: ['y'] });
  b.output(y);
  return b.finish();
}

const valuesOf = (graph: Graph, x: Tensor): number[] =>
  Array.from(toNumbers(evalGraph(graph, OPS, new Map([['x', x]])).get('y') as Tensor), Number);

const pack = (graph: Graph, channelRun: number): Graph =>
  packChannels(graph, { ops: OPS, computes: new Set(['f32']), channelRun, onWarning: () => {} });

it('a packed convolution gives what it gave', () => {
  let packed = 0;
  fc.assert(
    fc.property(cases, fc.constantFrom(4, 8), (c, run) => {
      const before = convGraph(c);
      const after = pack(before, run);
      if (after === before) return;
      packed++;
      expect(after.values.get(after.nodes[0].outputs[0])?.shape[1] as number).toSatisfy((n: number) => n % run === 0);
      const x = randomTensor('f32', c.x, 7);
      const wanted = valuesOf(before, x);
      // Sums of at most 9·7³ products of numbers near 1, rounded to f32 once.
      for (const [i, y] of valuesOf(after, x).entries())
        expect(Math.abs(y - wanted[i])).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(wanted[i])));
    }),
    { numRuns: 300 },
  );
  expect(packed).toBeGreaterThan(20);
});

it('takes the stems of networks, and what would multiply zeros above all it leaves', () => {
  const stem = (kernel: number, stride: number, channels = 3): Graph =>
    convGraph({
      x: [1, channels, 32, 32],
      filters: 2,
      kernel: [kernel, kernel],
      strides: [stride, stride],
      pads: [0, 0, 0, 0],
    });
  const summed = (graph: Graph): number | undefined => {
    const after = pack(graph, 8);
    const weight = after === graph ? undefined : after.constants.get(after.nodes[1].inputs[1]);
    return weight && weight.data.length / weight.shape[0];
  };
  expect(summed(stem(7, 2))).toBe(7 * 4 * 8);
  expect(summed(stem(3, 2))).toBe(3 * 2 * 8);
  expect(summed(stem(4, 4))).toBe(4 * 16);
  expect(summed(stem(16, 16))).toBe(16 * 48);
  expect(summed(stem(3, 1))).toBeUndefined();
  expect(summed(stem(3, 2, 1))).toBeUndefined();
  expect(summed(stem(3, 2, 16))).toBeUndefined();
});
