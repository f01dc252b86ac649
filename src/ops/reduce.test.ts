import { describe, expect, it } from 'vitest';
import { sym } from '../core/shape.ts';
import { fromNumbers, type Tensor, toNumbers } from '../core/tensor.ts';
import { graphBuilder } from '../graph/build.ts';
import { evalGraph } from '../graph/eval.ts';
import { OPS } from './all.ts';
import { i64Vector } from './dims.ts';
import type { UpgradeContext } from './op.ts';

function run(op: string, x: Tensor, axes: readonly number[] | undefined, attrs: Record<string, number | boolean> = {}) {
  const b = graphBuilder('g', OPS);
  const inputs = [b.input('x', x.dtype, x.shape), ...(axes ? [b.constant(i64Vector(axes))] : [])];
  b.node(op, inputs, { attrs, outputs: ['y'] });
  b.output('y');
  return evalGraph(b.finish(), OPS, new Map([['x', x]])).get('y') as Tensor;
}

describe('reductions', () => {
  it('keep open sizes that are not reduced', () => {
    const b = graphBuilder('g', OPS);
    const [y] = b.node('ReduceMean', [b.input('x', 'f32', [sym('n'), 3, sym('t')]), b.constant(i64Vector([1]))], {
      attrs: { keepdims: false },
    });
    expect(b.type(y).shape).toEqual([sym('n'), sym('t')]);
  });

  it('refuse axes that are computed while running', () => {
    const b = graphBuilder('g', OPS);
    const inputs = [b.input('x', 'f32', [2, 3]), b.input('axes', 'i64', [1])];
    expect(() => b.node('ReduceSum', inputs)).toThrow('the axes are computed while running');
  });

  it.each([
    [[2], 'axis 2 is outside'],
    [[0, -2], 'name one axis twice'],
  ])('refuse axes %j', (axes, message) => {
    expect(() => run('ReduceSum', fromNumbers('f32', [2, 3], [1, 2, 3, 4, 5, 6]), axes)).toThrow(message);
  });

  it('take axes from the attribute of older opsets', () => {
    const added: Tensor[] = [];
    const ctx = { opset: 11, constant: (t: Tensor) => `c${added.push(t)}` } as unknown as UpgradeContext;
    const upgrade = OPS.get('ReduceMean')?.onnx.upgrade;
    const node = upgrade?.({ inputs: ['x'], outputs: ['y'], attrs: { axes: [1, -1], keepdims: false } }, ctx);
    expect(node).toEqual({ inputs: ['x', 'c1'], outputs: ['y'], attrs: { keepdims: false } });
    expect(Array.from(toNumbers(added[0]))).toEqual([1, -1]);
  });

  it.each([
    ['ReduceSum', 0],
    ['ReduceProd', 1],
    ['ReduceMax', Number.NEGATIVE_INFINITY],
    ['ReduceMin', Number.POSITIVE_INFINITY],
  ])('%s of nothing is its neutral element', (op, neutral) => {
    expect(Array.from(toNumbers(run(op, fromNumbers('f32', [2, 0], []), [1])))).toEqual([neutral, neutral]);
  });

  it('keep ReduceLogSumExp in range', () => {
    const huge = run('ReduceLogSumExp', fromNumbers('f32', [1, 2], [1000, 1000]), [1]);
    expect(Number(toNumbers(huge)[0])).toBeCloseTo(1000 + Math.log(2), 3);
    const nothing = run(
      'ReduceLogSumExp',
      fromNumbers('f32', [2], [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]),
      [0],
    );
    expect(toNumbers(nothing)[0]).toBe(Number.NEGATIVE_INFINITY);
  });
});

describe('positions of extremes', () => {
  const ties = fromNumbers('f32', [2, 4], [1, 3, 3, 0, 5, 5, 2, 5]);

  it('are the first, or the last with select_last_index', () => {
    expect(Array.from(toNumbers(run('ArgMax', ties, undefined, { axis: 1 })))).toEqual([1, 0]);
    expect(Array.from(toNumbers(run('ArgMax', ties, undefined, { axis: 1, select_last_index: true })))).toEqual([2, 3]);
  });

  it('do not exist along an empty axis', () => {
    expect(() => run('ArgMin', fromNumbers('f32', [2, 0], []), undefined, { axis: 1 })).toThrow('axis 1 is empty');
  });
});
