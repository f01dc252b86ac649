/**
 * Which nodes share a kernel. In: a graph of static shapes; out: clusters in running order, and what became of every other value.
 *
 * - A value is *inlined* where its one reader can compute it in place: elementwise and index nodes in front of elementwise nodes,
 *   index nodes, and the streaming inputs of kernels.
 * - A cluster is a root node and the elementwise nodes behind it, as long as they meet again in one value: conv, bias, x·sigmoid(x),
 *   residual add and activation become one cluster. It runs at the place of its last node, so all it reads is there.
 * - Alias nodes, and index nodes that are no work of their own, are left to storage.ts as *views*.
 * Nothing here asks for an operator's name; it asks how the operator lowers.
 */
import { ModelError } from '../core/errors.ts';
import { elements, namesIn, printShape, type StaticShape, shapesEqual } from '../core/shape.ts';
import { type Graph, type Node, nodeLabel } from '../graph/ir.ts';
import type { Lowering, Op } from '../ops/op.ts';

export interface Cluster {
  readonly root: Node;
  /** The output of the root that the cluster computes; kernels compute all of theirs. */
  readonly output: number;
  /** Elementwise nodes computed behind the root, in order. */
  readonly behind: readonly Node[];
  /** The value that is stored for `output`: the root's own or the last one behind it. */
  readonly value: string;
  /** Index in graph.nodes of its last node: where it runs. */
  readonly position: number;
}

export interface Fusion {
  readonly clusters: readonly Cluster[];
  /** Values computed inside their reader. */
  readonly inlined: ReadonlySet<string>;
  readonly producers: ReadonlyMap<string, Producer>;
  readonly readers: ReadonlyMap<string, readonly Node[]>;
}

export interface Producer {
  readonly node: Node;
  readonly output: number;
  readonly position: number;
}

type AnyLowering = NonNullable<Op['lower']>;

export function fuse(graph: Graph, ops: ReadonlyMap<string, Op>): Fusion {
  return new Fuser(graph, ops).run();
}

/** Throws one error that lists every node that no kernel can be made of. */
export function checkLowerable(graph: Graph, ops: ReadonlyMap<string, Op>, target: string): void {
  const details = graph.nodes.flatMap((node) => {
    if (!ops.get(node.op)?.lower) return [nodeLabel(node)];
    const made = openedBy(node, graph);
    return made.length === 0 ? [] : [`${nodeLabel(node)}, of which only running tells ${made.join(', ')}`];
  });
  if (details.length === 0) return;
  throw new ModelError(
    'onnx-unsupported',
    `target ${target} cannot run ${details.length} of the model's nodes: ${details.join('; ')}`,
    {
      details,
      hint: 'target reference runs every operator that Hotrod has',
    },
  );
}

/** The outputs of which some size has a name that no input's size has. */
function openedBy(node: Node, graph: Graph): string[] {
  const names = (value: string): string[] => (graph.values.get(value)?.shape ?? []).flatMap(namesIn);
  const before = new Set(node.inputs.flatMap(names));
  return node.outputs.flatMap((value) =>
    names(value).some((name) => !before.has(name))
      ? [`the shape ${printShape(graph.values.get(value)?.shape ?? [])} of "${value}"`]
      : [],
  );
}

class Fuser {
  readonly #graph: Graph;
  readonly #lowerings: ReadonlyMap<Node, AnyLowering>;
  readonly #positions = new Map<Node, number>();
  readonly #producers = new Map<string, Producer>();
  readonly #readers = new Map<string, Node[]>();
  readonly #outputs: ReadonlySet<string>;
  readonly #inlined = new Set<string>();
  /** Nodes that some cluster computes behind its root. */
  readonly #taken = new Set<Node>();

  constructor(graph: Graph, ops: ReadonlyMap<string, Op>) {
    this.#graph = graph;
    this.#outputs = new Set(graph.outputs);
    this.#lowerings = new Map(graph.nodes.map((n) => [n, ops.get(n.op)?.lower as AnyLowering]));
    graph.nodes.forEach((node, position) => {
      this.#positions.set(node, position);
      node.outputs.forEach((name, output) => {
        if (name) this.#producers.set(name, { node, output, position });
      });
      for (const name of new Set(node.inputs)) {
        if (name) this.#readers.set(name, [...(this.#readers.get(name) ?? []), node]);
      }
    });
  }

  run(): Fusion {
    for (const node of this.#graph.nodes)
      for (const value of node.outputs) if (value && this.#canInline(node, value)) this.#inlined.add(value);
    const clusters = new Map<Node, Cluster[]>();
    // Kernels first: work behind a kernel is free, work behind a plain map only saves a pass over memory.
    for (const kinds of [['kernel'], ['elementwise', 'index', 'concat']]) {
      for (const node of this.#graph.nodes) {
        if (kinds.includes(this.#kind(node)) && !this.#taken.has(node)) clusters.set(node, this.#clustersOf(node));
      }
    }
    const inOrder = [...clusters.values()].flat().sort((a, b) => a.position - b.position || a.output - b.output);
    return { clusters: inOrder, inlined: this.#inlined, producers: this.#producers, readers: this.#readers };
  }

  #kind(node: Node): Lowering<unknown>['kind'] {
    return (this.#lowerings.get(node) as AnyLowering).kind;
  }

  #takesBehind(root: Node): boolean {
    const lowering = this.#lowerings.get(root) as AnyLowering;
    return lowering.kind !== 'concat' && !(lowering.kind === 'kernel' && lowering.rereads);
  }

  #positionOf(node: Node): number {
    return this.#positions.get(node) as number;
  }

  #shape(value: string): StaticShape {
    return this.#graph.values.get(value)?.shape as StaticShape;
  }

  #canInline(node: Node, value: string): boolean {
    const kind = this.#kind(node);
    if ((kind !== 'elementwise' && kind !== 'index') || this.#outputs.has(value)) return false;
    const readers = this.#readers.get(value) ?? [];
    return readers.length === 1 && this.#accepts(readers[0], value);
  }

  /** Whether computing `value` in place inside `reader` costs no more than computing it once. */
  #accepts(reader: Node, value: string): boolean {
    const lowering = this.#lowerings.get(reader) as AnyLowering;
    const size = elements(this.#shape(value));
    switch (lowering.kind) {
      case 'elementwise':
        return size === elements(this.#shape(reader.outputs[0]));
      case 'index': {
        const read = reader.inputs.reduce((n, name) => n + (name ? elements(this.#shape(name)) : 0), 0);
        return reader.outputs.length === 1 && (lowering.once || elements(this.#shape(reader.outputs[0])) <= read);
      }
      case 'kernel':
        return reader.inputs.every((name, i) => name !== value || lowering.streams.includes(i));
      case 'concat':
        return true;
      case 'alias':
        return false;
      default:
        return lowering satisfies never;
    }
  }

  #clustersOf(root: Node): Cluster[] {
    const position = this.#positionOf(root);
    if (this.#kind(root) === 'index') {
      return root.outputs.flatMap((value, output) =>
        value && !this.#inlined.has(value) ? [{ root, output, behind: [], value, position }] : [],
      );
    }
    const value = root.outputs[0];
    if (this.#inlined.has(value)) return [];
    const behind =
      root.outputs.filter(Boolean).length === 1 && this.#takesBehind(root) ? this.#grow(root, position) : [];
    for (const node of behind) {
      this.#taken.add(node);
      this.#inlined.delete(node.outputs[0]);
    }
    const last = behind.at(-1);
    return [
      { root, output: 0, behind, value: last?.outputs[0] ?? value, position: last ? this.#positionOf(last) : position },
    ];
  }

  /** The elementwise nodes behind root, up to the last point where a single value goes on. */
  #grow(root: Node, position: number): readonly Node[] {
    const value = root.outputs[0];
    const inside = new Set<Node>([root]);
    const values = new Set([value]);
    const grown: Node[] = [];
    let committed = 0;
    const open = () =>
      [...values].filter((v) => this.#outputs.has(v) || this.#readers.get(v)?.some((n) => !inside.has(n)));
    for (let i = position + 1; i < this.#graph.nodes.length; i++) {
      const node = this.#graph.nodes[i];
      if (!node.inputs.some((name) => values.has(name))) continue;
      if (!this.#canFollow(node, value, position)) break;
      grown.push(node);
      inside.add(node);
      values.add(node.outputs[0]);
      const left = open();
      if (left.length === 1 && left[0] === node.outputs[0]) committed = grown.length;
      if (left.every((v) => this.#outputs.has(v) && this.#readers.get(v)?.every((n) => inside.has(n)) !== false)) break;
    }
    return grown.slice(0, committed);
  }

  #canFollow(node: Node, value: string, position: number): boolean {
    if (this.#kind(node) !== 'elementwise' || this.#taken.has(node)) return false;
    if (!shapesEqual(this.#shape(node.outputs[0]), this.#shape(value))) return false;
    // Of two kernels that meet in this node the later one takes it: the earlier one's buffers are free sooner.
    return !node.inputs.some((name) => {
      const other = this.#producers.get(name);
      return (
        other !== undefined &&
        other.position > position &&
        this.#kind(other.node) === 'kernel' &&
        this.#readers.get(name)?.length === 1 &&
        shapesEqual(this.#shape(name), this.#shape(value))
      );
    });
  }
}
