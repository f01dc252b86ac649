import fc from 'fast-check';
import { expect, test } from 'vitest';
import { random } from '../../tests/random-kernel.ts';
import { type GraphBuilder, graphBuilder } from '../graph/build.ts';
import type { Graph } from '../graph/ir.ts';
import { verifyGraph } from '../graph/verify.ts';
import { OPS } from '../ops/all.ts';
import { orderByDepth } from './order.ts';

const pool = (b: GraphBuilder, x: string): string => b.node('AveragePool', [x], { attrs: { kernel_shape: [1, 1] } })[0];
const relu = (b: GraphBuilder, x: string): string => b.node('Relu', [x])[0];

function graphOf(shape: readonly number[], make: (b: GraphBuilder, x: string) => void): Graph {
  const b = graphBuilder('g', OPS);
  make(b, b.input('x', 'f32', shape));
  return b.finish();
}

/** A branch of three pools and one of two, written one after the other, and their sum. */
const branches = (b: GraphBuilder, x: string): void => {
  const long = pool(b, relu(b, pool(b, pool(b, x))));
  b.output(b.node('Add', [long, pool(b, pool(b, x))])[0]);
};

const opsOf = ({ nodes }: Graph): string => nodes.map(({ op }) => op).join();

test('branches become neighbours, work that is no kernel stays behind what it reads', () => {
  const graph = graphOf([1, 2, 3, 3], branches);
  const [p1, p2, relued, p3, q1, q2, sum] = graph.nodes;
  expect(orderByDepth(graph, OPS).nodes).toEqual([p1, q1, p2, relued, q2, p3, sum]);
});

test('large values keep their order', () => {
  const graph = graphOf([1, 2, 1100, 1000], branches);
  expect(orderByDepth(graph, OPS)).toBe(graph);
});

test('a graph stays in topological order, with the same nodes', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const rnd = random(seed);
      const graph = graphOf([1, 1, 2, 2], (b, x) => {
        const values = [x];
        const any = (): string => rnd.pick(values);
        for (let i = 1 + rnd.below(12); i > 0; i--) {
          const kind = rnd.below(3);
          values.push(kind === 0 ? pool(b, any()) : kind === 1 ? relu(b, any()) : b.node('Add', [any(), any()])[0]);
        }
        b.output(values[values.length - 1]);
      });
      const ordered = orderByDepth(graph, OPS);
      verifyGraph(ordered, OPS, 'order');
      expect(new Set(ordered.nodes)).toEqual(new Set(graph.nodes));
      expect(opsOf(orderByDepth(ordered, OPS))).toBe(opsOf(ordered));
    }),
    { numRuns: 300 },
  );
});
