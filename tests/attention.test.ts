/**
 * Attention as networks write it, found among lowered steps: that it is found where it is there and nowhere else, that its one step
 * computes what the steps one by one do, and that the scores have no place in memory any more.
 */
import { describe, expect, it } from 'vitest';
import { chooseAttention } from '../src/build-attention.ts';
import { fromNumbers, type Tensor, toNumbers } from '../src/core/tensor.ts';
import { graphBuilder } from '../src/graph/build.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Graph } from '../src/graph/ir.ts';
import type { Attend, Kernel } from '../src/loop/ir.ts';
import { verifyKernel } from '../src/loop/verify.ts';
import { findAttention, placeAttention } from '../src/lower/find-attention.ts';
import { type LoweredGraph, lower } from '../src/lower/lower.ts';
import { planMemory } from '../src/lower/plan.ts';
import { OPS } from '../src/ops/all.ts';
import { type NodeWriter, nodeWriter } from '../src/ops/node-writer.ts';
import { attend, CAUSAL, mergeHeads, positionMask, splitHeads } from '../src/ops/scaled-dot-product.ts';
import { runPipeline } from '../src/passes/pipeline.ts';
import type { Params, Target, Template } from '../src/targets/target.ts';
import { TimingCache, timingKey } from '../src/tune/timing-cache.ts';
import { randomTensor } from './random.ts';
import { runLowered } from './run-lowered.ts';

interface Net {
  readonly name: string;
  /** Roles of the attend's axes that are wider than 1, sorted by name: what it was seen as. */
  readonly roles: string;
  readonly empty?: Attend['empty'];
  build(w: NodeWriter, input: (name: string, ...shape: number[]) => string): string | readonly string[];
}

const notAttends = (kernel: Kernel): readonly Params[] => (kernel.form.kind === 'attend' ? [] : [{}]);
const hidden = Number.NEGATIVE_INFINITY;
/** How exporters make rows without weights zeros. */
const zerosForNaN = (w: NodeWriter, x: string): string =>
  w.node('Where', [w.node('IsNaN', [x]), w.scalar('f32', 0), x]);

const NETS: readonly Net[] = [
  {
    name: 'tokens split into heads and put together again',
    roles: 'batch 2, batch 3, inner 4, key 7, query 5, value 6',
    build(w, input) {
      const q = splitHeads(w, input('q', 2, 5, 12), 3);
      const k = splitHeads(w, input('k', 2, 7, 12), 3);
      const v = splitHeads(w, input('v', 2, 7, 18), 3);
      return w.node('Relu', [mergeHeads(w, attend(w, { q, k, v, scale: 0.5, addends: [] }).y)]);
    },
  },
  {
    name: 'a mask, and rows without weights as zeros',
    roles: 'batch 3, inner 4, key 7, query 5, value 6',
    empty: 'zero',
    build(w, input) {
      const scores = w.add(
        w.matmul(input('q', 3, 5, 4), w.transpose(input('k', 3, 7, 4), [0, 2, 1])),
        input('m', 5, 7),
      );
      const values = Array.from({ length: 35 }, (_, i) => (i < 7 || i % 3 === 0 ? hidden : 0));
      const masked = w.add(scores, w.constant(fromNumbers('f32', [5, 7], values)));
      return w.matmul(zerosForNaN(w, w.node('Softmax', [masked])), input('v', 3, 7, 6));
    },
  },
  {
    name: 'rows without weights as NaN',
    roles: 'inner 4, key 7, query 5, value 6',
    build(w, input) {
      const values = Array.from({ length: 35 }, (_, i) => (i < 7 ? hidden : 0));
      const mask = w.constant(fromNumbers('f32', [5, 7], values));
      const scores = w.add(w.matmul(input('q', 5, 4), input('k', 4, 7)), mask);
      return w.matmul(w.node('Softmax', [scores]), input('v', 7, 6));
    },
  },
  {
    name: 'windows: a bias by position, then the scores in another shape and the mask of each window',
    roles: 'batch 3, batch 4, inner 5, key 6, query 6, value 8',
    build(w, input) {
      const scores = w.matmul(input('q', 4, 3, 6, 5), w.transpose(input('k', 4, 3, 6, 5), [0, 1, 3, 2]));
      const biased = w.add(scores, input('bias', 1, 3, 6, 6));
      const masked = w.add(w.reshape(biased, [1, 4, 3, 6, 6]), input('mask', 1, 4, 1, 6, 6));
      return w.matmul(w.node('Softmax', [w.reshape(masked, [4, 3, 6, 6])]), input('v', 4, 3, 6, 8));
    },
  },
  {
    name: 'heads of queries that share keys and values, causal',
    roles: 'batch 2, inner 4, key 5, query 3, query 5, value 6',
    build(w, input) {
      const [q, k, v] = [input('q', 1, 6, 5, 4), input('k', 1, 2, 5, 4), input('v', 1, 2, 5, 6)];
      const addends = [positionMask(w, 'f32', { length: 5, total: 5, start: 0, ...CAUSAL }), input('m', 1, 6, 5, 5)];
      return attend(w, { q, k, v, scale: 0.5, addends }).y;
    },
  },
  {
    name: 'one query, capped scores',
    roles: 'batch 3, inner 4, key 9, value 6',
    build(w, input) {
      const [q, k, v] = [input('q', 1, 3, 1, 4), input('k', 1, 3, 9, 4), input('v', 1, 3, 9, 6)];
      return attend(w, { q, k, v, scale: 2, softcap: 3, addends: [] }).y;
    },
  },
  {
    name: 'weights as the second factor',
    roles: 'batch 2, inner 4, key 7, query 5, value 6',
    build(w, input) {
      const scores = w.matmul(input('k', 2, 7, 4), input('q', 2, 4, 5));
      const weights = w.node('Softmax', [scores], { axis: 1 });
      return w.matmul(input('v', 2, 6, 7), weights);
    },
  },
  {
    name: 'something behind it',
    roles: 'inner 4, key 7, query 5, value 6',
    build(w, input) {
      const y = w.matmul(w.node('Softmax', [w.matmul(input('q', 5, 4), input('k', 4, 7))]), input('v', 7, 6));
      return w.node('Tanh', [w.add(y, input('residual', 5, 6))]);
    },
  },
];

const OTHERS: readonly Omit<Net, 'roles'>[] = [
  {
    name: 'scores that are wanted too',
    build(w, input) {
      const scores = w.matmul(input('q', 5, 4), input('k', 4, 7));
      return [w.matmul(w.node('Softmax', [scores]), input('v', 7, 6)), scores];
    },
  },
  {
    name: 'weights that are wanted too',
    build(w, input) {
      const weights = w.node('Softmax', [w.matmul(input('q', 5, 4), input('k', 4, 7))]);
      return [w.matmul(weights, input('v', 7, 6)), w.node('Abs', [weights])];
    },
  },
  {
    name: 'softmax over the queries',
    build(w, input) {
      const weights = w.node('Softmax', [w.matmul(input('q', 5, 4), input('k', 4, 7))], { axis: 0 });
      return w.matmul(weights, input('v', 7, 6));
    },
  },
  {
    name: 'logarithms of weights',
    build(w, input) {
      const weights = w.node('LogSoftmax', [w.matmul(input('q', 5, 4), input('k', 4, 7))]);
      return w.matmul(weights, input('v', 7, 6));
    },
  },
  {
    name: 'softmax of what no product gave',
    build: (w, input) => w.matmul(w.node('Softmax', [input('scores', 5, 7)]), input('v', 7, 6)),
  },
  {
    name: 'scores seen turned',
    build(w, input) {
      const scores = w.transpose(w.reshape(w.matmul(input('q', 6, 4), input('k', 4, 6)), [6, 2, 3]), [1, 0, 2]);
      return w.matmul(w.node('Softmax', [scores]), input('v', 3, 5));
    },
  },
];

interface Made {
  readonly graph: Graph;
  readonly inputs: ReadonlyMap<string, Tensor>;
}

function make(net: Omit<Net, 'roles'>): Made {
  const b = graphBuilder(net.name, OPS);
  const inputs = new Map<string, Tensor>();
  const input = (name: string, ...shape: number[]): string => {
    inputs.set(name, randomTensor('f32', shape, inputs.size + 1));
    return b.input(name, 'f32', shape);
  };
  for (const output of [net.build(nodeWriter(b), input)].flat()) b.output(output);
  const context = { ops: OPS, computes: new Set(['f32', 'i32', 'i64', 'bool'] as const), onWarning: () => {} };
  return { graph: runPipeline(b.finish(), context, { verify: true, stopAfter: '' }), inputs };
}

/** Kernels are evaluated in f64; scores and weights in memory are rounded on the way, which the one kernel does not do. */
function expectSame({ graph, inputs }: Made, lowered: LoweredGraph): void {
  const wanted = evalGraph(graph, OPS, inputs);
  const got = runLowered(lowered, inputs);
  for (const name of graph.outputs) {
    const numbers = toNumbers(wanted.get(name) as Tensor);
    for (let i = 0; i < numbers.length; i++) {
      const x = Number(got.get(name)?.[i]);
      if (Number.isNaN(numbers[i])) expect(x, `${name}[${i}]`).toBeNaN();
      else expect(Math.abs(x - numbers[i]), `${name}[${i}]`).toBeLessThanOrEqual(1e-6);
    }
  }
}

const rolesOf = ({ axes }: Attend): string =>
  axes
    .map((a) => `${a.role} ${a.extent}`)
    .sort()
    .join(', ');

describe('attention among steps', () => {
  it.each(NETS)('$name', (net) => {
    const made = make(net);
    const lowered = lower(made.graph, OPS);
    const found = findAttention(lowered);
    expect(found.map(({ step }) => rolesOf(step.kernel.form as Attend))).toEqual([net.roles]);
    expect((found[0].step.kernel.form as Attend).empty).toBe(net.empty ?? 'nan');
    const joined = placeAttention(lowered, found);
    for (const { kernel } of joined.steps) verifyKernel(kernel);
    expect(joined.steps).toHaveLength(lowered.steps.length - found[0].parts.length + 1);
    expectSame(made, joined);
    expect(planMemory(joined).arenaBytes).toBeLessThan(planMemory(lowered).arenaBytes);
  });

  it.each(OTHERS)('is not: $name', (net) => {
    const made = make(net);
    expect(findAttention(lower(made.graph, OPS))).toEqual([]);
  });

  describe('chosen', () => {
    const lowered = lower(make(NETS[0]).graph, OPS);
    const template = (name: string, form: Template['form'], ns: number): Template => ({
      name,
      form,
      candidates: () => [{}],
      predictNs: () => ns,
      tiles: () => 1,
    });
    const targetOf = (...templates: Template[]): Target => ({
      name: 'wasm',
      device: {} as Target['device'],
      computes: new Set(['f32']),
      precisions: new Set(['fp32']),
      templates,
      features: () => [],
    });
    const forms = async (target: Target): Promise<boolean> => {
      const tuning = { effort: 0, machine: 'm', cache: new TimingCache(), checkpoint: async () => {} };
      const { steps } = await chooseAttention(lowered, target, tuning);
      return steps.some(({ kernel }) => kernel.form.kind === 'attend');
    };

    it('where its prediction is less than those of its parts together', async () => {
      // Four parts stand against one.
      const parts = { ...template('generated', 'any', 1e6), candidates: notAttends };
      expect(await forms(targetOf(parts, template('attend', 'attend', 3.9e6)))).toBe(true);
      expect(await forms(targetOf(parts, template('attend', 'attend', 4.1e6)))).toBe(false);
    });

    it('never where no template of the target takes it', async () => {
      expect(await forms(targetOf(template('generated', 'any', 1e6)))).toBe(false);
      const takesNone = { ...template('attend', 'attend', 1), candidates: () => [] };
      expect(await forms(targetOf(template('generated', 'any', 1e6), takesNone))).toBe(false);
    });

    it('by measured times where there are some', async () => {
      const target = targetOf(
        { ...template('generated', 'any', 1e6), candidates: notAttends },
        { ...template('attend', 'attend', 1), candidates: () => [{ n: 1 }, { n: 2 }] },
      );
      const cache = new TimingCache();
      const [{ step }] = findAttention(lowered);
      for (const n of [1, 2])
        cache.set(timingKey('m', step, { template: 'attend', params: { n }, predictedNs: 1 }), n === 1 ? 5e6 : 4.5e6);
      const tuning = { effort: 2, machine: 'm', cache, checkpoint: async () => {} };
      const { steps } = await chooseAttention(lowered, target, tuning);
      expect(steps).toEqual(lowered.steps);
    });
  });

  it('equal attends are one kernel, and what is found is the same every time', () => {
    const net: Omit<Net, 'roles'> = {
      name: 'twice',
      build(w, input) {
        const [k, v] = [input('k', 4, 7), input('v', 7, 4)];
        const once = (x: string): string => w.matmul(w.node('Softmax', [w.matmul(x, k)]), v);
        return once(once(input('q', 5, 4)));
      },
    };
    const lowered = lower(make(net).graph, OPS);
    const found = findAttention(lowered);
    expect(found).toHaveLength(2);
    expect(found[0].step.kernel).toBe(found[1].step.kernel);
    expect(findAttention(lowered)).toEqual(found);
    expectSame(make(net), placeAttention(lowered, found));
  });
});
