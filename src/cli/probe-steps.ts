/**
 * Where a given engine parts from the reference: the engine itself, cut off behind a step whose result is then its output, compared with
 * graph evaluation; by bisection, so a handful of cuts find the first wrong step of hundreds.
 *
 * A stored value is compared in the order in which it lies in memory. The engine does not say which that is, so of all orders of the
 * dims the one that agrees best counts: a fault that only permutes dims would pass here. Steps that write a part of a larger block are
 * passed over; a later step reads them.
 */
import { DTYPES, type DType } from '../core/dtype.ts';
import { elements, isStatic, type StaticShape } from '../core/shape.ts';
import { type Tensor, tensor, toNumbers } from '../core/tensor.ts';
import type { Engine } from '../engine/engine.ts';
import { bindShapes } from '../graph/bind.ts';
import { evalGraph } from '../graph/eval.ts';
import { OPS } from '../ops/all.ts';
import { TARGETS } from '../targets/all.ts';
import type { LayerRow } from './compare-layers.ts';
import { compareTensors, type PassRule } from './compare-tensors.ts';
import { readModelGraph } from './compile-model.ts';
import { openEngineRunner } from './engine-runner.ts';
import { timedRun } from './measure.ts';
import type { SourceInput } from './model-input.ts';
import type { ModelFlags } from './model-options.ts';
import type { Terminal } from './terminal.ts';

/** A step's result that the model knows: a whole block, under the model's name for it. */
interface Probe {
  readonly step: number;
  readonly value: string;
  readonly dtype: DType;
  readonly shape: StaticShape;
  readonly buffer: Engine['outputs'][number]['buffer'];
}

/** A row for each step that was looked at, in the order they run: the last good one and the first wrong one among them. */
export async function probeSteps(
  model: SourceInput,
  engine: Engine,
  inputs: ReadonlyMap<string, Tensor>,
  flags: ModelFlags & PassRule,
  terminal: Terminal,
): Promise<readonly LayerRow[]> {
  const shapes = Object.fromEntries(engine.inputs.map(({ name, shape }) => [name, shape]));
  const graph = bindShapes(readModelGraph(model, terminal, shapes), OPS, shapes, terminal.warn);
  const computed = new Set(graph.nodes.flatMap((node) => node.outputs));
  const probes = findProbes(engine).filter(({ value, shape }) => {
    const type = graph.values.get(value);
    return (
      computed.has(value) && type !== undefined && isStatic(type.shape) && elements(type.shape) === elements(shape)
    );
  });
  const want = evalGraph({ ...graph, outputs: [...new Set(probes.map(({ value }) => value))] }, OPS, inputs);
  const rows = new Map<number, LayerRow>();
  const passes = async (i: number): Promise<boolean> => {
    const probe = probes[i];
    const got = await runUntil(engine, probe, inputs, flags, terminal);
    const row = { ...closest(probe, got, want.get(probe.value) as Tensor, flags), nodes: engine.steps[probe.step].loc };
    rows.set(probe.step, row);
    return row.passed;
  };
  // What is wrong once stays wrong: everything after the first wrong step is computed from it.
  let [good, bad] = [-1, probes.length];
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (await passes(middle)) good = middle;
    else bad = middle;
  }
  return [...rows].sort(([a], [b]) => a - b).map(([, row]) => row);
}

function findProbes(engine: Engine): readonly Probe[] {
  return engine.steps.flatMap((step, s) =>
    engine.kernels[step.kernel].buffers.flatMap(({ role, dtype, elements: count }, b): Probe[] => {
      const shape = step.shapes?.[b];
      if (role !== 'out' || shape === undefined || elements(shape) !== count) return [];
      const buffer = { ...step.buffers[b], bytes: count * DTYPES[dtype].bytes };
      return [{ step: s, value: step.values[b], dtype, shape, buffer }];
    }),
  );
}

/** The elements that the step stores, in the order of memory, after a run of the engine that ends with it. */
async function runUntil(
  engine: Engine,
  { step, dtype, shape, buffer }: Probe,
  inputs: ReadonlyMap<string, Tensor>,
  flags: ModelFlags,
  terminal: Terminal,
): Promise<Tensor> {
  const steps = engine.steps.slice(0, step + 1);
  const target = TARGETS.find(({ name }) => name === engine.target);
  const code = target?.emit?.({ ...engine, steps }) ?? [];
  const outputs = [{ name: 'probe', dtype, shape: [elements(shape)], buffer }];
  const runner = await openEngineRunner({ ...engine, steps, outputs, code }, flags, terminal);
  try {
    await runner.setInputs(inputs);
    await timedRun(runner);
    return runner.outputs().get('probe') as Tensor;
  } finally {
    await runner.dispose();
  }
}

/** The comparison under the order of dims that agrees best. */
function closest({ value }: Probe, got: Tensor, want: Tensor, rule: PassRule) {
  const rows = ordersOf(want.shape).map((order) => {
    const wanted = permuted(want, order);
    return compareTensors(value, tensor(got.dtype, wanted.shape, got.data), wanted, rule);
  });
  return rows.reduce((best, row) => (row.rmse < best.rmse ? row : best));
}

/** Orders of the dims longer than 1, row-major first; of more than four such dims, that one and channels last only. */
function ordersOf(shape: StaticShape): readonly (readonly number[])[] {
  const long = shape.flatMap((extent, d) => (extent > 1 ? [d] : []));
  if (long.length > 4) return [long, [...long.filter((d) => d !== 1), 1].filter((d) => long.includes(d))];
  const all = (dims: readonly number[]): number[][] =>
    dims.length < 2
      ? [[...dims]]
      : dims.flatMap((d) => all(dims.filter((other) => other !== d)).map((rest) => [d, ...rest]));
  return all(long);
}

/** The tensor with its dims longer than 1 in another order, in float64. */
function permuted(t: Tensor, order: readonly number[]): Tensor {
  const values = toNumbers(t);
  const strides = t.shape.map((_, d) => t.shape.slice(d + 1).reduce((n, extent) => n * extent, 1));
  const shape = order.map((d) => t.shape[d]);
  const data = new Float64Array(values.length);
  const at = new Array<number>(order.length).fill(0);
  for (let i = 0, offset = 0; i < data.length; i++) {
    data[i] = values[offset];
    for (let k = order.length - 1; k >= 0; k--) {
      offset += strides[order[k]];
      if (++at[k] < shape[k]) break;
      offset -= at[k] * strides[order[k]];
      at[k] = 0;
    }
  }
  return tensor('f64', shape, data);
}
