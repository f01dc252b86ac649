/**
 * Inputs and outputs of a MODEL, before it is built: names and types as the model states them, open dims by name.
 */
import type { DType } from '../core/dtype.ts';
import { type Dim, printDim } from '../core/shape.ts';
import type { ValueType } from '../core/tensor.ts';
import type { Graph } from '../graph/ir.ts';
import type { ModelInput } from './model-input.ts';
import type { Terminal } from './terminal.ts';

export interface StatedType {
  readonly name: string;
  readonly dtype: DType;
  /** Numbers, and the text of open dims. */
  readonly shape: readonly (number | string)[];
  /** `f32[batch,3,224,224]`. */
  readonly text: string;
}

export function statedType(name: string, { dtype, shape }: ValueType): StatedType {
  const dims = shape.map((dim: Dim) => (typeof dim === 'number' ? dim : printDim(dim)));
  return { name, dtype, shape: dims, text: `${dtype}[${dims.join(',')}]` };
}

export const graphTypes = (graph: Graph, names: readonly string[]): readonly StatedType[] =>
  names.map((name) => statedType(name, graph.values.get(name) as ValueType));

/** The inputs as the model states them, in order. */
export async function inputTypes(model: ModelInput, terminal: Terminal): Promise<readonly StatedType[]> {
  if (model.kind === 'engine') return model.engine.inputs.map((binding) => statedType(binding.name, binding));
  const { readModelGraph } = await import('./compile-model.ts');
  const graph = readModelGraph(model, terminal);
  return graphTypes(graph, graph.inputs);
}
