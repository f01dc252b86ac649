/**
 * A graph with instruments, to be run in f32 on samples: the largest magnitude of each value, and a switch a node that rounds what the
 * node makes to f16.
 *
 * Rounding is Veltkamp's splitting, s = (2^13 + 1)·x, s - (s - x), which leaves the upper 11 bits of a float32's 24 (Dekker, "A
 * floating-point technique for extending the available precision", 1971): a cast there and back would be kept in a register at full width.
 */
import { fromNumbers, scalarTensor, type Tensor, type TensorType, toNumbers, type ValueType } from '../core/tensor.ts';
import { type GraphBuilder, graphBuilder } from '../graph/build.ts';
import type { Graph } from '../graph/ir.ts';
import { freshNamesFor } from '../graph/rewrite.ts';
import type { Op } from '../ops/op.ts';

/** A graph ready to run: tensors by input name to tensors by output name. */
export interface GraphRunner {
  /** Floating-point operations of a run. */
  readonly flops: number;
  run(inputs: ReadonlyMap<string, Tensor>): ReadonlyMap<string, Tensor>;
  dispose(): void;
}

export interface Instrumented {
  readonly graph: Graph;
  /** The inputs that a run with those nodes rounded has beside the graph's own. */
  switches(on: ReadonlySet<string>): readonly (readonly [string, Tensor])[];
  /** The largest magnitude of each f32 value, by name, from the outputs of a run. */
  magnitudes(outputs: ReadonlyMap<string, Tensor>): ReadonlyMap<string, number>;
}

/** 2^13 + 1: splits a float32 into its upper 11 bits, which is what f16 keeps, and the rest. */
const SPLIT = 8193;

/** `switched` are first outputs of nodes. The outputs of the graph stand first among those of the new one. */
export function instrument(graph: Graph, ops: ReadonlyMap<string, Op>, switched: readonly string[]): Instrumented {
  const b = copyOf(graph, ops);
  const fresh = freshNamesFor(graph);
  // An input each, and not one with all of them: so equal layers stay equal kernels.
  const flags = new Map(switched.map((name) => [name, b.input(fresh(`narrow ${name}`), 'bool', [])]));
  const split = b.constant(scalarTensor('f32', SPLIT), fresh('split'));
  const outputs = new Set(graph.outputs);
  /** Values to their rounded forms. */
  const rounded = new Map<string, string>();
  /** Names of the largest magnitudes, and whose they are. */
  const probes = new Map<string, string>();
  for (const node of graph.nodes) {
    const renamed = node.inputs.map((name) => rounded.get(name) ?? name);
    b.node(node.op, renamed, { attrs: node.attrs, outputs: node.outputs, loc: node.loc });
    const flag = flags.get(node.outputs[0]);
    for (const name of node.outputs) {
      if (name === '' || !isF32(graph.values.get(name))) continue;
      const seen = flag === undefined || outputs.has(name) ? name : round(b, fresh, name, flag, split);
      if (seen !== name) rounded.set(name, seen);
      // Taken at once, so that no value lives longer for it.
      const [magnitude] = b.node('Abs', [seen], { outputs: [fresh(name)] });
      probes.set(b.node('ReduceMax', [magnitude], { attrs: { keepdims: false }, outputs: [fresh(name)] })[0], name);
    }
  }
  for (const name of [...graph.outputs, ...probes.keys()]) b.output(name);
  return {
    graph: b.finish(),
    switches: (on) =>
      [...flags].map(([name, flag]) => [flag, fromNumbers('bool', [], [on.has(name) ? 1 : 0])] as const),
    magnitudes: (run) => new Map([...probes].map(([probe, value]) => [value, toNumbers(run.get(probe) as Tensor)[0]])),
  };
}

const isF32 = (type: ValueType | undefined): boolean => type?.dtype === 'f32';

/** The value, or its rounding where the flag is set. */
function round(b: GraphBuilder, fresh: (hint: string) => string, name: string, flag: string, split: string): string {
  const node = (op: string, inputs: readonly string[]): string => b.node(op, inputs, { outputs: [fresh(name)] })[0];
  const scaled = node('Mul', [name, split]);
  return node('Where', [flag, node('Sub', [scaled, node('Sub', [scaled, name])]), name]);
}

function copyOf(graph: Graph, ops: ReadonlyMap<string, Op>): GraphBuilder {
  const b = graphBuilder(graph.name, ops);
  for (const name of graph.inputs) {
    const { dtype, shape } = graph.values.get(name) as TensorType;
    b.input(name, dtype, shape);
  }
  for (const [name, value] of graph.constants) b.constant(value, name);
  return b;
}
