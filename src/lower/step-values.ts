/**
 * Steps as what they compute: which step wrote what another one reads, and the element that it stores, so that a pass over steps can put one
 * in the place of a load of the other.
 *
 * Two steps agree on the axes of what one stores and the other loads where each axis of the one has an axis of the other with the same extent
 * and stride. Buffers have names that tell them apart over all steps: the step's number and the name in its kernel.
 */
import { addAffine, affineConstant, scaleAffine, toAffine } from '../loop/affine.ts';
import * as e from '../loop/expr.ts';
import { isHalf } from '../loop/halves.ts';
import type { Access, Affine, Axis, Buffer, Expr, Stmt } from '../loop/ir.ts';
import { printExpr } from '../loop/print.ts';
import type { Operand } from './kernel-writer.ts';
import type { LoweredGraph } from './lower.ts';
import { TABLE } from './size-table.ts';
import { type Block, span } from './storage.ts';

/** What a step stores: an element of each point of its axes, at an affine place. */
export interface Value {
  readonly axes: readonly Axis[];
  readonly at: Affine;
  /** Reads buffers by their names in all steps, and local `dot` where the step is a contract. */
  readonly element: Expr;
}

/** From axes of one step to those of another. */
export type Names = ReadonlyMap<string, string>;

export class StepValues {
  readonly #graph: LoweredGraph;
  readonly #writers = new Map<Block, number[]>();
  readonly #readers = new Map<Block, number[]>();
  readonly #kept: ReadonlySet<Block>;
  /** By their names in all steps. */
  readonly operands = new Map<string, Operand>();

  constructor(graph: LoweredGraph) {
    this.#graph = graph;
    this.#kept = new Set([...graph.inputs, ...graph.outputs].map(({ storage }) => storage.block));
    graph.steps.forEach(({ operands }, i) => {
      for (const [o, { storage, role }] of operands.entries()) {
        const users = role === 'out' ? this.#writers : this.#readers;
        users.set(storage.block, [...(users.get(storage.block) ?? []), i]);
        this.operands.set(longName(i, graph.steps[i].kernel.buffers[o].name), operands[o]);
      }
    });
  }

  /** Buffers by their names in all steps. */
  rename(x: Expr, step: number): Expr {
    return mapNodes(x, (node) => (node.kind === 'load' ? { ...node, buffer: longName(step, node.buffer) } : node));
  }

  /** The block that a buffer of a step lies in, where no one but two steps has to do with it: it is written once and read once. */
  between(name: string): { readonly writer: number; readonly reader: number; readonly offset: number } | undefined {
    const operand = this.operands.get(name);
    if (operand?.storage.block.space !== 'arena' || this.#kept.has(operand.storage.block)) return undefined;
    const { block, offset } = operand.storage;
    const [writers, readers] = [this.#writers.get(block) ?? [], this.#readers.get(block) ?? []];
    return writers.length === 1 && readers.length === 1
      ? { writer: writers[0], reader: readers[0], offset }
      : undefined;
  }

  soleReader(step: number, buffer: string): number | undefined {
    return this.between(`${step} ${buffer}`)?.reader;
  }

  /** What a contract or a map stores. */
  valueOf(step: number): Value | undefined {
    const { kernel } = this.#graph.steps[step];
    const { form } = kernel;
    if (form.kind !== 'contract' && form.kind !== 'map' && form.kind !== 'move') return undefined;
    const stored = singleStore(form.kind === 'contract' ? form.epilogue : kernel.body);
    const at = stored && toAffine(stored.index);
    if (!stored || !at) return undefined;
    const element = mapNodes(this.rename(unrounded(stored.value), step), (x) =>
      x.kind === 'local' && x.name === 'acc' ? e.local('dot', x.dtype) : x,
    );
    return { axes: kernel.axes, at, element };
  }

  /** For axes of `value`'s step those under which an expression loads it, where all its loads of it are at the one place. */
  namesAt(value: Value, writer: number, element: Expr, name: string, axes: readonly Axis[]): Names | undefined {
    const at = placeLoaded(element, name);
    return at && matchAxes(value, this.offsetOut(writer), { axes, at }, this.operands.get(name)?.storage.offset ?? 0);
  }

  offsetOut(step: number): number {
    return this.#graph.steps[step].operands.find((o) => o.role === 'out')?.storage.offset ?? 0;
  }

  /** Short names for the buffers of a kernel that takes the place of several; equal operands become one. */
  naming(): { name(long: string): string; bound(): { buffers: Buffer[]; operands: Operand[] } } {
    const operands: Operand[] = [];
    const names = new Map<string, string>();
    const name = (long: string): string => {
      const known = names.get(long);
      if (known) return known;
      const operand = this.operands.get(long) as Operand;
      let place = operands.findIndex((o) => o.role === operand.role && samePlace(o, operand));
      if (place < 0) place = operands.push(operand) - 1;
      const before = operands.slice(0, place).filter((o) => o.role === operand.role).length;
      const short = long === TABLE ? TABLE : `${operand.role}${before}`;
      names.set(long, short);
      return short;
    };
    const bound = () => ({
      buffers: [...new Set(names.values())].map((short, i): Buffer => {
        const { storage, role } = operands[i];
        return { name: short, dtype: storage.block.dtype, elements: span(storage), role };
      }),
      operands,
    });
    return { name, bound };
  }
}

/** The one store of a body of lets, with these put in its value. */
export function singleStore(body: readonly Stmt[]): Extract<Stmt, { kind: 'store' }> | undefined {
  const values = new Map<string, Expr>();
  const put = (x: Expr): Expr => mapNodes(x, (node) => (node.kind === 'local' && values.get(node.name)) || node);
  for (const [i, s] of body.entries()) {
    if (s.kind === 'let') values.set(s.local, put(s.value));
    else if (s.kind === 'store' && i === body.length - 1) return { ...s, value: put(s.value) };
    else return undefined;
  }
  return undefined;
}

/** What is rounded to a half where it is stored keeps its digits where it never is. */
export const unrounded = (x: Expr): Expr => (x.kind === 'cast' && isHalf(x.dtype) && x.x.dtype === 'f32' ? x.x : x);

/** The expression with `value` in place of what it loads from a buffer; a half's own digits are as wide as what they are widened to. */
export const replaceLoads = (x: Expr, buffer: string, value: Expr): Expr =>
  mapNodes(x, (node) => {
    if (node.kind === 'load' && node.buffer === buffer) return value;
    return node.kind === 'cast' && node.x.dtype === node.dtype ? node.x : node;
  });

interface Place {
  readonly axes: readonly Axis[];
  readonly at: Affine;
}

/** For each axis of `from` the one of `to` of the same end and stride, where places and axes agree throughout. */
export function matchAxes(from: Place, fromOffset: number, to: Place, toOffset: number): Names | undefined {
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
export function placeOf(access: Access): Affine | undefined {
  if (access.dims.some((d) => d.padded)) return undefined;
  return access.dims.reduce((sum, d) => addAffine(sum, scaleAffine(d.at, d.stride)), affineConstant(0));
}

/** A buffer's name in all steps: the table of sizes is the same one everywhere. */
export const longName = (step: number, buffer: string): string => (buffer === TABLE ? TABLE : `${step} ${buffer}`);

const samePlace = ({ storage: a }: Operand, { storage: b }: Operand): boolean =>
  a.block === b.block && a.offset === b.offset && span(a) === span(b);

/** The expression with each node rewritten, children first. */
export function mapNodes(x: Expr, f: (node: Expr) => Expr): Expr {
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

/** Where an expression loads a buffer; undefined where that is nowhere, no sum of axes, or more than one place. */
export function placeLoaded(element: Expr, buffer: string): Affine | undefined {
  const places = new Map<string, Affine>();
  let plain = true;
  eachNode(element, (x) => {
    if (x.kind !== 'load' || x.buffer !== buffer) return;
    const at = toAffine(x.index);
    if (at) places.set(JSON.stringify(at), at);
    else plain = false;
  });
  const [at, other] = places.values();
  return plain && !other ? at : undefined;
}

export function loadedBuffers(x: Expr): Set<string> {
  const names = new Set<string>();
  eachNode(x, (node) => {
    if (node.kind === 'load') names.add(node.buffer);
  });
  return names;
}

export const renameAxes = (x: Expr, names: Names): Expr =>
  mapNodes(x, (node) => (node.kind === 'axis' ? e.axis(names.get(node.name) ?? node.name) : node));

/** Terms stand in the order of their names. */
export const renameAffine = (at: Affine, names: Names): Affine =>
  addAffine(affineConstant(0), {
    ...at,
    terms: at.terms.map((t) => ({ ...t, axis: names.get(t.axis) ?? t.axis })),
  });

/** Lets and stores with axes renamed, and buffers as they are called in all steps. */
export const renameBody = (body: readonly Stmt[], names: Names, step: number): Stmt[] =>
  body.map((s): Stmt => {
    const expr = (x: Expr): Expr =>
      mapNodes(renameAxes(x, names), (node) =>
        node.kind === 'load' ? { ...node, buffer: longName(step, node.buffer) } : node,
      );
    if (s.kind === 'let') return { ...s, value: expr(s.value) };
    return s.kind === 'store' ? { ...s, buffer: `${step} ${s.buffer}`, index: expr(s.index), value: expr(s.value) } : s;
  });
