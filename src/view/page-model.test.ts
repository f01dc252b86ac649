import { expect, test } from 'vitest';
import { build } from '../build.ts';
import { fromNumbers } from '../core/tensor.ts';
import { graphBuilder } from '../graph/build.ts';
import { OPS } from '../ops/all.ts';
import { stepEdges } from './engine-edges.ts';
import { pageHtml } from './page-html.ts';
import { pageModel } from './page-model.ts';

/** conv → relu, a concatenation of two branches, an identity that the compiler drops. */
function network() {
  const b = graphBuilder('net', OPS);
  const x = b.input('x', 'f32', [1, 3, 8, 8]);
  const weight = (name: string, period: number) =>
    b.constant(
      fromNumbers(
        'f32',
        [4, 3, 3, 3],
        Array.from({ length: 108 }, (_, i) => (i % period) - 3),
      ),
      name,
    );
  const conv = (name: string, w: string) => b.node('Conv', [x, w], { attrs: { pads: [1, 1, 1, 1] }, loc: [name] })[0];
  const left = b.node('Relu', [conv('left', weight('w', 7))], { loc: ['left/relu'] })[0];
  const right = b.node('Sigmoid', [conv('right', weight('v', 5))], { loc: ['right/act'] })[0];
  const joined = b.node('Concat', [left, right], { attrs: { axis: 1 }, loc: ['join'] })[0];
  const same = b.node('Identity', [joined], { loc: ['same'] })[0];
  b.output(b.node('MaxPool', [same], { attrs: { kernel_shape: [2, 2] }, loc: ['pool'] })[0]);
  return b.finish();
}

test('both sides, linked by the nodes that each step computes', async () => {
  const graph = network();
  const { engine } = await build(graph, { target: 'wasm' });
  const page = pageModel({
    name: 'net',
    graph,
    engine,
    ops: OPS,
    times: { ms: engine.steps.map((_, i) => i + 1), how: 'made up' },
  });
  const nodes = page.graph?.items ?? [];
  const steps = page.engine?.items ?? [];
  expect(nodes.map(({ title }) => title)).toEqual([
    'input',
    'Conv',
    'Relu',
    'Conv',
    'Sigmoid',
    'Concat',
    'Identity',
    'MaxPool',
    'output',
  ]);
  expect(page.links).toHaveLength(steps.length);
  const fused = page.links.map((linked) => linked.map((i) => nodes[i].name));
  expect(fused).toEqual(expect.arrayContaining([['left', 'left/relu'], ['right', 'right/act'], ['pool']]));
  expect(steps[fused.findIndex((names) => names.includes('left'))]).toMatchObject({
    title: 'Conv + Relu',
    precision: 'f32',
  });
  expect(steps[1]).toMatchObject({ ms: 1, flops: engine.steps[0].flops, bytes: engine.steps[0].bytesMoved });

  const conv = nodes[1];
  expect(conv.inputs[1]).toMatchObject({ name: 'w', type: 'f32[4,3,3,3]', weight: { min: -3, max: 3, elements: 108 } });
  expect(conv.facts).toContainEqual(['pads', '[1, 1, 1, 1]']);
  expect(page.graph?.edges).toContainEqual({ from: 0, to: 1, type: 'f32[1,3,8,8]' });
});

test('a step that reads what others wrote in place reads from all of them', async () => {
  const graph = network();
  const { engine } = await build(graph, { target: 'wasm' });
  const pool = engine.steps.findIndex(({ loc }) => loc.includes('pool'));
  const convs = engine.steps.flatMap(({ loc }, i) => (loc.includes('left') || loc.includes('right') ? [i] : []));
  for (const edges of [stepEdges(engine, graph), stepEdges(engine)]) {
    const into = edges.filter(({ to }) => to === pool).map(({ from }) => from);
    expect(into.sort()).toEqual(convs);
    expect(edges).toContainEqual(expect.objectContaining({ from: pool, to: engine.steps.length }));
    expect(edges.filter(({ from }) => from === -1)).toHaveLength(2);
  }
});

test('an engine alone, and a graph alone', async () => {
  const graph = network();
  const { engine } = await build(graph, { target: 'wasm' });
  const alone = pageModel({ name: 'e', engine, ops: OPS });
  expect(alone.graph).toBeUndefined();
  expect(alone.engine?.items).toHaveLength(engine.steps.length + 2);
  expect(alone.links.flat()).toEqual([]);
  const model = pageModel({ name: 'g', graph, ops: OPS, weightsKnown: false });
  expect(model.engine).toBeUndefined();
  expect(model.graph?.items[1].inputs[1].weight).toBeUndefined();
});

test('markup in names cannot leave the script', () => {
  const model = pageModel({ name: '</script><img src=x onerror=alert(1)>', ops: OPS });
  const html = pageHtml('<script>/*MODEL*/</script>', model);
  expect(html.match(/<\/script>/g)).toHaveLength(1);
  expect(JSON.parse(html.slice(8, -9)).name).toBe('</script><img src=x onerror=alert(1)>');
});
