import { expect, test } from 'vitest';
import { drawSvg } from './draw-svg.ts';
import type { PageItem, PageSide } from './page.ts';
import { layoutScene } from './scene.ts';

const item = (title: string, group: number): PageItem => ({
  ...{ title, name: `/a/${title}`, kind: 'map', group, inputs: [], outputs: [], facts: [], precision: 'f32' },
});
const SIDE: PageSide = {
  items: [item('Relu<T>', -1), item('Add', 0), item('Mul', 0)],
  edges: [
    { from: 0, to: 1, type: 'f32[1]' },
    { from: 1, to: 2, type: 'f32[2]' },
  ],
};
const GROUPS = [{ label: 'block & co', parent: -1 }];
const draw = (open: readonly number[]) =>
  drawSvg(SIDE, GROUPS, layoutScene(SIDE, GROUPS, new Set(open)), {
    label: 'a "graph"',
    fill: (id) => (id === 0 ? 'red' : undefined),
    below: () => '2 nodes',
  });

test('boxes, frames, edges with their types; names are text, never markup', () => {
  const closed = draw([]);
  for (const text of ['Relu&lt;T&gt;', 'block &amp; co', '2 nodes', 'f32[1]', 'a &quot;graph&quot;', 'fill:red'])
    expect(closed).toContain(text);
  expect(closed).not.toContain('Mul');
  expect(closed.match(/class="edge"/g)).toHaveLength(1);
  const opened = draw([0]);
  for (const text of ['Add', 'Mul', 'f32[2]', 'class="frame"']) expect(opened).toContain(text);
  // 0 to the frame, the frame to Add, Add to Mul; an arrow where a box is reached.
  expect(opened.match(/class="edge"/g)).toHaveLength(3);
  expect(opened.match(/class="arrow"/g)).toHaveLength(2);
});
