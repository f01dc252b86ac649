/**
 * Decides whether an engine may become machine code, and with which kernels: nothing guards a processor, or the other users of a GPU's
 * context, from a wrong address.
 *
 * In comes an engine from anywhere, out the program to emit. Buffers lie inside their spaces, every access of a kernel inside its buffer
 * (proved, or clamped), packed weights are as long as their tactic reads, and tactics are such as the templates offer. What may
 * still be wrong is the answer.
 */
import { DTYPES } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { type BufferRef, type Engine, packedElements, type Step, type Tactic } from '../engine/engine.ts';
import { validateEngine } from '../engine/validate.ts';
import { clampIndices } from '../loop/clamp-indices.ts';
import type { Kernel } from '../loop/ir.ts';
import type { KernelFacts, Program, Template } from './target.ts';

/** What `KernelFacts` means by aligned. */
const FACT_ALIGNMENT = 16;

/**
 * `templates` are those of the target, `features` those of this machine. Throws ModelError `engine-parse` where no engine of ours says
 * such a thing, `engine-machine` where another machine's might.
 */
export function admitEngine(engine: Engine, templates: readonly Template[], features: readonly string[]): Program {
  validateEngine(engine);
  const kernels = engine.kernels.map((kernel, i) => {
    const safe = clampIndices(kernel);
    if (!safe)
      throw refused(engine, `kernel ${i} (${kernel.name}) may leave its buffers, or has one of 2 GiB and more`);
    return safe;
  });
  const known = new Set<string>();
  const steps = engine.steps.map((step) => {
    const kernel = kernels[step.kernel];
    const template = checkTactic(engine, kernel, step, templates, features, known);
    checkPacking(engine, kernel, step, template);
    // The code is cut into tiles and given its scratch here, not where the engine was built.
    const tiles = template.tiles(kernel, step.tactic.params);
    const scratchBytes = template.scratchBytes?.(kernel, step.tactic.params) ?? 0;
    return { ...step, tiles, scratchBytes, maxThreads: Math.max(1, Math.min(step.maxThreads, tiles)) };
  });
  return { kernels, steps, arenaBytes: engine.arenaBytes };
}

const refused = (engine: Engine, what: string): ModelError =>
  new ModelError('engine-parse', `engine "${engine.name}" is not valid: ${what}`, { hint: 'build the engine again' });

/** The step's template. `known` holds what was found legal before. */
function checkTactic(
  engine: Engine,
  kernel: Kernel,
  { kernel: index, tactic, buffers }: Step,
  templates: readonly Template[],
  features: readonly string[],
  known: Set<string>,
): Template {
  const template = templates.find((t) => t.name === tactic.template);
  const facts = factsOf(engine, kernel, buffers);
  const key = `${index} ${tactic.template} ${paramsKey(tactic.params)} ${[...facts.constant, '', ...facts.unaligned].join()}`;
  if (template && known.has(key)) return template;
  const isLegal =
    template &&
    (template.form === 'any' || template.form === kernel.form.kind) &&
    template.candidates(kernel, facts, features).some((params) => paramsKey(params) === paramsKey(tactic.params));
  if (!isLegal) {
    const what = `${tactic.template} ${paramsKey(tactic.params)}`;
    throw new ModelError(
      'engine-machine',
      `engine "${engine.name}" runs kernel ${kernel.name} by ${what}, which this machine does not have`,
      { hint: 'build the engine on this machine' },
    );
  }
  known.add(key);
  return template;
}

/** What is true of the buffers where they lie now. */
function factsOf(
  { precision }: Engine,
  kernel: Kernel,
  buffers: readonly BufferRef[],
): KernelFacts & { readonly unaligned: ReadonlySet<string> } {
  const named = (holds: (ref: BufferRef) => boolean): ReadonlySet<string> =>
    new Set(kernel.buffers.filter((_, b) => holds(buffers[b])).map((b) => b.name));
  return {
    constant: named(({ space }) => space === 'weights'),
    tf32: precision === 'tf32',
    unaligned: named(({ byteOffset }) => byteOffset % FACT_ALIGNMENT !== 0),
  };
}

const paramsKey = (params: Tactic['params']): string =>
  Object.keys(params)
    .sort()
    .map((name) => `${name}=${params[name]}`)
    .join();

function checkPacking(engine: Engine, kernel: Kernel, { tactic, buffers }: Step, template: Template): void {
  for (const [name, packing] of template.packing?.(kernel, tactic.params) ?? []) {
    const b = kernel.buffers.findIndex((buffer) => buffer.name === name);
    if (buffers[b].bytes < DTYPES[kernel.buffers[b].dtype].bytes * packedElements(packing))
      throw refused(engine, `weight ${name} of kernel ${kernel.name} is shorter than its packing`);
  }
}
