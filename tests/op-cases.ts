/**
 * Operator cases as graphs of one node with drawn inputs, for whatever can run a graph; and the comparison of what came out.
 *
 * Values are drawn from a seed, so a failure repeats. An input with `constant` is baked into the graph, the others are its inputs.
 */
import { type DType, isFloat } from '../src/core/dtype.ts';
import { type Tensor, toNumbers } from '../src/core/tensor.ts';
import { graphBuilder } from '../src/graph/build.ts';
import type { Graph } from '../src/graph/ir.ts';
import type { OpTable } from '../src/graph/semantics.ts';
import type { Op, OpCase } from '../src/ops/op.ts';
import { randomTensor } from './random.ts';

export interface GraphCase {
  readonly graph: Graph;
  readonly inputs: ReadonlyMap<string, Tensor>;
}

/** Values that no dtype has to round away and that stay in the domain of most functions. */
export function defaultRange(dtype: DType): readonly [number, number] {
  if (isFloat(dtype)) return [-2, 2];
  if (dtype === 'bool') return [0, 2];
  return dtype.startsWith('u') ? [0, 9] : [-8, 9];
}

/** Ranges of integers include both ends. */
function draw(
  dtype: DType,
  shape: readonly number[],
  range: readonly [number, number] | undefined,
  seed: number,
): Tensor {
  if (!range) return randomTensor(dtype, shape, seed, defaultRange(dtype));
  const [low, high] = range;
  return randomTensor(dtype, shape, seed, [low, isFloat(dtype) ? high : high + 1]);
}

/** The case as a graph. `expand` writes the node with its expansion, where the operator has one for it. */
export function caseGraph(op: Op, opCase: OpCase, ops: OpTable, seed: number): GraphCase {
  const b = graphBuilder('case', ops);
  const inputs = new Map<string, Tensor>();
  const names = opCase.inputs.map((given, i) => {
    if (!given) return '';
    if ('constant' in given) return b.constant(given.constant, `in${i}`);
    const value = 'data' in given ? given : draw(given.dtype, given.shape, given.range, seed + i);
    inputs.set(`in${i}`, value);
    return b.input(`in${i}`, value.dtype, value.shape);
  });
  const outputs = Array.from({ length: opCase.outputs ?? 1 }, (_, i) => `out${i}`);
  b.node(op.key, names, { outputs, attrs: opCase.attrs ?? {}, loc: ['case'] });
  for (const name of outputs) b.output(name);
  return { graph: b.finish(), inputs };
}

/** Whether the operator writes this case with others, so that its own lowering never sees it. */
export function expands(op: Op, opCase: OpCase, ops: OpTable): boolean {
  if (!op.expand) return false;
  const { graph } = caseGraph(op, opCase, ops, 0);
  const b = graphBuilder('expands', ops);
  for (const name of graph.inputs) b.input(name, graph.values.get(name)!.dtype, graph.values.get(name)!.shape);
  for (const [name, value] of graph.constants) b.constant(value, name);
  const [node] = graph.nodes;
  const types = node.inputs.map((name) => graph.values.get(name));
  return op.expand(b, node, node.attrs, types) !== undefined;
}

/**
 * How far `actual` is from `expected`: the largest difference over the largest finite magnitude expected; for integers and bool
 * the number of elements that differ. NaN and infinities must be in the same places, or the answer is Infinity.
 */
export function difference(actual: Tensor, expected: Tensor): number {
  if (actual.dtype !== expected.dtype || String(actual.shape) !== String(expected.shape))
    return Number.POSITIVE_INFINITY;
  if (!isFloat(expected.dtype)) {
    let different = 0;
    for (let i = 0; i < expected.data.length; i++) if (actual.data[i] !== expected.data[i]) different++;
    return different;
  }
  const [a, b] = [toNumbers(actual), toNumbers(expected)];
  let scale = 1e-30;
  for (let i = 0; i < b.length; i++) if (Number.isFinite(b[i])) scale = Math.max(scale, Math.abs(b[i]));
  let worst = 0;
  for (let i = 0; i < b.length; i++) {
    if (a[i] === b[i] || (Number.isNaN(a[i]) && Number.isNaN(b[i]))) continue;
    const error = Math.abs(a[i] - b[i]) / scale;
    worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(worst, error);
  }
  return worst;
}

/** Where a machine may differ from float64 rounded once: a few units in the last place of the output's dtype. */
export function tolerance(dtype: DType, opCase: OpCase): number {
  if (!isFloat(dtype)) return 0;
  const ulps: Partial<Record<DType, number>> = { f64: 1e-12, f16: 2e-3, bf16: 2e-2 };
  return Math.max(opCase.tolerance ?? 0, ulps[dtype] ?? 1e-5);
}
