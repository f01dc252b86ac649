/** Narrow precision: what is narrowed, what stays in f32 and why, what the user is told, and that `auto` finds the nodes that need f32. */
import { describe, expect, it } from 'vitest';
import { build, openOnProcessor } from '../src/build.ts';
import { ModelError } from '../src/core/errors.ts';
import { randomTensor } from '../src/core/random-tensor.ts';
import { fromNumbers, scalarTensor, type Tensor, toNumbers } from '../src/core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Graph } from '../src/graph/ir.ts';
import { verifyGraph } from '../src/graph/verify.ts';
import { OPS } from '../src/ops/all.ts';
import { assignPrecision } from '../src/precision/assign.ts';
import { chooseWideNodes, type OpenGraph } from '../src/precision/keep-wide.ts';
import { narrow } from '../src/precision/narrow.ts';
import { roundConstant } from '../src/precision/round-constant.ts';

const f32 = (shape: readonly number[], seed = 1): Tensor => randomTensor({ dtype: 'f32', shape }, 0, seed);

function network(write: (b: GraphBuilder, x: string) => string, shape: readonly number[] = [2, 8]): Graph {
  const b = graphBuilder('net', OPS);
  b.output(write(b, b.input('x', 'f32', shape)));
  return b.finish();
}
const node = (b: GraphBuilder, op: string, ...inputs: string[]): string => b.node(op, inputs)[0];

const dtypesOf = (graph: Graph): Record<string, string> =>
  Object.fromEntries(graph.nodes.map(({ op, outputs }) => [op, graph.values.get(outputs[0])!.dtype]));

const open: OpenGraph = (graph, mostFlops) => openOnProcessor(graph, OPS, mostFlops);

const outputOf = (graph: Graph, x: Tensor): ArrayLike<number> =>
  toNumbers(evalGraph(graph, OPS, new Map([['x', x]])).get(graph.outputs[0])!);

describe('roundConstant', () => {
  it('rounds to nearest even and counts what f16 cannot hold', () => {
    const r = roundConstant(fromNumbers('f32', [7], [1, 2049, 70000, -1e9, 1e-5, 1e-9, 0]), 'f16');
    expect(Array.from(toNumbers(r.value))).toEqual([1, 2048, 65504, -65504, Math.fround(168 * 2 ** -24), 0, 0]);
    expect(r).toMatchObject({ overflows: 2, subnormals: 2, vanished: 1 });
  });
  it('finds nothing to report in bf16, whose exponents are those of f32', () => {
    expect(roundConstant(fromNumbers('f32', [3], [1e38, 1e-30, 257]), 'bf16')).toMatchObject({
      overflows: 0,
      subnormals: 0,
    });
  });
});

describe('narrow', () => {
  const convolution = network(
    (b, x) => {
      const y = node(b, 'Conv', x, b.constant(f32([4, 3, 3, 3])), b.constant(f32([4], 2)));
      return node(b, 'Softmax', node(b, 'Relu', y));
    },
    [1, 3, 7, 5],
  );

  it('computes between the interface in f16, with weights of f16', () => {
    const { graph, narrowed } = narrow(convolution, OPS, { to: 'f16' });
    verifyGraph(graph, OPS, 'narrow');
    expect(narrowed.size).toBe(3);
    expect(graph.nodes.map((n) => n.op)).toEqual(['Cast', 'Conv', 'Relu', 'Softmax', 'Cast']);
    expect([...graph.constants.values()].map((t) => t.dtype)).toEqual(['f16', 'f16']);
    expect(graph.values.get('x')!.dtype).toBe('f32');
    expect(graph.outputs).toEqual(convolution.outputs);
    const x = f32([1, 3, 7, 5], 3);
    const [wanted, got] = [outputOf(convolution, x), outputOf(graph, x)];
    for (let i = 0; i < wanted.length; i++) expect(Math.abs(got[i] - wanted[i])).toBeLessThan(2e-3);
    expect(Array.from(got)).not.toEqual(Array.from(wanted));
  });

  it('keeps the nodes that it is told to keep, with casts where the two meet', () => {
    const relu = convolution.nodes[1].outputs[0];
    const { graph } = narrow(convolution, OPS, { to: 'bf16', keepWide: new Set([relu]) });
    verifyGraph(graph, OPS, 'narrow');
    expect(dtypesOf(graph)).toMatchObject({ Conv: 'bf16', Relu: 'f32', Softmax: 'bf16' });
  });

  it('keeps a node wide whose constant overflows or whose epsilon vanishes, and says so', () => {
    const graph = network((b, x) => {
      const scaled = node(b, 'Mul', x, b.constant(fromNumbers('f32', [8], [1, 2, 3, 1e6, 5, 6, 7, 8]), 'scale'));
      return node(
        b,
        'Div',
        x,
        node(b, 'Add', node(b, 'Abs', scaled), b.constant(scalarTensor('f32', 1e-12), 'epsilon')),
      );
    });
    const { graph: narrowed, refused } = narrow(graph, OPS, { to: 'f16' });
    expect(dtypesOf(narrowed)).toMatchObject({ Mul: 'f32', Abs: 'f16', Add: 'f32', Div: 'f32' });
    expect(refused.map(({ constant, overflows }) => [constant, overflows])).toEqual([
      ['scale', 1],
      ['epsilon', 0],
    ]);
    // |x|·scale of the first element of a row may be 0: without epsilon it is 0 / 0.
    const got = outputOf(narrowed, fromNumbers('f32', [2, 8], new Array(16).fill(0)));
    expect(Array.from(got).every(Number.isFinite)).toBe(true);
  });

  it('clamps what leaves f32 for f16, so that a row that is masked everywhere is no NaN', () => {
    const graph = network((b, x) => {
      const mask = node(b, 'Mul', node(b, 'Abs', x), b.constant(scalarTensor('f32', -3.4e38), 'lowest'));
      return node(b, 'Softmax', node(b, 'Add', x, mask));
    });
    const got = outputOf(narrow(graph, OPS, { to: 'f16' }).graph, fromNumbers('f32', [2, 8], new Array(16).fill(1)));
    for (const p of Array.from(got)) expect(p).toBeCloseTo(1 / 8, 3);
  });

  it('leaves positions alone: scales of Resize and grids of GridSample stay f32', () => {
    const graph = network(
      (b, x) => {
        const grid = b.constant(f32([1, 4, 4, 2], 5), 'grid');
        const scales = b.constant(fromNumbers('f32', [4], [1, 1, 1.7, 1.3]), 'scales');
        const [resized] = b.node('Resize', [x, '', scales], { attrs: { mode: 'linear' } });
        return node(b, 'GridSample', resized, grid);
      },
      [1, 3, 7, 5],
    );
    const { graph: narrowed } = narrow(graph, OPS, { to: 'f16' });
    expect(dtypesOf(narrowed)).toMatchObject({ Resize: 'f16', GridSample: 'f32' });
    expect(narrowed.constants.get('grid')?.dtype).toBe('f32');
    expect(narrowed.constants.get('scales')?.dtype).toBe('f32');
  });

  it('has nothing to narrow in integers', () => {
    const b = graphBuilder('ints', OPS);
    b.output(b.node('Add', [b.input('i', 'i64', [3]), b.input('j', 'i64', [3])])[0]);
    const graph = b.finish();
    expect(narrow(graph, OPS, { to: 'f16' }).graph.nodes).toEqual(graph.nodes);
  });
});

describe('auto', () => {
  const x = f32([2, 8], 7);
  const samples = [new Map([['x', x]])];
  const largest = (b: GraphBuilder, value: number): string => b.constant(scalarTensor('f32', value));

  it('keeps in f32 what comes near the largest f16', async () => {
    const graph = network((b, v) => {
      const large = b.node('Mul', [node(b, 'Exp', v), largest(b, 5e4)], { outputs: ['large'] })[0];
      return node(b, 'Tanh', node(b, 'Mul', large, largest(b, 1e-4)));
    });
    const kept = (await chooseWideNodes(graph, OPS, samples, open))!;
    expect(kept.large.map(({ value }) => value)).toEqual(['large']);
    expect(kept.nodes).toContain('large');
    expect(kept.nodes.size).toBeLessThan(graph.nodes.length);
  });

  it('keeps in f32 the nodes without which the outputs lose their accuracy, and no others', async () => {
    const graph = network((b, v) => {
      let y = v;
      for (let i = 0; i < 20; i++) y = node(b, 'Tanh', y);
      const far = b.node('Add', [y, largest(b, 1000)], { outputs: ['far'] })[0];
      y = node(b, 'Sub', far, largest(b, 1000));
      for (let i = 0; i < 20; i++) y = node(b, 'Sin', y);
      return y;
    });
    const kept = (await chooseWideNodes(graph, OPS, samples, open))!;
    expect([...kept.nodes]).toEqual(['far']);
    expect(kept.error).toBeLessThanOrEqual(1e-2);
    // With everything in f16 the answer is far off: the search had something to find.
    const all = outputOf(narrow(graph, OPS, { to: 'f16' }).graph, x);
    const wanted = outputOf(graph, x);
    const worst = Math.max(...Array.from(all, (value, i) => Math.abs(value - wanted[i])));
    expect(worst).toBeGreaterThan(0.05);
  });

  /** Weights of so many digits that their rounding alone loses what is left of a difference. */
  const cancelling = network((b, v) => {
    const near = Float32Array.from({ length: 64 }, (_, i) => 1 + 1e-4 * Math.sin(i));
    const product = node(b, 'MatMul', v, b.constant({ dtype: 'f32', shape: [8, 8], data: near }));
    return node(b, 'Sub', product, node(b, 'ReduceMean', product, b.constant(fromNumbers('i64', [1], [1]))));
  });

  it('keeps what the rounding of weights spoils, which no switch shows', async () => {
    const kept = (await chooseWideNodes(cancelling, OPS, samples, open))!;
    expect(kept.isAccurate).toBe(true);
    expect(kept.inaccurate).toContain(cancelling.nodes[0].outputs[0]);
    const { graph: narrowed } = narrow(cancelling, OPS, { to: 'f16', keepWide: kept.nodes });
    const [wanted, got] = [outputOf(cancelling, x), outputOf(narrowed, x)];
    const rms = Math.sqrt(Array.from(wanted, (v) => v * v).reduce((sum, v) => sum + v) / wanted.length);
    for (let i = 0; i < wanted.length; i++) expect(Math.abs(got[i] - wanted[i]) / rms).toBeLessThan(1e-2);
  });

  it('does not search where that takes too long, and says that the outputs are off', async () => {
    const { flops } = (await open(cancelling))!;
    const kept = (await chooseWideNodes(cancelling, OPS, samples, open, 20 * flops))!;
    expect(kept).toMatchObject({ isAccurate: false, inaccurate: new Set() });
    expect(kept.error).toBeGreaterThan(1e-2);
  });

  it('is told what a run takes before anything is made ready', async () => {
    const { flops } = (await open(cancelling))!;
    expect(await open(cancelling, flops - 1)).toBeUndefined();
    expect(await open(cancelling, flops)).toBeDefined();
  });

  it('narrows everything where nothing is at stake', async () => {
    const graph = network((b, v) => node(b, 'Tanh', node(b, 'MatMul', v, b.constant(f32([8, 5])))));
    expect((await chooseWideNodes(graph, OPS, samples, open))!.nodes.size).toBe(0);
  });
});

describe('assignPrecision', () => {
  const weights = fromNumbers('f32', [8], [1, 2, 3, 1e-6, 1e-9, 6, 7, 8]);
  const graph = network((b, x) => {
    const many = b.constant(
      fromNumbers(
        'f32',
        [8, 8],
        Array.from({ length: 64 }, (_, i) => weights.data[i % 8] as number),
      ),
      'w',
    );
    return node(b, 'MatMul', x, many);
  });
  const assign = async (precision: 'fp32' | 'tf32' | 'fp16' | 'auto') => {
    const warnings: string[] = [];
    const assigned = await assignPrecision(graph, OPS, {
      precision,
      samples: () => [new Map([['x', f32([2, 8])]])],
      open,
      onWarning: (w) => warnings.push(w),
    });
    return { assigned, warnings };
  };

  it('leaves the graph as it is in fp32 and tf32', async () => {
    for (const precision of ['fp32', 'tf32'] as const) expect((await assign(precision)).assigned).toBe(graph);
  });
  it('keeps in f32 what overflows, and says so, in fp16 too', async () => {
    const warnings: string[] = [];
    const overflowing = network((b, x) => {
      const squares = b.node('Mul', [x, b.constant(scalarTensor('f32', 60000))], { outputs: ['squares'] })[0];
      return node(b, 'Div', node(b, 'Mul', squares, squares), node(b, 'Add', squares, squares));
    });
    const x = f32([2, 8], 3);
    const assigned = await assignPrecision(overflowing, OPS, {
      precision: 'fp16',
      samples: () => [new Map([['x', x]])],
      open,
      onWarning: (w) => warnings.push(w),
    });
    expect(warnings.join()).toMatch(/values come near the largest number of f16 and stay in f32: .*"squares"/);
    expect(Array.from(outputOf(assigned, x)).every(Number.isFinite)).toBe(true);
  });
  it('narrows without a check, and says so, where memory does not suffice for one', async () => {
    const warnings: string[] = [];
    const assigned = await assignPrecision(graph, OPS, {
      precision: 'fp16',
      samples: () => [new Map([['x', f32([2, 8])]])],
      open: async () => {
        throw new ModelError('out-of-memory', 'there are not so many bytes');
      },
      onWarning: (w) => warnings.push(w),
    });
    expect(dtypesOf(assigned)).toMatchObject({ MatMul: 'f16' });
    expect(warnings[0]).toBe('values were not checked for overflow in f16: there are not so many bytes');
  });
  it('leaves the check out where a run takes too long', async () => {
    const warnings: string[] = [];
    const runner = { flops: 1e12, run: () => expect.fail('it was run'), dispose: () => {} };
    const made: Graph[] = [];
    await assignPrecision(graph, OPS, {
      precision: 'fp16',
      samples: () => [new Map([['x', f32([2, 8])]])],
      open: async (asked, most = Number.POSITIVE_INFINITY) => {
        if (runner.flops > most) return undefined;
        made.push(asked);
        return runner;
      },
      onWarning: (w) => warnings.push(w),
    });
    expect(made).toEqual([]);
    expect(warnings[0]).toMatch(/^values were not checked for overflow in f16, for a run .* takes long/);
  });
  it('names weights that lose digits, with counts', async () => {
    for (const precision of ['fp16', 'auto'] as const) {
      const { assigned, warnings } = await assign(precision);
      expect(dtypesOf(assigned)).toMatchObject({ MatMul: 'f16' });
      expect(warnings).toEqual(['weights with elements too small for all digits of f16: "w" (16 of 64, 8 become 0)']);
    }
  });
});

it('a target refuses what it does not compute in, and takes auto as fp32', async () => {
  const graph = network((b, x) => node(b, 'Relu', x));
  await expect(build(graph, { target: 'wasm', precision: 'fp16' })).rejects.toThrow(
    'precision fp16 is not available on target wasm, which computes in fp32',
  );
  expect((await build(graph, { target: 'wasm', precision: 'auto' })).engine.precision).toBe('fp32');
});
