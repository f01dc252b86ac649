/**
 * What a command feeds a network: tensors from .npy files by input name, seeded random ones for the rest.
 */
import { ModelError } from '../core/errors.ts';
import { randomTensor } from '../core/random-tensor.ts';
import { shapesEqual } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';
import { readInputFile } from './files.ts';
import { readNpy } from './npy.ts';
import type { Shapes } from './options.ts';
import type { NamedType } from './runner.ts';
import { formatType } from './table.ts';

/** The files of `--input NAME=FILE`, read. */
export const readInputFiles = (files: ReadonlyMap<string, string> = new Map()): ReadonlyMap<string, Tensor> =>
  new Map([...files].map(([name, file]) => [name, readNpy(readInputFile(file, `input "${name}"`), file)]));

export const shapesOf = (tensors: ReadonlyMap<string, Tensor>): Shapes =>
  Object.fromEntries([...tensors].map(([name, { shape }]) => [name, shape]));

/**
 * A tensor for every input. Throws ModelError `input-unknown` for a name that is no input and `input-mismatch` where the dtype or
 * shape of a given tensor is not the input's.
 */
export function completeInputs(
  inputs: readonly NamedType[],
  given: ReadonlyMap<string, Tensor>,
  seed: number,
): ReadonlyMap<string, Tensor> {
  checkNames(
    given.keys(),
    inputs.map((input) => input.name),
  );
  return new Map(
    inputs.map((input, i) => [input.name, checked(input, given.get(input.name)) ?? randomTensor(input, i, seed)]),
  );
}

/** Throws ModelError `input-unknown` where a name is not among the inputs. */
export function checkNames(given: Iterable<string>, inputs: readonly string[]): void {
  for (const name of given) {
    if (inputs.includes(name)) continue;
    throw new ModelError('input-unknown', `"${name}" is not an input of the model`, {
      hint: `Its inputs are ${inputs.map((input) => `"${input}"`).join(', ')}.`,
    });
  }
}

function checked(input: NamedType, given: Tensor | undefined): Tensor | undefined {
  if (given === undefined || (given.dtype === input.dtype && shapesEqual(given.shape, input.shape))) return given;
  throw new ModelError(
    'input-mismatch',
    `input "${input.name}" takes ${formatType(input)}, the file holds ${formatType(given)}`,
    {
      hint:
        given.dtype === input.dtype
          ? 'Give an array of this shape.'
          : `Convert the array, as with array.astype in NumPy.`,
    },
  );
}
