/**
 * Narrowing: the f32 values of a graph become f16 or bf16, the arithmetic on them stays that of the kernels (sums in f32).
 *
 *     f32 input ─Cast→ f16 … Conv(f16, f16 weights) … f16 ─Cast→ f32 output
 *
 * Comes last of all graph work, when constants are folded in f32. A node is narrowed with all its f32 inputs, or stays wide; casts stand
 * where the two meet, and become part of the neighbouring kernels. The graph's inputs and outputs keep their types.
 * Wide stay: nodes that `keepWide` names; operators whose inputs are positions (trait `exactInputs`) or that name their dtype in an
 * attribute; nodes without an f32 operand that is computed; nodes with a constant that overflows; nodes with a small constant (an epsilon)
 * that vanishes, and the elementwise nodes behind them, one of which is about to divide by it.
 * What a wide node hands to narrow ones is clamped to the finite range first, so that the -3.4e38 of a mask is -65504 and no infinity.
 */
import { DTYPES } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { scalarTensor, type ValueType } from '../core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../graph/build.ts';
import { type Graph, type Node, nodeLabel } from '../graph/ir.ts';
import { freshNamesFor, producersOf, removeUnread } from '../graph/rewrite.ts';
import type { Op } from '../ops/op.ts';
import { type NarrowDType, type RoundedConstant, roundConstant } from './round-constant.ts';

const WIDE = 'f32';
/** A constant of so few elements is a parameter, not a weight: none of them may vanish. */
const FEW_ELEMENTS = 16;
/** Types of attributes that say or contain a dtype. */
const DTYPE_ATTRS: ReadonlySet<string> = new Set(['dtype', 'tensor', 'graph']);

export interface NarrowOptions {
  readonly to: NarrowDType;
  /** First outputs of nodes that stay wide. */
  readonly keepWide?: ReadonlySet<string>;
}

export interface NarrowedGraph {
  readonly graph: Graph;
  /** Constants that were rounded, by name. */
  readonly rounded: ReadonlyMap<string, RoundedConstant>;
  /** The narrow constants of the graph, with the names of those that they were rounded from. */
  readonly sources: ReadonlyMap<string, string>;
  /** First outputs of the nodes that compute on narrow values. */
  readonly narrowed: ReadonlySet<string>;
  /** Nodes that stay wide for a constant's sake: the node's label and the constant's name. */
  readonly refused: readonly { readonly node: string; readonly constant: string; readonly overflows: number }[];
}

/** The graph with f32 values in `to` wherever a node allows it. Shapes may be open. */
export const narrow = (graph: Graph, ops: ReadonlyMap<string, Op>, options: NarrowOptions): NarrowedGraph =>
  new Narrower(graph, ops, options).run();

class Narrower {
  readonly #graph: Graph;
  readonly #ops: ReadonlyMap<string, Op>;
  readonly #options: NarrowOptions;
  readonly #b: GraphBuilder;
  readonly #fresh: (hint: string) => string;
  readonly #producers: ReadonlyMap<string, Node>;
  readonly #outputs: ReadonlySet<string>;
  /** Names under which the f32 values of the graph exist so far, in each width. */
  readonly #wide = new Map<string, string>();
  readonly #narrow = new Map<string, string>();
  readonly #constants = new Map<string, string>();
  readonly #rounded = new Map<string, RoundedConstant>();
  readonly #sources = new Map<string, string>();
  readonly #narrowed = new Set<string>();
  /** Values that may be as small as a constant that would have vanished. */
  readonly #tiny = new Set<string>();
  readonly #refused: { node: string; constant: string; overflows: number }[] = [];

  constructor(graph: Graph, ops: ReadonlyMap<string, Op>, options: NarrowOptions) {
    this.#graph = graph;
    this.#ops = ops;
    this.#options = options;
    this.#b = graphBuilder(graph.name, ops);
    this.#fresh = freshNamesFor(graph);
    this.#producers = producersOf(graph);
    this.#outputs = new Set(graph.outputs);
  }

  run(): NarrowedGraph {
    const graph = this.#graph;
    for (const name of graph.inputs) {
      const { dtype, shape } = this.#type(name);
      this.#b.input(name, dtype, shape);
      if (dtype === WIDE) this.#wide.set(name, name);
    }
    for (const node of graph.nodes) if (!this.#isNarrow(node) || !this.#addNarrow(node)) this.#addWide(node);
    for (const name of graph.outputs)
      this.#b.output(this.#type(name).dtype === WIDE ? this.#wideForm(name) : this.#plain(name));
    return {
      graph: removeUnread(this.#b.finish(), this.#ops),
      rounded: new Map([...this.#rounded].filter(([name]) => this.#constants.has(name) || this.#narrow.has(name))),
      sources: this.#sources,
      narrowed: this.#narrowed,
      refused: this.#refused,
    };
  }

  #isNarrow(node: Node): boolean {
    const op = this.#ops.get(node.op);
    if (!op || op.traits.exactInputs === 'all' || this.#options.keepWide?.has(node.outputs[0])) return false;
    const fixed = Object.entries(op.attrSpecs).some(
      ([name, { type }]) => DTYPE_ATTRS.has(type) && node.attrs[name] !== undefined,
    );
    if (fixed) return false;
    const operands = node.inputs.filter((name, i) => this.#isOperand(op, name, i));
    if (!operands.some((name) => !this.#graph.constants.has(name))) return false;
    for (const name of operands) {
      const rounded = this.#round(name);
      if (!rounded) continue;
      if (rounded.overflows === 0 && (rounded.vanished === 0 || rounded.value.data.length > FEW_ELEMENTS)) continue;
      this.#refused.push({ node: nodeLabel(node), constant: name, overflows: rounded.overflows });
      if (rounded.overflows === 0) this.#tiny.add(node.outputs[0]);
      return false;
    }
    if (op.lower?.kind !== 'elementwise' || !node.inputs.some((name) => this.#tiny.has(name))) return true;
    this.#tiny.add(node.outputs[0]);
    return false;
  }

  /** Whether input i is f32 data that narrowing changes. */
  #isOperand(op: Op, name: string, i: number): boolean {
    const exact = op.traits.exactInputs;
    return name !== '' && this.#type(name).dtype === WIDE && !(Array.isArray(exact) && exact.includes(i));
  }

  #round(name: string): RoundedConstant | undefined {
    const constant = this.#graph.constants.get(name);
    if (!constant) return undefined;
    const known = this.#rounded.get(name) ?? roundConstant(constant, this.#options.to);
    this.#rounded.set(name, known);
    return known;
  }

  /** False where the operator has no form on narrow operands. */
  #addNarrow(node: Node): boolean {
    const op = this.#ops.get(node.op) as Op;
    const inputs = node.inputs.map((name, i) =>
      this.#isOperand(op, name, i) ? this.#narrowForm(name) : this.#exactForm(name),
    );
    const isF32 = (name: string): boolean => name !== '' && this.#type(name).dtype === WIDE;
    const outputs = node.outputs.map((name) => (isF32(name) && this.#outputs.has(name) ? this.#fresh(name) : name));
    try {
      this.#b.node(node.op, inputs, { attrs: node.attrs, outputs, loc: node.loc });
    } catch (error) {
      if (error instanceof ModelError) return false;
      throw error;
    }
    for (const [i, name] of node.outputs.entries()) {
      if (!isF32(name)) continue;
      const forms = this.#b.type(outputs[i]).dtype === WIDE ? this.#wide : this.#narrow;
      forms.set(name, outputs[i]);
    }
    this.#narrowed.add(node.outputs[0]);
    return true;
  }

  #addWide(node: Node): void {
    const inputs = node.inputs.map((name) => this.#exactForm(name));
    this.#b.node(node.op, inputs, { attrs: node.attrs, outputs: node.outputs, loc: node.loc });
    for (const name of node.outputs) if (name !== '' && this.#type(name).dtype === WIDE) this.#wide.set(name, name);
  }

  #exactForm(name: string): string {
    if (name === '') return name;
    return this.#type(name).dtype === WIDE ? this.#wideForm(name) : this.#plain(name);
  }

  /** A value that narrowing does not touch; constants are added where they are first read. */
  #plain(name: string): string {
    const constant = this.#graph.constants.get(name);
    if (!constant) return name;
    const known = this.#constants.get(name) ?? this.#b.constant(constant, name);
    this.#constants.set(name, known);
    return known;
  }

  #wideForm(name: string): string {
    const known = this.#wide.get(name);
    if (known !== undefined) return known;
    if (this.#graph.constants.has(name)) return this.#plain(name);
    const outputs = [this.#outputs.has(name) ? name : this.#fresh(name)];
    const [cast] = this.#cast(this.#narrow.get(name) as string, WIDE, outputs, name);
    this.#wide.set(name, cast);
    return cast;
  }

  #narrowForm(name: string): string {
    const known = this.#narrow.get(name);
    if (known !== undefined) return known;
    const { to } = this.#options;
    const rounded = this.#round(name);
    const form = rounded
      ? this.#b.constant(rounded.value, this.#fresh(name))
      : this.#cast(this.#clamped(this.#wideForm(name), name), to, [this.#fresh(name)], name)[0];
    this.#narrow.set(name, form);
    if (rounded) this.#sources.set(form, name);
    return form;
  }

  /** What a wide node computed, within the narrow range; a graph's input is taken as it is. */
  #clamped(wide: string, name: string): string {
    if (this.#options.to === 'bf16' || !this.#producers.has(name)) return wide;
    const largest = Number(DTYPES[this.#options.to].max);
    const bounded = (op: string, value: string, bound: number): string => {
      const limit = this.#b.constant(scalarTensor(WIDE, bound), this.#fresh(name));
      return this.#b.node(op, [value, limit], { outputs: [this.#fresh(name)], loc: this.#loc(name) })[0];
    };
    return bounded('Max', bounded('Min', wide, largest), -largest);
  }

  #cast(from: string, to: string, outputs: readonly string[], name: string): readonly string[] {
    return this.#b.node('Cast', [from], { attrs: { to }, outputs, loc: this.#loc(name) });
  }

  #loc(name: string): readonly string[] {
    return this.#producers.get(name)?.loc ?? [name];
  }

  #type(name: string): ValueType {
    return this.#graph.values.get(name) as ValueType;
  }
}
