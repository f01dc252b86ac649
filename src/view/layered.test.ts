import fc from 'fast-check';
import { expect, test } from 'vitest';
import { layeredLayout } from './layered.ts';

const box = (order: number, width = 100) => ({ width, height: 40, order });
const graphs = fc.integer({ min: 0, max: 40 }).chain((n) =>
  fc.record({
    widths: fc.array(fc.integer({ min: 20, max: 300 }), { minLength: n, maxLength: n }),
    edges: fc.array(fc.tuple(fc.nat(Math.max(0, n - 1)), fc.nat(Math.max(0, n - 1))), { maxLength: n === 0 ? 0 : 80 }),
  }),
);

test('a chain goes straight down', () => {
  const { x, y, bends } = layeredLayout(
    [box(0), box(1), box(2)],
    [
      { from: 0, to: 1 },
      { from: 1, to: 2 },
    ],
  );
  expect(new Set(x).size).toBe(1);
  expect([...y]).toEqual([...y].sort((a, b) => a - b));
  expect(bends).toEqual([[], []]);
});

test('no two boxes overlap, and edges of graphs without cycles go down', () => {
  fc.assert(
    fc.property(graphs, ({ widths, edges }) => {
      const nodes = widths.map((width, i) => box(i, width));
      const acyclic = edges.filter(([a, b]) => a !== b).map(([a, b]) => ({ from: Math.min(a, b), to: Math.max(a, b) }));
      const { x, y, width, height } = layeredLayout(nodes, acyclic);
      for (const [i, a] of nodes.entries()) {
        expect(x[i]).toBeGreaterThanOrEqual(-1e-6);
        expect(x[i] + a.width).toBeLessThanOrEqual(width + 1e-6);
        expect(y[i] + a.height).toBeLessThanOrEqual(height + 1e-6);
        for (let j = 0; j < i; j++) {
          const apart = x[i] >= x[j] + widths[j] || x[j] >= x[i] + a.width || y[i] >= y[j] + 40 || y[j] >= y[i] + 40;
          expect(apart, `${i} and ${j}`).toBe(true);
        }
      }
      for (const { from, to } of acyclic) expect(y[from] + 40).toBeLessThan(y[to]);
    }),
  );
});

test('cycles are drawn too', () => {
  fc.assert(
    fc.property(graphs, ({ widths, edges }) => {
      const all = edges.map(([from, to]) => ({ from, to }));
      const { x, bends } = layeredLayout(
        widths.map((width, i) => box(i, width)),
        all,
      );
      expect([...x].every(Number.isFinite)).toBe(true);
      expect(bends).toHaveLength(all.length);
    }),
  );
});

test('pins hold the first and the last rank', () => {
  const nodes = [{ ...box(0), pin: 'last' as const }, box(1), { ...box(2), pin: 'first' as const }, box(3)];
  const { y } = layeredLayout(nodes, [{ from: 1, to: 3 }]);
  expect(Math.min(...y)).toBe(y[2]);
  expect(Math.max(...y)).toBe(y[0]);
});

test('ten thousand nodes in a chain with long shortcuts', () => {
  const nodes = Array.from({ length: 10_000 }, (_, i) => box(i));
  const edges = nodes.slice(1).map((_, i) => ({ from: i, to: i + 1 }));
  for (let i = 0; i + 900 < nodes.length; i += 7) edges.push({ from: i, to: i + 900 });
  const { y } = layeredLayout(nodes, edges);
  expect(y[9999]).toBeGreaterThan(y[0]);
});
