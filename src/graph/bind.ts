/**
 * Binding of open input sizes: a graph with symbolic dims and the shapes that the user wants, to a graph inferred with numbers.
 *
 * A size that has a name is bound wherever the name stands, so one shape may settle several inputs. What stays open becomes 1,
 * with a warning. What must hold: a given shape agrees with what the model fixes, and all given shapes with each other.
 */
import { ModelError } from '../core/errors.ts';
import { bindDim, type Dim, dimsEqual, printDim, printShape, type SymDim } from '../core/shape.ts';
import type { ValueType } from '../core/tensor.ts';
import { inferGraph } from './infer.ts';
import type { Graph } from './ir.ts';
import type { OpTable } from './semantics.ts';

/**
 * The graph with the open dims of its inputs bound to `shapes` (input name to sizes; inputs may be left out) and all types inferred
 * again. Throws ModelError: `input-unknown`, `option-invalid` (not a size), `shape-mismatch` (contradicts the model).
 */
export function bindShapes(
  graph: Graph,
  ops: OpTable,
  shapes: Readonly<Record<string, readonly number[]>>,
  onWarning: (message: string) => void,
): Graph {
  for (const name of Object.keys(shapes)) checkGiven(graph, name, shapes[name]);
  const sizes = namedSizes(graph, shapes);
  const values = new Map(graph.values);
  for (const name of graph.inputs) {
    const type = graph.values.get(name) as ValueType;
    if (Object.hasOwn(shapes, name)) checkAgainst(name, type, shapes[name], sizes);
    const shape = type.shape.map((dim) => bindDim(openToOne(dim, name, type, sizes, onWarning), sizes));
    for (const [i, dim] of shape.entries()) checkSize(name, type, i, dim);
    values.set(name, { dtype: type.dtype, shape });
  }
  return inferGraph({ ...graph, values }, ops);
}

/**
 * The sizes of open dims by name that these input shapes tell. Throws as bindShapes does where they are no shapes of the inputs or
 * contradict each other.
 */
export function sizesOf(graph: Graph, shapes: Readonly<Record<string, readonly number[]>>): Map<string, number> {
  for (const name of Object.keys(shapes)) checkGiven(graph, name, shapes[name]);
  const sizes = namedSizes(graph, shapes);
  for (const name of Object.keys(shapes)) checkAgainst(name, graph.values.get(name) as ValueType, shapes[name], sizes);
  return sizes;
}

/** Sizes that the given shapes tell: a dim that is a plain name is its size. */
function namedSizes(graph: Graph, shapes: Readonly<Record<string, readonly number[]>>): Map<string, number> {
  const sizes = new Map<string, number>();
  const from = new Map<string, string>();
  for (const input of graph.inputs) {
    if (!Object.hasOwn(shapes, input)) continue;
    for (const [i, dim] of (graph.values.get(input)?.shape ?? []).entries()) {
      const name = plainName(dim);
      if (name === undefined) continue;
      const size = shapes[input][i];
      if (sizes.has(name) && sizes.get(name) !== size) {
        throw new ModelError(
          'shape-mismatch',
          `size "${name}" is ${size} in the shape given for input "${input}" and ${sizes.get(name)} in the one for "${from.get(name)}"`,
        );
      }
      sizes.set(name, size);
      from.set(name, input);
    }
  }
  return sizes;
}

/** The name that a dim is, where it is one alone. */
export function plainName(dim: Dim): string | undefined {
  if (typeof dim === 'number' || dim.constant !== 0 || dim.terms.length !== 1) return undefined;
  return dim.terms[0].coef === 1 ? dim.terms[0].name : undefined;
}

function checkGiven(graph: Graph, name: string, shape: readonly number[]): void {
  if (!graph.inputs.includes(name)) {
    throw new ModelError('input-unknown', `a shape is given for "${name}", which is not an input of the model`, {
      hint: `inputs: ${graph.inputs.map((input) => describe(input, graph.values.get(input) as ValueType)).join(', ')}`,
    });
  }
  const wrong = shape.find((size) => !Number.isSafeInteger(size) || size < 0);
  if (wrong !== undefined) {
    throw new ModelError(
      'option-invalid',
      `the shape given for input "${name}" has the size ${wrong}; sizes are whole numbers from 0`,
    );
  }
  const type = graph.values.get(name) as ValueType;
  if (shape.length !== type.shape.length) {
    throw new ModelError(
      'shape-mismatch',
      `the shape given for input "${name}" is ${printShape(shape)}, with ${shape.length} dims; the model has ${describe(name, type)}`,
    );
  }
}

function checkAgainst(
  name: string,
  type: ValueType,
  given: readonly number[],
  sizes: ReadonlyMap<string, number>,
): void {
  for (const [i, dim] of type.shape.entries()) {
    const bound = bindDim(dim, sizes);
    if (dimsEqual(bound, given[i]) || typeof bound !== 'number') continue;
    throw new ModelError(
      'shape-mismatch',
      `the shape given for input "${name}" is ${printShape(given)}; dim ${i} of the model's ${describe(name, type)} is ${bound}`,
      { hint: 'only open sizes can be chosen' },
    );
  }
}

/** Binds the names of a dim that are still open to 1, in `sizes`, and says so. */
function openToOne(
  dim: Dim,
  input: string,
  type: ValueType,
  sizes: Map<string, number>,
  onWarning: (message: string) => void,
): Dim {
  if (typeof dim === 'number') return dim;
  for (const { name } of (dim as SymDim).terms) {
    if (sizes.has(name)) continue;
    onWarning(`input ${describe(input, type)}: no size is given for "${name}", using 1`);
    sizes.set(name, 1);
  }
  return dim;
}

function checkSize(name: string, type: ValueType, i: number, dim: Dim): void {
  if (typeof dim === 'number' && dim >= 0) return;
  throw new ModelError(
    'shape-mismatch',
    `dim ${i} of input ${describe(name, type)} becomes ${printDim(dim)} with the sizes given`,
  );
}

const describe = (name: string, type: ValueType): string => `"${name}" ${type.dtype}${printShape(type.shape)}`;
