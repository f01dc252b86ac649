import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { PageGroup, PageItem, PageSide } from './page.ts';
import { groupBox, layoutScene, type SceneBox } from './scene.ts';

const item = (group: number): PageItem => ({
  title: 'Relu',
  name: 'r',
  kind: 'elementwise',
  group,
  inputs: [],
  outputs: [],
  facts: [],
  precision: 'f32',
});
const edge = (from: number, to: number) => ({ from, to, type: 'f32[1]' });
/** 0 → [A: 1 → [B: 2] → 3] → 4, and 0 → 3. */
const GROUPS: readonly PageGroup[] = [
  { label: 'A', parent: -1 },
  { label: 'B', parent: 0 },
];
const SIDE: PageSide = {
  items: [-1, 0, 1, 0, -1].map(item),
  edges: [edge(0, 1), edge(1, 2), edge(2, 3), edge(3, 4), edge(0, 3)],
};

const contains = (outer: SceneBox, inner: SceneBox): boolean =>
  inner.x >= outer.x &&
  inner.y >= outer.y &&
  inner.x + inner.width <= outer.x + outer.width &&
  inner.y + inner.height <= outer.y + outer.height;

test('a closed block is one box, and what it holds is not drawn', () => {
  const { boxes, edges } = layoutScene(SIDE, GROUPS, new Set());
  expect(boxes.map(({ id, frame }) => [id, frame])).toEqual([
    [0, false],
    [4, false],
    [groupBox(0), false],
  ]);
  // 0 → A stands for two edges.
  expect(edges.map(({ from, to }) => [from, to])).toEqual([
    [0, groupBox(0)],
    [groupBox(0), 4],
  ]);
  expect(edges[0].label).toBe('f32[1]');
});

test('an open block is a frame around what it holds', () => {
  const { boxes } = layoutScene(SIDE, GROUPS, new Set([0, 1]));
  const box = (id: number) => boxes.find((each) => each.id === id) as SceneBox;
  for (const id of [1, 3, groupBox(1), 2]) expect(contains(box(groupBox(0)), box(id)), `${id} in A`).toBe(true);
  expect(contains(box(groupBox(1)), box(2))).toBe(true);
  expect(boxes.map(({ id }) => id).indexOf(groupBox(0))).toBeLessThan(boxes.map(({ id }) => id).indexOf(2));
});

test('pieces of an edge meet at the frames’ borders', () => {
  const { edges } = layoutScene(SIDE, GROUPS, new Set([0, 1]));
  const pieces = edges.filter(({ source }) => source === 1);
  // 1 → B's frame, B's frame → 2.
  expect(pieces.map(({ from, to, arrow }) => [from, to, arrow])).toEqual(
    expect.arrayContaining([
      [1, groupBox(1), false],
      [groupBox(1), 2, true],
    ]),
  );
  const [outer, inner] = [pieces.find(({ to }) => to === groupBox(1)), pieces.find(({ to }) => to === 2)];
  expect(outer?.points.slice(-2)).toEqual(inner?.points.slice(0, 2));
});

test('any choice of open blocks can be drawn, with every item once at most', () => {
  const input = fc.record({
    parents: fc.array(fc.integer({ min: -1, max: 5 }), { maxLength: 6 }),
    groups: fc.array(fc.nat(6), { minLength: 1, maxLength: 25 }),
    edges: fc.array(fc.tuple(fc.nat(24), fc.nat(24)), { maxLength: 40 }),
    open: fc.uniqueArray(fc.nat(5)),
  });
  fc.assert(
    fc.property(input, ({ parents, groups, edges, open }) => {
      const tree = parents.map((parent, i) => ({ label: `g${i}`, parent: Math.min(parent, i - 1) }));
      const items = groups.map((group) => item(Math.min(group, tree.length) - 1));
      const wires = edges
        .filter(([a, b]) => a !== b && a < items.length && b < items.length)
        .map(([a, b]) => edge(a, b));
      const { boxes } = layoutScene({ items, edges: wires }, tree, new Set(open));
      const ids = boxes.map(({ id }) => id);
      expect(new Set(ids).size).toBe(ids.length);
      for (const [i, { group }] of items.entries()) {
        let closed = false;
        for (let g = group; g >= 0; g = tree[g].parent) if (!open.includes(g)) closed = true;
        expect(ids.includes(i)).toBe(!closed);
      }
    }),
  );
});
