import { expect, test } from 'vitest';
import { type BlockNode, findBlocks } from './blocks.ts';

/** A chain of nodes; `name` may hold the module, `weight` the name of a weight. */
const chain = (
  nodes: readonly { readonly op: string; readonly name?: string; readonly weight?: string }[],
): BlockNode[] =>
  nodes.map(({ op, name = '', weight }, i) => ({
    op,
    name,
    producers: i > 0 ? [i - 1] : [],
    weights: weight === undefined ? [] : [weight],
  }));

/** The path of labels around each node. */
function paths(nodes: readonly BlockNode[]): string[] {
  const { groups, groupOf } = findBlocks(nodes);
  const path = (group: number): string =>
    group < 0 ? '' : [path(groups[group].parent), groups[group].label].filter(Boolean).join('>');
  return groupOf.map(path);
}

test('names of modules make blocks; small ones dissolve, lone ones merge', () => {
  const nodes = chain([
    { op: 'Conv', name: '/stem/Conv' },
    ...['layer1.0', 'layer1.1'].flatMap((block) => [
      { op: 'Conv', name: `/layer1/${block}/conv1/Conv` },
      { op: 'Relu', name: `/layer1/${block}/relu/Relu` },
      { op: 'Add', name: `/layer1/${block}/Add` },
    ]),
    { op: 'Gemm', name: '/fc/Gemm' },
  ]);
  expect(paths(nodes)).toEqual(['', ...Array(3).fill('layer1>layer1.0'), ...Array(3).fill('layer1>layer1.1'), '']);
  const lone = chain(Array.from({ length: 4 }, () => ({ op: 'Conv', name: '/model/encoder/Conv' })));
  expect(new Set(paths(lone))).toEqual(new Set(['model/encoder']));
});

test('nodes without a name follow what they read, as deep as their surroundings', () => {
  const nodes = chain([
    { op: 'Conv', weight: 'layer.0.a.weight' },
    { op: 'Relu' },
    { op: 'Conv', weight: 'layer.0.b.weight' },
    { op: 'Relu' },
    { op: 'Conv', weight: 'layer.1.a.weight' },
    { op: 'Relu' },
    { op: 'Conv', weight: 'layer.1.b.weight' },
  ]);
  expect(paths(nodes)).toEqual([...Array(4).fill('layer>layer.0'), ...Array(3).fill('layer>layer.1')]);
});

test('what follows a single layer does not join it', () => {
  const nodes = chain([
    { op: 'Conv', weight: 'conv1.weight' },
    { op: 'BatchNormalization', weight: 'bn1.weight' },
    { op: 'Relu' },
    { op: 'MaxPool' },
    { op: 'Conv', weight: 'layer1.0.conv1.weight' },
    { op: 'Relu' },
    { op: 'Conv', weight: 'layer1.0.conv2.weight' },
  ]);
  expect(paths(nodes)).toEqual(['', '', '', '', ...Array(3).fill('layer1.0')]);
});

test('without names, repetition makes blocks', () => {
  const pattern = ['Conv', 'Relu', 'Conv', 'Add', 'Relu'];
  const ops = ['Stem', ...Array.from({ length: 12 }, () => pattern).flat(), 'Gemm', 'Softmax'];
  const found = paths(chain(ops.map((op) => ({ op }))));
  expect(found[0]).toBe('');
  expect(found.slice(-2)).toEqual(['', '']);
  // Twelve alike in a row share a group.
  expect(found[1]).toBe('block A1 … block A12>block A1');
  expect(found[60]).toBe('block A1 … block A12>block A12');
});

test('every node keeps its place, whatever the names', () => {
  const nodes = chain([
    { op: 'A', name: '///' },
    { op: 'B', name: '/a//b/' },
    { op: 'C', name: '' },
    { op: 'D', name: 'x/y' },
  ]);
  expect(findBlocks(nodes).groupOf).toHaveLength(4);
  expect(findBlocks([])).toEqual({ groups: [], groupOf: [] });
});
