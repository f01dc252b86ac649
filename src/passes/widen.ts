/**
 * Widening: float dtypes that the target does not compute in become f32. So a float16 model runs on a machine that knows only float32.
 *
 * Constants, and tensors and dtypes in attributes, are converted here; casts at the graph's inputs and outputs keep the interface as
 * the model has it. f16 and bf16 convert exactly, and results between nodes keep more digits than the model asked for; f64 loses
 * some, with a warning. Integers stay as they are: wrapping in another width would change them. So do floats of 8 bits and fewer, which nobody
 * computes in: kernels have their bits (loop/encode-small.ts).
 */
import { type DType, isFloat, isSmallFloat } from '../core/dtype.ts';
import { fromNumbers, type Tensor, toNumbers, type ValueType } from '../core/tensor.ts';
import { graphBuilder } from '../graph/build.ts';
import type { Attrs, AttrValue, Graph, Node } from '../graph/ir.ts';
import { freshNamesFor, nodeUses, producersOf, removeUnread, renameInputs } from '../graph/rewrite.ts';
import type { PassContext } from './pass.ts';

const WIDE: DType = 'f32';
const CAST = 'Cast';

export function widen(graph: Graph, { ops, computes, onWarning }: PassContext): Graph {
  const isNarrow = (dtype: DType): boolean => isFloat(dtype) && !isSmallFloat(dtype) && !computes.has(dtype);
  const found = narrowDTypes(graph, isNarrow);
  if (found.size === 0) return graph;
  if (found.has('f64')) onWarning(`graph "${graph.name}" computes in f64, the target does not: f32 is used instead`);

  const b = graphBuilder(graph.name, ops);
  const fresh = freshNamesFor(graph);
  const producers = producersOf(graph);
  /** Narrow inputs to their casts, and narrow outputs to the wide values that they are cast from. */
  const wide = new Map<string, string>();
  const typeOf = (name: string): ValueType => graph.values.get(name) as ValueType;
  const locOf = (name: string): readonly string[] => producers.get(name)?.loc ?? [name];

  for (const name of graph.inputs) {
    const { dtype, shape } = typeOf(name);
    b.input(name, dtype, shape);
    if (!isNarrow(dtype)) continue;
    const [cast] = b.node(CAST, [name], { attrs: { to: WIDE }, outputs: [fresh(name)], loc: [name] });
    wide.set(name, cast);
  }
  for (const name of graph.outputs) {
    if (isNarrow(typeOf(name).dtype) && !graph.inputs.includes(name)) wide.set(name, fresh(name));
  }
  for (const [name, value] of graph.constants) {
    b.constant(isNarrow(value.dtype) ? widenTensor(value) : value, wide.get(name) ?? name);
  }
  for (const original of graph.nodes) {
    const node = renameInputs(original, wide);
    b.node(node.op, node.inputs, {
      attrs: widenAttrs(node, ops, isNarrow),
      outputs: node.outputs.map((name) => wide.get(name) ?? name),
      loc: node.loc,
    });
  }
  for (const name of graph.outputs) {
    const source = wide.get(name);
    if (source !== undefined && !graph.inputs.includes(name)) {
      b.node(CAST, [source], { attrs: { to: typeOf(name).dtype }, outputs: [name], loc: locOf(name) });
    }
    b.output(name);
  }
  return removeUnread(b.finish(), ops);
}

/** Narrow dtypes that nodes compute in; casts between the interface and wide values do not count, they are what widening leaves. */
function narrowDTypes(graph: Graph, isNarrow: (dtype: DType) => boolean): ReadonlySet<DType> {
  const narrow = (name: string): boolean => {
    const type = graph.values.get(name);
    return type !== undefined && isNarrow(type.dtype);
  };
  const isBoundary = ({ op, inputs: [from], outputs: [to] }: Node): boolean =>
    op === CAST &&
    ((narrow(from) && graph.inputs.includes(from) && !narrow(to)) ||
      (narrow(to) && graph.outputs.includes(to) && !narrow(from)));
  const touched = graph.nodes.flatMap((node) => (isBoundary(node) ? [] : [...nodeUses(node), ...node.outputs]));
  return new Set(touched.filter(narrow).map((name) => (graph.values.get(name) as ValueType).dtype));
}

const widenTensor = (value: Tensor): Tensor => fromNumbers(WIDE, value.shape, toNumbers(value));

/** What an attribute means is in its operator's specs: a dtype to compute in, or a tensor. */
function widenAttrs(node: Node, ops: PassContext['ops'], isNarrow: (dtype: DType) => boolean): Attrs {
  const specs = ops.get(node.op)?.attrSpecs ?? {};
  const widenAttr = (key: string, value: AttrValue): AttrValue => {
    if (specs[key]?.type === 'dtype') return isNarrow(value as DType) ? WIDE : value;
    if (specs[key]?.type !== 'tensor') return value;
    return isNarrow((value as Tensor).dtype) ? widenTensor(value as Tensor) : value;
  };
  return Object.fromEntries(Object.entries(node.attrs).map(([key, value]) => [key, widenAttr(key, value)]));
}
