import { expect, it } from 'vitest';
import { toNumbers } from '../core/tensor.ts';
import { OPS } from './all.ts';
import type { RawNode, UpgradeContext } from './op.ts';

/** An upgrade as the reader asks for it, noting the nodes and constants that it adds. */
function upgraded(op: string, opset: number, ranks: Record<string, readonly number[]>, attrs: RawNode['attrs']) {
  const added: { op: string; inputs: readonly string[]; axes: readonly number[] }[] = [];
  let axes: readonly number[] = [];
  const ctx: UpgradeContext = {
    opset,
    constant(value) {
      axes = Array.from(toNumbers(value));
      return 'axes';
    },
    node(name, inputs) {
      added.push({ op: name, inputs, axes });
      return 'aligned';
    },
    known: () => undefined,
    shape: (input) => ranks[input],
    rank: (input) => ranks[input]?.length,
    dtype: () => 'f32',
    fail(message) {
      throw new Error(message);
    },
  };
  const node: RawNode = { inputs: Object.keys(ranks), outputs: ['y'], attrs };
  return { node: OPS.get(op)!.onnx.upgrade!(node, ctx), added };
}

it('dims behind the aligned operand become ones', () => {
  const { node, added } = upgraded('Add', 6, { a: [2, 3, 4, 5], b: [3, 4] }, { broadcast: 1, axis: 1 });
  expect(added).toEqual([{ op: 'Unsqueeze', inputs: ['b', 'axes'], axes: [2] }]);
  expect(node).toEqual({ inputs: ['a', 'aligned'], outputs: ['y'], attrs: {} });
});

it.each([
  ['no axis', { broadcast: 1 }, [3, 4]],
  ['an operand that reaches the end', { broadcast: 1, axis: 2 }, [4, 5]],
  ['hints', { consumed_inputs: [0, 0] }, [2, 3, 4, 5]],
])('%s: the operands stay', (_, attrs, b) => {
  const { node, added } = upgraded('Mul', 6, { a: [2, 3, 4, 5], b }, attrs);
  expect(added).toEqual([]);
  expect(node).toEqual({ inputs: ['a', 'b'], outputs: ['y'], attrs: {} });
});

it('an axis that does not fit is refused', () => {
  expect(() => upgraded('Add', 6, { a: [2, 3], b: [3, 4] }, { broadcast: 1, axis: 1 })).toThrow(/axis is 1/);
});

it('slopes were one a channel before opset 7', () => {
  expect(upgraded('PRelu', 6, { x: [1, 3, 4, 5], slope: [3] }, {}).added[0].axes).toEqual([1, 2]);
  expect(upgraded('PRelu', 6, { x: [1, 3, 4, 5], slope: [1] }, {}).added).toEqual([]);
  expect(upgraded('PRelu', 7, { x: [1, 3, 4, 5], slope: [5] }, {}).added).toEqual([]);
});

it('nodes of opset 7 and newer are left alone', () => {
  const { node } = upgraded('Add', 7, { a: [2], b: [2] }, {});
  expect(node.inputs).toEqual(['a', 'b']);
});
