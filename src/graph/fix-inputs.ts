/**
 * Inputs fixed at build time: a graph whose inputs named in `values` have become constants.
 *
 * What must hold: the value has the type that the graph gives the input, open dims aside.
 */
import { ModelError } from '../core/errors.ts';
import { printType, type Tensor, type ValueType } from '../core/tensor.ts';
import { inferGraph } from './infer.ts';
import type { Graph } from './ir.ts';
import type { OpTable } from './semantics.ts';

/** Throws ModelError `input-unknown` for a name that is no input, `input-mismatch` for a value of another type. */
export function fixInputs(graph: Graph, ops: OpTable, values: Readonly<Record<string, Tensor>>): Graph {
  const given = Object.entries(values);
  if (given.length === 0) return graph;
  const inputs = new Map(graph.inputs.map((name) => [name, graph.values.get(name) as ValueType]));
  for (const [name, value] of given) checkFixedInput(name, value, inputs);
  return inferGraph(
    {
      ...graph,
      inputs: graph.inputs.filter((name) => !Object.hasOwn(values, name)),
      constants: new Map([...graph.constants, ...given]),
    },
    ops,
  );
}

/** Throws as fixInputs does, for one value; `inputs` are the types of the inputs that may be fixed. */
export function checkFixedInput(name: string, value: Tensor, inputs: ReadonlyMap<string, ValueType>): void {
  const type = inputs.get(name);
  if (!type) {
    throw new ModelError('input-unknown', `a constant is given for "${name}", which is not an input of the model`, {
      hint: `inputs: ${[...inputs.keys()].map((input) => `"${input}"`).join(', ') || 'none'}`,
    });
  }
  const fits =
    value.dtype === type.dtype &&
    value.shape.length === type.shape.length &&
    type.shape.every((dim, i) => typeof dim !== 'number' || dim === value.shape[i]);
  if (fits) return;
  throw new ModelError(
    'input-mismatch',
    `the constant given for input "${name}" is ${printType(value)}, the model takes ${printType(type)}`,
  );
}
