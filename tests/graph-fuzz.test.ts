/**
 * Differential fuzzing: random graphs over all operators, shapes and dtypes; the reference against every compiled target and against
 * onnxruntime. fast-check prints seed and path of a failure and shrinks it. FUZZ_RUNS sets how many graphs (`npm run test:fuzz` runs
 * many), FUZZ_SEED where they start (as for all property tests), FUZZ_PATH the path of a failure to see it again.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { isFloat } from '../src/core/dtype.ts';
import { ModelError } from '../src/core/errors.ts';
import { type Tensor, toNumbers } from '../src/core/tensor.ts';
import type { TargetName } from '../src/engine/engine.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Graph } from '../src/graph/ir.ts';
import { printGraph } from '../src/graph/print.ts';
import { OPS } from '../src/ops/all.ts';
import { x64Device } from '../src/targets/x64/device.ts';
import { GPU, WITHOUT_GPU } from './cuda/gpu-here.ts';
import { runOnTarget } from './engine-runner.ts';
import { disagreement, evalWithNoise, expanded, type FuzzGraph, fuzzGraph } from './graph-fuzz.ts';
import { runGraph } from './onnxruntime.ts';
import { runOnGpu } from './ptx/run-on-gpu.ts';

const RUNS = Number(process.env.FUZZ_RUNS ?? 60);
const PATH = process.env.FUZZ_PATH;
const NODES = 8;
/** Noisy evaluations before an answer counts as wrong: few at first, many to be sure. */
const [FEW, MANY] = [3, 40];

/** Names of outputs with elements that differ, with how many. */
function compare(fuzz: FuzzGraph, actual: ReadonlyMap<string, Tensor>): string[] {
  const expected = evalGraph(fuzz.graph, OPS, fuzz.inputs);
  const parts = expanded(fuzz);
  const wrongAfter = (runs: number): string[] => {
    const noisy = Array.from({ length: runs }, (_, seed) => evalWithNoise(parts, seed));
    return [...expected].flatMap(([name, value]) => {
      const results = noisy.map((run) => run.get(name)!);
      const wrong = disagreement(actual.get(name)!, value, results);
      return wrong === undefined ? [] : [`${name}: ${wrong}`];
    });
  };
  const suspicious = wrongAfter(FEW);
  return suspicious.length === 0 ? suspicious : wrongAfter(MANY);
}

type Run = (fuzz: FuzzGraph) => Promise<ReadonlyMap<string, Tensor> | undefined>;

const target =
  (name: TargetName): Run =>
  ({ graph, inputs }) =>
    runOnTarget(name)(graph, inputs);

/** Where onnxruntime has a rule of its own on values that the operator's cases do not have. */
const APART: readonly { readonly ops: readonly string[]; readonly dtypes?: 'integers' }[] = [
  // It takes logarithms and roots of integers in integers; here they are computed as reals and rounded at the end.
  { ops: ['ReduceLogSum', 'ReduceLogSumExp', 'ReduceL2'], dtypes: 'integers' },
  // The mean of squares less the squared mean, which cancels where all elements are equal.
  { ops: ['MeanVarianceNormalization'] },
  // Its transforms leave about 1e-6 where a sum cancels to exactly 0; a normalisation behind them makes that large.
  { ops: ['STFT', 'DFT'] },
];

const isApart = ({ nodes, values }: Graph): boolean =>
  nodes.some(({ op, inputs: [first] }) =>
    APART.some(({ ops, dtypes }) => ops.includes(op) && !(dtypes === 'integers' && isFloat(values.get(first)!.dtype))),
  );

/** Undefined where onnxruntime has no kernel for some node, or no opset that it knows has the operators. */
const onnxruntime: Run = async ({ graph, inputs }) => {
  if (isApart(graph)) return undefined;
  // What a NaN does as a position or an index is nobody's rule.
  const hasNaN = (t: Tensor): boolean => isFloat(t.dtype) && Array.prototype.some.call(toNumbers(t), Number.isNaN);
  if ([...evalGraph(graph, OPS, inputs).values()].some(hasNaN)) return undefined;
  try {
    return await runGraph(graph, inputs, OPS);
  } catch (error) {
    if (error instanceof ModelError && error.code !== 'option-invalid') throw error;
    return undefined;
  }
};

function fuzzOn(name: string, run: Run): void {
  it(`${RUNS} random graphs: the reference and ${name} agree`, { timeout: 1_200_000 }, async () => {
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(fuzzGraph(NODES), async (fuzz) => {
        const actual = await run(fuzz);
        if (!actual) return;
        compared++;
        const wrong = compare(fuzz, actual);
        expect(wrong, printGraph(fuzz.graph)).toEqual([]);
      }),
      { numRuns: RUNS, ...(PATH !== undefined && { path: PATH }) },
    );
    console.log(`${name}: ${compared} of ${RUNS} graphs compared, seed ${fc.readConfigureGlobal().seed}`);
  });
}

fuzzOn('wasm', target('wasm'));
const { available, reason } = await x64Device.probe();
if (available) fuzzOn('x64', target('x64'));
else it.skip(`x64: ${reason}`);
if (GPU) fuzzOn('cuda', ({ graph, inputs }) => runOnGpu(graph, inputs));
else it.skip(`cuda: ${WITHOUT_GPU}`);
fuzzOn('onnxruntime', onnxruntime);
