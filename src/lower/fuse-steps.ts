/**
 * Maps behind products: a step that only makes something of a contract's elements, one by one, becomes part of its epilogue. In: steps;
 * out: fewer, which compute the same.
 *
 *     x[i] = f(Σ a · b);   y[p(i)] = g(x[i], other[…])   is   y[p(i)] = g(f(Σ a · b), other[…])   where nobody else reads x
 *
 * fuse.ts does this for nodes that stand behind each other in the graph; here kernels are compared, so views between the two (a batch in
 * front of positions or behind them, channels first or last, windows put together) do not count: they are strides by now. The step runs where the map did, so
 * that all it reads is there. What was contiguous along an axis stays so: a map that transposes is a pass of its own.
 */
import { toAffine } from '../loop/affine.ts';
import { contractKernel } from '../loop/contract.ts';
import * as e from '../loop/expr.ts';
import type { Access, Contract, Expr, Stmt } from '../loop/ir.ts';
import { kernelKey } from '../loop/print.ts';
import { shareSubexpressions } from '../loop/share.ts';
import { simplifyKernel } from '../loop/simplify.ts';
import { kernelName } from './kernel-writer.ts';
import { factsOf, type LoweredGraph, type LoweredStep } from './lower.ts';
import { type Pieces, pieceAffine, pieceExpr, refineAxes } from './refine-axes.ts';
import {
  mapNodes,
  placeLoaded,
  renameAffine,
  renameAxes,
  replaceLoads,
  StepValues,
  singleStore,
  unrounded,
} from './step-values.ts';

/** The graph with maps in the epilogues of the contracts before them. Steps of open sizes stay as they are. */
export function fuseSteps(graph: LoweredGraph): LoweredGraph {
  if (graph.usual) return graph;
  let current = graph;
  // A contract takes one map a round, and may have more behind it.
  for (;;) {
    const next = fuseOnce(current);
    if (next === current) return current;
    current = next;
  }
}

function fuseOnce(graph: LoweredGraph): LoweredGraph {
  const values = new StepValues(graph);
  const made = new Map<number, LoweredStep>();
  const gone = new Set<number>();
  const kernels = new Map<string, LoweredStep['kernel']>();
  graph.steps.forEach((step, at) => {
    const { form } = step.kernel;
    if (form.kind !== 'map' && form.kind !== 'move') return;
    for (const name of step.kernel.buffers.filter((b) => b.role === 'in').map((b) => `${at} ${b.name}`)) {
      const between = values.between(name);
      if (between?.reader !== at || gone.has(between.writer) || made.has(between.writer)) continue;
      const merged = merge(graph, values, between.writer, at, name);
      if (!merged) continue;
      const key = kernelKey(merged.kernel);
      const kernel = kernels.get(key) ?? merged.kernel;
      kernels.set(key, kernel);
      made.set(at, { ...merged, kernel });
      gone.add(between.writer);
      return;
    }
  });
  if (made.size === 0) return graph;
  return { ...graph, steps: graph.steps.flatMap((s, i) => (gone.has(i) ? [] : (made.get(i) ?? s))) };
}

/** The contract of step `writer` with the map of step `at`, which reads its result as `name`, behind it. */
function merge(
  graph: LoweredGraph,
  values: StepValues,
  writer: number,
  at: number,
  name: string,
): LoweredStep | undefined {
  const [before, after] = [graph.steps[writer], graph.steps[at]];
  const { form } = before.kernel;
  const value = values.valueOf(writer);
  const stored = singleStore(after.kernel.body);
  if (form.kind !== 'contract' || !value || !stored) return undefined;
  const element = values.rename(unrounded(stored.value), at);
  const read = placeLoaded(element, name);
  const offset = values.operands.get(name)?.storage.offset ?? 0;
  if (!read || read.constant + offset !== value.at.constant + values.offsetOut(writer)) return undefined;
  const refined = refineAxes(value, { axes: after.kernel.axes, at: read });
  if (!refined || !canCut(form, refined[0])) return undefined;
  const [ours, theirs] = refined;
  const index = inPieces(stored.index, theirs);
  const contiguous = pieceAffine(ours, value.at).terms.find((t) => t.coef === 1)?.axis;
  if (toAffine(index)?.terms.find((t) => t.axis === contiguous)?.coef !== 1) return undefined;
  const sum = mapNodes(inPieces(value.element, ours), (x) =>
    x.kind === 'local' && x.name === 'dot' ? e.local('acc', x.dtype) : x,
  );
  const whole = replaceLoads(inPieces(element, theirs), name, sum);
  return finish(values, {
    before,
    after,
    form: cut(form, ours),
    writer,
    store: { ...stored, index, value: whole },
    at,
  });
}

const inPieces = (x: Expr, pieces: Pieces): Expr =>
  mapNodes(x, (node) => (node.kind === 'axis' ? pieceExpr(pieces, node.name) : node));

/** Windows of a convolution stay as they are: templates know them by their axes. */
const canCut = ({ a, b }: Contract, pieces: Pieces): boolean =>
  [a, b].every(({ dims }) =>
    dims.every((d) => !d.padded || d.at.terms.every(({ axis }) => (pieces.get(axis)?.length ?? 1) === 1)),
  );

function cut(form: Contract, pieces: Pieces): Contract {
  const access = (x: Access): Access => ({
    ...x,
    dims: x.dims.map((d) => ({ ...d, at: pieceAffine(pieces, d.at) })),
  });
  const axes = form.axes.flatMap((axis) => {
    const parts = pieces.get(axis.name);
    return parts ? parts.map(({ name, extent }) => ({ name, extent, role: axis.role })) : [axis];
  });
  return { ...form, axes, a: access(form.a), b: access(form.b) };
}

interface Merged {
  readonly before: LoweredStep;
  readonly after: LoweredStep;
  readonly form: Contract;
  readonly writer: number;
  /** With buffers by their names in all steps, but the one it stores to. */
  readonly store: Extract<Stmt, { kind: 'store' }>;
  readonly at: number;
}

function finish(values: StepValues, { before, after, form, writer, store, at }: Merged): LoweredStep {
  const naming = values.naming();
  const names = new Map<string, string>();
  for (const { name, role } of form.axes) {
    const hint = role === 'k' ? 'k' : 'i';
    names.set(name, `${hint}${[...names.values()].filter((x) => x.startsWith(hint)).length}`);
  }
  const access = (a: Access): Access => ({
    buffer: naming.name(`${writer} ${a.buffer}`),
    dims: a.dims.map((d) => ({ ...d, at: renameAffine(d.at, names) })),
  });
  const [a, b] = [access(form.a), access(form.b)];
  const expr = (x: Expr): Expr =>
    mapNodes(renameAxes(x, names), (node) =>
      node.kind === 'load' ? { ...node, buffer: naming.name(node.buffer) } : node,
    );
  const value = expr(store.value);
  const out = after.kernel.buffers.find((x) => x.name === store.buffer);
  const buffer = naming.name(`${at} ${store.buffer}`);
  const rounded = {
    ...store,
    buffer,
    index: renameAxes(store.index, names),
    value: e.cast(out?.dtype ?? value.dtype, value),
  };
  let locals = 0;
  const epilogue = shareSubexpressions(rounded, () => `t${locals++}`);
  const { buffers, operands } = naming.bound();
  const axes = form.axes.map((x) => ({ ...x, name: names.get(x.name) as string }));
  const merged: Contract = { ...form, axes, a, b, epilogue };
  const kernel = simplifyKernel(contractKernel(kernelName('contract', buffers, axes), buffers, merged));
  return {
    kernel,
    operands,
    facts: factsOf(kernel, operands, before.facts),
    loc: [...new Set([...before.loc, ...after.loc])],
  };
}
