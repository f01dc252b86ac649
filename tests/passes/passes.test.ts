/**
 * The passes: each on its example against a golden and by evaluation, all on random graphs, and the table itself.
 * `UPDATE_GOLDENS=1` writes the goldens anew; read the difference before committing it.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Bug, ModelError } from '../../src/core/errors.ts';
import type { StaticShape } from '../../src/core/shape.ts';
import { type Tensor, type TensorType, toNumbers } from '../../src/core/tensor.ts';
import { evalGraph } from '../../src/graph/eval.ts';
import type { Graph } from '../../src/graph/ir.ts';
import { printGraph } from '../../src/graph/print.ts';
import { verifyGraph } from '../../src/graph/verify.ts';
import { OPS } from '../../src/ops/all.ts';
import type { PassContext } from '../../src/passes/pass.ts';
import { PASSES, runPass, runPipeline } from '../../src/passes/pipeline.ts';
import { randomTensor } from '../random.ts';
import { EXAMPLES } from './examples.ts';
import { randomGraph } from './random-graph.ts';

/** As the wasm target: f16 and bf16 must be widened. */
const ctx: PassContext = {
  ops: OPS,
  computes: new Set(['f32', 'i32', 'i64', 'u8', 'i8', 'bool']),
  onWarning: () => {},
};

/** What a pass needs to have something to do. */
const ctxOf = (name: string): PassContext => ({
  ...ctx,
  widensBytes: name === 'widen-bytes',
  ...(name === 'pack-channels' && { channelRun: 8 }),
});

const inputsOf = (graph: Graph, seed: number): Map<string, Tensor> =>
  new Map(
    graph.inputs.map((name, i) => {
      const { dtype, shape } = graph.values.get(name) as TensorType;
      return [name, randomTensor(dtype, shape as StaticShape, seed + i)];
    }),
  );

/**
 * Both graphs give the same types, and elements within `tolerance` of the largest value on the way to them: a difference of large
 * values may be small, and has their rounding.
 */
function expectEqualResults(before: Graph, after: Graph, seed: number, tolerance: number): void {
  expect(after.inputs).toEqual(before.inputs);
  expect(after.outputs).toEqual(before.outputs);
  const inputs = inputsOf(before, seed);
  const expected = evalGraph({ ...before, outputs: before.nodes.flatMap((node) => node.outputs) }, OPS, inputs);
  const largest = (t: Tensor): number => Math.max(1e-30, ...Array.from(toNumbers(t), Math.abs).filter(Number.isFinite));
  const scale = Math.max(...[...expected.values()].map(largest));
  for (const [name, actual] of evalGraph(after, OPS, inputs)) {
    const wanted = expected.get(name) as Tensor;
    expect([name, actual.dtype, actual.shape]).toEqual([name, wanted.dtype, wanted.shape]);
    const [a, b] = [Array.from(toNumbers(actual)), Array.from(toNumbers(wanted))];
    const worst = Math.max(0, ...a.map((x, i) => (Object.is(x, b[i]) || x === b[i] ? 0 : Math.abs(x - b[i]) / scale)));
    expect(worst, name).toBeLessThanOrEqual(tolerance);
  }
}

/** Folded weights are rounded to f32 once more than the original; f16 keeps 11 bits. */
const F32_TOLERANCE = 1e-5;
const F16_TOLERANCE = 2 ** -10;

describe('each pass', () => {
  it('has an example', () => {
    expect(Object.keys(EXAMPLES).sort()).toEqual(PASSES.map((pass) => pass.name).sort());
  });

  it.each(PASSES.map((pass) => [pass.name, pass] as const))('%s: golden', (name, pass) => {
    const before = EXAMPLES[name]();
    const after = runPass(pass, before, ctxOf(name));
    verifyGraph(before, OPS);
    verifyGraph(after, OPS, name);
    const text = `before\n${printGraph(before)}\n\nafter\n${printGraph(after)}\n`;
    const file = new URL(`../goldens/passes/${name}.txt`, import.meta.url);
    if (process.env.UPDATE_GOLDENS) writeFileSync(file, text);
    expect(existsSync(file) ? readFileSync(file, 'utf8') : 'no golden: run with UPDATE_GOLDENS=1').toBe(text);
  });

  it.each(PASSES.filter((pass) => pass.name !== 'fold-constants').map((pass) => [pass.name, pass] as const))(
    '%s: same results',
    (name, pass) => {
      const before = EXAMPLES[name]();
      expectEqualResults(
        before,
        runPass(pass, before, ctxOf(name)),
        7,
        name === 'widen' ? F16_TOLERANCE : F32_TOLERANCE,
      );
    },
  );

  it.each(PASSES.map((pass) => [pass.name, pass] as const))('%s: a second run finds nothing', (name, pass) => {
    const once = runPass(pass, EXAMPLES[name](), ctxOf(name));
    expect(printGraph(pass.run(once, ctxOf(name)))).toBe(printGraph(once));
  });
});

describe('all passes on random graphs', () => {
  it('give the same results after each pass, and verify', () => {
    fc.assert(
      fc.property(randomGraph, fc.nat(1000), (before, seed) => {
        const half = [...before.values.values()].some((type) => type.dtype === 'f16');
        runPipeline(before, ctx, {
          verify: true,
          onPass: (_, after) => expectEqualResults(before, after, seed, half ? F16_TOLERANCE * 8 : F32_TOLERANCE * 4),
        });
      }),
      { numRuns: 150 },
    );
  });

  it('leave nothing to do for a second run', () => {
    fc.assert(
      fc.property(randomGraph, (graph) => {
        const once = runPipeline(graph, ctx);
        expect(printGraph(runPipeline(once, ctx))).toBe(printGraph(once));
      }),
      { numRuns: 60 },
    );
  });
});

describe('the table', () => {
  it('runs each pass after those that it names', () => {
    const done = new Set<string>();
    for (const pass of PASSES) {
      for (const name of pass.after) expect(done, `${pass.name} comes after ${name}`).toContain(name);
      expect(done, pass.name).not.toContain(pass.name);
      done.add(pass.name);
    }
  });

  it('gives a reason for each', () => {
    for (const pass of PASSES) expect(pass.why.length, pass.name).toBeGreaterThan(20);
  });

  it('stops after the pass that is asked for', () => {
    const graph = EXAMPLES['remove-no-ops']();
    const seen: string[] = [];
    const stopped = runPipeline(graph, ctx, { stopAfter: 'fold-constants', onPass: (pass) => seen.push(pass.name) });
    expect(seen.at(-1)).toBe('fold-constants');
    expect(stopped.nodes.map((node) => node.op)).toContain('Identity');
    expect(() => runPipeline(graph, ctx, { stopAfter: 'fold' })).toThrow(ModelError);
  });

  it('reports a pass that never ends and one that breaks the graph', () => {
    const graph = EXAMPLES['merge-views']();
    const restless = { ...PASSES[0], name: 'restless', run: (g: Graph) => ({ ...g }), repeat: true };
    expect(() => runPass(restless, graph, ctx)).toThrow(Bug);
    const broken: Graph = { ...graph, nodes: graph.nodes.slice(1) };
    expect(() => runPipeline(broken, ctx, { verify: true })).toThrow(/"t1" is not defined before this/);
  });
});

describe('constant folding', () => {
  it('keeps a bomb of repeats within its budget', () => {
    const graph = EXAMPLES['fold-constants']();
    const folded = runPipeline(graph, ctx);
    const bytes = [...folded.constants.values()].reduce((sum, t) => sum + t.data.byteLength, 0);
    expect(bytes).toBeLessThan(1 << 16);
    expect(folded.nodes.map((node) => node.op)).toContain('ConstantOfShape');
  });
});
