/**
 * Attention among lowered steps: a contract whose scores only a softmax over one of their dims reads, whose weights only a contract over that
 * dim reads. In: steps; out: for each such group the one step that could stand in its place, an attend.
 *
 *     scores[i] = f(Σ q · k)     (maps over scores)     weights[j] = softmax over keys     y = g(Σ over keys of weights · v)     (a move of y)
 *
 * Kernels are compared, not operators: whatever wrote them, heads, shared heads, masks, biases and transposes are strides and expressions
 * by now. Two steps agree on the axes of what one stores and the other loads where each axis of the one has an axis of the other with the
 * same extent and stride. What is in between lies in memory for these steps alone.
 */
import { affineConstant, toAffine } from '../loop/affine.ts';
import { attendKernel } from '../loop/attend.ts';
import { affineExpr } from '../loop/contract.ts';
import { equalAxes, equalStmts } from '../loop/equal.ts';
import * as e from '../loop/expr.ts';
import { isHalf } from '../loop/halves.ts';
import type { Access, Affine, Attend, Axis, Contract, Expr, Kernel, Stmt } from '../loop/ir.ts';
import { kernelKey } from '../loop/print.ts';
import { shareSubexpressions } from '../loop/share.ts';
import { simplifyKernel } from '../loop/simplify.ts';
import { kernelAt } from './at-sizes.ts';
import { kernelName, type Operand } from './kernel-writer.ts';
import { factsOf, type LoweredGraph, type LoweredStep } from './lower.ts';
import {
  loadedBuffers,
  mapNodes,
  matchAxes,
  type Names,
  placeOf,
  renameAffine,
  renameAxes,
  renameBody,
  replaceLoads,
  StepValues,
  singleStore,
  unrounded,
} from './step-values.ts';

export interface Attention {
  readonly step: LoweredStep;
  /** Numbers of the steps in whose place it stands, in order. */
  readonly parts: readonly number[];
  /** The one of them at whose place it runs. */
  readonly at: number;
}

/** Every attention, the parts of each no other's. */
export function findAttention(graph: LoweredGraph): Attention[] {
  const finder = new Finder(graph);
  return graph.steps.flatMap((_, i) => finder.find(i) ?? []);
}

/** The graph with attends in the places of their parts. */
export function placeAttention(graph: LoweredGraph, attentions: readonly Attention[]): LoweredGraph {
  const at = new Map(attentions.map((a) => [a.at, a.step]));
  const gone = new Set(attentions.flatMap((a) => a.parts));
  return { ...graph, steps: graph.steps.flatMap((step, i) => at.get(i) ?? (gone.has(i) ? [] : step)) };
}

/** The scores before softmax, and the contract that they come from, along the axes of who asked. */
interface Scores {
  readonly element: Expr;
  readonly product: { readonly form: Contract; readonly names: Names; readonly step: number };
  readonly steps: readonly number[];
}

/** Maps between the contract and softmax that are looked through. */
const MOST_MAPS = 3;

class Finder {
  readonly #graph: LoweredGraph;
  readonly #values: StepValues;
  /** By text: equal attends are one kernel. */
  readonly #kernels = new Map<string, Kernel>();
  readonly #usual = new Map<Kernel, Kernel>();

  constructor(graph: LoweredGraph) {
    this.#graph = graph;
    this.#values = new StepValues(graph);
  }

  /** The attention whose softmax is step i. */
  find(i: number): Attention | undefined {
    const { kernel } = this.#graph.steps[i];
    const softmax = readSoftmax(kernel);
    if (!softmax) return undefined;
    const axes = [...kernel.axes, softmax.key];
    const scores = this.#scores(this.#values.rename(softmax.score, i), axes, i, MOST_MAPS);
    const weights = this.#values.soleReader(i, softmax.out);
    if (!scores || weights === undefined) return undefined;
    return this.#join(softmax, axes, scores, { softmax: i, product: weights });
  }

  /** The expression with what one of its loads reads put in place: as far as the sum of a contract. */
  #scores(element: Expr, axes: readonly Axis[], step: number, depth: number): Scores | undefined {
    for (const name of loadedBuffers(element)) {
      const between = this.#values.between(name);
      if (!between || between.reader !== step) continue;
      const { writer } = between;
      const { kernel } = this.#graph.steps[writer];
      const value = this.#values.valueOf(writer);
      const names = value && this.#values.namesAt(value, writer, element, name, axes);
      if (!value || !names) continue;
      const inner = renameAxes(value.element, names);
      const merged = replaceLoads(element, name, inner);
      if (kernel.form.kind === 'contract')
        return { element: merged, product: { form: kernel.form, names, step: writer }, steps: [writer] };
      if (depth === 0) continue;
      const deeper = this.#scores(inner, axes, writer, depth - 1);
      if (!deeper) continue;
      const whole = replaceLoads(element, name, deeper.element);
      return { ...deeper, element: whole, steps: [...deeper.steps, writer] };
    }
    return undefined;
  }

  #join(
    softmax: Softmax,
    axes: readonly Axis[],
    scores: Scores,
    at: { readonly softmax: number; readonly product: number },
  ): Attention | undefined {
    const { kernel } = this.#graph.steps[at.product];
    const { form } = kernel;
    if (form.kind !== 'contract' || form.acc !== scores.product.form.acc) return undefined;
    if (form.acc !== 'f32' && form.acc !== 'f64') return undefined;
    if (scores.element.dtype !== form.acc || softmax.dtype !== form.acc) return undefined;
    const isWeights = ({ buffer }: Access): boolean =>
      this.#values.operands.get(`${at.product} ${buffer}`)?.storage.block ===
      this.#values.operands.get(`${at.softmax} ${softmax.out}`)?.storage.block;
    const sides = isWeights(form.a) ? [form.a, form.b] : [form.b, form.a];
    const [weights, values] = sides;
    if (!isWeights(weights) || isWeights(values)) return undefined;
    const place = placeOf(weights);
    const operand = this.#values.operands.get(`${at.product} ${weights.buffer}`);
    if (!place || !operand) return undefined;
    const all: readonly Axis[] = form.axes;
    const read = { axes: all.filter((a) => place.terms.some((t) => t.axis === a.name)), at: place };
    // From softmax's axes to those of the product; its row is what is summed.
    const stored = { axes: [...kernelAxes(this.#graph, at.softmax), softmax.stored], at: softmax.at };
    const back = matchAxes(stored, this.#values.offsetOut(at.softmax), read, operand.storage.offset);
    if (!back) return undefined;
    const toSoftmax = new Map(
      [...back].map(([from, to]) => [to, from === softmax.stored.name ? softmax.key.name : from]),
    );
    const summed = form.axes.filter((a) => a.role === 'k');
    if (summed.length !== 1 || toSoftmax.get(summed[0].name) !== softmax.key.name) return undefined;
    return this.#write({ softmax, axes, scores, form, values, toSoftmax, at });
  }

  #write(match: Match): Attention | undefined {
    const { softmax, axes, scores, form, values, at } = match;
    const { product } = scores;
    const key = softmax.key.name;
    const renamed = (access: Access, names: Names, step: number): Access => ({
      buffer: `${step} ${access.buffer}`,
      dims: access.dims.map((d) => ({ ...d, at: renameAffine(d.at, names) })),
    });
    // The product's own axes are values; scores' own are what is summed over for them.
    const valueAxes = form.axes.filter((a) => a.role !== 'k' && !match.toSoftmax.has(a.name));
    const innerAxes = product.form.axes.filter((a) => a.role === 'k');
    const toAll = new Map([...match.toSoftmax, ...valueAxes.map((a, i) => [a.name, `value ${i}`] as const)]);
    const ofScores = new Map([...product.names, ...innerAxes.map((a, i) => [a.name, `inner ${i}`] as const)]);
    const sides = [product.form.a, product.form.b].map((x) => renamed(x, ofScores, product.step));
    const [q, k] = movesWith(sides[0], key) ? [sides[1], sides[0]] : sides;
    const v = renamed(values, toAll, at.product);
    if ([q, k, v].some((x) => x.dims.some((d) => d.padded || d.limit))) return undefined;
    if (movesWith(q, key) || !movesWith(k, key) || !movesWith(v, key)) return undefined;
    const moved = this.#movedOut(form, at.product, toAll);
    const epilogue = moved?.epilogue ?? renameBody(form.epilogue, toAll, at.product);
    const outer = form.axes.filter((a) => a.role !== 'k');
    const roleOf = (name: string): Attend['axes'][number]['role'] =>
      name.startsWith('value') ? 'value' : movesWith(k, name) || movesWith(v, name) ? 'batch' : 'query';
    const places = epilogue.flatMap((s) => (s.kind === 'store' ? (toAffine(s.index) ?? []) : []));
    const stride = (name: string): number => places[0]?.terms.find((t) => t.axis === name)?.coef ?? 0;
    const points = outer
      .map(({ name, ...axis }) => {
        const to = toAll.get(name) as string;
        return { ...axis, name: to, role: roleOf(to) };
      })
      .sort((x, y) => stride(y.name) - stride(x.name));
    const keyAxis = axes.find((a) => a.name === key) as Axis;
    const allAxes: Attend['axes'] = [
      ...points,
      { ...keyAxis, role: 'key' },
      ...innerAxes.map((axis, i) => ({ ...axis, name: `inner ${i}`, role: 'inner' as const })),
    ];
    const [qSource, kSource] = [q, k].map((x) => this.#source(x, product.step, allAxes, true));
    const vSource = this.#source(v, at.product, allAxes, false);
    const scale = qSource.scale * kSource.scale;
    const dot = e.local('dot', form.acc);
    const score = mapNodes(scores.element, (x) =>
      x.kind === 'local' && x.name === 'dot' && scale !== 1 ? e.mul(dot, e.constant(form.acc, scale)) : x,
    );
    const draft: Attend = {
      kind: 'attend',
      axes: allAxes,
      q: qSource.access,
      k: kSource.access,
      v: vSource.access,
      acc: form.acc as Attend['acc'],
      score: [{ kind: 'let', local: 'score', dtype: form.acc, value: score }],
      empty: softmax.empty,
      epilogue,
    };
    const sources = [qSource, kSource, vSource].flatMap((x) => x.steps);
    const parts = [...scores.steps, at.softmax, at.product, ...(moved ? [moved.step] : []), ...sources];
    parts.sort((x, y) => x - y);
    return { step: this.#finish(draft, parts), parts, at: at.product };
  }

  /** An operand where it lay before it was moved for this step alone, or multiplied by a number where `scales`. */
  #source(access: Access, reader: number, axes: readonly Axis[], scales: boolean): Source {
    let found: Source = { access, scale: 1, steps: [] };
    for (let depth = 0; depth < MOST_MAPS; depth++) {
      const next = this.#sourceBefore(found.access, found.steps.at(-1) ?? reader, axes, scales);
      if (!next) break;
      found = { ...next, scale: found.scale * next.scale, steps: [...found.steps, ...next.steps] };
    }
    return found;
  }

  #sourceBefore(access: Access, reader: number, axes: readonly Axis[], scales: boolean): Source | undefined {
    const between = this.#values.between(access.buffer);
    const place = placeOf(access);
    const value = between?.reader === reader && this.#values.valueOf(between.writer);
    if (!between || !value || !place || this.#graph.steps[between.writer].kernel.form.kind === 'contract')
      return undefined;
    const moved = readScaled(value.element);
    const at = moved && toAffine(moved.load.index);
    if (!moved || !at || at.constant < 0 || (moved.scale !== 1 && !scales)) return undefined;
    const dtype = this.#values.operands.get(access.buffer)?.storage.block.dtype;
    if (moved.load.dtype !== dtype) return undefined;
    const own = axes.filter((a) => place.terms.some((t) => t.axis === a.name));
    const offset = this.#values.operands.get(access.buffer)?.storage.offset ?? 0;
    const names = matchAxes(value, this.#values.offsetOut(between.writer), { axes: own, at: place }, offset);
    if (!names) return undefined;
    const dims: Access['dims'][number][] = [];
    if (at.constant > 0) dims.push({ at: affineConstant(1), extent: 2, stride: at.constant, padded: false });
    for (const { axis, coef } of at.terms) {
      const to = names.get(axis);
      const extent = value.axes.find((a) => a.name === axis)?.extent ?? 0;
      if (to === undefined && extent === 1) continue;
      if (to === undefined || coef < 0) return undefined;
      dims.push({ at: { terms: [{ axis: to, coef: 1 }], constant: 0 }, extent, stride: coef, padded: false });
    }
    return { access: { buffer: moved.load.buffer, dims }, scale: moved.scale, steps: [between.writer] };
  }

  /** Where the result is only moved elsewhere: that step, and the product's epilogue storing there. */
  #movedOut(form: Contract, step: number, toAll: Names): { step: number; epilogue: readonly Stmt[] } | undefined {
    const stored = singleStore(form.epilogue);
    const at = stored && toAffine(stored.index);
    const mover = stored && at && this.#values.soleReader(step, stored.buffer);
    if (mover === undefined || !at || !stored) return undefined;
    const { kernel } = this.#graph.steps[mover];
    const move = kernel.form.kind !== 'move' ? undefined : singleStore(kernel.body);
    if (move?.value.kind !== 'load') return undefined;
    const [from, to] = [toAffine(move.value.index), toAffine(move.index)];
    const name = `${mover} ${move.value.buffer}`;
    const { storage } = this.#values.operands.get(name) as Operand;
    const own = form.axes.filter((a) => a.role !== 'k');
    const names =
      from &&
      matchAxes({ axes: kernel.axes, at: from }, storage.offset, { axes: own, at }, this.#values.offsetOut(step));
    const isWhole = storage.block === this.#values.operands.get(`${step} ${stored.buffer}`)?.storage.block;
    if (!names || !to || !isWhole) return undefined;
    const index = renameAxes(affineExpr(renameAffine(to, names)), toAll);
    const epilogue = renameBody(form.epilogue, toAll, step).map(
      (s): Stmt => (s.kind === 'store' ? { ...s, buffer: `${mover} ${move.buffer}`, index } : s),
    );
    return { step: mover, epilogue };
  }

  /** Equal kernels are one at the usual sizes, too. */
  #atUsual(kernel: Kernel, words: readonly number[]): Kernel {
    const usual = this.#usual.get(kernel) ?? simplifyKernel(kernelAt(kernel, words));
    this.#usual.set(kernel, usual);
    return usual;
  }

  /** The step: buffers and axes get short names, equal operands become one. */
  #finish(draft: Attend, parts: readonly number[]): LoweredStep {
    const naming = this.#values.naming();
    const bufferName = naming.name;
    const hints = { batch: 'i', query: 'i', value: 'i', key: 'j', inner: 'c' } as const;
    const counts = new Map<string, number>();
    const axisNames = new Map(
      draft.axes.map(({ name, role }) => {
        const hint = hints[role];
        const count = counts.get(hint) ?? 0;
        counts.set(hint, count + 1);
        return [name, `${hint}${count}`];
      }),
    );
    const access = (a: Access): Access => ({
      buffer: bufferName(a.buffer),
      dims: a.dims.map((d) => ({ ...d, at: renameAffine(d.at, axisNames) })),
    });
    const expr = (x: Expr): Expr =>
      mapNodes(renameAxes(x, axisNames), (node) =>
        node.kind === 'load' ? { ...node, buffer: bufferName(node.buffer) } : node,
      );
    const [q, k, v] = [draft.q, draft.k, draft.v].map(access);
    let locals = 0;
    const score = draft.score.flatMap((s) =>
      s.kind === 'let' ? shareSubexpressions({ ...s, value: expr(s.value) }, () => `s${locals++}`) : [],
    );
    const epilogue = draft.epilogue.map((s): Stmt => {
      if (s.kind === 'let') return { ...s, value: expr(s.value) };
      if (s.kind !== 'store') return s;
      return { ...s, buffer: bufferName(s.buffer), index: expr(s.index), value: expr(s.value) };
    });
    const axes = draft.axes.map((a) => {
      const limit = a.limit && expr(a.limit);
      return { ...a, name: axisNames.get(a.name) as string, ...(limit && { limit }) };
    });
    const { buffers, operands } = naming.bound();
    const form: Attend = { ...draft, axes, q, k, v, score, epilogue };
    const simple = simplifyKernel(attendKernel(kernelName('attend', buffers, axes), buffers, form));
    const kernel = this.#kernels.get(kernelKey(simple)) ?? simple;
    this.#kernels.set(kernelKey(simple), kernel);
    const steps = parts.map((i) => this.#graph.steps[i]);
    const usual = this.#graph.usual && this.#atUsual(kernel, this.#graph.usual);
    return {
      kernel,
      ...(usual && { usual }),
      operands,
      facts: factsOf(kernel, operands, steps[0].facts),
      loc: [...new Set(steps.flatMap((s) => s.loc))],
    };
  }
}

/** An operand, what its elements are multiplied by, and the steps that need not run for it. */
interface Source {
  readonly access: Access;
  readonly scale: number;
  readonly steps: readonly number[];
}

interface Match {
  readonly softmax: Softmax;
  readonly axes: readonly Axis[];
  readonly scores: Scores;
  readonly form: Contract;
  readonly values: Access;
  /** From axes of the second contract to softmax's. */
  readonly toSoftmax: Names;
  readonly at: { readonly softmax: number; readonly product: number };
}

/** A kernel that gives each row of its axes the weights of softmax. */
interface Softmax {
  /** The score at the kernel's axes and `key`. */
  readonly score: Expr;
  readonly key: Axis;
  readonly out: string;
  readonly dtype: Expr['dtype'];
  /** Where weights go, at the kernel's axes and `stored`. */
  readonly at: Affine;
  readonly stored: Axis;
  readonly empty: Attend['empty'];
}

/**
 *     reduce max over r of x;  reduce sum over r of exp(x - max);  scale = 1 / sum
 *     for r: y[…] = w      where w = exp(x - max) · scale, or 0 in its place where that is NaN
 */
function readSoftmax({ form, body }: Kernel): Softmax | undefined {
  const [greatest, total, factor, loop] = body;
  if (form.kind !== 'reduce' || body.length !== 4 || greatest.kind !== 'reduce' || greatest.axes.length !== 1)
    return undefined;
  if (total.kind !== 'reduce' || factor.kind !== 'let' || loop.kind !== 'for' || total.axes.length !== 1)
    return undefined;
  const { dtype, value: score } = greatest;
  const [key] = greatest.axes;
  const stored = singleStore(loop.body);
  const at = stored && toAffine(stored.index);
  if (!stored || !at || ![total.axes[0], loop.axis].every((a) => equalAxes([{ ...a, name: key.name }], [key])))
    return undefined;
  const along = (axis: Axis): Expr => renameAxes(score, new Map([[key.name, axis.name]]));
  const exp = (axis: Axis): Expr => e.unary('exp', e.sub(along(axis), e.local(greatest.local, dtype)));
  const sum = e.local(total.local, dtype);
  const weight = e.mul(exp(loop.axis), e.local(factor.local, dtype));
  const kept = e.select(e.unary('isnan', weight), e.like(weight, 0), weight);
  const wanted = (w: Expr): readonly Stmt[] => [
    { ...greatest, op: 'max' },
    { ...total, op: 'add', dtype, value: exp(total.axes[0]) },
    { ...factor, dtype, value: e.div(e.like(sum, 1), sum) },
    { kind: 'for', axis: loop.axis, body: [{ ...stored, value: w }] },
  ];
  const unroundedStore = { ...stored, value: unrounded(stored.value) };
  const own: readonly Stmt[] = [greatest, total, factor, { ...loop, body: [unroundedStore] }];
  const empty = equalStmts(own, wanted(weight)) ? 'nan' : equalStmts(own, wanted(kept)) ? 'zero' : undefined;
  return empty && { score, key, out: stored.buffer, dtype, at, stored: loop.axis, empty };
}

/** One element, multiplied by a number or not; halves are multiplied in f32. */
function readScaled(x: Expr): { readonly load: Extract<Expr, { kind: 'load' }>; readonly scale: number } | undefined {
  if (x.kind === 'load') return { load: x, scale: 1 };
  if (x.kind === 'cast' && x.x.kind === 'load' && isHalf(x.x.dtype)) return { load: x.x, scale: 1 };
  if (x.kind !== 'binary' || x.op !== 'mul') return undefined;
  const [number, other] = x.a.kind === 'const' ? [x.a, x.b] : [x.b, x.a];
  const inner = number.kind === 'const' ? readScaled(other) : undefined;
  return inner && number.kind === 'const' ? { ...inner, scale: inner.scale * Number(number.value) } : undefined;
}

const kernelAxes = (graph: LoweredGraph, step: number): readonly Axis[] => graph.steps[step].kernel.axes;

const movesWith = (access: Access, axis: string): boolean =>
  access.dims.some((d) => d.at.terms.some((t) => t.axis === axis));
