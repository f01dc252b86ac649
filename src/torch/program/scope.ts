/**
 * Names of an exported program and what they stand for, where operators may work in place and names may share memory.
 *
 * A graph has no memory, so a write gives new values. A write to a tensor is a new value of its name; views of it are made again from
 * there when they are next read. A write to a view is a new value of the view, scattered into what it is a view of: the places are found
 * by sending the numbers 0, 1, 2, … through the same views. Operators of which only strides tell whether they give a view or a copy
 * (reshape, contiguous) end such a chain: what lies behind one is refused if it is read after a write.
 */
import { ModelError } from '../../core/errors.ts';
import { elements, isStatic } from '../../core/shape.ts';
import { fromNumbers } from '../../core/tensor.ts';
import type { GraphBuilder } from '../../graph/build.ts';
import type { Bound } from './call.ts';
import type { ProgramNode } from './schema.ts';

/** Runs the translation of a view's node on another value of its argument; what each of its outputs is then. */
export type Replay = (node: ProgramNode, argument: string, value: string) => ReadonlyMap<string, string>;

interface View {
  readonly node: ProgramNode;
  /** The name that it is a view of. */
  readonly of: string;
  /** False where it may be a copy. */
  readonly isCertain: boolean;
}

/** Elements of all tensors whose places are written out to write through views of them. */
const MOST_PLACES = 1 << 23;

export class Scope {
  readonly #builder: GraphBuilder;
  readonly #replay: Replay;
  readonly #bound = new Map<string, Bound>();
  readonly #views = new Map<string, View>();
  /** Views of what was written since they were made. */
  readonly #stale = new Set<string>();
  #places = 0;

  constructor(builder: GraphBuilder, replay: Replay) {
    this.#builder = builder;
    this.#replay = replay;
  }

  /** Gives a name its first meaning. Throws ModelError `torch-parse` where it has one. */
  define(name: string, bound: Bound): void {
    if (this.#bound.has(name)) {
      throw new ModelError('torch-parse', `the exported program is damaged: "${name}" is defined twice`);
    }
    this.#bound.set(name, bound);
  }
  get(name: string): Bound | undefined {
    if (this.#stale.has(name)) this.#refresh(name);
    return this.#bound.get(name);
  }
  share(name: string, view: View): void {
    this.#views.set(name, view);
  }

  /** What `name` stands for has become `value`, in its memory. */
  write(name: string, value: string): void {
    const chain = this.#chain(name);
    const [first] = chain;
    const root = first === undefined ? name : (this.#views.get(first)?.of ?? name);
    if (root !== name && chain.every((view) => this.#views.get(view)?.isCertain)) {
      this.#bound.set(root, this.#scattered(root, chain, value));
      this.#stale.delete(root);
    } else if (root !== name) {
      this.#stale.add(root);
    }
    this.#bound.set(name, value);
    this.#stale.delete(name);
    for (const other of this.#views.keys()) {
      if (other !== name && this.#rootOf(other) === root) this.#stale.add(other);
    }
  }

  /** The views from a root to this name, the root's own first; empty for a root. */
  #chain(name: string): string[] {
    const chain: string[] = [];
    for (let at = name; ; ) {
      const view = this.#views.get(at);
      if (view === undefined) return chain.reverse();
      chain.push(at);
      at = view.of;
    }
  }
  #rootOf(name: string): string {
    const [first] = this.#chain(name);
    return first === undefined ? name : (this.#views.get(first)?.of ?? name);
  }

  /** Makes a view again from the value that its root has now. */
  #refresh(name: string): void {
    const chain = this.#chain(name);
    const root = this.#bound.get(this.#rootOf(name));
    const isKnown = chain.length > 0 && !this.#stale.has(this.#rootOf(name)) && typeof root === 'string';
    if (!isKnown || !chain.every((view) => this.#views.get(view)?.isCertain)) {
      throw new ModelError(
        'torch-unsupported',
        `"${name}" of the exported program is read after what it may be a view of was changed in place`,
        { hint: 'In PyTorch, save program.run_decompositions(), which works without changes in place.' },
      );
    }
    this.#bound.set(name, this.#through(chain, root));
    this.#stale.delete(name);
  }

  #through(chain: readonly string[], root: string): string {
    return chain.reduce((value, name) => {
      const { node, of } = this.#views.get(name) as View;
      return this.#replay(node, of, value).get(name) ?? '';
    }, root);
  }

  /** The root with `value` at the places that the chain of views shows. */
  #scattered(root: string, chain: readonly string[], value: string): string {
    const b = this.#builder;
    const before = this.#bound.get(root);
    const { shape } = b.type(typeof before === 'string' ? before : '');
    this.#places += isStatic(shape) ? elements(shape) : MOST_PLACES + 1;
    if (!isStatic(shape) || this.#places > MOST_PLACES || typeof before !== 'string') {
      throw new ModelError(
        'torch-unsupported',
        `"${root}" of the exported program is written through a view, and is too large for that or of open size`,
      );
    }
    const count = elements(shape);
    const flat = (x: string): string => b.node('Reshape', [x, b.constant(fromNumbers('i64', [1], [-1]))])[0];
    const numbers = b.constant(
      fromNumbers(
        'i64',
        shape,
        Array.from({ length: count }, (_, i) => i),
      ),
    );
    const places = flat(this.#through(chain, numbers));
    const [written] = b.node('ScatterElements', [flat(before), places, flat(value)], { attrs: { axis: 0 } });
    return b.node('Reshape', [written, b.constant(fromNumbers('i64', [shape.length], shape))])[0];
  }
}
