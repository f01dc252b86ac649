/**
 * Maps behind products, and moves before them: a step that only makes something of a contract's elements, one by one, becomes part of its epilogue. In: steps;
 * out: fewer, which compute the same.
 *
 *     x[i] = f(Σ a · b);   y[p(i)] = g(x[i], other[…])   is   y[p(i)] = g(f(Σ a · b), other[…])   where nobody else reads x
 *
 * fuse.ts does this for nodes that stand behind each other in the graph; here kernels are compared, so views between the two (a batch in
 * front of positions or behind them, channels first or last, windows put together) do not count: they are strides by now. The step runs where the map did, so
 * that all it reads is there. What was contiguous along an axis stays so: a map that transposes is a pass of its own.
 */
import { affineConstant, toAffine } from '../loop/affine.ts';
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
  loadedBuffers,
  mapNodes,
  placeLoaded,
  placeOf,
  renameAffine,
  renameAxes,
  renameBody,
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
  const rules = [joinMap, readMoved];
  graph.steps.forEach((step, at) => {
    for (const name of step.kernel.buffers.filter((b) => b.role === 'in').map((b) => `${at} ${b.name}`)) {
      const between = values.between(name);
      if (between?.reader !== at || gone.has(between.writer) || made.has(between.writer)) continue;
      for (const rule of rules) {
        const merged = rule(graph, values, between.writer, at, name);
        if (!merged) continue;
        const key = kernelKey(merged.kernel);
        const kernel = kernels.get(key) ?? merged.kernel;
        kernels.set(key, kernel);
        made.set(at, { ...merged, kernel });
        gone.add(between.writer);
        return;
      }
    }
  });
  if (made.size === 0) return graph;
  return { ...graph, steps: graph.steps.flatMap((s, i) => (gone.has(i) ? [] : (made.get(i) ?? s))) };
}

/** The contract of step `writer` with the map of step `at`, which reads its result as `name`, behind it. */
function joinMap(
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
  if (form.kind !== 'contract' || !isMap(after) || !value || !stored) return undefined;
  const element = values.rename(unrounded(stored.value), at);
  const read = placeLoaded(element, name);
  const offset = values.operands.get(name)?.storage.offset ?? 0;
  if (!read || read.constant + offset !== value.at.constant + values.offsetOut(writer)) return undefined;
  const refined = refineAxes(value, { axes: after.kernel.axes, at: read });
  if (!refined || !canCut(form, refined[0])) return undefined;
  const [ours, theirs] = refined;
  const index = inPieces(stored.index, theirs, atPoint);
  const contiguous = pieceAffine(ours, value.at).terms.find((t) => t.coef === 1)?.axis;
  if (toAffine(index)?.terms.find((t) => t.axis === contiguous)?.coef !== 1) return undefined;
  const sum = mapNodes(inPieces(value.element, ours, atPoint), (x) =>
    x.kind === 'local' && x.name === 'dot' ? e.local('acc', x.dtype) : x,
  );
  const whole = replaceLoads(inPieces(element, theirs, atPoint), name, sum);
  const dtype = after.kernel.buffers.find((b) => b.name === stored.buffer)?.dtype ?? whole.dtype;
  const store: Stmt = { ...stored, buffer: `${at} ${stored.buffer}`, index, value: e.cast(dtype, whole) };
  let locals = 0;
  const epilogue = shareSubexpressions(store, () => `t${locals++}`);
  return finish(values, { before, after, form: { ...cut(longNamed(form, writer), ours), epilogue } });
}

/** With pieces in the place of axes; an axis without any is `other` of it. */
const inPieces = (x: Expr, pieces: Pieces, other: (axis: Expr) => Expr = (axis) => axis): Expr =>
  mapNodes(x, (node) => (node.kind === 'axis' ? (pieceExpr(pieces, node.name) ?? other(node)) : node));

/** Axes that memory does not move with are 1 wide. */
const atPoint = (): Expr => e.index(0);

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

/** The contract of step `at` with what step `writer` moved for it read where it was. */
function readMoved(
  graph: LoweredGraph,
  values: StepValues,
  writer: number,
  at: number,
  name: string,
): LoweredStep | undefined {
  const [before, after] = [graph.steps[writer], graph.steps[at]];
  const { form } = after.kernel;
  const value = values.valueOf(writer);
  if (form.kind !== 'contract' || !isMap(before) || value?.element.kind !== 'load') return undefined;
  if (value.element.dtype !== values.operands.get(name)?.storage.block.dtype) return undefined;
  if (name !== `${at} ${form.a.buffer}` || form.b.buffer === form.a.buffer) return undefined;
  if (loadsIn(form.epilogue, form.a.buffer)) return undefined;
  const [from, place] = [toAffine(value.element.index), placeOf(form.a)];
  const offset = values.operands.get(name)?.storage.offset ?? 0;
  if (!from || !place || from.constant < 0 || place.constant + offset !== value.at.constant + values.offsetOut(writer))
    return undefined;
  const moving = form.axes.filter((x) => place.terms.some((t) => t.axis === x.name));
  const refined = refineAxes(value, { axes: moving, at: place });
  if (!refined || !canCut(form, refined[1])) return undefined;
  const [ours, theirs] = refined;
  const source = pieceAffine(ours, from);
  const widths = new Map([...ours.values()].flat().map((p) => [p.name, p.extent]));
  if (source.terms.length !== widths.size || !source.terms.every((t) => widths.has(t.axis) && t.coef > 0))
    return undefined;
  const contiguous = pieceAffine(theirs, place).terms.find((t) => t.coef === 1)?.axis;
  if (source.terms.find((t) => t.axis === contiguous)?.coef !== 1) return undefined;
  const dims = source.terms.map(({ axis, coef }) => ({
    at: { terms: [{ axis, coef: 1 }], constant: 0 },
    extent: widths.get(axis) as number,
    stride: coef,
    padded: false,
  }));
  const start = { at: affineConstant(1), extent: 2, stride: source.constant, padded: false };
  const epilogue = renameBody(form.epilogue, new Map(), at).map(
    (s): Stmt =>
      s.kind === 'store'
        ? { ...s, index: inPieces(s.index, theirs), value: inPieces(s.value, theirs) }
        : s.kind === 'let'
          ? { ...s, value: inPieces(s.value, theirs) }
          : s,
  );
  const { b, axes } = cut(longNamed(form, at), theirs);
  const a = { buffer: value.element.buffer, dims: source.constant > 0 ? [start, ...dims] : dims };
  return finish(values, { before: after, after: before, form: { ...form, axes, a, b, epilogue } });
}

const isMap = ({ kernel: { form } }: LoweredStep): boolean => form.kind === 'map' || form.kind === 'move';

function loadsIn(stmts: readonly Stmt[], buffer: string): boolean {
  return stmts.some((s) => (s.kind === 'store' || s.kind === 'let') && loadedBuffers(s.value).has(buffer));
}

/** Operands by their buffers' names in all steps. */
const longNamed = (form: Contract, step: number): Contract => ({
  ...form,
  a: { ...form.a, buffer: `${step} ${form.a.buffer}` },
  b: { ...form.b, buffer: `${step} ${form.b.buffer}` },
});

interface Merged {
  /** The contract's own step, and the one that goes. */
  readonly before: LoweredStep;
  readonly after: LoweredStep;
  /** With buffers by their names in all steps. */
  readonly form: Contract;
}

function finish(values: StepValues, { before, after, form }: Merged): LoweredStep {
  const naming = values.naming();
  const names = new Map<string, string>();
  for (const { name, role } of form.axes) {
    const hint = role === 'k' ? 'k' : 'i';
    names.set(name, `${hint}${[...names.values()].filter((x) => x.startsWith(hint)).length}`);
  }
  const access = (x: Access): Access => ({
    buffer: naming.name(x.buffer),
    dims: x.dims.map((d) => ({ ...d, at: renameAffine(d.at, names) })),
  });
  const [a, b] = [access(form.a), access(form.b)];
  const expr = (x: Expr): Expr =>
    mapNodes(renameAxes(x, names), (node) =>
      node.kind === 'load' ? { ...node, buffer: naming.name(node.buffer) } : node,
    );
  const epilogue = form.epilogue.map((s): Stmt => {
    if (s.kind === 'let') return { ...s, value: expr(s.value) };
    if (s.kind !== 'store') return s;
    const value = expr(s.value);
    return { ...s, buffer: naming.name(s.buffer), index: expr(s.index), value };
  });
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
