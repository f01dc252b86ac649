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
import { addAffine, affineConstant, scaleAffine, toAffine } from '../loop/affine.ts';
import { attendKernel } from '../loop/attend.ts';
import { affineExpr } from '../loop/contract.ts';
import { equalAxes, equalStmts } from '../loop/equal.ts';
import * as e from '../loop/expr.ts';
import type { Access, Affine, Attend, Axis, Contract, Expr, Kernel, Stmt } from '../loop/ir.ts';
import { kernelKey, printExpr } from '../loop/print.ts';
import { shareSubexpressions } from '../loop/share.ts';
import { simplifyKernel } from '../loop/simplify.ts';
import { kernelAt } from './at-sizes.ts';
import { kernelName, type Operand } from './kernel-writer.ts';
import { factsOf, type LoweredGraph, type LoweredStep } from './lower.ts';
import { TABLE } from './size-table.ts';
import { type Block, span } from './storage.ts';

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

/** What a step stores: an element of each point of its axes, at an affine place. */
interface Value {
  readonly axes: readonly Axis[];
  readonly at: Affine;
  /** Reads buffers by their names in all steps, and local `dot` where the step is a contract. */
  readonly element: Expr;
}

/** The scores before softmax, and the contract that they come from, along the axes of who asked. */
interface Scores {
  readonly element: Expr;
  readonly product: { readonly form: Contract; readonly names: Names; readonly step: number };
  readonly steps: readonly number[];
}

/** From axes of one step to those of another. */
type Names = ReadonlyMap<string, string>;

/** Maps between the contract and softmax that are looked through. */
const MOST_MAPS = 3;

class Finder {
  readonly #graph: LoweredGraph;
  readonly #writers = new Map<Block, number[]>();
  readonly #readers = new Map<Block, number[]>();
  readonly #kept: ReadonlySet<Block>;
  /** Operands by their names in all steps. */
  readonly #operands = new Map<string, Operand>();
  /** By text: equal attends are one kernel. */
  readonly #kernels = new Map<string, Kernel>();
  readonly #usual = new Map<Kernel, Kernel>();

  constructor(graph: LoweredGraph) {
    this.#graph = graph;
    this.#kept = new Set([...graph.inputs, ...graph.outputs].map(({ storage }) => storage.block));
    graph.steps.forEach(({ operands }, i) => {
      for (const [o, { storage, role }] of operands.entries()) {
        const users = role === 'out' ? this.#writers : this.#readers;
        users.set(storage.block, [...(users.get(storage.block) ?? []), i]);
        this.#operands.set(longName(i, graph.steps[i].kernel.buffers[o].name), operands[o]);
      }
    });
  }

  /** The attention whose softmax is step i. */
  find(i: number): Attention | undefined {
    const { kernel } = this.#graph.steps[i];
    const softmax = readSoftmax(kernel);
    if (!softmax) return undefined;
    const axes = [...kernel.axes, softmax.key];
    const scores = this.#scores(this.#rename(softmax.score, i), axes, i, MOST_MAPS);
    const weights = this.#soleReader(i, softmax.out);
    if (!scores || weights === undefined) return undefined;
    return this.#join(softmax, axes, scores, { softmax: i, product: weights });
  }

  /** Buffers by their names in all steps. */
  #rename(x: Expr, step: number): Expr {
    return mapNodes(x, (node) => (node.kind === 'load' ? { ...node, buffer: longName(step, node.buffer) } : node));
  }

  /** The block that a buffer of a step lies in, where no one but two steps has to do with it: it is written once and read once. */
  #between(name: string): { readonly writer: number; readonly reader: number; readonly offset: number } | undefined {
    const operand = this.#operands.get(name);
    if (operand?.storage.block.space !== 'arena' || this.#kept.has(operand.storage.block)) return undefined;
    const { block, offset } = operand.storage;
    const [writers, readers] = [this.#writers.get(block) ?? [], this.#readers.get(block) ?? []];
    return writers.length === 1 && readers.length === 1
      ? { writer: writers[0], reader: readers[0], offset }
      : undefined;
  }

  #soleReader(step: number, buffer: string): number | undefined {
    return this.#between(`${step} ${buffer}`)?.reader;
  }

  /** The expression with what one of its loads reads put in place: as far as the sum of a contract. */
  #scores(element: Expr, axes: readonly Axis[], step: number, depth: number): Scores | undefined {
    for (const name of loadedBuffers(element)) {
      const between = this.#between(name);
      if (!between || between.reader !== step) continue;
      const { writer } = between;
      const { kernel } = this.#graph.steps[writer];
      const value = this.#value(writer);
      const names = value && this.#namesAt(value, writer, element, name, axes);
      if (!value || !names) continue;
      const inner = renameAxes(value.element, names);
      const merged = mapNodes(element, (x) => (x.kind === 'load' && x.buffer === name ? inner : x));
      if (kernel.form.kind === 'contract')
        return { element: merged, product: { form: kernel.form, names, step: writer }, steps: [writer] };
      if (depth === 0) continue;
      const deeper = this.#scores(inner, axes, writer, depth - 1);
      if (!deeper) continue;
      const whole = mapNodes(element, (x) => (x.kind === 'load' && x.buffer === name ? deeper.element : x));
      return { ...deeper, element: whole, steps: [...deeper.steps, writer] };
    }
    return undefined;
  }

  /** What a contract or a map stores. */
  #value(step: number): Value | undefined {
    const { kernel } = this.#graph.steps[step];
    const { form } = kernel;
    if (form.kind !== 'contract' && form.kind !== 'map' && form.kind !== 'move') return undefined;
    const stored = singleStore(form.kind === 'contract' ? form.epilogue : kernel.body);
    const at = stored && toAffine(stored.index);
    if (!stored || !at) return undefined;
    const element = mapNodes(this.#rename(stored.value, step), (x) =>
      x.kind === 'local' && x.name === 'acc' ? e.local('dot', x.dtype) : x,
    );
    return { axes: kernel.axes, at, element };
  }

  /** For axes of `value`'s step those under which an expression loads it, where all its loads of it are at the one place. */
  #namesAt(value: Value, writer: number, element: Expr, name: string, axes: readonly Axis[]): Names | undefined {
    const places = new Map<string, Affine>();
    let plain = true;
    eachNode(element, (x) => {
      if (x.kind !== 'load' || x.buffer !== name) return;
      const at = toAffine(x.index);
      if (at) places.set(JSON.stringify(at), at);
      else plain = false;
    });
    const [at, other] = places.values();
    if (!plain || !at || other) return undefined;
    return matchAxes(value, this.#offsetOut(writer), { axes, at }, this.#operands.get(name)?.storage.offset ?? 0);
  }

  #offsetOut(step: number): number {
    return this.#graph.steps[step].operands.find((o) => o.role === 'out')?.storage.offset ?? 0;
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
      this.#operands.get(`${at.product} ${buffer}`)?.storage.block ===
      this.#operands.get(`${at.softmax} ${softmax.out}`)?.storage.block;
    const sides = isWeights(form.a) ? [form.a, form.b] : [form.b, form.a];
    const [weights, values] = sides;
    if (!isWeights(weights) || isWeights(values)) return undefined;
    const place = placeOf(weights);
    const operand = this.#operands.get(`${at.product} ${weights.buffer}`);
    if (!place || !operand) return undefined;
    const all: readonly Axis[] = form.axes;
    const read = { axes: all.filter((a) => place.terms.some((t) => t.axis === a.name)), at: place };
    // From softmax's axes to those of the product; its row is what is summed.
    const stored = { axes: [...kernelAxes(this.#graph, at.softmax), softmax.stored], at: softmax.at };
    const back = matchAxes(stored, this.#offsetOut(at.softmax), read, operand.storage.offset);
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
    const draft: Attend = {
      kind: 'attend',
      axes: [
        ...points,
        { ...keyAxis, role: 'key' },
        ...innerAxes.map((axis, i) => ({ ...axis, name: `inner ${i}`, role: 'inner' as const })),
      ],
      q,
      k,
      v,
      acc: form.acc as Attend['acc'],
      score: [{ kind: 'let', local: 'score', dtype: form.acc, value: scores.element }],
      empty: softmax.empty,
      epilogue,
    };
    const parts = [...scores.steps, at.softmax, at.product, ...(moved ? [moved.step] : [])].sort((x, y) => x - y);
    return { step: this.#finish(draft, parts), parts, at: at.product };
  }

  /** Where the result is only moved elsewhere: that step, and the product's epilogue storing there. */
  #movedOut(form: Contract, step: number, toAll: Names): { step: number; epilogue: readonly Stmt[] } | undefined {
    const stored = singleStore(form.epilogue);
    const at = stored && toAffine(stored.index);
    const mover = stored && at && this.#soleReader(step, stored.buffer);
    if (mover === undefined || !at || !stored) return undefined;
    const { kernel } = this.#graph.steps[mover];
    const move = kernel.form.kind !== 'move' ? undefined : singleStore(kernel.body);
    if (move?.value.kind !== 'load') return undefined;
    const [from, to] = [toAffine(move.value.index), toAffine(move.index)];
    const name = `${mover} ${move.value.buffer}`;
    const { storage } = this.#operands.get(name) as Operand;
    const own = form.axes.filter((a) => a.role !== 'k');
    const names =
      from && matchAxes({ axes: kernel.axes, at: from }, storage.offset, { axes: own, at }, this.#offsetOut(step));
    const isWhole = storage.block === this.#operands.get(`${step} ${stored.buffer}`)?.storage.block;
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
    const operands: Operand[] = [];
    const names = new Map<string, string>();
    const bufferName = (name: string): string => {
      const known = names.get(name);
      if (known) return known;
      const operand = this.#operands.get(name) as Operand;
      let place = operands.findIndex((o) => o.role === operand.role && samePlace(o, operand));
      if (place < 0) place = operands.push(operand) - 1;
      const short =
        name === TABLE
          ? TABLE
          : `${operand.role}${operands.slice(0, place).filter((o) => o.role === operand.role).length}`;
      names.set(name, short);
      return short;
    };
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
    const buffers = [...new Set(names.values())].map((name, i) => {
      const { storage, role } = operands[i];
      return { name, dtype: storage.block.dtype, elements: span(storage), role };
    });
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
  const own: readonly Stmt[] = [greatest, total, factor, { ...loop, body: [stored] }];
  const empty = equalStmts(own, wanted(weight)) ? 'nan' : equalStmts(own, wanted(kept)) ? 'zero' : undefined;
  return empty && { score, key, out: stored.buffer, dtype, at, stored: loop.axis, empty };
}

/** The one store of a body of lets, with these put in its value. */
function singleStore(body: readonly Stmt[]): Extract<Stmt, { kind: 'store' }> | undefined {
  const values = new Map<string, Expr>();
  const put = (x: Expr): Expr => mapNodes(x, (node) => (node.kind === 'local' && values.get(node.name)) || node);
  for (const [i, s] of body.entries()) {
    if (s.kind === 'let') values.set(s.local, put(s.value));
    else if (s.kind === 'store' && i === body.length - 1) return { ...s, value: put(s.value) };
    else return undefined;
  }
  return undefined;
}

interface Place {
  readonly axes: readonly Axis[];
  readonly at: Affine;
}

/** For each axis of `from` the one of `to` of the same end and stride, where places and axes agree throughout. */
function matchAxes(from: Place, fromOffset: number, to: Place, toOffset: number): Names | undefined {
  if (from.at.constant + fromOffset !== to.at.constant + toOffset) return undefined;
  const wide = ({ axes, at }: Place) =>
    axes
      .filter((a) => a.extent !== 1 || a.limit)
      .map(({ name, extent, limit }) => ({
        name,
        end: limit ? `${extent} ${printExpr(limit, 'i32')}` : String(extent),
        stride: at.terms.find((t) => t.axis === name)?.coef ?? 0,
      }));
  const [left, right] = [wide(from), wide(to)];
  if (left.length !== right.length) return undefined;
  const names = new Map<string, string>();
  for (const a of left) {
    const b = right.filter((x) => x.stride === a.stride && x.end === a.end);
    if (a.stride <= 0 || b.length !== 1) return undefined;
    names.set(a.name, b[0].name);
  }
  return names;
}

/** An access as a place in its buffer; undefined where a dim is padded. */
function placeOf(access: Access): Affine | undefined {
  if (access.dims.some((d) => d.padded)) return undefined;
  return access.dims.reduce((sum, d) => addAffine(sum, scaleAffine(d.at, d.stride)), affineConstant(0));
}

/** A buffer's name in all steps: the table of sizes is the same one everywhere. */
const longName = (step: number, buffer: string): string => (buffer === TABLE ? TABLE : `${step} ${buffer}`);

const kernelAxes = (graph: LoweredGraph, step: number): readonly Axis[] => graph.steps[step].kernel.axes;

const movesWith = (access: Access, axis: string): boolean =>
  access.dims.some((d) => d.at.terms.some((t) => t.axis === axis));

const samePlace = ({ storage: a }: Operand, { storage: b }: Operand): boolean =>
  a.block === b.block && a.offset === b.offset && span(a) === span(b);

/** The expression with each node rewritten, children first. */
function mapNodes(x: Expr, f: (node: Expr) => Expr): Expr {
  const done = new Map<Expr, Expr>();
  const go = (node: Expr): Expr => {
    const known = done.get(node);
    if (known) return known;
    const out = f(e.mapChildren(node, go));
    done.set(node, out);
    return out;
  };
  return go(x);
}

function eachNode(x: Expr, visit: (node: Expr) => void): void {
  const seen = new Set<Expr>();
  const go = (node: Expr): void => {
    if (seen.has(node)) return;
    seen.add(node);
    visit(node);
    e.children(node).forEach(go);
  };
  go(x);
}

function loadedBuffers(x: Expr): Set<string> {
  const names = new Set<string>();
  eachNode(x, (node) => {
    if (node.kind === 'load') names.add(node.buffer);
  });
  return names;
}

const renameAxes = (x: Expr, names: Names): Expr =>
  mapNodes(x, (node) => (node.kind === 'axis' ? e.axis(names.get(node.name) ?? node.name) : node));

/** Terms stand in the order of their names. */
const renameAffine = (at: Affine, names: Names): Affine =>
  addAffine(affineConstant(0), {
    ...at,
    terms: at.terms.map((t) => ({ ...t, axis: names.get(t.axis) ?? t.axis })),
  });

/** Lets and stores with axes renamed, and buffers as they are called in all steps. */
const renameBody = (body: readonly Stmt[], names: Names, step: number): Stmt[] =>
  body.map((s): Stmt => {
    const expr = (x: Expr): Expr =>
      mapNodes(renameAxes(x, names), (node) =>
        node.kind === 'load' ? { ...node, buffer: longName(step, node.buffer) } : node,
      );
    if (s.kind === 'let') return { ...s, value: expr(s.value) };
    return s.kind === 'store' ? { ...s, buffer: `${step} ${s.buffer}`, index: expr(s.index), value: expr(s.value) } : s;
  });
