import { describe, expect, it } from 'vitest';
import { fromNumbers, type Tensor, toNumbers } from '../core/tensor.ts';
import { graphBuilder } from '../graph/build.ts';
import { evalGraph } from '../graph/eval.ts';
import type { Graph } from '../graph/ir.ts';
import { OPS } from './all.ts';

const wave = (shape: readonly number[], phase: number, low = -1, high = 1): Tensor => {
  const count = shape.reduce((n, d) => n * d, 1);
  const value = (_: unknown, i: number) => low + ((high - low) * (1 + Math.sin(phase + 2.7 * i))) / 2;
  return fromNumbers('f32', shape, Array.from({ length: count }, value));
};

/** One node over constants, and the same node expanded. */
function directAndExpanded(op: string, x: Tensor, constants: readonly Tensor[], attrs: Record<string, number>) {
  const build = (expand: boolean): Graph => {
    const b = graphBuilder('g', OPS);
    const inputs = [b.input('x', x.dtype, x.shape), ...constants.map((t) => b.constant(t))];
    let [y] = b.node(op, inputs, { attrs });
    if (expand) {
      const complete = OPS.get(op)!.completeAttrs(attrs, (message) => {
        throw new Error(message);
      });
      const node = { op, inputs, outputs: ['unused'], attrs: complete, loc: ['n'] };
      [y] = OPS.get(op)!.expand!(
        b,
        node,
        complete,
        inputs.map((name) => b.type(name)),
      )!;
    }
    b.output(y);
    return b.finish();
  };
  const run = (graph: Graph) => [...evalGraph(graph, OPS, new Map([['x', x]])).values()][0];
  const expanded = build(true);
  return {
    direct: Array.from(toNumbers(run(build(false)))),
    expanded: Array.from(toNumbers(run(expanded))),
    graph: expanded,
  };
}

describe('BatchNormalization over constants', () => {
  const x = wave([2, 3, 4, 5], 0);
  const statistics = [wave([3], 1), wave([3], 2), wave([3], 3), wave([3], 4, 0.1, 2)];

  it('expands to one product and one sum', () => {
    const { graph } = directAndExpanded('BatchNormalization', x, statistics, { epsilon: 1e-3 });
    expect(graph.nodes.slice(1).map((n) => n.op)).toEqual(['Mul', 'Add']);
  });

  it('rounds as little as two float32 operations can', () => {
    const { direct, expanded } = directAndExpanded('BatchNormalization', x, statistics, { epsilon: 1e-3 });
    const scale = Math.max(...direct.map(Math.abs));
    for (let i = 0; i < direct.length; i++) expect(Math.abs(direct[i] - expanded[i]) / scale).toBeLessThan(2 ** -22);
  });
});

describe('GroupNormalization', () => {
  const x = wave([2, 6, 5], 0);

  it('takes one scale a group, as opset 18 has it', () => {
    const perGroup = [wave([3], 1), wave([3], 2)];
    const perChannel = perGroup.map((t) => {
      const values = toNumbers(t);
      return fromNumbers(
        'f32',
        [6],
        Array.from({ length: 6 }, (_, c) => values[Math.floor(c / 2)]),
      );
    });
    const groups = directAndExpanded('GroupNormalization', x, perGroup, { num_groups: 3 });
    const channels = directAndExpanded('GroupNormalization', x, perChannel, { num_groups: 3 });
    expect(groups.direct).toEqual(channels.direct);
    for (let i = 0; i < groups.direct.length; i++) expect(groups.expanded[i]).toBeCloseTo(groups.direct[i], 5);
  });

  it('gives every group mean 0 and deviation 1 where scale is 1 and bias 0', () => {
    const ones = fromNumbers('f32', [6], new Array(6).fill(1));
    const zeros = fromNumbers('f32', [6], new Array(6).fill(0));
    const { direct } = directAndExpanded('GroupNormalization', x, [ones, zeros], { num_groups: 2 });
    const group = direct.slice(0, 15);
    expect(group.reduce((a, b) => a + b, 0) / 15).toBeCloseTo(0, 6);
    expect(group.reduce((a, b) => a + b * b, 0) / 15).toBeCloseTo(1, 3);
  });
});
