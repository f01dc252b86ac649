/**
 * What must hold between the parts of an engine, whoever wrote the file: steps name kernels and buffers that exist, buffers lie inside
 * their spaces and are large enough for what kernels do with them. Whoever runs a validated engine need not check again.
 */
import { DTYPES, type DType } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { elements, namesIn } from '../core/shape.ts';
import { findFaults } from '../loop/verify.ts';
import {
  type Binding,
  type BufferRef,
  type Engine,
  packedElements,
  type Step,
  sizesBinding,
  type Weight,
} from './engine.ts';

/** Engines found valid: they do not change. */
const valid = new WeakSet<Engine>();

/** Throws ModelError `engine-parse`. An engine is looked at once. */
export function validateEngine(engine: Engine): void {
  if (valid.has(engine)) return;
  engine.kernels.forEach((kernel, i) => {
    const [fault] = findFaults(kernel);
    if (fault) throw invalid(`kernel ${i} (${kernel.name}): ${fault.message}`);
  });
  engine.weights.forEach((weight, i) => {
    checkWeight(engine, weight, `weight ${i} ("${weight.name}")`);
  });
  checkBindings(engine, engine.inputs, 'input');
  checkBindings(engine, engine.outputs, 'output');
  checkSizes(engine);
  engine.steps.forEach((step, i) => {
    checkStep(engine, step, `step ${i} (${step.loc.join('+')})`);
  });
  if (engine.target === 'reference') checkGraphEngine(engine);
  valid.add(engine);
}

const invalid = (message: string): ModelError =>
  new ModelError('engine-parse', `the engine is not valid: ${message}`, { hint: 'build the engine again' });

/** Inside its space, and aligned to its elements. */
function checkBuffer(engine: Engine, { space, byteOffset, bytes }: BufferRef, dtype: DType, what: string): void {
  const size = space === 'arena' ? engine.arenaBytes : engine.weightBytes.length;
  if (byteOffset + bytes > size)
    throw invalid(`${what} ends at ${byteOffset + bytes}, outside the ${space} of ${size} bytes`);
  if (byteOffset % DTYPES[dtype].bytes !== 0) throw invalid(`${what} at ${byteOffset} is not aligned for ${dtype}`);
}

function checkWeight(engine: Engine, weight: Weight, what: string): void {
  checkBuffer(engine, { space: 'weights', byteOffset: weight.byteOffset, bytes: weight.bytes }, weight.dtype, what);
  const count = weight.packing ? packedElements(weight.packing) : elements(weight.shape);
  if (count * DTYPES[weight.dtype].bytes !== weight.bytes)
    throw invalid(`${what} has ${weight.bytes} bytes for ${count} elements`);
}

function checkBindings(engine: Engine, bindings: readonly Binding[], role: string): void {
  const names = new Set<string>();
  for (const { name, dtype, shape, buffer } of bindings) {
    const what = `${role} "${name}"`;
    if (names.has(name)) throw invalid(`${what} is there twice`);
    names.add(name);
    checkBuffer(engine, buffer, dtype, what);
    const bytes = elements(shape) * DTYPES[dtype].bytes;
    if (buffer.bytes !== bytes) throw invalid(`${what} needs ${bytes} bytes and has ${buffer.bytes}`);
    if (role === 'input' && buffer.space !== 'arena')
      throw invalid(`${what} lies in the weights, which nobody may write`);
  }
}

function checkSizes(engine: Engine): void {
  const table = sizesBinding(engine);
  if ((table === undefined) !== (engine.profiles === undefined) || engine.profiles?.length === 0)
    throw invalid('it has sizes without profiles, or profiles without sizes');
  for (const { name, shape, words = [] } of [...engine.inputs, ...engine.outputs]) {
    if (words.length !== 0 && words.length !== shape.length)
      throw invalid(`"${name}" has ${words.length} open dims of ${shape.length}`);
    if (words.some((word) => word !== null && word >= (table?.shape[0] ?? 0)))
      throw invalid(`"${name}" has a size that is not in the table`);
  }
  if (!table) return;
  checkBindings(engine, [table], 'input');
  const { formulas = [], data = [] } = engine.sizes ?? {};
  const decided = new Set(data.map(({ name }) => name));
  for (const { name, words = [] } of engine.inputs)
    if (words.some((word) => word !== null && namesIn(formulas[word]).some((n) => decided.has(n))))
      throw invalid(`the size of input "${name}" is decided by data`);
  for (const { inputs } of engine.profiles ?? []) {
    const fits = engine.inputs.every(({ name, shape }) => {
      const range = inputs.find((input) => input.name === name);
      const ranks = range && [range.min, range.opt, range.max].every((s) => s.length === shape.length);
      return ranks && range.max.every((d, i) => d <= shape[i] && range.opt[i] <= d && range.min[i] <= range.opt[i]);
    });
    if (!fits) throw invalid('a profile does not fit the inputs');
  }
}

function checkStep(engine: Engine, step: Step, what: string): void {
  const kernel = engine.kernels[step.kernel];
  if (kernel === undefined) throw invalid(`${what} uses kernel ${step.kernel} of ${engine.kernels.length}`);
  const count = kernel.buffers.length;
  if (step.buffers.length !== count || step.values.length !== count || (step.shapes?.length ?? count) !== count) {
    throw invalid(`${what} has ${step.buffers.length} buffers, its kernel takes ${count}`);
  }
  for (const [i, { name, dtype, elements, role }] of kernel.buffers.entries()) {
    const buffer = step.buffers[i];
    checkBuffer(engine, buffer, dtype, `buffer ${name} of ${what}`);
    const bytes = elements * DTYPES[dtype].bytes;
    if (buffer.bytes < bytes)
      throw invalid(`buffer ${name} of ${what} has ${buffer.bytes} bytes, its kernel uses ${bytes}`);
    if (role === 'out' && buffer.space !== 'arena') throw invalid(`${what} writes to the weights`);
  }
  if (step.maxThreads > Math.max(1, step.tiles)) throw invalid(`${what} has more threads than tiles`);
}

/** The reference target finds constants of the graph among the weights by name. */
function checkGraphEngine(engine: Engine): void {
  if (engine.graph === undefined) throw invalid('target reference runs a graph, and there is none');
  const names = new Set(engine.weights.map((w) => w.name));
  if (names.size !== engine.weights.length) throw invalid('two constants of the graph have one name');
}
